"""The same numbers in another shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.ops.broadcasting import only
from refgrad.ops.movement import Movement


@dataclass(frozen=True, eq=False)
class Reshape(Movement):
    """The same numbers, row by row, in the feature shape `target`.

    shapes: (batch, *shape) → (batch, *target)
    """

    name: ClassVar[str] = "reshape"

    target: Shape

    def __post_init__(self) -> None:
        """Check that the target is a shape."""
        sizes = self.target if isinstance(self.target, tuple) else (None,)
        if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
            msg = f"target {self.target!r} is no shape: a tuple of positive sizes is needed"
            raise UnsupportedError(msg)

    def shape(self, *shapes: Shape) -> Shape:
        """The target."""
        given = only(shapes)
        if math.prod(given) != math.prod(self.target):
            msg = f"an input of shape {given} cannot take the shape {self.target}"
            raise ValueError(msg)
        return self.target

    def moved(self, array: Array, lead: int) -> Array:
        """The target after the leading axes."""
        return array.reshape(*array.shape[:lead], *self.target)

    def returned(self, cotangent: Array, shape: Shape) -> Array:
        """The input's shape again."""
        return cotangent.reshape(*cotangent.shape[:2], *shape)
