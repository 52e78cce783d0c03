"""The table of elementwise activations: one row each, with its derivative, kinks, jumps and source.

`f` and `df` run on arrays under NumPy and on scalars under Numba, so they use ufuncs and `where` only. Their parameters
come as numbers of the same dtype as `z`. At a kink `df` is what eager TensorFlow uses.
NaN gives NaN, but for `linear`, whose slope is 1 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Elementwise = Callable[..., Any]


def where(condition: Any, then: Any, otherwise: Any) -> Any:
    """`np.where` by a name of its own: Numba's makes an array of every scalar, the kernels give it a plain choice."""
    return np.where(condition, then, otherwise)


@dataclass(frozen=True)
class Kink:
    """A point where the slope changes: its place, both one-sided slopes, and what eager TensorFlow takes there."""

    where: float
    left: float
    right: float
    keras: float


@dataclass(frozen=True)
class Activation:
    """A row of the table.

    `f(z, *params)` and `df(z, *params)` are the function and its derivative, `kinks(*params)` and `jumps(*params)`
    say where the slope and where the value itself is discontinuous. `parameters` holds names and defaults in order.
    """

    name: str
    f: Elementwise
    df: Elementwise
    source: str
    parameters: tuple[tuple[str, float], ...] = ()
    kinks: Callable[..., tuple[Kink, ...]] = lambda *_: ()
    jumps: Callable[..., tuple[float, ...]] = lambda *_: ()

    @property
    def defaults(self) -> tuple[float, ...]:
        """The parameters' default values, in order."""
        return tuple(value for _, value in self.parameters)


def _linear(z: Any) -> Any:
    return z


def _linear_slope(z: Any) -> Any:
    return np.ones_like(z)


def _relu(z: Any, max_value: Any, negative_slope: Any, threshold: Any) -> Any:
    # Where the slope is 0, `z` is replaced before the product: 0 · (−inf) would be NaN, and the limit is 0.
    below = negative_slope * (where(negative_slope == 0, threshold, z) - threshold)
    return where(z <= threshold, below, np.minimum(z, max_value))


def _relu_slope(z: Any, max_value: Any, negative_slope: Any, threshold: Any) -> Any:
    # At its kinks Keras computes relu by whichever TensorFlow op fits: leaky_relu takes the left slope at 0, relu6
    # takes 0 at 6, clip takes 1 at its maximum, and a threshold is a mask that is 0 on the threshold itself.
    is_leaky = (threshold == 0) & (max_value == np.inf)
    is_relu6 = (threshold == 0) & (max_value == 6)
    below = where((z < threshold) | is_leaky, negative_slope, 0)
    flat = (z > max_value) | ((z == max_value) & is_relu6)
    above = where(flat, 0, where(z <= max_value, 1, z))
    return where(z <= threshold, below, above)


def _relu_kinks(max_value: float, negative_slope: float, threshold: float) -> tuple[Kink, ...]:
    def slope(z: float) -> float:
        return float(_relu_slope(z, max_value, negative_slope, threshold))

    right_of_threshold = 1.0 if threshold < max_value else 0.0
    kinks = [Kink(threshold, negative_slope, right_of_threshold, slope(threshold))]
    if threshold < max_value < np.inf:
        kinks.append(Kink(max_value, 1.0, 0.0, slope(max_value)))
    return tuple(kink for kink in kinks if not kink.left == kink.right == kink.keras)


def _relu_jumps(max_value: float, negative_slope: float, threshold: float) -> tuple[float, ...]:
    return (threshold,) if min(threshold, max_value) > 0 else ()


def _tanh(z: Any) -> Any:
    return np.tanh(z)


def _tanh_slope(z: Any) -> Any:
    # sech²z = (2e/(1 + e²))², e = exp(−|z|), keeps its relative accuracy where 1 − tanh²z cancels.
    e = np.exp(-np.abs(z))
    sech = 2 * e / (1 + e * e)
    return sech * sech


def _sigmoid(z: Any) -> Any:
    e = np.exp(-np.abs(z))
    return where(z >= 0, 1, e) / (1 + e)


def _sigmoid_slope(z: Any) -> Any:
    e = np.exp(-np.abs(z))
    return e / ((1 + e) * (1 + e))


_ROWS = (
    Activation("linear", _linear, _linear_slope, source="keras.activations.linear: z"),
    Activation(
        "relu",
        _relu,
        _relu_slope,
        source="keras.activations.relu: negative_slope·(z − threshold) up to the threshold, then min(z, max_value)",
        parameters=(("max_value", np.inf), ("negative_slope", 0.0), ("threshold", 0.0)),
        kinks=_relu_kinks,
        jumps=_relu_jumps,
    ),
    Activation("sigmoid", _sigmoid, _sigmoid_slope, source="keras.activations.sigmoid: 1/(1 + e⁻ᶻ)"),
    Activation("tanh", _tanh, _tanh_slope, source="keras.activations.tanh: (eᶻ − e⁻ᶻ)/(eᶻ + e⁻ᶻ)"),
)

ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _ROWS}
