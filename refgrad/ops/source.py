"""Where a network's input enters the graph."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, ClassVar

from refgrad.arrays import Array, Shape
from refgrad.ops.op import KinkPolicy, Op


@dataclass(frozen=True, eq=False)
class Source(Op):
    """An input of feature shape `features`: it hands on what the caller gives, and has no node before it.

    y = x              shapes: (batch, *features) → (batch, *features)
    """

    name: ClassVar[str] = "source"
    linear: ClassVar[bool] = True

    features: Shape

    @classmethod
    def restore(cls, config: dict[str, Any], arrays: dict[str, Array]) -> Source:
        """From its shape as a list."""
        return cls(tuple(map(operator.index, config["features"])), **arrays)

    def shape(self, *shapes: Shape) -> Shape:
        """The declared shape."""
        del shapes
        return self.features

    def forward(self, *inputs: Array) -> Array:
        """The given value itself."""
        return inputs[0]

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, None]:
        """The given value itself."""
        del kink
        return inputs[0], None

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """ẋ ↦ ẋ."""
        tangent: Array = tangents[0]
        return tangent

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """ȳ ↦ ȳ."""
        return (cotangent,)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ² of the input, which is 0: inputs are exact."""
        return variances[0]

    def cost(self, k: int, *shapes: Shape) -> int:
        """Nothing."""
        del k, shapes
        return 0

    def config(self) -> dict[str, Any]:
        """The shape."""
        return {"features": list(self.features)}
