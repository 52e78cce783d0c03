"""A vector several times over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.ops.broadcasting import only
from refgrad.ops.movement import Movement


@dataclass(frozen=True, eq=False)
class Repeat(Movement):
    """Keras's RepeatVector: y_ti = x_i for `count` times t.

    shapes: (batch, n) → (batch, count, n)
    """

    name: ClassVar[str] = "repeat"

    count: int

    def __post_init__(self) -> None:
        """Check the count."""
        if not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 1:
            msg = f"count is {self.count!r}; a positive whole number is needed"
            raise UnsupportedError(msg)

    def shape(self, *shapes: Shape) -> Shape:
        """(n,) → (count, n)."""
        given = only(shapes)
        if len(given) != 1:
            msg = f"it repeats vectors, the input has shape {given}"
            raise ValueError(msg)
        return (self.count, *given)

    def moved(self, array: Array, lead: int) -> Array:
        """Repeated along a new axis."""
        del lead
        return np.repeat(array[..., None, :], self.count, axis=-2)

    def returned(self, cotangent: Array, shape: Shape) -> Array:
        """x̄_i = Σ_t ȳ_ti."""
        total: Array = cotangent.sum(axis=-2)
        return total
