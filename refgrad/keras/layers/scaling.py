"""Layers that shift and scale: by trained moments, by numbers in the config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras import values
from refgrad.keras.layers.normalising import CENTERING, fitted, scale_and_center
from refgrad.keras.rows import REQUIRED, Config, Given, Roles, Row, initialized, initialized_by_keras_1
from refgrad.ops import BatchNormalization, Normalization, Rescaling
from refgrad.sequential import Steps


def _one_axis(value: Any) -> int:
    """An axis, which Keras ≤ 2 writes as a list of one."""
    found = values.axes(value)
    if len(found) != 1:
        msg = f"{value!r:.40} is not one axis; moments over several cannot be read"
        raise UnsupportedError(msg)
    return found[0]


def _batch_normalization(given: Given) -> Steps:
    config, arrays = given.config, given.arrays
    mean, variance = arrays["moving_mean"], arrays["moving_variance"]
    axis = values.feature_axis(config["axis"], given.shape)
    op = BatchNormalization(mean, variance, arrays.get("gamma"), arrays.get("beta"), config["epsilon"], axis)
    return [(given.name, op)]


def _moments(config: Config) -> Roles:
    """Arrays of moments, unless they are numbers in the config."""
    return () if config["mean"] is not None else ("mean", "variance", "count")


def _moments_as_used(config: Config, generation: int) -> Config:
    """Keras 3 makes float32 of moments in the config, whatever the model's dtype."""
    if (config["mean"] is None) != (config["variance"] is None):
        msg = "it has one of mean and variance; both or none are needed"
        raise FormatError(msg)
    if generation < 3 or config["mean"] is None:
        return config
    return {**config, **{key: config[key].astype(np.float32).astype(np.float64) for key in ("mean", "variance")}}


def _normalization(given: Given) -> Steps:
    """The moments have the sizes of `axis` and are laid out so that they stretch over the other axes."""
    axes = values.feature_axes(given.config["axis"], given.shape)
    kept = tuple(given.shape[axis] for axis in axes)
    layout = tuple(size if index - len(given.shape) in axes else 1 for index, size in enumerate(given.shape))
    laid = []
    for role in ("mean", "variance"):
        moments: Array = given.arrays[role] if given.arrays else given.config[role]
        if not given.arrays and moments.size == 1:
            laid.append(moments.reshape((1,) * len(given.shape)))
            continue
        if not given.arrays and moments.shape == (1,) * (moments.ndim - len(kept)) + kept:
            moments = moments.reshape(kept)  # a batch of one is stretched to itself
        laid.append(fitted(role, moments, kept).reshape(layout))
    return [(given.name, Normalization(laid[0], laid[1], given.config["invert"]))]


def _as_tensor(value: Any) -> Array:
    """Numbers as TensorFlow makes a tensor of them: float32 of plain ones, all of what was a NumPy array."""
    found = values.numbers(value)
    plain = not isinstance(value, dict) and np.asarray(value).dtype.kind == "f"
    return found.astype(np.float32).astype(np.float64) if plain else found


def _rescaling(given: Given) -> Steps:
    return [(given.name, Rescaling(given.config["scale"], given.config["offset"]))]


ROWS: Mapping[str, Row] = {
    "BatchNormalization": Row(
        _batch_normalization,
        meaning={"axis": (_one_axis, -1), **CENTERING},
        inert=initialized("gamma", "beta", "moving_mean", "moving_variance")
        | initialized_by_keras_1("gamma", "beta")
        | {"momentum", "fused", "synchronized", "renorm_clipping", "renorm_momentum"},
        only={"mode": 0, "renorm": False, "virtual_batch_size": None, "adjustment": None},
        roles=lambda config: (*scale_and_center(config), "moving_mean", "moving_variance"),
        pointwise=True,
    ),
    "Normalization": Row(
        _normalization,
        meaning={
            "axis": (values.axes, -1),
            "mean": (values.numbers_or_none, None),
            "variance": (values.numbers_or_none, None),
            "invert": (values.flag, False),
        },
        roles=_moments,
        unused=frozenset({"count"}),
        computed=frozenset({"mean", "variance"}),
        as_used=_moments_as_used,
        pointwise=True,
    ),
    "Rescaling": Row(
        _rescaling,
        meaning={"scale": (_as_tensor, REQUIRED), "offset": (_as_tensor, 0.0)},
        pointwise=True,
    ),
}
