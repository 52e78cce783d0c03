"""From exact numbers to floats: the nearest, ties to even, and the floats that enclose them.

Rounding is monotone: where both ends of a ball round to the same float, so does the number in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb

from refgrad.arrays import Array
from refgrad.exact.tensors import Balls, Integers, Mask, Tensor

_HUGE = 1200
"""2 to this, and to minus this, is beyond any float."""

_NORMAL = 2.0**-1022
"""The least normal float64."""

_FLOAT32_TIE = 2.0**128 - 2.0**103
"""Halfway from the largest float32 to the next, which there is none of."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """Floats nearest to exact numbers, floats that enclose these, and whether the former are sure to be the nearest."""

    value: Array
    lower: Array
    upper: Array
    proved: Mask


def _nearest(p: int, q: int, places: int) -> tuple[float, int]:
    """The float nearest to p/q · 2^places, q > 0, ties to even, and on which side of it that number is."""
    if q == 1:
        try:
            mantissa = float(p)  # Python rounds integers to nearest even
            near = math.ldexp(mantissa, places)
        except OverflowError:
            near = 0.0
        if near > _NORMAL or near < -_NORMAL:  # no digit was lost to its exponent
            whole = int(mantissa)
            return near, (p > whole) - (p < whole)
    p, q = (p << places, q) if places >= 0 else (p, q << -places)
    try:
        near = p / q  # and quotients of integers, subnormal ones too
    except OverflowError:
        return (math.inf, -1) if p > 0 else (-math.inf, 1)
    a, b = near.as_integer_ratio()
    one, other = p * b, a * q
    return near, (one > other) - (one < other)


def _fractions(numbers: Iterable[tuple[int, int, int]], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Rounded:
    """Rational numbers p/q · 2^places, q > 0, rounded."""
    found = [_nearest(p, q, places) for p, q, places in numbers]
    nearest: Array = np.array([near for near, _ in found], np.float64)
    side = np.array([way for _, way in found], np.int64)
    if dtype == np.float32:
        nearest, side = _to_float32(nearest, side)
    infinity = dtype.type(np.inf)
    lower = np.where(side < 0, np.nextafter(nearest, -infinity), nearest)
    upper = np.where(side > 0, np.nextafter(nearest, infinity), nearest)
    return Rounded(nearest.reshape(shape), lower.reshape(shape), upper.reshape(shape), np.ones(shape, bool))


def _to_float32(wide: Array, side: npt.NDArray[np.int64]) -> tuple[Array, npt.NDArray[np.int64]]:
    """The float32 nearest to a number whose nearest float64 is `wide`, on whose side it is.

    Rounding twice errs where `wide` is halfway between two float32s and the number is not: a step towards it decides.
    """
    single = wide.astype(np.float32)
    other = np.nextafter(single, np.where(wide > single, np.float32(np.inf), np.float32(-np.inf)))
    halfway = (np.abs(wide - single) == np.abs(other - wide)) | (np.abs(wide) == _FLOAT32_TIE)
    nudged = np.nextafter(wide, np.where(side > 0, np.inf, -np.inf))
    single = np.where(halfway & (side != 0), nudged, wide).astype(np.float32)
    return single, np.where(wide == single, side, np.sign(wide - single)).astype(np.int64)


def _end(number: Any) -> tuple[int, int, int]:
    """An end of a ball, which is m · 2^e, as `_nearest` takes it; one beyond any float as another such."""
    mantissa, exponent = (int(part) for part in number.man_exp())
    magnitude = mantissa.bit_length() + exponent
    if mantissa and abs(magnitude) > _HUGE:
        return (1 if mantissa > 0 else -1), 1, (_HUGE if magnitude > 0 else -_HUGE)
    return mantissa, 1, exponent


def _balls(balls: Balls, dtype: np.dtype[Any]) -> Rounded:
    numbers = balls.numbers.ravel()
    finite = np.array([number.is_finite() for number in numbers], bool)
    held = [number if here else arb(0) for number, here in zip(numbers, finite, strict=True)]
    below, middle, above = (
        _fractions((_end(end(number)) for number in held), numbers.shape, dtype)
        for end in (arb.lower, arb.mid, arb.upper)
    )
    proved = finite & (below.value == above.value)
    parts = (
        np.where(finite, np.where(proved, below.value, middle.value), np.nan),
        np.where(finite, below.lower, -np.inf),
        np.where(finite, above.upper, np.inf),
    )
    value, lower, upper = (part.astype(dtype).reshape(balls.shape) for part in parts)
    return Rounded(value, lower, upper, proved.reshape(balls.shape))


def rounded(tensor: Tensor, dtype: np.dtype[Any]) -> Rounded:
    """Every number of a tensor, rounded to a dtype."""
    with np.errstate(all="ignore"):
        if isinstance(tensor, Integers):
            p, q = int(tensor.scale.p), int(tensor.scale.q)
            places = (q & -q).bit_length() - 1
            q >>= places
            return _fractions(((int(n) * p, q, -places) for n in tensor.numbers.ravel()), tensor.shape, dtype)
        return _balls(tensor.balls(), dtype)
