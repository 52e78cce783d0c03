"""Activations of the form z·s(z), where s is shaped like a step from 0 to 1.

f′(z) = s(z) + z s′(z). Beyond ±1000 (±64 for the Gaussian ones) s and s′ have reached their limits in float64 as well,
so z is cut there wherever a factor that vanishes meets it: 0 · inf would be NaN, and the limit is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.activations.row import Activation, erfc, where

_ROOT_HALF = 0.7071067811865476
_ROOT_TWO_OVER_PI = 0.7978845608028654
_DENSITY_AT_0 = 0.3989422804014327
_CUBIC = 0.044715


def _silu(z: Any) -> Any:
    # s = 1/(1 + e) or e/(1 + e), e = exp(−|z|).
    e = np.exp(-np.abs(z))
    return np.maximum(z, -1000) * (where(z >= 0, 1, e) / (1 + e))


def _silu_slope(z: Any) -> Any:
    # s′ = e/(1 + e)².
    e = np.exp(-np.abs(z))
    w = np.minimum(np.maximum(z, -1000), 1000)
    return where(z >= 0, 1 + e + w * e, e * (1 + e + w)) / ((1 + e) * (1 + e))


def _mish(z: Any) -> Any:
    # s = tanh(log(1 + eᶻ)) = (E² + 2E)/(E² + 2E + 2), E = eᶻ, both divided by E² where z ≥ 0.
    e = np.exp(-np.abs(z))
    n = where(z >= 0, 1 + 2 * e, e * (e + 2))
    d = where(z >= 0, 2 * e * e, 2) + n
    return np.maximum(z, -1000) * (n / d)


def _mish_slope(z: Any) -> Any:
    # s′ = 4E(1 + E)/(E² + 2E + 2)².
    e = np.exp(-np.abs(z))
    n = where(z >= 0, 1 + 2 * e, e * (e + 2))
    d = where(z >= 0, 2 * e * e, 2) + n
    w = np.minimum(np.maximum(z, -1000), 1000)
    return n / d + w * (4 * e * where(z >= 0, e, 1) * (1 + e) / (d * d))


def _gelu(z: Any) -> Any:
    # s = Φ, the normal distribution: erfc(−z/√2)/2.
    return np.maximum(z, -64) * (erfc(-_ROOT_HALF * z) / 2)


def _gelu_slope(z: Any) -> Any:
    # s′ = exp(−z²/2)/√(2π).
    w = np.minimum(np.maximum(z, -64), 64)
    return erfc(-_ROOT_HALF * z) / 2 + w * (_DENSITY_AT_0 * np.exp(-w * w / 2))


def _gelu_tanh(z: Any) -> Any:
    # s = (1 + tanh(v/2))/2 = 1/(1 + e⁻ᵛ), v = 2√(2/π)(z + 0.044715 z³).
    w = np.maximum(z, -64)
    v = 2 * _ROOT_TWO_OVER_PI * (w + _CUBIC * w * w * w)
    e = np.exp(-np.abs(v))
    return w * (where(z >= 0, 1, e) / (1 + e))


def _gelu_tanh_slope(z: Any) -> Any:
    # s′ = e/(1 + e)²·v′, v′ = 2√(2/π)(1 + 3·0.044715 z²).
    w = np.minimum(np.maximum(z, -64), 64)
    v = 2 * _ROOT_TWO_OVER_PI * (w + _CUBIC * w * w * w)
    e = np.exp(-np.abs(v))
    step = where(z >= 0, 1, e) / (1 + e)
    return step + w * (e / ((1 + e) * (1 + e)) * (2 * _ROOT_TWO_OVER_PI * (1 + 3 * _CUBIC * w * w)))


ROWS = (
    Activation("silu", _silu, _silu_slope, source="keras.activations.silu: z/(1 + e⁻ᶻ)"),
    Activation("mish", _mish, _mish_slope, source="keras.activations.mish: z·tanh(log(1 + eᶻ))"),
    Activation("gelu", _gelu, _gelu_slope, source="keras.activations.gelu: z·(1 + erf(z/√2))/2"),
    Activation(
        "gelu_tanh",
        _gelu_tanh,
        _gelu_tanh_slope,
        source="keras.activations.gelu(approximate=True): z·(1 + tanh(√(2/π)·(z + 0.044715 z³)))/2",
    ),
)
