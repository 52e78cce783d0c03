"""Standardisation by a given mean and variance, or its inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array
from refgrad.errors import MismatchError, UnsupportedError
from refgrad.ops.diagonal import Diagonal
from refgrad.ops.op import KinkPolicy

_LEAST = 1e-7
"""Keras's epsilon: the least standard deviation."""


@dataclass(frozen=True, eq=False)
class Normalization(Diagonal):
    """Keras's Normalization layer: standardise, or with `invert` undo that.

    y = (x − m) / s    or, inverted,    y = m + s x        shapes: (batch, *shape) → (batch, *shape)

    `mean` m and `variances` v broadcast against the features, and s = max(√v, 1e-7).
    """

    name: ClassVar[str] = "normalization"
    linear: ClassVar[bool] = True

    mean: Array
    variances: Array
    invert: bool = False

    def __post_init__(self) -> None:
        """Freeze the arrays, if they fit each other."""
        self.freeze("mean", "variances")
        if self.mean.shape != self.variances.shape:
            msg = f"mean has shape {self.mean.shape} and the variances {self.variances.shape}; they must be equal"
            raise MismatchError(msg)
        if not isinstance(self.invert, bool):
            msg = f"invert is {self.invert!r}; True or False is needed"
            raise UnsupportedError(msg)

    def _deviation(self, like: np.dtype[Any]) -> Array:
        """The standard deviation s."""
        deviation: Array = np.maximum(np.sqrt(self.variances.astype(like)), like.type(_LEAST))
        return deviation

    def forward(self, *inputs: Array) -> Array:
        """(x − m) / s, or m + s x."""
        (x,) = inputs
        deviation = self._deviation(x.dtype)
        value: Array = self.mean + x * deviation if self.invert else (x - self.mean) / deviation
        return value

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Array]:
        """The value, and the slope: 1/s, or s."""
        del kink
        deviation = self._deviation(inputs[0].dtype)
        return self.forward(*inputs), deviation if self.invert else 1 / deviation

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = σ²(x) / s² + 3 u² y², or s² σ²(x) + u² (2 (s x)² + y²): each of √, −, /, × and + rounds once."""
        (x,), (variance_of_x,) = inputs, variances
        deviation = self._deviation(np.dtype(np.float64))
        if self.invert:
            return np.square(deviation) * variance_of_x + u**2 * (2 * np.square(x * deviation) + np.square(output))
        return variance_of_x / np.square(deviation) + 3 * u**2 * np.square(output)
