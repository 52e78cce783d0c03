"""How ops with arrays are written: affine maps and all kinds of normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.keras.recipes.step import Recipe, Step, gathered, in_config, reshape, scaled
from refgrad.ops import (
    Affine,
    BatchNormalization,
    LayerNormalization,
    Normalization,
    Rescaling,
    RMSNormalization,
    UnitNormalization,
)

_LEAST_DEVIATION = 1e-7
"""Keras's least standard deviation."""

_LEAST_LENGTH = 1e-12
"""What Keras 3 divides a vector by at least, to give it length 1."""


def _affine(op: Affine, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del shapes, dtype
    config = {"units": op.kernel.shape[1], "activation": "linear", "use_bias": op.bias is not None}
    return [Step("Dense", config, op.arrays())]


def _batch_normalization(op: BatchNormalization, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del shapes, dtype
    centering = {"center": op.beta is not None, "scale": op.gamma is not None}
    return [Step("BatchNormalization", {"axis": op.axis, "epsilon": op.epsilon, **centering}, op.arrays())]


def _layer_normalization(op: LayerNormalization, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del dtype
    centering = {"center": op.beta is not None, "scale": op.gamma is not None}
    arrays = {role: array.reshape(-1) for role, array in op.arrays().items()}
    step = Step("LayerNormalization", {"axis": -1, "epsilon": op.epsilon, **centering}, arrays)
    return gathered([step], op.axes, shapes[0])


def _rms_normalization(op: RMSNormalization, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    """With γ in it where γ lies along its axes, and after it otherwise."""
    (shape,) = shapes
    sizes = tuple(shape[axis] for axis in op.axes)
    along = op.gamma is not None and op.gamma.shape == sizes and op.axes[0] == -len(sizes)
    scale = op.gamma if along and op.gamma is not None else np.ones(sizes, dtype)
    steps = [Step("RMSNormalization", {"axis": -1, "epsilon": op.epsilon}, {"scale": scale.reshape(-1)})]
    after = [] if along or op.gamma is None else scaled(op.gamma, 0.0, shape, dtype)
    return [*gathered(steps, op.axes, shape), *after]


def _unit_normalization(op: UnitNormalization, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    """x / max(‖x‖, ε) = c x / max(‖c x‖, c ε): a factor makes Keras 3's least length any other."""
    steps = gathered([Step("UnitNormalization", {"axis": -1})], op.axes, shapes[0])
    if op.epsilon == _LEAST_LENGTH:
        return steps
    if op.epsilon == 0:
        msg = "epsilon is 0; Keras 3 divides by 1e-12 at least"
        raise UnsupportedError(msg)
    return [*scaled(_LEAST_LENGTH / op.epsilon, 0.0, shapes[0], dtype), *steps]


def _normalization(op: Normalization, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    """Moments in the config, along one axis, where it can hold them; otherwise as two scalings."""
    (shape,) = shapes
    rank = len(shape)
    mean, variance = (array.reshape((1,) * (rank - array.ndim) + array.shape) for array in (op.mean, op.variances))
    kept = [axis for axis in range(-rank, 0) if mean.shape[axis] > 1]
    if not (in_config(mean) and in_config(variance)):
        return _as_scalings(op, mean, variance, shape, dtype)
    if len(kept) < 2:
        config = {"axis": kept[0] if kept else None, "invert": op.invert}
        return [Step("Normalization", {**config, "mean": _listed(mean), "variance": _listed(variance)})]
    flat = (math.prod(shape),)
    moments = {
        key: np.broadcast_to(array, shape).reshape(flat).tolist()
        for key, array in (("mean", mean), ("variance", variance))
    }
    return [
        reshape(flat),
        Step("Normalization", {"axis": -1, "invert": op.invert, **moments}),
        reshape(shape),
    ]


def _listed(moments: Array) -> Any:
    return moments.reshape(-1).tolist() if moments.size > 1 else float(moments.reshape(()))


def _as_scalings(op: Normalization, mean: Array, variance: Array, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    """(x − m)·(1/s) or s x + m."""
    deviation = np.maximum(np.sqrt(variance), dtype.type(_LEAST_DEVIATION))
    if op.invert:
        return scaled(deviation, mean, shape, dtype)
    return [*scaled(1.0, -mean, shape, dtype), *scaled(1 / deviation, 0.0, shape, dtype)]


def _rescaling(op: Rescaling, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    return scaled(op.scale, op.offset, shapes[0], dtype)


RECIPES: Mapping[str, Recipe] = {
    "affine": _affine,
    "batch_normalization": _batch_normalization,
    "layer_normalization": _layer_normalization,
    "rms_normalization": _rms_normalization,
    "unit_normalization": _unit_normalization,
    "normalization": _normalization,
    "rescaling": _rescaling,
}
