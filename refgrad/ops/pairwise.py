"""Ops on two tensors, number by number."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.ops.broadcasting import gathered, lined, merged, stretched
from refgrad.ops.op import KinkPolicy, Op


@dataclass(frozen=True, eq=False)
class Pairwise(Op):
    """A smooth function of two numbers, y = f(a, b), of tensors that stretch to each other.

    The tape is both partial derivatives, which stretch to the output, and the inputs' feature shapes.
    """

    linear: ClassVar[bool] = False

    @abstractmethod
    def value(self, a: Array, b: Array) -> Array:
        """f(a, b)."""

    @abstractmethod
    def slopes(self, a: Array, b: Array) -> tuple[Array, Array]:
        """∂f/∂a and ∂f/∂b."""

    @abstractmethod
    def own(self, a: Array, b: Array, y: Array) -> Any:
        """What the op's own rounding adds to the variance, in units of u²."""

    def shape(self, *shapes: Shape) -> Shape:
        """The shape that both stretch to."""
        if len(shapes) != 2:
            msg = f"it takes two inputs, {len(shapes)} are given"
            raise ValueError(msg)
        return merged(shapes)

    def forward(self, *inputs: Array) -> Array:
        """f(a, b)."""
        return self.value(*lined(inputs, 1))

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; both slopes, and the feature shapes."""
        del kink
        return self.forward(*inputs), (self.slopes(*lined(inputs, 1)), tuple(x.shape[1:] for x in inputs))

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = ∂f/∂a ȧ + ∂f/∂b ḃ."""
        slopes, shapes = tape
        total: Any = 0
        for slope, tangent in zip(slopes, tangents, strict=True):
            if tangent is not None:
                total = total + slope * stretched(tangent, merged(shapes))
        product: Array = total
        return product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: ā = ∂f/∂a ȳ and b̄ = ∂f/∂b ȳ, summed over the axes each was stretched on."""
        slopes, shapes = tape
        return tuple(gathered(slope * cotangent, shape) for slope, shape in zip(slopes, shapes, strict=True))

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = (∂f/∂a)² σ²(a) + (∂f/∂b)² σ²(b), and u² times what is the op's own."""
        a, b = lined(inputs, 1)
        total: Array = u**2 * self.own(a, b, output)
        for slope, variance in zip(self.slopes(a, b), lined(variances, 1), strict=True):
            # An exact input adds nothing, however steep the function is in it.
            total = total + np.where(variance == 0, 0, np.square(slope) * variance)
        return total

    def cost(self, k: int, *shapes: Shape) -> int:
        """Counted as nothing: a few multiplications where a product is n."""
        del k, shapes
        return 0
