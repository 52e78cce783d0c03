"""Layers that are an activation and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refgrad.activations import ACTIVATIONS
from refgrad.errors import UnsupportedError
from refgrad.keras import values
from refgrad.keras.rows import REQUIRED, Config, Given, Row
from refgrad.ops import Elementwise
from refgrad.sequential import Steps, elementwise


def activation(value: Any) -> str:
    """The name of an activation; null is linear."""
    if value is None:
        return "linear"
    if not isinstance(value, str) or value not in ACTIVATIONS:
        what = value if isinstance(value, str) else f"a {type(value).__name__}"
        msg = f"the activation {what!r:.60} is not supported; these are: {', '.join(ACTIVATIONS)}"
        raise UnsupportedError(msg)
    return value


def _relu_as_used(config: Config, generation: int) -> Config:
    """A ReLU layer's parameters as Keras computes with them: in float32, whatever the model's dtype.

    Keras 3 alone keeps the slope as it was given, where there is a maximum or a threshold too.
    """
    plain = config["threshold"] == 0 and config["max_value"] == np.inf
    exact = {"negative_slope"} if generation == 3 and not plain else set()
    return {key: value if key in exact else float(np.float32(value)) for key, value in config.items()}


def _relu(given: Given) -> Steps:
    config = given.config
    return [(given.name, Elementwise("relu", (config["max_value"], config["negative_slope"], config["threshold"])))]


ROWS: Mapping[str, Row] = {
    "Activation": Row(
        lambda given: elementwise(given.name, given.config["activation"]),
        meaning={"activation": (activation, REQUIRED)},
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
}
