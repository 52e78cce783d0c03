"""The elementwise functions of mathematics that Keras has as bare operations.

Outside its `domain` a function is NaN, and so is its slope. On a finite end of it the value and the slope are the
one-sided limits, which may be infinite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refgrad.activations.row import Activation, Kink, erf, where

_LOG_2, _LOG_10 = math.log(2), math.log(10)
_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


def _abs(z: Any) -> Any:
    return np.abs(z)


def _sign(z: Any) -> Any:
    return np.sign(z)


def _sign_slope(z: Any) -> Any:
    return where(np.isnan(z), z, 0)


def _square(z: Any) -> Any:
    return z * z


def _square_slope(z: Any) -> Any:
    return 2 * z


def _sqrt(z: Any) -> Any:
    return np.sqrt(z)


def _sqrt_slope(z: Any) -> Any:
    # √|z|: −0 has the slope of 0.
    return where(z < 0, np.nan, 1 / np.sqrt(np.abs(z)) / 2)


def _rsqrt(z: Any) -> Any:
    return where(z < 0, np.nan, 1 / np.sqrt(np.abs(z)))


def _rsqrt_slope(z: Any) -> Any:
    size = np.abs(z)
    return where(z < 0, np.nan, -(1 / np.sqrt(size) / 2) / size)


def _expm1(z: Any) -> Any:
    return np.expm1(z)


def _exp(z: Any) -> Any:
    return np.exp(z)


def _log(z: Any) -> Any:
    return np.log(z)


def _log_slope(z: Any) -> Any:
    return where(z < 0, np.nan, 1 / np.abs(z))


def _log2(z: Any) -> Any:
    return np.log2(z)


def _log2_slope(z: Any) -> Any:
    return where(z < 0, np.nan, 1 / np.abs(z) / _LOG_2)


def _log10(z: Any) -> Any:
    return np.log10(z)


def _log10_slope(z: Any) -> Any:
    return where(z < 0, np.nan, 1 / np.abs(z) / _LOG_10)


def _log1p(z: Any) -> Any:
    return np.log1p(z)


def _log1p_slope(z: Any) -> Any:
    return where(z < -1, np.nan, 1 / np.abs(1 + z))


def _sin(z: Any) -> Any:
    return np.sin(z)


def _cos(z: Any) -> Any:
    return np.cos(z)


def _cos_slope(z: Any) -> Any:
    return -np.sin(z)


def _tan(z: Any) -> Any:
    return np.tan(z)


def _tan_slope(z: Any) -> Any:
    return 1 + np.tan(z) * np.tan(z)


def _sinh(z: Any) -> Any:
    return np.sinh(z)


def _cosh(z: Any) -> Any:
    return np.cosh(z)


def _arctan(z: Any) -> Any:
    return np.arctan(z)


def _arctan_slope(z: Any) -> Any:
    return 1 / (1 + z * z)


def _arcsinh(z: Any) -> Any:
    return np.arcsinh(z)


def _arcsinh_slope(z: Any) -> Any:
    return 1 / np.hypot(z, 1)


def _erf(z: Any) -> Any:
    return erf(z)


def _erf_slope(z: Any) -> Any:
    return _TWO_OVER_ROOT_PI * np.exp(-z * z)


_POSITIVE = (0.0, math.inf)

ROWS = (
    Activation("abs", _abs, _sign, source="keras.ops.absolute: |z|", kinks=lambda: (Kink(0.0, -1.0, 1.0, 0.0),)),
    Activation("sign", _sign, _sign_slope, source="keras.ops.sign: z/|z|, 0 at 0", jumps=lambda: (0.0,)),
    Activation("square", _square, _square_slope, source="keras.ops.square: z²"),
    Activation("sqrt", _sqrt, _sqrt_slope, source="keras.ops.sqrt: √z", domain=_POSITIVE),
    Activation("rsqrt", _rsqrt, _rsqrt_slope, source="keras.ops.rsqrt: 1/√z", domain=_POSITIVE),
    Activation("expm1", _expm1, _exp, source="keras.ops.expm1: eᶻ − 1"),
    Activation("log", _log, _log_slope, source="keras.ops.log: the natural logarithm of z", domain=_POSITIVE),
    Activation("log2", _log2, _log2_slope, source="keras.ops.log2: log z / log 2", domain=_POSITIVE),
    Activation("log10", _log10, _log10_slope, source="keras.ops.log10: log z / log 10", domain=_POSITIVE),
    Activation("log1p", _log1p, _log1p_slope, source="keras.ops.log1p: log(1 + z)", domain=(-1.0, math.inf)),
    Activation("sin", _sin, _cos, source="keras.ops.sin: sin z"),
    Activation("cos", _cos, _cos_slope, source="keras.ops.cos: cos z"),
    Activation("tan", _tan, _tan_slope, source="keras.ops.tan: sin z / cos z"),
    Activation("sinh", _sinh, _cosh, source="keras.ops.sinh: (eᶻ − e⁻ᶻ)/2"),
    Activation("cosh", _cosh, _sinh, source="keras.ops.cosh: (eᶻ + e⁻ᶻ)/2"),
    Activation("arctan", _arctan, _arctan_slope, source="keras.ops.arctan: the angle whose tangent is z"),
    Activation("arcsinh", _arcsinh, _arcsinh_slope, source="keras.ops.arcsinh: log(z + √(z² + 1))"),
    Activation("erf", _erf, _erf_slope, source="keras.ops.erf: (2/√π) ∫₀ᶻ exp(−t²) dt"),
)
