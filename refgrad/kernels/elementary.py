"""What stands for `np` in the activations' formulas when they are compiled for single numbers.

Most are NumPy's own. exp, expm1, tanh and log1p are made of sums, products and bits, so that a loop of them becomes one
of vectors, which calls into the C library would prevent:

    x = k log 2 + r, |r| ≤ log(2)/2        e^x = 2^k (1 + p),  e^x − 1 = 2^k p + (2^k − 1),  p = e^r − 1

where p is a Taylor polynomial of r, of which the first term left out is below half a unit roundoff of r. And

    log(1 + x) = 2 artanh s = 2 s (1 + s²/3 + s⁴/5 + …),  s = x/(2 + x)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload
from numpy import abs, hypot, inf, maximum, minimum, sign, sqrt  # noqa: A004

from refgrad.kernels.compiling import jit

__all__ = [
    "abs", "exp", "expm1", "hypot", "inf", "log1p", "maximum", "minimum", "sign", "sqrt", "tanh",
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


def fused(x: Any, y: Any, z: Any) -> Any:
    """x y + z; compiled, with one rounding where the machine can."""
    return x * y + z


@intrinsic
def _fused(typing, x, y, z):  # type: ignore[no-untyped-def]
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind = given[0].type
        name = f"llvm.fmuladd.f{signature.return_type.bitwidth}"
        return builder.call(builder.module.declare_intrinsic(name, (), ir.FunctionType(kind, [kind] * 3)), given)

    return x(x, x, x), code


@overload(fused, strict=False)
def _of_three(x, y, z):  # type: ignore[no-untyped-def]
    return lambda x, y, z: _fused(x, y, z)


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
    shifted = fused(x, _LOG2E32, _MAGIC32)
    k = bits(shifted) - _MAGIC32_BITS
    whole = shifted - _MAGIC32
    r = fused(-whole, _LOW32, fused(-whole, _HIGH32, x))
    t2, t3, t4, t5, t6, t7, t8 = _T32
    p = fused(r, t8, t7)
    p = fused(r, fused(r, fused(r, fused(r, fused(r, p, t6), t5), t4), t3), t2)
    p = fused(r * r, p, r)
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
    shifted = fused(x, _LOG2E64, _MAGIC64)
    k = bits(shifted) - _MAGIC64_BITS
    whole = shifted - _MAGIC64
    r = fused(-whole, _LOW64, fused(-whole, _HIGH64, x))
    t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14 = _T64
    p = fused(r, fused(r, fused(r, fused(r, fused(r, fused(r, t14, t13), t12), t11), t10), t9), t8)
    p = fused(r, fused(r, fused(r, fused(r, fused(r, fused(r, p, t7), t6), t5), t4), t3), t2)
    p = fused(r * r, p, r)
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
    return fused(one, p, one) * other


@jit
def expm1(x: Any) -> Any:
    """e^x − 1."""
    one, other, p = parts(x)
    return fused(one, p, one - reciprocal(other)) * other


@jit
def tanh(x: Any) -> Any:
    """(e^2x − 1)/(e^2x + 1), by the magnitude: −m/(2 + m), m = e^(−2|x|) − 1, which keeps the accuracy near 0."""
    m = expm1(-(abs(x) + abs(x)))
    size = (type(x)(0) - m) / (m + type(x)(2))
    return -size if x < 0 else size


_A32 = tuple(_F(1 / (2 * n + 1)) for n in range(1, 8))
_A64 = tuple(np.float64(1 / (2 * n + 1)) for n in range(1, 17))


def series(square: Any) -> Any:
    """s²/3 + s⁴/5 + … for s² ≤ 1/9."""
    return _series32(square) if square.dtype == np.float32 else _series64(square)


@overload(series, strict=False)
def _series(square):  # type: ignore[no-untyped-def]
    return (lambda square: _series32(square)) if square == types.float32 else (lambda square: _series64(square))


@jit
def _series32(q: Any) -> Any:
    a1, a2, a3, a4, a5, a6, a7 = _A32
    return q * fused(q, fused(q, fused(q, fused(q, fused(q, fused(q, a7, a6), a5), a4), a3), a2), a1)


@jit
def _series64(q: Any) -> Any:
    a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16 = _A64
    high = fused(q, fused(q, fused(q, fused(q, fused(q, fused(q, a16, a15), a14), a13), a12), a11), a10)
    high = fused(q, fused(q, high, a9), a8)
    high = fused(q, fused(q, fused(q, fused(q, fused(q, fused(q, high, a7), a6), a5), a4), a3), a2)
    return q * fused(q, high, a1)


@jit
def log1p(x: Any) -> Any:
    """log(1 + x) for x from 0 to 1, which is all that the formulas ask for."""
    s = x / (x + type(x)(2))
    twice = s + s
    return fused(twice, series(s * s), twice)
