"""From a canonical config and its arrays to a graph: one row for each layer class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import MismatchError, RefgradWarning, UnsupportedError, naming
from refgrad.graph import SUPPORTED_DTYPES, Graph, Provenance, chain, widest
from refgrad.keras.archive import RawModel
from refgrad.keras.dialect import LayerConfig, ModelConfig, translate
from refgrad.keras.matching import Wanted, assign
from refgrad.ops import Affine, Elementwise
from refgrad.paths import is_json_text
from refgrad.sequential import Steps, activation, dense

Config = Mapping[str, Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Builder:
    """How a layer class becomes ops: the roles of its arrays in Keras's order, and the ops of a Keras generation."""

    roles: Callable[[Config], tuple[str, ...]]
    steps: Callable[[str, Config, Arrays, int], Steps]


def _dense(name: str, config: Config, arrays: Arrays, keras: int) -> Steps:
    kernel, units = arrays["kernel"], config["units"]
    if kernel.ndim != 2 or kernel.shape[1] != units:
        msg = f"kernel has shape {kernel.shape}; units={units} needs (inputs, {units})"
        raise MismatchError(msg)
    return dense(name, kernel, arrays.get("bias"), config["activation"], keras)


def _relu(name: str, config: Config, arrays: Arrays, keras: int) -> Steps:
    del arrays, keras
    return [(name, Elementwise("relu", (config["max_value"], config["negative_slope"], config["threshold"])))]


def _none(config: Config) -> tuple[str, ...]:
    del config
    return ()


_IDENTITY = Builder(_none, lambda *_: [])

LAYERS: Mapping[str, Builder] = {
    "InputLayer": _IDENTITY,
    "Dropout": _IDENTITY,
    "Dense": Builder(lambda config: ("kernel", "bias") if config["use_bias"] else ("kernel",), _dense),
    "Activation": Builder(_none, lambda name, config, _, keras: activation(name, config["activation"], keras)),
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
            msg = f"{role} is stored as {array.dtype.name}, not {' or '.join(SUPPORTED_DTYPES)}"
            raise UnsupportedError(msg)
        if layer.dtype is not None and array.dtype.name != layer.dtype:
            msg = f"{role} is stored as {array.dtype.name}, its config says {layer.dtype}"
            raise MismatchError(msg)
        if not np.isfinite(array).all():
            warnings.warn(f"layer {layer.name!r}: {role} holds NaN or infinity", RefgradWarning, stacklevel=2)


def _dtype(model: ModelConfig, steps: Steps) -> np.dtype[Any]:
    """The widest dtype that weights are stored in or layers declared in."""
    declared = {layer.dtype for layer in model.layers if layer.dtype is not None}
    dtype = widest([*(array.dtype for _, op in steps for array in op.arrays().values()), *map(np.dtype, declared)])
    if len(declared) > 1:
        msg = f"the model's layers are declared in {' and '.join(sorted(declared))}: all is computed in {dtype.name}"
        warnings.warn(msg, RefgradWarning, stacklevel=2)
    return dtype


def _apart(file: str | None) -> AbstractContextManager[None]:
    """Name the file that a refusal is about where it is not the one that was opened; a text has no name."""
    if file is None:
        return nullcontext()
    return naming("the config given as text" if is_json_text(file) else file)


def build(raw: RawModel) -> Graph:
    """The graph of a raw model."""
    with _apart(raw.files.config):
        model = translate(raw)
    wanted = [
        Wanted(layer.name, layer.class_name, LAYERS[layer.class_name].roles(layer.config)) for layer in model.layers
    ]
    steps: Steps = []
    with _apart(raw.files.weights):
        arrays = assign(wanted, raw)
        for layer in model.layers:
            with naming(f"layer {layer.name!r} ({layer.class_name})"):
                _check_numbers(layer, arrays[layer.name])
                steps += LAYERS[layer.class_name].steps(layer.name, layer.config, arrays[layer.name], model.generation)
    provenance = Provenance(model.generation, raw.writer, raw.container, raw.files)
    inputs = [layer.name for layer in model.layers if layer.class_name == "InputLayer"]
    return chain(_features(model, steps), steps, _dtype(model, steps), provenance, *inputs[:1])
