"""The product of several tensors, number by number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.ops.broadcasting import gathered, lined, merged, stretched
from refgrad.ops.op import KinkPolicy, Op


def _others(inputs: tuple[Array, ...]) -> list[Array]:
    """For every input the product of all others, `(batch, *shape)`, with no division."""
    aligned = lined(inputs, 1)
    one = np.ones((1,) * aligned[0].ndim, aligned[0].dtype)
    before, after = [one], [one]
    for x, last in zip(aligned[:-1], aligned[:0:-1], strict=True):
        before.append(before[-1] * x)
        after.append(after[-1] * last)
    return [left * right for left, right in zip(before, reversed(after), strict=True)]


@dataclass(frozen=True, eq=False)
class Multiply(Op):
    """A product.

    y = Π_i x_i        shapes: (batch, *shape_i) … → (batch, *shape)

    Shapes stretch to each other. ∂y/∂x_i is the product of the others p_i: the tape holds these and the inputs'
    feature shapes.
    """

    name: ClassVar[str] = "multiply"
    linear: ClassVar[bool] = False

    def shape(self, *shapes: Shape) -> Shape:
        """The shape that all stretch to."""
        return merged(shapes)

    def forward(self, *inputs: Array) -> Array:
        """Multiplied from the left, as Keras does it."""
        return reduce(np.multiply, lined(inputs, 1))

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; every p_i, and the feature shapes."""
        del kink
        return self.forward(*inputs), (_others(inputs), tuple(x.shape[1:] for x in inputs))

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = Σ_i p_i ẋ_i."""
        others, shapes = tape
        total: Any = 0
        for other, tangent in zip(others, tangents, strict=True):
            if tangent is not None:
                total = total + other * stretched(tangent, merged(shapes))
        product: Array = total
        return product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: x̄_i = p_i ȳ, summed over the axes x_i was stretched on."""
        others, shapes = tape
        return tuple(gathered(other * cotangent, shape) for other, shape in zip(others, shapes, strict=True))

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = Σ_i p_i² σ²(x_i) + (n − 1) u² y² for n inputs."""
        pairs = zip(_others(inputs), lined(variances, 1), strict=True)
        total: Array = sum(np.square(other) * variance for other, variance in pairs)  # type: ignore[assignment]
        return total + (len(inputs) - 1) * u**2 * np.square(output)

    def cost(self, k: int, *shapes: Shape) -> int:
        """Counted as nothing: a few multiplications where a product is n."""
        del k, shapes
        return 0
