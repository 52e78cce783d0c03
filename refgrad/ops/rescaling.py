"""Multiplication by a scale and addition of an offset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refgrad.arrays import Array
from refgrad.ops.diagonal import Diagonal
from refgrad.ops.op import KinkPolicy


@dataclass(frozen=True, eq=False)
class Rescaling(Diagonal):
    """A scale and an offset.

    y = s x + o        shapes: (batch, *shape) → (batch, *shape)

    `scale` s and `offset` o are numbers (0-D arrays) or broadcast against the features.
    """

    name: ClassVar[str] = "rescaling"
    linear: ClassVar[bool] = True

    scale: Array
    offset: Array

    def __post_init__(self) -> None:
        """Freeze the arrays."""
        self.freeze("scale", "offset")

    def forward(self, *inputs: Array) -> Array:
        """s x + o."""
        value: Array = inputs[0] * self.scale + self.offset
        return value

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Array]:
        """The value, and s."""
        del kink
        return self.forward(*inputs), self.scale

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = s² σ²(x) + u² ((s x)² + y²)."""
        scale = self.scale.astype(np.float64)
        return np.square(scale) * variances[0] + u**2 * (np.square(scale * inputs[0]) + np.square(output))
