"""What the compiled kernels run: a chain of layers as flat arrays, so that one compilation serves every network."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Program:
    """Layers z = a W + b, a ← f(z), one after the other.

    Layer l maps `widths[l]` to `widths[l + 1]` features and applies activation `codes[l]` (one of `lower.CODES`) with
    the parameters `parameters[l]`. `weights` holds every W row by row, one layer after the other, and `transposes`
    every Wᵀ, so that both directions walk along rows; `biases` holds every b, zeros where a layer has none. Layer l's
    matrix is at `matrices[l]` to `matrices[l + 1]` of either, its bias at `units[l]` to `units[l + 1]`.
    """

    widths: Index
    codes: Index
    parameters: Array
    weights: Array
    transposes: Array
    biases: Array
    matrices: Index
    units: Index

    @cached_property
    def arguments(self) -> tuple[Any, ...]:
        """The arrays in the order the kernels unpack them."""
        return tuple(getattr(self, field.name) for field in fields(self))
