"""The largest or the smallest of several tensors, number by number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.ops.broadcasting import gathered, lined, merged, stretched
from refgrad.ops.op import KinkPolicy, Op
from refgrad.ops.ranking import lead


def _stacked(inputs: tuple[Array, ...]) -> Array:
    """All inputs stretched to each other, `(n, batch, *shape)`."""
    return np.stack(np.broadcast_arrays(*lined(inputs, 1)))


@dataclass(frozen=True, eq=False)
class Extremum(Op):
    """The best of several.

    y = max_i x_i  or  min_i x_i        shapes: (batch, *shape_i) … → (batch, *shape)

    Shapes stretch to each other. ∂y/∂x_i is 1 for the best and 0 for the others: the tape holds these shares w_i
    and the inputs' feature shapes. Among equals the first takes all ("keras" and "left": eager TensorFlow compares
    pairs from the left with ≥ or ≤), the last does ("right"), or all share equally ("mean"). NaN gives NaN.
    """

    linear: ClassVar[bool] = False
    best: ClassVar[np.ufunc]

    def shape(self, *shapes: Shape) -> Shape:
        """The shape that all stretch to."""
        return merged(shapes)

    def forward(self, *inputs: Array) -> Array:
        """Compared from the left."""
        return reduce(self.best, lined(inputs, 1))

    def _shares(self, stack: Array, best: Array, kink: KinkPolicy) -> Array:
        """Every w_i, `(n, batch, *shape)`."""
        tied = stack == best
        if kink == "right":
            first = tied[::-1] & (np.cumsum(tied[::-1], axis=0) == 1)
            shares = first[::-1].astype(stack.dtype)
        elif kink == "mean":
            shares = tied / tied.sum(axis=0, dtype=stack.dtype)
        else:
            shares = (tied & (np.cumsum(tied, axis=0) == 1)).astype(stack.dtype)
        return np.where(np.isnan(best), best, shares)

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; every w_i, and the feature shapes."""
        value = self.forward(*inputs)
        return value, (self._shares(_stacked(inputs), value, kink), tuple(x.shape[1:] for x in inputs))

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = Σ_i w_i ẋ_i."""
        shares, shapes = tape
        total: Any = 0
        for share, tangent in zip(shares, tangents, strict=True):
            if tangent is not None:
                total = total + share * stretched(tangent, merged(shapes))
        product: Array = total
        return product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: x̄_i = w_i ȳ, summed over the axes x_i was stretched on."""
        shares, shapes = tape
        return tuple(gathered(share * cotangent, shape) for share, shape in zip(shares, shapes, strict=True))

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = Σ_i w_i σ²(x_i): choosing does not round."""
        total: Array = (self._shares(_stacked(inputs), output, "mean") * _stacked(variances)).sum(axis=0)
        return total

    def cost(self, k: int, *shapes: Shape) -> int:
        """Counted as nothing: a choice."""
        del k, shapes
        return 0

    def margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """The gap between the best and the second best."""
        if len(inputs) == 1:
            return None
        return lead(self.best, _stacked(inputs), 0)


@dataclass(frozen=True, eq=False)
class Maximum(Extremum):
    """The largest of several: y = max_i x_i."""

    name: ClassVar[str] = "maximum"
    best: ClassVar[np.ufunc] = np.maximum


@dataclass(frozen=True, eq=False)
class Minimum(Extremum):
    """The smallest of several: y = min_i x_i."""

    name: ClassVar[str] = "minimum"
    best: ClassVar[np.ufunc] = np.minimum
