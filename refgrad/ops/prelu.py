"""The ReLU whose slope below zero was learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refgrad.arrays import Array
from refgrad.ops.diagonal import Diagonal
from refgrad.ops.op import KinkPolicy

_SLOPE_AT_KINK: dict[KinkPolicy, Callable[[Array], Array]] = {
    "keras": np.zeros_like,
    "left": lambda alpha: alpha,
    "right": np.ones_like,
    "mean": lambda alpha: (alpha + 1) / 2,
}


@dataclass(frozen=True, eq=False)
class PReLU(Diagonal):
    """A ReLU with a slope for each unit.

    y = max(0, z) + α min(0, z)        shapes: (batch, *shape) → (batch, *shape)

    `alpha` α broadcasts against the features. At 0 Keras takes the slope 0, which is neither side's, as it adds
    relu(z) and −α relu(−z).
    """

    name: ClassVar[str] = "prelu"
    linear: ClassVar[bool] = False

    alpha: Array

    def __post_init__(self) -> None:
        """Freeze the array."""
        self.freeze("alpha")

    def forward(self, *inputs: Array) -> Array:
        """z above zero, α z below; where α is 0 that is 0 at −∞ too."""
        (z,) = inputs
        below = self.alpha * np.where((self.alpha == 0) & (z < 0), z.dtype.type(0), z)
        value: Array = np.where(z <= 0, below, z)
        return value

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Array]:
        """The value, and the slope: α below zero, 1 above."""
        (z,) = inputs
        beside = np.where(z < 0, self.alpha, np.where(z > 0, z.dtype.type(1), z))
        return self.forward(z), np.where(z == 0, _SLOPE_AT_KINK[kink](self.alpha), beside)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = α² σ²(z) + u² y² below zero, σ²(z) above."""
        (z,), (variance_of_z,) = inputs, variances
        below = np.square(self.alpha.astype(np.float64)) * variance_of_z + u**2 * np.square(output)
        either: Array = np.where(z < 0, below, variance_of_z)
        return either

    def margins(self, inputs: tuple[Array, ...]) -> Array:
        """|z|."""
        return np.abs(inputs[0])
