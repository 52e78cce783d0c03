"""The same numbers with their axes in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.ops.axes import check_axes
from refgrad.ops.broadcasting import only
from refgrad.ops.movement import Movement


@dataclass(frozen=True, eq=False)
class Permute(Movement):
    """Axis i of the output is axis `order[i]` of the input: all feature axes, counted from the end.

    shapes: (batch, *shape) → (batch, *(shape[axis] for axis in order))
    """

    name: ClassVar[str] = "permute"

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that the order holds every axis once."""
        check_axes(self.order)
        if min(self.order) != -len(self.order):
            msg = f"order {self.order} does not hold each of its {len(self.order)} axes once"
            raise UnsupportedError(msg)

    def shape(self, *shapes: Shape) -> Shape:
        """The sizes in the new order."""
        given = only(shapes)
        if len(given) != len(self.order):
            msg = f"it orders {len(self.order)} axes, the input has shape {given}"
            raise ValueError(msg)
        return tuple(given[axis] for axis in self.order)

    def moved(self, array: Array, lead: int) -> Array:
        """In the new order."""
        return array.transpose(*range(lead), *self.order)

    def returned(self, cotangent: Array, shape: Shape) -> Array:
        """In the old order."""
        return cotangent.transpose(0, 1, *(2 + np.argsort(self.order)))
