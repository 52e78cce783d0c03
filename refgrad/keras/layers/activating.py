"""Layers that are an activation and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.activations.names import NAMES
from refgrad.arrays import Shape
from refgrad.errors import FormatError, MismatchError, UnsupportedError, naming
from refgrad.keras import values
from refgrad.keras.rewriting import rewritten
from refgrad.keras.rows import (
    REQUIRED,
    Config,
    Given,
    Row,
    built_in,
    canonical,
    initialized,
    initialized_by_keras_1,
    no_roles,
)
from refgrad.ops import Elementwise, PReLU, Softmax
from refgrad.sequential import AXISWISE, Steps, activation


@dataclass(frozen=True, eq=False)
class Activator:
    """A layer given as an activation: its class and its canonical config."""

    class_name: str
    config: Config


def activator(value: Any) -> str | Activator:
    """An activation by its name, as a function or a layer that Keras wrote as an object; null is linear."""
    if value is None:
        return "linear"
    class_name, found = "function", value
    if isinstance(value, dict):
        class_name, found = str(value.get("class_name")), value.get("config") if built_in(value) else None
    if class_name in ROWS and isinstance(found, dict) and not isinstance(found.get("activation"), dict):
        row = ROWS[class_name]
        if row.roles is not no_roles:
            msg = f"the activation is a {class_name}, whose weights the file does not name; use the layer by itself"
            raise UnsupportedError(msg)
        with naming(class_name):
            return Activator(class_name, canonical(row, found))
    if class_name == "function" and isinstance(found, str):
        if any(found in names for names in (*NAMES.values(), *AXISWISE.values())):
            return found
        class_name = found
    what = class_name if isinstance(value, dict | str) else f"a {type(value).__name__}"
    msg = f"the activation {what!r:.60} is not supported; these are: {', '.join((*NAMES[3], *AXISWISE[3]))}"
    raise UnsupportedError(msg)


def activated(given: Given, name: str, shape: Shape) -> Steps:
    """The ops of the activation in a layer's config, for what it computes before."""
    called = given.config["activation"]
    if isinstance(called, str):
        known = NAMES[given.generation].get(called)
        if known is not None and known[0] != called:
            rewritten("names of activations", f"{called} of Keras {given.generation} is {known[0]}", given.name)
        return activation(name, called, given.generation)
    row = ROWS[called.class_name]
    return list(row.steps(Given(name, row.as_used(called.config, given.generation), {}, (shape,), given.generation)))


def _relu_as_used(config: Config, generation: int) -> Config:
    """A ReLU layer's parameters as Keras computes with them: in float32, whatever the model's dtype.

    Keras 3 alone keeps slope and threshold as they were given, where there is a maximum or a threshold.
    """
    plain = config["threshold"] == 0 and config["max_value"] == np.inf
    exact = {"negative_slope", "threshold"} if generation == 3 and not plain else set()
    return {key: value if key in exact else float(np.float32(value)) for key, value in config.items()}


def _relu(given: Given) -> Steps:
    config = given.config
    return [(given.name, Elementwise("relu", (config["max_value"], config["negative_slope"], config["threshold"])))]


def _slope_as_used(config: Config, generation: int) -> Config:
    """TensorFlow's leaky ReLU takes its slope in float32, whatever the dtype of its input."""
    del generation
    return {"negative_slope": float(np.float32(config["negative_slope"]))}


def _leaky_relu(given: Given) -> Steps:
    return [(given.name, Elementwise("relu", (np.inf, given.config["negative_slope"], 0.0)))]


def _prelu(given: Given) -> Steps:
    alpha, shared = given.arrays["alpha"], given.config["shared_axes"]
    if any(not 1 <= axis <= len(given.shape) for axis in shared):
        msg = f"shared_axes={list(shared)} are not all axes of an input of shape {given.shape}, which count from 1"
        raise FormatError(msg)
    expected = tuple(1 if axis in shared else size for axis, size in enumerate(given.shape, 1))
    if alpha.shape != expected:
        msg = f"alpha has shape {alpha.shape}; an input of shape {given.shape} needs {expected}"
        raise MismatchError(msg)
    return [(given.name, PReLU(alpha))]


def _softmax(given: Given) -> Steps:
    axes = values.feature_axes(given.config["axis"], given.shape)
    return [(given.name, Softmax(axes if len(axes) > 1 else axes[0]))]


def _some_axes(value: Any) -> tuple[int, ...]:
    """One axis or several."""
    if not (found := values.axes(value)):
        msg = f"{value!r:.40} names no axis"
        raise FormatError(msg)
    return found


ROWS: Mapping[str, Row] = {
    "Activation": Row(
        lambda given: activated(given, given.name, given.shape),
        meaning={"activation": (activator, REQUIRED)},
        pointwise=True,
    ),
    "ReLU": Row(
        _relu,
        meaning={
            "max_value": (values.limit, None),
            "negative_slope": (values.not_negative, 0.0),
            "threshold": (values.not_negative, 0.0),
        },
        as_used=_relu_as_used,
        pointwise=True,
    ),
    "LeakyReLU": Row(
        _leaky_relu,
        meaning={"negative_slope": (values.not_negative, 0.3)},
        renamed={"alpha": "negative_slope"},
        as_used=_slope_as_used,
        pointwise=True,
    ),
    "ThresholdedReLU": Row(
        lambda given: [(given.name, Elementwise("relu", (np.inf, 0.0, given.config["theta"])))],
        meaning={"theta": (values.not_negative, 1.0)},
        pointwise=True,
    ),
    "ELU": Row(
        lambda given: [(given.name, Elementwise("elu", (given.config["alpha"],)))],
        meaning={"alpha": (values.number, 1.0)},
        pointwise=True,
    ),
    "PReLU": Row(
        _prelu,
        meaning={"shared_axes": (values.axes, None)},
        inert=initialized("alpha") | initialized_by_keras_1(),
        roles=lambda _: ("alpha",),
        pointwise=True,
    ),
    "Softmax": Row(
        _softmax,
        meaning={"axis": (_some_axes, -1)},
        inert=frozenset({"robust_masking"}),
        pointwise=True,
    ),
}
