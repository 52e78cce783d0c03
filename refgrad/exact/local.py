"""What a rule gives of an op at a point, what it is told, and the index arithmetic that rules share.

Features are flat, so an op that only moves numbers, or works along axes, is a matter of where they stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb

from refgrad.arrays import Array, Shape
from refgrad.exact.maps import Chain, Map, Places, Sum, Terms
from refgrad.exact.tensors import Balls, Codes, Tensor, constant, read
from refgrad.ops.op import KinkPolicy, Op


@dataclass(frozen=True, eq=False)
class Local:
    """An op at a point: its value `(batch, n)`, its Jacobian by each input, and which piece each unit is on."""

    value: Tensor
    maps: Sequence[Map]
    pattern: Codes | None = None


@dataclass(frozen=True, eq=False)
class Site:
    """Where an op stands: feature shapes of its inputs and its output, the network's dtype, how kinks are decided.

    `kept` holds what is the same for every sample, such as a kernel as a matrix.
    """

    shapes: tuple[Shape, ...]
    shape: Shape
    dtype: np.dtype[Any]
    kink: KinkPolicy
    kept: dict[tuple[Op, str], Any] = field(default_factory=dict)

    def single(self, number: float) -> float:
        """Rounded to the network's dtype."""
        return float(self.dtype.type(number))

    def parameter(self, array: Array | None, default: float = 0.0, shape: Shape | None = None) -> Tensor:
        """An array that broadcasts to a feature shape (the output's), as `(1, n)`; None is one number everywhere."""
        wanted = self.shape if shape is None else shape
        if array is None:
            return constant(default, (1, math.prod(wanted)))
        return read(np.broadcast_to(array, wanted).reshape(1, -1))


def places(shape: Shape) -> Places:
    """The place of every number of a tensor among all of its numbers."""
    return np.arange(math.prod(shape)).reshape(shape)


def stretch(shape: Shape, onto: Shape) -> Places:
    """For every number of a tensor that another stretches to, the place that it comes from."""
    return np.broadcast_to(places(shape), onto).ravel()


@dataclass(frozen=True, eq=False)
class Lines:
    """A tensor's numbers as lines along some axes: `index` holds their places, `(lines, n)`."""

    index: Places

    @property
    def line(self) -> Places:
        """The line that each number is on."""
        found = np.empty(self.index.size, np.intp)
        found[self.index.ravel()] = np.repeat(np.arange(len(self.index)), self.index.shape[1])
        return found

    def split(self, x: Tensor) -> Tensor:
        """`(batch, size)` to `(batch, lines, n)`."""
        return x[:, self.index]

    def join(self, rows: Tensor) -> Tensor:
        """`(batch, lines, n or 1)` to `(batch, size)`."""
        whole = rows.like(np.broadcast_to(rows.numbers, (rows.shape[0], *self.index.shape)))
        return whole.reshape(rows.shape[0], -1)[:, np.argsort(self.index.ravel())]

    def added(self, by: Tensor, to: Tensor) -> Map:
        """ẏ_i = t_i Σ_j b_j ẋ_j on each line."""
        return Chain([self.summed(by), Terms(len(self.index), self.index.size, to, None, self.line)])

    def summed(self, by: Tensor | None) -> Map:
        """ẏ = Σ_j b_j ẋ_j for each line; None is 1."""
        return Terms(self.index.size, len(self.index), by, self.line, None)


def lines(shape: Shape, axes: Sequence[int]) -> Lines:
    """The lines of a shape along feature axes, counted from the end."""
    last = range(-len(axes), 0)
    moved: npt.NDArray[np.intp] = np.moveaxis(places(shape), sorted(axes), last)
    return Lines(moved.reshape(-1, math.prod(shape[axis] for axis in axes)))


def identity(n: int) -> Terms:
    """ẏ = ẋ."""
    return Terms(n, n)


def less(size: int, taken: Map) -> Map:
    """ẏ = ẋ + what a map makes of it."""
    return Sum([identity(size), taken])


_rsqrt, _sqrt = (np.frompyfunc(function, 1, 1) for function in (arb.rsqrt, arb.sqrt))


def inverse_root(x: Tensor) -> Balls:
    """1/√x."""
    return Balls(_rsqrt(x.balls().numbers))


def root(x: Tensor) -> Balls:
    """√x."""
    return Balls(_sqrt(x.balls().numbers))


def inverse(x: Tensor) -> Balls:
    """1/x."""
    return Balls(1 / x.balls().numbers)
