"""Activations shaped like a step, and like the ramp that is a step's integral.

All take e = exp(−|z|), which never overflows, and keep the relative accuracy of small tails where they can.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.activations.row import Activation, where


def _sigmoid(z: Any) -> Any:
    e = np.exp(-np.abs(z))
    return where(z >= 0, 1, e) / (1 + e)


def _sigmoid_slope(z: Any) -> Any:
    e = np.exp(-np.abs(z))
    return e / ((1 + e) * (1 + e))


def _tanh(z: Any) -> Any:
    return np.tanh(z)


def _tanh_slope(z: Any) -> Any:
    # sech²z = 4E/(1 + E)², E = exp(−2|z|), keeps its relative accuracy where 1 − tanh²z cancels.
    e = np.exp(-(np.abs(z) + np.abs(z)))
    return 4 * e / ((1 + e) * (1 + e))


def _tanh_shrink(z: Any) -> Any:
    return z - np.tanh(z)


def _tanh_shrink_slope(z: Any) -> Any:
    return np.tanh(z) * np.tanh(z)


def _softplus(z: Any) -> Any:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _log_sigmoid(z: Any) -> Any:
    return np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))


def _log_sigmoid_slope(z: Any) -> Any:
    e = np.exp(-np.abs(z))
    return where(z >= 0, e, 1) / (1 + e)


def _softsign(z: Any) -> Any:
    return where(np.abs(z) == np.inf, np.sign(z), z / (1 + np.abs(z)))


def _softsign_slope(z: Any) -> Any:
    root = 1 / (1 + np.abs(z))
    return root * root


def _squareplus(z: Any, b: Any) -> Any:
    # With r = √(z² + b), (z + r)/2 = (b/4)/(r/2 − z/2), which does not cancel where z < 0; halves do not overflow.
    half = np.hypot(z, np.sqrt(b)) / 2
    return where(z < 0, b / 4 / (half - np.minimum(z, 0) / 2), z / 2 + half)


def _squareplus_slope(z: Any, b: Any) -> Any:
    # (1 + z/r)/2 = f/r.
    r = np.hypot(z, np.sqrt(b))
    f = where(z < 0, b / 4 / (r / 2 - np.minimum(z, 0) / 2), z / 2 + r / 2)
    return where(z == np.inf, 1, f / r)


ROWS = (
    Activation("sigmoid", _sigmoid, _sigmoid_slope, source="keras.activations.sigmoid: 1/(1 + e⁻ᶻ)"),
    Activation("log_sigmoid", _log_sigmoid, _log_sigmoid_slope, source="keras.activations.log_sigmoid: −log(1 + e⁻ᶻ)"),
    Activation("softplus", _softplus, _sigmoid, source="keras.activations.softplus: log(1 + eᶻ)"),
    Activation("tanh", _tanh, _tanh_slope, source="keras.activations.tanh: (eᶻ − e⁻ᶻ)/(eᶻ + e⁻ᶻ)"),
    Activation("tanh_shrink", _tanh_shrink, _tanh_shrink_slope, source="keras.activations.tanh_shrink: z − tanh(z)"),
    Activation("softsign", _softsign, _softsign_slope, source="keras.activations.softsign: z/(1 + |z|)"),
    Activation(
        "squareplus",
        _squareplus,
        _squareplus_slope,
        source="keras.activations.squareplus: (z + √(z² + b))/2, b > 0",
        parameters=(("b", 4.0),),
    ),
)
