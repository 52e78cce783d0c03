"""Ops that make one number of all along one or several axes, and the sum, the plainest of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.ops.axes import check_axes, size
from refgrad.ops.broadcasting import only
from refgrad.ops.op import KinkPolicy, Op


@dataclass(frozen=True, eq=False)
class Reduction(Op):
    """One number of all along `axes`, whose Jacobian is a row for each: ẏ = Σ_i w_i ẋ_i,  x̄_i = w_i ȳ.

    shapes: (batch, *shape) → (batch, *the other axes), or with `keepdims` axes of 1 in their places.

    The tape is w, which stretches to the input, and the input's feature shape.
    """

    axes: tuple[int, ...]
    keepdims: bool = False

    def __post_init__(self) -> None:
        """Check the axes."""
        check_axes(self.axes)
        if not isinstance(self.keepdims, bool):
            msg = f"keepdims is {self.keepdims!r}; True or False is needed"
            raise UnsupportedError(msg)

    def shape(self, *shapes: Shape) -> Shape:
        """The axes leave, or become 1."""
        given = only(shapes)
        for axis in self.axes:
            size(given, axis)
        places = {len(given) + axis for axis in self.axes}
        return tuple(
            1 if place in places else n for place, n in enumerate(given) if self.keepdims or place not in places
        )

    def summed(self, array: Array) -> Array:
        """The sum along the axes, in the output's shape."""
        total: Array = array.sum(axis=self.axes, keepdims=self.keepdims)
        return total

    def kept(self, array: Array) -> Array:
        """An array of the output's shape with axes of 1, so that it stretches to the input."""
        return array if self.keepdims else np.expand_dims(array, self.axes)

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = Σ_i w_i ẋ_i."""
        weights, _ = tape
        return self.summed(weights * tangents[0])

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: x̄_i = w_i ȳ."""
        weights, shape = tape
        product = weights * self.kept(cotangent)
        return (np.broadcast_to(product, (*product.shape[:2], *shape)),)

    def count(self, shape: Shape) -> int:
        """How many numbers become one."""
        return math.prod(shape[axis] for axis in self.axes)

    def cost(self, k: int, *shapes: Shape) -> int:
        """One multiplication each: k size."""
        return k * math.prod(only(shapes))


@dataclass(frozen=True, eq=False)
class Sum(Reduction):
    """A sum along axes.

    y = Σ_i x_i        shapes: (batch, *shape) → (batch, *the other axes)

    w = 1.
    """

    name: ClassVar[str] = "sum"
    linear: ClassVar[bool] = True

    def forward(self, *inputs: Array) -> Array:
        """Σ x."""
        return self.summed(inputs[0])

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; 1, and the feature shape."""
        del kink
        (x,) = inputs
        return self.forward(x), (np.ones((), x.dtype), x.shape[1:])

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = Σ_i (σ²(x_i) + u² max(1, n/6) x_i²) + u² y²."""
        (x,) = inputs
        n = self.count(x.shape[1:])
        return self.summed(variances[0] + u**2 * max(1.0, n / 6) * np.square(x)) + u**2 * np.square(output)
