"""A live model of Keras 3 or tf_keras as a `RawModel`: its config as it says it itself, and its variables as arrays.

Keras is asked through the object alone and never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.errors import InputError, UnsupportedError, naming
from refgrad.keras.archive import RawModel
from refgrad.keras.content import parse
from refgrad.keras.datasets import OPAQUE
from refgrad.keras.layout import OWN, RawLayer, version
from refgrad.limits import TRUSTED, Limits

_HOMES = ("keras", "tf_keras", "tensorflow")


def _home(model: Any) -> str | None:
    """The package that a model's class comes from, or the nearest class that it inherits from."""
    homes = (kind.__module__.split(".")[0] for kind in type(model).__mro__)
    return next((home for home in homes if home in _HOMES), None)


def _config(model: Any) -> dict[str, Any]:
    """What the model says of itself."""
    try:
        text = model.to_json()
    except Exception as error:  # a model's own get_config is its author's code, and raises anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"the model cannot say what it is made of ({reason:.200}): only Sequential and Functional models can; "
        msg += "rebuild it as one of these"
        raise UnsupportedError(msg) from error
    return parse(text.encode(), "the model's config", TRUSTED)


def _array(variable: Any) -> Array:
    """The numbers of a variable; bfloat16, which NumPy has no type for, as HDF5 stores it."""
    array = np.asarray(variable)
    return array.view(OPAQUE) if array.dtype.name == "bfloat16" else array


def _layers(holder: Any, limits: Limits, depth: int = 0) -> Iterator[RawLayer]:
    """The arrays of the layers of a model, in Keras's order."""
    limits.check("models", depth, "models one in the other")
    for layer in holder.layers:
        yield _layer(layer, limits, depth)


def _layer(layer: Any, limits: Limits, depth: int) -> RawLayer:
    """The arrays of one: its own, those of the layers in it if it is a model, or those of the layer that it wraps."""
    with naming(f"layer {layer.name!r} ({type(layer).__name__})"):
        inner, wrapped = getattr(layer, "layers", None), getattr(layer, "layer", None)
        if isinstance(inner, list | tuple) and inner:
            return RawLayer(layer.name, layer.name, {}, tuple(_layers(layer, limits, depth + 1)))
        if hasattr(wrapped, "weights"):
            limits.check("models", depth, "layers one in the other")
            return RawLayer(layer.name, layer.name, {}, (), _layer(wrapped, limits, depth + 1))
        arrays = {str(place): _array(variable) for place, variable in enumerate(layer.weights)}
        return RawLayer(layer.name, layer.name, arrays)


def read(model: Any) -> RawModel:
    """All of a live model."""
    home = _home(model)
    if home is None or not all(hasattr(model, name) for name in ("to_json", "layers")):
        msg = f"from_keras() takes a Keras model, not a {type(model).__name__}; load() takes files"
        raise InputError(msg)
    config = _config(model)
    if not getattr(model, "built", False):
        msg = "the model is not built yet, so that it has no weights: call it once, or make it with an Input"
        raise UnsupportedError(msg)
    held = tuple(_layers(model, TRUSTED))
    counted = {id(variable) for layer in model.layers for variable in layer.weights}
    if any(id(variable) not in counted for variable in model.weights):
        raise UnsupportedError(OWN)
    writer = version(config.get("keras_version") or getattr(sys.modules.get(home), "__version__", ""))
    return RawModel(config, None, writer, f"live {home} model", TRUSTED, held=held)
