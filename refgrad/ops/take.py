"""Some entries of an axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.ops.axes import check_axis, size
from refgrad.ops.broadcasting import only
from refgrad.ops.movement import Movement


@dataclass(frozen=True, eq=False)
class Take(Movement):
    """The entries of an axis at `indices`, in their order, any of them several times or never: y_i = x_{indices[i]}.

    shapes: (batch, …, n, …) → (batch, …, len(indices), …)

    A slice, a flip, a roll, a repetition and a part of a split are such ones.
    """

    name: ClassVar[str] = "take"

    indices: tuple[int, ...]
    axis: int = -1

    def __post_init__(self) -> None:
        """Check that the indices are such."""
        check_axis(self.axis)
        given = self.indices if isinstance(self.indices, tuple) else ()
        if not given or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in given):
            msg = f"indices {self.indices!r:.60} are no tuple of indices, counted from 0"
            raise UnsupportedError(msg)

    @cached_property
    def _where(self) -> tuple[Any, ...]:
        return (..., np.array(self.indices), *(slice(None),) * (-self.axis - 1))

    @cached_property
    def _once(self) -> bool:
        """Whether no entry is taken twice."""
        return len(set(self.indices)) == len(self.indices)

    def shape(self, *shapes: Shape) -> Shape:
        """The axis becomes as long as the indices are many."""
        given = only(shapes)
        n = size(given, self.axis)
        if max(self.indices) >= n:
            msg = f"index {max(self.indices)} is beyond axis {self.axis} of an input of shape {given}"
            raise ValueError(msg)
        return (*given[: self.axis], len(self.indices), *given[len(given) + self.axis + 1 :])

    def moved(self, array: Array, lead: int) -> Array:
        """The entries at the indices."""
        del lead
        entries: Array = np.take(array, self._where[1], axis=self.axis)
        return entries

    def returned(self, cotangent: Array, shape: Shape) -> Array:
        """x̄_j = Σ ȳ_i over all i with indices[i] = j."""
        total: Array = np.zeros((*cotangent.shape[:2], *shape), cotangent.dtype)
        if self._once:
            total[self._where] = cotangent
        else:
            np.add.at(total, self._where, cotangent)
        return total
