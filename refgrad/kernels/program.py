"""What the compiled kernels run: a chain of layers as flat arrays, so that one compilation serves every network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Program:
    """Layers z = a W + b, a ← f(z), one after the other.

    Layer l maps `widths[l]` to `widths[l + 1]` features and applies activation `codes[l]` (one of `lower.CODES`) with
    the parameters `parameters[l]`. `kernels` holds every W row by row, one layer after the other, and `transposes`
    every Wᵀ, so that both directions walk along rows; `biases` holds every b, zeros where a layer has none.
    """

    widths: Index
    codes: Index
    parameters: Array
    kernels: Array
    transposes: Array
    biases: Array

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The arrays in the order every kernel takes them."""
        return self.widths, self.codes, self.parameters, self.kernels, self.transposes, self.biases
