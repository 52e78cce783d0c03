"""The gated linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.activations import ACTIVATIONS
from refgrad.arrays import Array, Shape
from refgrad.ops.axes import check_axis, part, size
from refgrad.ops.broadcasting import only
from refgrad.ops.op import KinkPolicy, Op

_SIGMOID = ACTIVATIONS["sigmoid"]


@dataclass(frozen=True, eq=False)
class GLU(Op):
    """One half of an axis, gated by the other.

    y = a g(b),  [a, b] = x,  g = sigmoid        shapes: (batch, …, 2n, …) → (batch, …, n, …)

    The tape is the two slopes g(b) and a g′(b).
    """

    name: ClassVar[str] = "glu"
    linear: ClassVar[bool] = False

    axis: int = -1

    def __post_init__(self) -> None:
        """Check the axis."""
        check_axis(self.axis)

    def _halves(self, x: Array) -> tuple[Array, Array]:
        n = x.shape[self.axis] // 2
        return x[part(self.axis, 0, n)], x[part(self.axis, n, 2 * n)]

    def shape(self, *shapes: Shape) -> Shape:
        """Half as long on the axis."""
        given = only(shapes)
        if size(given, self.axis) % 2:
            msg = f"axis {self.axis} of an input of shape {given} has no two halves"
            raise ValueError(msg)
        return (*given[: self.axis], given[self.axis] // 2, *given[len(given) + self.axis + 1 :])

    def forward(self, *inputs: Array) -> Array:
        """a g(b)."""
        a, b = self._halves(inputs[0])
        value: Array = a * _SIGMOID.f(b)
        return value

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; g(b) and a g′(b)."""
        del kink
        a, b = self._halves(inputs[0])
        gate = _SIGMOID.f(b)
        return a * gate, (gate, a * _SIGMOID.df(b))

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = g(b) ȧ + a g′(b) ḃ."""
        (a, b), (by_a, by_b) = self._halves(tangents[0]), tape
        product: Array = by_a * a + by_b * b
        return product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: x̄ = [g(b) ȳ, a g′(b) ȳ]."""
        return (np.concatenate([slope * cotangent for slope in tape], axis=self.axis),)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = g(b)² σ²(a) + (a g′(b))² σ²(b) + 4 u² y²; 4 is for the sigmoid and the product."""
        (a, b), (variance_of_a, variance_of_b) = self._halves(inputs[0]), self._halves(variances[0])
        carried = np.square(_SIGMOID.f(b)) * variance_of_a + np.square(a * _SIGMOID.df(b)) * variance_of_b
        total: Array = carried + 4 * u**2 * np.square(output)
        return total

    def cost(self, k: int, *shapes: Shape) -> int:
        """Counted as nothing: two multiplications where a product is n."""
        del k, shapes
        return 0
