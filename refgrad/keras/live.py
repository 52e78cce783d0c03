"""A live model of Keras 3 or tf_keras as a `RawModel`: its config as it says it itself, and its variables as arrays.

Keras is asked through the object alone and never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.errors import FormatError, InputError, UnsupportedError, naming
from refgrad.keras.archive import RawModel
from refgrad.keras.content import parse
from refgrad.keras.hdf5 import OPAQUE
from refgrad.keras.layout import DEEPEST, OWN, RawLayer, version

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
    return parse(text, "the model's config")


def _array(variable: Any) -> Array:
    """The numbers of a variable; bfloat16, which NumPy has no type for, as HDF5 stores it."""
    array = np.asarray(variable)
    return array.view(OPAQUE) if array.dtype.name == "bfloat16" else array


def _inside(layer: Any) -> list[Any]:
    """The layers that lie in one: a model's, or the one that is wrapped."""
    held = getattr(layer, "layers", None)
    if isinstance(held, list | tuple):
        return list(held)
    wrapped = getattr(layer, "layer", None)
    return [wrapped] if hasattr(wrapped, "weights") else []


def _layers(holder: Any, depth: int = 0) -> Iterator[RawLayer]:
    """The arrays of the layers that lie in one, in Keras's order."""
    if depth > DEEPEST:
        msg = f"over {DEEPEST} models lie one in the other"
        raise FormatError(msg)
    for layer in _inside(holder):
        with naming(f"layer {layer.name!r} ({type(layer).__name__})"):
            inner = tuple(_layers(layer, depth + 1))
            own = [] if inner else layer.weights
            arrays = {str(place): _array(variable) for place, variable in enumerate(own)}
        yield RawLayer(layer.name, layer.name, arrays, inner)


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
    held = tuple(_layers(model))
    counted = {id(variable) for layer in model.layers for variable in layer.weights}
    if any(id(variable) not in counted for variable in model.weights):
        raise UnsupportedError(OWN)
    writer = version(config.get("keras_version") or getattr(sys.modules.get(home), "__version__", ""))
    return RawModel(config, b"", writer, f"live {home} model", held=held)
