"""Ops on every number by itself, with parameters that broadcast against the features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refgrad.arrays import Array, Shape
from refgrad.ops.broadcasting import fits, only
from refgrad.ops.op import Op


@dataclass(frozen=True, eq=False)
class Diagonal(Op):
    """An op whose Jacobian is diagonal: its tape is the slope s, which broadcasts against the features.

    ẏ = s ẋ,  x̄ = s ȳ  shapes: (k, batch, *shape) → (k, batch, *shape)
    """

    def shape(self, *shapes: Shape) -> Shape:
        """Unchanged."""
        given = only(shapes)
        for name, array in self.arrays().items():
            if not fits(array.shape, given):
                msg = f"its {name} has shape {array.shape}, which does not broadcast to the input's {given}"
                raise ValueError(msg)
        return given

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẋ ↦ s ẋ."""
        product: Array = tape * tangents[0]
        return product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: ȳ ↦ s ȳ; a diagonal matrix is its own transpose."""
        return (tape * cotangent,)

    def cost(self, k: int, *shapes: Shape) -> int:
        """Counted as nothing: it is one multiplication where a product is n."""
        del k, shapes
        return 0
