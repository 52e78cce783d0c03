"""What stands for `np` in the activations' formulas when they are compiled for single numbers.

Most are NumPy's own. exp, expm1 and tanh are made of additions, products and bits, so that a loop of them becomes one
of vectors, which calls into the C library would prevent:

    x = k log 2 + r, |r| ≤ log(2)/2        e^x = 2^k (1 + p),  e^x − 1 = 2^k p + (2^k − 1),  p = e^r − 1

where p is a Taylor polynomial of r, of which the first term left out is below half a unit roundoff of r.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic, overload
from numpy import abs, hypot, inf, log1p, maximum, minimum, sign, sqrt  # noqa: A004

from refgrad.kernels.compiling import jit

__all__ = [
    "abs", "erfc", "exp", "expm1", "hypot", "inf", "log1p", "maximum", "minimum", "sign", "sqrt", "tanh",
]  # fmt: skip


def bits(x: Any) -> Any:
    """A number's bits as a whole number of its size."""
    return np.asarray(x).view(f"i{x.dtype.itemsize}")[()]


def number(pattern: Any) -> Any:
    """The inverse of `bits`."""
    return np.asarray(pattern).view(f"f{pattern.dtype.itemsize}")[()]


_INTEGERS: Any = {types.float32: types.int32, types.float64: types.int64}


@intrinsic
def _bits(typing, x):  # type: ignore[no-untyped-def]
    kind = _INTEGERS[x]
    return kind(x), lambda context, builder, _, given: builder.bitcast(given[0], context.get_value_type(kind))


@intrinsic
def _number(typing, pattern):  # type: ignore[no-untyped-def]
    (kind,) = (real for real, integer in _INTEGERS.items() if integer == pattern)
    return kind(pattern), lambda context, builder, _, given: builder.bitcast(given[0], context.get_value_type(kind))


@overload(bits, strict=False)
def _of(x):  # type: ignore[no-untyped-def]
    return lambda x: _bits(x)


@overload(number, strict=False)
def _from(pattern):  # type: ignore[no-untyped-def]
    return lambda pattern: _number(pattern)


def parts(x: Any) -> Any:
    """2^⌊k/2⌋, 2^⌈k/2⌉ and p: in two factors, so that neither overflows while the result does not."""
    return (_parts32 if x.dtype == np.float32 else _parts64)(x)


@overload(parts, strict=False)
def _of_type(x):  # type: ignore[no-untyped-def]
    return (lambda x: _parts32(x)) if x == types.float32 else (lambda x: _parts64(x))


def _within(x: Any, least: Any, most: Any) -> Any:
    return least if x < least else most if x > most else x


_clip = jit(_within)

_F, _I = np.float32, np.int32
_MAGIC32, _LOG2E32, _HIGH32, _LOW32 = _F(12582912.0), _F(1.4426950408889634), _F(0.693359375), _F(-2.12194440e-4)
_T32 = tuple(_F(1 / math.factorial(n)) for n in range(2, 9))
_LEAST32, _MOST32 = _F(-110), _F(110)
_MAGIC32_BITS = 0x4B400000


@jit
def _parts32(x: Any) -> Any:
    """Of a float32. Adding 1.5·2²³ rounds to a whole number, which is then in the low bits; NaN goes through r."""
    x = _clip(x, _LEAST32, _MOST32)
    shifted = x * _LOG2E32 + _MAGIC32
    k = bits(shifted) - _MAGIC32_BITS
    whole = shifted - _MAGIC32
    r = (x - whole * _HIGH32) - whole * _LOW32
    t2, t3, t4, t5, t6, t7, t8 = _T32
    p = r + r * r * (t2 + r * (t3 + r * (t4 + r * (t5 + r * (t6 + r * (t7 + r * t8))))))
    half = k >> 1
    # Numba's sums of 32-bit numbers have 64.
    return number(_I((half + 127) << 23)), number(_I((k - half + 127) << 23)), p


_MAGIC64, _LOG2E64 = np.float64(6755399441055744.0), np.float64(1.4426950408889634)
_HIGH64, _LOW64 = np.float64(0.693147180369123816490), np.float64(1.90821492927058770002e-10)
_T64 = tuple(np.float64(1 / math.factorial(n)) for n in range(2, 15))
_LEAST64, _MOST64 = np.float64(-760), np.float64(760)
_ONE32, _ONE64 = 2 * 127 << 23, 2 * 1023 << 52
"""Twice the bits of 1."""
_MAGIC64_BITS = 0x4338000000000000


@jit
def _parts64(x: Any) -> Any:
    """Of a float64."""
    x = _clip(x, _LEAST64, _MOST64)
    shifted = x * _LOG2E64 + _MAGIC64
    k = bits(shifted) - _MAGIC64_BITS
    whole = shifted - _MAGIC64
    r = (x - whole * _HIGH64) - whole * _LOW64
    t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14 = _T64
    high = t8 + r * (t9 + r * (t10 + r * (t11 + r * (t12 + r * (t13 + r * t14)))))
    p = r + r * r * (t2 + r * (t3 + r * (t4 + r * (t5 + r * (t6 + r * (t7 + r * high))))))
    half = k >> 1
    return number((half + 1023) << 52), number((k - half + 1023) << 52), p


def reciprocal(power: Any) -> Any:
    """2^(−n) of 2^n, both normal: what takes the exponent from that of 1 twice over, without a division."""
    return number((_ONE32 if power.dtype == np.float32 else _ONE64) - bits(power))


@overload(reciprocal, strict=False)
def _reciprocal(power):  # type: ignore[no-untyped-def]
    if power == types.float32:
        return lambda power: number(_I(_ONE32 - bits(power)))
    return lambda power: number(_ONE64 - bits(power))


@jit
def exp(x: Any) -> Any:
    """e^x."""
    one, other, p = parts(x)
    return (one + one * p) * other


@jit
def expm1(x: Any) -> Any:
    """e^x − 1."""
    one, other, p = parts(x)
    return (one * p + (one - reciprocal(other))) * other


@jit
def tanh(x: Any) -> Any:
    """(e^2x − 1)/(e^2x + 1), by the magnitude: −m/(2 + m), m = e^(−2|x|) − 1, which keeps the accuracy near 0."""
    m = expm1(-(abs(x) + abs(x)))
    size = (type(x)(0) - m) / (m + type(x)(2))
    return -size if x < 0 else size


@jit
def erfc(z: Any) -> Any:
    """The complementary error function."""
    return math.erfc(z)
