"""Sums of several tensors, with signs, or divided by their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.ops.broadcasting import gathered, lined, merged, stretched
from refgrad.ops.op import KinkPolicy, Op


@dataclass(frozen=True, eq=False)
class Add(Op):
    """A sum, and what the other combinations are: w_i is 1 here.

    y = (Σ_i w_i x_i) / n        shapes: (batch, *shape_i) … → (batch, *shape)

    Shapes stretch to each other; a cotangent is summed over the axes its input was stretched on. The tape is the
    inputs' feature shapes.
    """

    name: ClassVar[str] = "add"
    linear: ClassVar[bool] = True

    def _weights(self, count: int) -> tuple[tuple[int, ...], int]:
        """Every w_i, and n."""
        return (1,) * count, 1

    def shape(self, *shapes: Shape) -> Shape:
        """The shape that all stretch to."""
        return merged(shapes)

    def forward(self, *inputs: Array) -> Array:
        """Added up from the left, then divided, as Keras does it."""
        weights, count = self._weights(len(inputs))
        aligned = lined(inputs, 1)
        total: Array = aligned[0]
        for weight, x in zip(weights[1:], aligned[1:], strict=True):
            total = total + x if weight > 0 else total - x
        return total if count == 1 else total / count

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, tuple[Shape, ...]]:
        """The value, and the inputs' feature shapes."""
        del kink
        return self.forward(*inputs), tuple(x.shape[1:] for x in inputs)

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = (Σ_i w_i ẋ_i) / n."""
        weights, count = self._weights(len(tape))
        total: Any = 0
        for weight, tangent in zip(weights, tangents, strict=True):
            if tangent is not None:
                total = total + weight * stretched(tangent, merged(tape))
        product: Array = total / count
        return product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: x̄_i = w_i ȳ / n, summed over the axes x_i was stretched on."""
        weights, count = self._weights(len(tape))
        return tuple(weight * gathered(cotangent, shape) / count for weight, shape in zip(weights, tape, strict=True))

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = Σ_i (σ²(x_i) + u² s_i²) / n² + u² y², s_i the sums on the way; without u² y² where n is 1."""
        weights, count = self._weights(len(inputs))
        partial, *others = lined(inputs, 1)
        total: Any = sum(lined(variances, 1))
        for weight, x in zip(weights[1:], others, strict=True):
            partial = partial + weight * x
            total = total + u**2 * np.square(partial)
        return np.broadcast_to(total / count**2 + (count > 1) * u**2 * np.square(output), output.shape)

    def cost(self, k: int, *shapes: Shape) -> int:
        """Counted as nothing: additions only."""
        del k, shapes
        return 0


@dataclass(frozen=True, eq=False)
class Subtract(Add):
    """A difference of two: w = (1, −1)."""

    name: ClassVar[str] = "subtract"

    def _weights(self, count: int) -> tuple[tuple[int, ...], int]:
        return (1, -1), 1

    def shape(self, *shapes: Shape) -> Shape:
        """The shape that both stretch to."""
        if len(shapes) != 2:
            msg = f"it takes two inputs, {len(shapes)} are given"
            raise ValueError(msg)
        return merged(shapes)


@dataclass(frozen=True, eq=False)
class Average(Add):
    """A mean: n is the number of inputs."""

    name: ClassVar[str] = "average"

    def _weights(self, count: int) -> tuple[tuple[int, ...], int]:
        return (1,) * count, count
