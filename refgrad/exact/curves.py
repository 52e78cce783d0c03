"""Activations as exact functions: pieces between places where they switch, and the slope on each such place.

A piece that is a polynomial is exact in integers; any other is evaluated in balls. Where a ball holds a place, every
piece that it touches counts: the result holds them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.exact.tensors import UNKNOWN, Balls, Codes, Mask, Tensor, assembled, constant, rational

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Piece:
    """A smooth function of a vector of numbers, and its derivative."""

    f: Function
    df: Function


@dataclass(frozen=True)
class Place:
    """Where one piece ends and the next begins, and which piece has the value there: one of the two, or a third.

    `slope` is what counts there: so much of the left slope, so much of the right one, and a number.
    """

    where: Any
    owner: Piece
    slope: tuple[Any, Any, Any]


@dataclass(frozen=True)
class Curve:
    """Pieces from left to right, and the places between them: one fewer."""

    pieces: Sequence[Piece]
    places: Sequence[Place] = ()

    def at(self, z: Tensor) -> tuple[Tensor, Tensor, Codes]:
        """f(z), f′(z), and which piece each number is on, as `pattern` has it."""
        sides = [_side(z, place) for place in self.places]
        values, slopes = [], []
        for index, piece in enumerate(self.pieces):
            on: Mask = np.ones(z.shape, bool)
            if index > 0:
                on = on & ((sides[index - 1] == 1) | (sides[index - 1] == UNKNOWN))
            if index < len(sides):
                on = on & ((sides[index] == -1) | (sides[index] == UNKNOWN))
            values.append((on, piece.f(z[on])))
            slopes.append((on, piece.df(z[on])))
        for index, (place, side) in enumerate(zip(self.places, sides, strict=True)):
            on, pair = (side == 0) | (side == UNKNOWN), self.pieces[index : index + 2]
            values.append((on, place.owner.f(z[on])))
            slopes.append((on, _between([piece.df(z[on]) for piece in pair], place.slope)))
        return assembled(z.shape, values), assembled(z.shape, slopes), pattern(z.shape, sides)


def _between(slopes: Sequence[Tensor], weights: tuple[Any, Any, Any]) -> Tensor:
    *shares, rest = weights
    total: Tensor = constant(rest, slopes[0].shape)
    for slope, share in zip(slopes, shares, strict=True):
        total = total + slope.times(rational(share)) if share else total
    return total


def _side(z: Tensor, place: Place) -> Codes:
    return (z if place.where == 0 else z + constant(-place.where, (1,))).signs()


def pattern(shape: tuple[int, ...], sides: Sequence[Codes]) -> Codes:
    """2 i on the i-th piece, 2 i + 1 on the place between it and the next, −1 where balls cannot tell."""
    codes = np.zeros(shape, np.int8)
    for side in sides:
        codes += (side == 0) + 2 * (side == 1).astype(np.int8)
    for side in sides:
        codes[side == UNKNOWN] = -1
    return codes


def polynomial(*coefficients: Any) -> Piece:
    """c_0 + c_1 z + c_2 z², exactly."""
    values = [rational(c) for c in coefficients]

    def horner(z: Tensor, factors: Sequence[Any]) -> Tensor:
        total: Tensor = constant(factors[-1], z.shape)
        for factor in reversed(factors[:-1]):
            total = total * z
            total = total if factor == 0 else total + constant(factor, (1,))
        return total

    slopes = [power * c for power, c in enumerate(values)][1:] or [rational(0)]
    return Piece(lambda z: horner(z, values), lambda z: horner(z, slopes))


def smooth(f: Callable[[Any], Any], df: Callable[[Any], Any]) -> Piece:
    """A function that takes and gives arrays of balls."""
    return Piece(lambda z: Balls(f(z.balls().numbers)), lambda z: Balls(df(z.balls().numbers)))
