"""Layers that normalise every sample by its own numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refgrad.arrays import Array
from refgrad.errors import FormatError, MismatchError, UnsupportedError
from refgrad.keras import values
from refgrad.keras.rows import Config, Given, Roles, Row, initialized
from refgrad.ops import LayerNormalization, Rescaling, Reshape, RMSNormalization, UnitNormalization
from refgrad.sequential import Steps

_LEAST_LENGTH = {2: 1e-6, 3: 1e-12}
"""What a generation of Keras divides by where a vector is shorter."""


def scale_and_center(config: Config) -> Roles:
    """The arrays of a layer that scales and centres, or does one of both."""
    return tuple(role for role, key in (("gamma", "scale"), ("beta", "center")) if config[key])


def fitted(role: str, array: Array, shape: tuple[int, ...]) -> Array:
    """An array of this shape, whose axes may have been stored in another order."""
    if array.ndim != len(shape) or sorted(array.shape) != sorted(shape):
        msg = f"{role} has shape {array.shape}; the input and the layer's axis need {shape}"
        raise MismatchError(msg)
    return array.reshape(shape)


def _over_axes(given: Given) -> tuple[tuple[int, ...], dict[str, Array]]:
    """The axes, and the arrays laid out by them in ascending order, which is how Keras reshapes them."""
    axes = values.feature_axes(given.config["axis"], given.shape)
    sizes = tuple(given.shape[axis] for axis in axes)
    return axes, {role: fitted(role, array, sizes) for role, array in given.arrays.items()}


def _layer_normalization(given: Given) -> Steps:
    axes, laid = _over_axes(given)
    return [(given.name, LayerNormalization(laid.get("gamma"), laid.get("beta"), given.config["epsilon"], axes))]


def _rms_normalization(given: Given) -> Steps:
    axes, laid = _over_axes(given)
    if any(axis != place - len(axes) for place, axis in enumerate(axes)):
        msg = f"axis={given.config['axis']!r} are not the last axes, which Keras scales along whatever it says"
        raise UnsupportedError(msg)
    return [(given.name, RMSNormalization(laid["scale"], given.config["epsilon"], axes))]


def _unit_normalization(given: Given) -> Steps:
    axes, _ = _over_axes(given)
    return [(given.name, UnitNormalization(_LEAST_LENGTH[given.generation], axes))]


def _groups(value: object) -> int:
    """How many groups; −1 is one for each channel."""
    return -1 if value == -1 and not isinstance(value, float) else values.whole_number(value)


def _group_normalization(given: Given) -> Steps:
    """Channels lie group by group; each group is normalised over all axes but its own, then every channel scaled."""
    shape, axis = given.shape, values.feature_axis(given.config["axis"], given.shape)
    channels, at = shape[axis], len(shape) + axis
    groups = channels if given.config["groups"] == -1 else given.config["groups"]
    if channels % groups:
        msg = f"groups={groups} does not divide the {channels} channels of an input of shape {shape}"
        raise FormatError(msg)
    split = (*shape[:at], groups, channels // groups, *shape[at + 1 :])
    axes = tuple(index - len(split) for index in range(len(split)) if index != at)
    ops = [Reshape(split), LayerNormalization(None, None, given.config["epsilon"], axes), Reshape(shape)]
    steps: Steps = [(given.name, op) for op in ops]
    if given.arrays:
        laid = {role: fitted(role, array, (channels,)) for role, array in given.arrays.items()}
        parts = (laid.get("gamma", np.ones(channels)), laid.get("beta", np.zeros(channels)))
        steps.append((given.name, Rescaling(*(part.reshape(channels, *(1,) * (-axis - 1)) for part in parts))))
    return steps


CENTERING = {
    "epsilon": (values.not_negative, 1e-3),
    "center": (values.flag, True),
    "scale": (values.flag, True),
}
"""What layers say that scale and centre what they have normalised."""

ROWS: Mapping[str, Row] = {
    "LayerNormalization": Row(
        _layer_normalization,
        meaning={"axis": (values.axes, -1), **CENTERING},
        inert=initialized("gamma", "beta"),
        only={"rms_scaling": False},
        roles=scale_and_center,
        pointwise=True,
    ),
    "RMSNormalization": Row(
        _rms_normalization,
        meaning={"axis": (values.axes, -1), "epsilon": (values.not_negative, 1e-6)},
        roles=lambda _: ("scale",),
        pointwise=True,
    ),
    "UnitNormalization": Row(_unit_normalization, meaning={"axis": (values.axes, -1)}, pointwise=True),
    "GroupNormalization": Row(
        _group_normalization,
        meaning={"groups": (_groups, 32), "axis": (values.axis, -1), **CENTERING},
        inert=initialized("gamma", "beta"),
        roles=scale_and_center,
        pointwise=True,
    ),
}
