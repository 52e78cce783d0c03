"""Tensors of exact numbers: integers that share a scale, and balls that are sure to hold the number meant.

Features are flat: values are `(batch, n)`, tangents and cotangents `(k, batch, n)`. Everything is done at FLINT's
current precision, which only balls know of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from flint import arb, fmpq, fmpz

Objects = npt.NDArray[np.object_]
Codes = npt.NDArray[np.signedinteger]
Mask = npt.NDArray[np.bool_]

UNKNOWN = 2
"""The sign of a ball that holds zero and other numbers."""

_ball = np.frompyfunc(arb, 1, 1)
_union = np.frompyfunc(lambda one, other: one.union(other), 2, 1)
_shift = np.frompyfunc(lambda mantissa, places: fmpz(mantissa) << places, 2, 1)


def objects(entries: Sequence[Any], shape: tuple[int, ...]) -> Objects:
    """Entries as an array; NumPy is not asked what they are."""
    flat = np.empty(len(entries), object)
    flat[:] = entries
    return flat.reshape(shape)


@dataclass(frozen=True, eq=False)
class Tensor:
    """What integers and balls share: an array of numbers that moves about as arrays do."""

    numbers: Objects

    def like(self, numbers: Objects) -> Self:
        """Other numbers of the same kind and scale."""
        raise NotImplementedError

    def balls(self) -> Balls:
        """The same as balls."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.numbers.shape

    def __getitem__(self, index: Any) -> Self:
        return self.like(self.numbers[index])

    def reshape(self, *shape: int) -> Self:
        """The same numbers in another shape."""
        return self.like(self.numbers.reshape(shape))

    def sums(self, starts: npt.NDArray[np.intp]) -> Self:
        """Sums of the pieces of the last axis that begin at `starts`."""
        return self.like(np.add.reduceat(self.numbers, starts, axis=-1))

    def total(self) -> Self:
        """Sum over the last axis, which stays with length 1."""
        return self.like(np.add.reduce(self.numbers, axis=-1, keepdims=True))

    def __neg__(self) -> Self:
        return self.like(-self.numbers)

    def __add__(self, other: Tensor) -> Tensor:
        raise NotImplementedError

    def __sub__(self, other: Tensor) -> Tensor:
        return self + -other

    def __mul__(self, other: Tensor) -> Tensor:
        raise NotImplementedError

    def times(self, factor: Any) -> Self:
        """A rational multiple."""
        raise NotImplementedError

    def signs(self) -> Codes:
        """−1, 0, 1, or UNKNOWN."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Integers(Tensor):
    """Rational numbers: integers times one scale, a positive rational."""

    scale: Any

    def like(self, numbers: Objects) -> Integers:
        """Other integers of the same scale."""
        return Integers(numbers, self.scale)

    def balls(self) -> Balls:
        """Balls around them: points, where the precision allows."""
        return Balls(_ball(self.numbers) * arb(self.scale))

    def rescaled(self, scale: Any) -> Objects:
        """The integers that they are on a scale that divides their own."""
        return self.numbers if scale == self.scale else self.numbers * (self.scale / scale).p

    def __add__(self, other: Tensor) -> Tensor:
        if not isinstance(other, Integers):
            return self.balls() + other
        scale = common([self, other])
        return Integers(self.rescaled(scale) + other.rescaled(scale), scale)

    def __mul__(self, other: Tensor) -> Tensor:
        if not isinstance(other, Integers):
            return self.balls() * other
        return Integers(self.numbers * other.numbers, self.scale * other.scale)

    def times(self, factor: Any) -> Integers:
        """A rational multiple."""
        return Integers(self.numbers * sign(factor), self.scale * size(factor))

    def signs(self) -> Codes:
        """−1, 0 or 1."""
        return (self.numbers > 0).astype(np.int8) - (self.numbers < 0).astype(np.int8)


@dataclass(frozen=True, eq=False)
class Balls(Tensor):
    """Real numbers, each enclosed in an interval with a floating midpoint and a radius."""

    def like(self, numbers: Objects) -> Balls:
        """Other balls."""
        return Balls(numbers)

    def balls(self) -> Balls:
        """Themselves."""
        return self

    def __add__(self, other: Tensor) -> Balls:
        return Balls(self.numbers + other.balls().numbers)

    def __mul__(self, other: Tensor) -> Balls:
        return Balls(self.numbers * other.balls().numbers)

    def times(self, factor: Any) -> Balls:
        """A rational multiple."""
        return Balls(self.numbers * arb(factor))

    def signs(self) -> Codes:
        """−1, 0, 1, or UNKNOWN; `not z > 0` is not z ≤ 0."""
        codes = np.full(self.shape, UNKNOWN, np.int8)
        codes[(self.numbers > 0).astype(bool)] = 1
        codes[(self.numbers < 0).astype(bool)] = -1
        codes[(self.numbers == 0).astype(bool)] = 0
        return codes


def sign(number: Any) -> Any:
    """−1, 0 or 1."""
    return fmpz(1 if number > 0 else -1 if number < 0 else 0)


def size(number: Any) -> Any:
    """|number| as a scale: 1 where it is zero."""
    return fmpq(1) if number == 0 else fmpq(abs(number))


def common(tensors: Sequence[Integers]) -> Any:
    """The largest scale that divides those of all."""
    scales = {(tensor.scale.p, tensor.scale.q): tensor.scale for tensor in tensors}
    return reduce(lambda one, other: one.gcd(other), scales.values())


def rational(number: Any) -> Any:
    """A float, exactly; or a rational as it is."""
    return fmpq(*float(number).as_integer_ratio()) if isinstance(number, float | np.floating) else fmpq(number)


def constant(number: Any, shape: tuple[int, ...]) -> Integers:
    """The same rational number everywhere."""
    value = rational(number)
    return Integers(np.full(shape, sign(value), object), size(value))


def rationals(numbers: Sequence[Any]) -> Integers:
    """A vector of rationals."""
    shared = reduce(lambda one, number: one.lcm(fmpq(number).q), numbers, fmpz(1))
    return Integers(objects([(fmpq(number) * shared).p for number in numbers], (len(numbers),)), fmpq(1, shared))


def read(array: npt.NDArray[Any]) -> Integers:
    """Finite floats, exactly: integers times a power of two."""
    fraction, exponent = np.frexp(array.astype(np.float64))
    mantissa = (fraction * 2.0**53).astype(np.int64)
    # Mantissas without their trailing zeros: the lowest bit of m is m & −m.
    trailing = np.where(mantissa == 0, 0, np.frexp((mantissa & -mantissa).astype(np.float64))[1] - 1)
    places = exponent - 53 + trailing
    least = int(places.min(initial=2000, where=mantissa != 0))
    least = 0 if least == 2000 else least
    shifts = np.where(mantissa == 0, 0, places - least)
    return Integers(np.asarray(_shift(mantissa >> trailing, shifts), object), fmpq(2) ** least)


def assembled(shape: tuple[int, ...], parts: Sequence[tuple[Mask, Tensor]]) -> Tensor:
    """A tensor from vectors of numbers for the places in each mask; where masks overlap, the ball that holds all."""
    held = [(mask, part) for mask, part in parts if mask.any()]
    integers = [part for _, part in held if isinstance(part, Integers)]
    if held and len(integers) == len(held):
        scale = common(integers)
        numbers = np.full(shape, fmpz(0), object)
        if sum(int(mask.sum()) for mask, _ in held) == numbers.size:
            for (mask, _), exact in zip(held, integers, strict=True):
                numbers[mask] = exact.rescaled(scale)
            return Integers(numbers, scale)
    numbers, filled = np.full(shape, arb(0), object), np.zeros(shape, bool)
    for mask, part in held:
        given = np.broadcast_to(part.balls().numbers, (int(mask.sum()),))
        again = filled[mask]
        numbers[mask] = np.where(again, _union(numbers[mask], given), given)
        filled |= mask
    return Balls(numbers)


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """One after the other on the last axis."""
    integers = [tensor for tensor in tensors if isinstance(tensor, Integers)]
    if len(integers) == len(tensors):
        scale = common(integers)
        return Integers(np.concatenate([tensor.rescaled(scale) for tensor in integers], axis=-1), scale)
    return Balls(np.concatenate([tensor.balls().numbers for tensor in tensors], axis=-1))
