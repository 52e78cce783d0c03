"""The elementwise activations in a framework's own functions: its own where it has one, else as Keras composes them.

A framework says in `f.own` which rows of the activation table it has itself; the compositions here are those of
Keras 3, so that slopes on kinks are what Keras on that framework has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def _relu(f: Any, z: Any, max_value: float, negative_slope: float, threshold: float) -> Any:
    if negative_slope and max_value == np.inf and threshold == 0:
        return f.own["leaky_relu"](z, negative_slope)
    if threshold:
        positive = f.where(z > threshold, z, f.zeros_like(z))
    elif max_value == 6:
        positive = f.own["relu6"](z)
    else:
        positive = f.relu(z)
    if max_value not in (6, np.inf) or (threshold and max_value != np.inf):
        positive = f.clip(positive, 0.0, max_value)
    return positive - negative_slope * f.relu(threshold - z) if negative_slope else positive


def _elu(f: Any, z: Any, alpha: float) -> Any:
    return f.where(z > 0, z, alpha * f.expm1(f.where(z > 0, f.zeros_like(z), z)))


def _sparse_plus(f: Any, z: Any) -> Any:
    return f.where(z <= -1, f.zeros_like(z), f.where(z < 1, f.square(z + 1) / 4, z))


def _sparse_sigmoid(f: Any, z: Any) -> Any:
    return f.where(z <= -1, f.zeros_like(z), f.where(z >= 1, f.ones_like(z), (z + 1) / 2))


def _hard_shrink(f: Any, z: Any, threshold: float) -> Any:
    return f.where(f.own["abs"](z) > threshold, z, f.zeros_like(z))


def _soft_shrink(f: Any, z: Any, threshold: float) -> Any:
    below = f.where(z < -threshold, z + threshold, f.zeros_like(z))
    return f.where(z > threshold, z - threshold, below)


def _threshold(f: Any, z: Any, threshold: float, default_value: float) -> Any:
    return f.where(z > threshold, z, f.zeros_like(z) + default_value)


def _celu(f: Any, z: Any, alpha: float) -> Any:
    zero = f.zeros_like(z)
    return f.maximum(z, zero) + alpha * f.expm1(f.minimum(z, zero) / alpha)


COMPOSED: Mapping[str, Callable[..., Any]] = {
    "linear": lambda f, z: z,
    "relu": _relu,
    "hard_sigmoid": lambda f, z: f.own["relu6"](z + 3) / 6,
    "hard_sigmoid_keras2": lambda f, z: f.clip(0.2 * z + 0.5, 0.0, 1.0),
    "hard_silu": lambda f, z: z * (f.own["relu6"](z + 3) / 6),
    "hard_tanh": lambda f, z: f.clip(z, -1.0, 1.0),
    "hard_shrink": _hard_shrink,
    "soft_shrink": _soft_shrink,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _sparse_sigmoid,
    "threshold": _threshold,
    "elu": _elu,
    "celu": _celu,
    "mish": lambda f, z: z * f.own["tanh"](f.own["softplus"](z)),
    "tanh_shrink": lambda f, z: z - f.own["tanh"](z),
    "squareplus": lambda f, z, b: (z + f.sqrt(f.square(z) + b)) / 2,
    "log2": lambda f, z: f.own["log"](z) / math.log(2),
    "log10": lambda f, z: f.own["log"](z) / math.log(10),
}
"""Rows as compositions: (framework, z, *parameters) → tensor."""


def function(f: Any, row: str) -> Callable[..., Any]:
    """A row of the activation table as a function of tensor and parameters."""
    if row in f.own:
        own: Callable[..., Any] = f.own[row]
        return own
    return lambda z, *parameters: COMPOSED[row](f, z, *parameters)
