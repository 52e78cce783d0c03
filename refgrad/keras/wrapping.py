"""Layers around another layer: TimeDistributed, which applies it to every entry of an axis, and SpectralNormalization.

At inference a SpectralNormalization is the layer in it, whose kernel it has normalised in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from refgrad.arrays import Shape
from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras.canonical import LayerConfig, ModelConfig
from refgrad.keras.rows import Row, canonical
from refgrad.ops import (
    GLU,
    Affine,
    BatchNormalization,
    Elementwise,
    LayerNormalization,
    LogSoftmax,
    Normalization,
    Op,
    Permute,
    PReLU,
    Rescaling,
    Reshape,
    RMSNormalization,
    Softmax,
    Sparsemax,
    UnitNormalization,
)

WRAPPERS: Mapping[str, Row] = {
    "TimeDistributed": Row(),
    "SpectralNormalization": Row(inert=frozenset({"power_iterations"}), unused=frozenset({"vector_u"})),
}
"""Class name → row; the layer in it is under the key `layer`."""

MEANING: Mapping[str, str] = {
    "TimeDistributed": "the layer on one axis more",
    "SpectralNormalization": "the layer by itself, at inference",
}
"""What a layer with that around it is read as."""

_ALIKE = (
    *(Affine, Elementwise, PReLU, GLU, Softmax, LogSoftmax, Sparsemax, BatchNormalization, LayerNormalization),
    *(RMSNormalization, UnitNormalization, Normalization, Rescaling),
)
"""Ops that count axes from the end and do the same for every entry of the axes before those."""


def wrapped_entry(config: Mapping[str, Any], class_name: str) -> Any:
    """The entry of the layer that a wrapper holds, if all else in the wrapper's config is understood."""
    canonical(WRAPPERS[class_name], {key: value for key, value in config.items() if key != "layer"})
    if not isinstance(config.get("layer"), dict):
        msg = f"its config has no 'layer' but {config.get('layer')!r:.60}"
        raise FormatError(msg)
    return config["layer"]


def _distributed(layer: LayerConfig) -> LayerConfig:
    """The layer on one axis more, which lies before all of its own."""
    model = layer.model
    if isinstance(model, ModelConfig):
        model = replace(model, layers=tuple(map(_distributed, model.layers)))
    return replace(layer, distributed=layer.distributed + 1, model=model)


def wrapped(inner: LayerConfig, class_name: str, name: str) -> LayerConfig:
    """The layer under its wrapper's name, doing what the wrapper does."""
    found = _distributed(inner) if class_name == "TimeDistributed" else inner
    within = (inner.name, *inner.within)
    return replace(found, name=name, wrappers=(class_name, *inner.wrappers), within=within, input_shape=None)


def own_shapes(shapes: tuple[Shape, ...], distributed: int) -> tuple[Shape, ...]:
    """What a distributed layer is given at a time."""
    if any(len(shape) <= distributed for shape in shapes):
        msg = f"TimeDistributed takes the first axis of its input away; that has shape {shapes[0]}"
        raise FormatError(msg)
    return tuple(shape[distributed:] for shape in shapes)


def on_every(op: Op, lead: Shape) -> Op:
    """The op that does on every entry of the axes `lead`, which are put before its own, what `op` does."""
    if not lead or isinstance(op, _ALIKE):
        return op
    if isinstance(op, Reshape):
        return Reshape((*lead, *op.target))
    if isinstance(op, Permute):
        rank = len(op.order)
        return Permute((*range(-rank - len(lead), -rank), *op.order))
    msg = f"TimeDistributed is not supported around layers that become {op.label!r}; put that layer outside of it"
    raise UnsupportedError(msg)
