"""Vectors of length 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refgrad.arrays import Array
from refgrad.ops.op import KinkPolicy
from refgrad.ops.per_sample import PerSample

SHARE_AT_KINK: dict[KinkPolicy, float] = {"keras": 1.0, "left": 0.0, "right": 1.0, "mean": 0.5}
"""How much the length counts in the derivative where it is just the least one."""


@dataclass(frozen=True, eq=False)
class UnitNormalization(PerSample):
    """Division by the Euclidean length over `axes`.

    y = r x,  r = 1 / max(‖x‖, ε)        shapes: (batch, *shape) → (batch, *shape)

    ‖x‖² is the sum of the squares on `axes`, which ascend (-2, -1); `epsilon` ε is 1e-12 in Keras 3 and 1e-6 in
    Keras 2. A vector just as long as ε counts as longer ("keras" and "right"), shorter ("left", a constant divisor) or
    half ("mean").
    """

    name: ClassVar[str] = "unit_normalization"

    epsilon: float = 1e-12
    axes: tuple[int, ...] = (-1,)

    def __post_init__(self) -> None:
        """Check the axes."""
        self.check(self.epsilon)

    @property
    def over(self) -> tuple[int, ...]:
        """The axes."""
        return self.axes

    def _length(self, x: Array) -> Array:
        """‖x‖."""
        length: Array = np.sqrt(np.square(x).sum(axis=self.axes, keepdims=True))
        return length

    def _normalised(self, x: Array, kink: KinkPolicy) -> tuple[Array, tuple[Array, Array]]:
        """Every e; r, and whether the length counts, w."""
        length, least = self._length(x), x.dtype.type(self.epsilon)
        inverse = 1 / np.maximum(length, least)
        counts = np.where(length == least, SHARE_AT_KINK[kink], length > least).astype(x.dtype)
        return x * inverse, (inverse, counts)

    def _projected(self, e: Array, needed: tuple[Array, Array], vector: Array) -> Array:
        """P v = r (v − w e Σ e v)."""
        inverse, counts = needed
        product: Array = inverse * (vector - counts * e * (e * vector).sum(axis=self.axes, keepdims=True))
        return product

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y_i) = r² (σ²(x_i) + 2 w e_i² Σ e² σ²(x)) + 6 u² y_i²: of the sum, √, / and the product."""
        e, (inverse, counts) = self._normalised(inputs[0], "keras")
        common = (np.square(e) * variances[0]).sum(axis=self.axes, keepdims=True)
        carried = np.square(inverse) * (variances[0] + 2 * counts * np.square(e) * common)
        total: Array = carried + 6 * u**2 * np.square(output)
        return total

    def margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """|‖x‖ − ε|."""
        (x,) = inputs
        distance = np.abs(self._length(x) - x.dtype.type(self.epsilon))
        return np.broadcast_to(distance, x.shape)

    def noise(self, u: float, inputs: tuple[Array, ...], sigmas: tuple[Array, ...]) -> Array:
        """Of the length: the largest σ(x_i), and u ‖x‖."""
        largest: Array = sigmas[0].max(axis=self.axes, keepdims=True)
        return largest + u * self._length(inputs[0])
