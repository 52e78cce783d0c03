"""From exact numbers to floats: the nearest, ties to even, and the floats that enclose them.

Rounding is monotone: where both ends of a ball round to the same float, so does the number in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb

from refgrad.arrays import Array
from refgrad.exact.tensors import Balls, Integers, Mask, Tensor

_HUGE = 1200
"""2 to this, and to minus this, is beyond any float."""

_FLOAT32_TIE = 2.0**128 - 2.0**103
"""Halfway from the largest float32 to the next, which there is none of."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """Floats nearest to exact numbers, floats that enclose these, and whether the former are sure to be the nearest."""

    value: Array
    lower: Array
    upper: Array
    proved: Mask


def _quotient(p: int, q: int) -> float:
    """p/q rounded to nearest even, which Python's division of integers is; an overflow is infinite."""
    try:
        return p / q
    except OverflowError:
        return float("inf") if p > 0 else float("-inf")


def _side(p: int, q: int, nearest: float) -> int:
    """The sign of p/q − nearest."""
    if nearest in (float("inf"), float("-inf")):
        return -1 if nearest > 0 else 1
    a, b = nearest.as_integer_ratio()
    one, other = p * b, a * q
    return (one > other) - (one < other)


def _fractions(pairs: Sequence[tuple[int, int]], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Rounded:
    """Rational numbers p/q, q > 0, rounded."""
    nearest: Array = np.array([_quotient(p, q) for p, q in pairs], np.float64)
    side = np.array([_side(p, q, float(near)) for (p, q), near in zip(pairs, nearest, strict=True)], np.int64)
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


def _end(number: Any) -> tuple[int, int]:
    """An end of a ball, which is a floating-point number of FLINT, as p/q; one beyond any float by one that is, too."""
    mantissa, exponent = (int(part) for part in number.man_exp())
    magnitude = mantissa.bit_length() + exponent
    if mantissa and abs(magnitude) > _HUGE:
        mantissa, exponent = (1 if mantissa > 0 else -1), (_HUGE if magnitude > 0 else -_HUGE)
    return (mantissa << exponent, 1) if exponent >= 0 else (mantissa, 1 << -exponent)


def _balls(balls: Balls, dtype: np.dtype[Any]) -> Rounded:
    numbers = balls.numbers.ravel()
    finite = np.array([number.is_finite() for number in numbers], bool)
    held = [number if here else arb(0) for number, here in zip(numbers, finite, strict=True)]
    below, middle, above = (
        _fractions([_end(end(number)) for number in held], numbers.shape, dtype)
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
            return _fractions([(int(number) * p, q) for number in tensor.numbers.ravel()], tensor.shape, dtype)
        return _balls(tensor.balls(), dtype)
