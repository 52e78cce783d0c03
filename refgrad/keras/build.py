"""From a canonical config and its arrays to a graph: one row for each layer class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refgrad.activations import ACTIVATIONS
from refgrad.arrays import Array, Shape
from refgrad.errors import MismatchError, RefgradWarning, UnsupportedError
from refgrad.graph import SUPPORTED_DTYPES, Graph, Provenance, chain, widest
from refgrad.keras.archive import RawModel
from refgrad.keras.dialect import LayerConfig, ModelConfig, translate
from refgrad.keras.matching import Wanted, assign
from refgrad.ops import Affine, Elementwise, Op

Config = Mapping[str, Any]
Arrays = Mapping[str, Array]
Steps = list[tuple[str, Op]]


@dataclass(frozen=True)
class Builder:
    """How a layer class becomes ops: the roles of its arrays in Keras's order, and the ops they make."""

    roles: Callable[[Config], tuple[str, ...]]
    steps: Callable[[str, Config, Arrays], Steps]


def _activation(name: str, activation: str) -> Steps:
    if activation == "linear":
        return []
    return [(name, Elementwise(activation, ACTIVATIONS[activation].defaults))]


def _dense(name: str, config: Config, arrays: Arrays) -> Steps:
    kernel, bias, units = arrays["kernel"], arrays.get("bias"), config["units"]
    if kernel.ndim != 2 or kernel.shape[1] != units:
        msg = f"layer {name!r} (Dense): kernel has shape {kernel.shape}; units={units} needs (inputs, {units})"
        raise MismatchError(msg)
    if bias is not None and bias.shape != (units,):
        msg = f"layer {name!r} (Dense): bias has shape {bias.shape}; units={units} needs ({units},)"
        raise MismatchError(msg)
    return [(name, Affine(kernel, bias)), *_activation(f"{name}/{config['activation']}", config["activation"])]


def _relu(name: str, config: Config, arrays: Arrays) -> Steps:
    del arrays
    return [(name, Elementwise("relu", (config["max_value"], config["negative_slope"], config["threshold"])))]


def _none(config: Config) -> tuple[str, ...]:
    del config
    return ()


_IDENTITY = Builder(_none, lambda _name, _config, _arrays: [])

LAYERS: Mapping[str, Builder] = {
    "InputLayer": _IDENTITY,
    "Dropout": _IDENTITY,
    "Dense": Builder(lambda config: ("kernel", "bias") if config["use_bias"] else ("kernel",), _dense),
    "Activation": Builder(_none, lambda name, config, _: _activation(name, config["activation"])),
    "ReLU": Builder(_none, _relu),
}


def _features(model: ModelConfig, steps: Steps) -> Shape:
    """The input's shape: as the config states it, or else what the first kernel takes."""
    if model.input_shape is not None:
        return model.input_shape
    kernel = next((op.kernel for _, op in steps if isinstance(op, Affine)), None)
    if kernel is None:
        msg = "the model has neither an input shape nor a layer with weights to tell it"
        raise UnsupportedError(msg)
    return (kernel.shape[0],)


def _check_numbers(layer: LayerConfig, arrays: Arrays) -> None:
    for role, array in arrays.items():
        if array.dtype.name not in SUPPORTED_DTYPES:
            msg = f"layer {layer.name!r}: {role} is stored as {array.dtype.name}, not {' or '.join(SUPPORTED_DTYPES)}"
            raise UnsupportedError(msg)
        if layer.dtype is not None and array.dtype.name != layer.dtype:
            msg = f"layer {layer.name!r}: {role} is stored as {array.dtype.name}, its config says {layer.dtype}"
            raise MismatchError(msg)
        if not np.isfinite(array).all():
            warnings.warn(f"layer {layer.name!r}: {role} holds NaN or infinity", RefgradWarning, stacklevel=2)


def _dtype(model: ModelConfig, steps: Steps) -> np.dtype[Any]:
    """The widest dtype that weights are stored in or layers declared in."""
    declared = {layer.dtype for layer in model.layers if layer.dtype is not None}
    dtype = widest([*(array.dtype for _, op in steps for array in op.arrays().values()), *map(np.dtype, declared)])
    if len(declared) > 1:
        msg = f"its layers are declared in {' and '.join(sorted(declared))}: all is computed in {dtype.name}"
        warnings.warn(msg, RefgradWarning, stacklevel=2)
    return dtype


def build(raw: RawModel, source: Path) -> Graph:
    """The graph of a raw model."""
    model = translate(raw)
    wanted = [
        Wanted(layer.name, layer.class_name, LAYERS[layer.class_name].roles(layer.config)) for layer in model.layers
    ]
    arrays = assign(wanted, raw)
    steps: Steps = []
    for layer in model.layers:
        _check_numbers(layer, arrays[layer.name])
        steps += LAYERS[layer.class_name].steps(layer.name, layer.config, arrays[layer.name])
    dtype = _dtype(model, steps)
    provenance = Provenance(model.generation, raw.writer, raw.container, str(source))
    inputs = [layer.name for layer in model.layers if layer.class_name == "InputLayer"]
    return chain(_features(model, steps), steps, dtype, provenance, *inputs[:1])
