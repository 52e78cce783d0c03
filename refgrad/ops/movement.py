"""Ops that only say where a tensor's numbers go."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from refgrad.arrays import Array, Shape
from refgrad.ops.op import KinkPolicy, Op


@dataclass(frozen=True, eq=False)
class Movement(Op):
    """An op y = M x whose matrix M holds one 1 in every row: value, tangent and variance move alike.

    The tape is the input's feature shape.
    """

    linear: ClassVar[bool] = True

    @abstractmethod
    def moved(self, array: Array, lead: int) -> Array:
        """M x: shapes (*lead axes, *shape) → (*lead axes, *output shape)."""

    @abstractmethod
    def returned(self, cotangent: Array, shape: Shape) -> Array:
        """Mᵀ ȳ: shapes (k, batch, *output shape) → (k, batch, *shape)."""

    def forward(self, *inputs: Array) -> Array:
        """M x."""
        return self.moved(inputs[0], 1)

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Shape]:
        """M x, and the feature shape of x."""
        del kink
        return self.forward(*inputs), inputs[0].shape[1:]

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẋ ↦ M ẋ."""
        return self.moved(tangents[0], 2)

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: ȳ ↦ Mᵀ ȳ."""
        return (self.returned(cotangent, tape),)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """The input's own: moving does not round."""
        return self.moved(variances[0], 1)

    def cost(self, k: int, *shapes: Shape) -> int:
        """Nothing is multiplied."""
        del k, shapes
        return 0
