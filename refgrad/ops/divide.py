"""The quotient of two tensors, number by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array
from refgrad.ops.pairwise import Pairwise


@dataclass(frozen=True, eq=False)
class Divide(Pairwise):
    """A quotient.

    y = a / b          shapes: (batch, *shape_a), (batch, *shape_b) → (batch, *shape)

    ∂y/∂a = 1/b and ∂y/∂b = −y/b. Where b is 0 they are infinite, or NaN for 0/0, as IEEE arithmetic has it.
    """

    name: ClassVar[str] = "divide"

    def value(self, a: Array, b: Array) -> Array:
        """A / b."""
        quotient: Array = a / b
        return quotient

    def slopes(self, a: Array, b: Array) -> tuple[Array, Array]:
        """1/b and −y/b."""
        return 1 / b, -(a / b) / b

    def own(self, a: Array, b: Array, y: Array) -> Any:
        """y²: one rounding."""
        return np.square(y)
