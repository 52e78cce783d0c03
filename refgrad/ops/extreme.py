"""The largest or the smallest number along axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array
from refgrad.ops.op import KinkPolicy
from refgrad.ops.ranking import lead
from refgrad.ops.reduction import Reduction


@dataclass(frozen=True, eq=False)
class Extreme(Reduction):
    """The best along axes.

    y = max_i x_i  or  min_i x_i        shapes: (batch, *shape) → (batch, *the other axes)

    w_i is 1 for the best and 0 for the others. Equals share equally ("keras" and "mean", as in TensorFlow), or the
    first of them takes all ("left"), or the last ("right"), row by row. NaN gives NaN.
    """

    linear: ClassVar[bool] = False
    best: ClassVar[np.ufunc]

    def rows(self, array: Array) -> Array:
        """Shape (batch, *the other axes, n): what becomes one number, row by row."""
        ascending = sorted(self.axes)
        moved = np.moveaxis(array, ascending, range(-len(ascending), 0))
        return moved.reshape(*moved.shape[: -len(ascending)], self.count(array.shape[1:]))

    def laid(self, rows: Array, like: Array) -> Array:
        """The inverse of `rows`."""
        ascending = sorted(self.axes)
        sizes = tuple(like.shape[axis] for axis in ascending)
        return np.moveaxis(rows.reshape(*rows.shape[:-1], *sizes), range(-len(ascending), 0), ascending)

    def forward(self, *inputs: Array) -> Array:
        """The best."""
        value: Array = self.best.reduce(inputs[0], axis=self.axes, keepdims=self.keepdims)
        return value

    def _shares(self, x: Array, kink: KinkPolicy) -> Array:
        """Every w_i, in the shape of x."""
        rows = self.rows(x)
        best = self.best.reduce(rows, axis=-1, keepdims=True)
        tied = rows == best
        if kink == "left":
            shares = tied & (np.cumsum(tied, axis=-1) == 1)
        elif kink == "right":
            shares = (tied[..., ::-1] & (np.cumsum(tied[..., ::-1], axis=-1) == 1))[..., ::-1]
        else:
            shares = tied / tied.sum(axis=-1, keepdims=True, dtype=x.dtype)
        return self.laid(np.where(np.isnan(best), best, shares).astype(x.dtype), x)

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; every w_i, and the feature shape."""
        (x,) = inputs
        return self.forward(x), (self._shares(x, kink), x.shape[1:])

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = Σ_i w_i σ²(x_i): choosing does not round."""
        return self.summed(self._shares(inputs[0], "mean") * variances[0])

    def margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """The gap between the best and the second best."""
        (x,) = inputs
        if self.count(x.shape[1:]) == 1:
            return None
        gap = lead(self.best, self.rows(x), -1)
        return np.expand_dims(gap, self.axes) if self.keepdims else gap

    def noise(self, u: float, inputs: tuple[Array, ...], sigmas: tuple[Array, ...]) -> Array:
        """The sum of all σ along the axes."""
        del u, inputs
        return self.summed(sigmas[0])


@dataclass(frozen=True, eq=False)
class Max(Extreme):
    """The largest along axes: y = max_i x_i."""

    name: ClassVar[str] = "max"
    best: ClassVar[np.ufunc] = np.maximum


@dataclass(frozen=True, eq=False)
class Min(Extreme):
    """The smallest along axes: y = min_i x_i."""

    name: ClassVar[str] = "min"
    best: ClassVar[np.ufunc] = np.minimum
