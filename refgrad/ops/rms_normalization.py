"""Division of every sample by its root mean square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refgrad.arrays import Array
from refgrad.ops.op import KinkPolicy
from refgrad.ops.per_sample import PerSample


@dataclass(frozen=True, eq=False)
class RMSNormalization(PerSample):
    """Root mean square normalisation over `axes`.

    y = γ e,  e = r x,  r = 1 / √(mean(x²) + ε)        shapes: (batch, *shape) → (batch, *shape)

    The mean is over the n entries on `axes`, which ascend (-2, -1); `gamma` γ, which Keras calls scale, broadcasts
    against the features, as it does there whatever the axes; None is 1.
    """

    name: ClassVar[str] = "rms_normalization"

    gamma: Array | None = None
    epsilon: float = 1e-6
    axes: tuple[int, ...] = (-1,)

    def __post_init__(self) -> None:
        """Freeze the array."""
        self.check(self.epsilon)

    @property
    def over(self) -> tuple[int, ...]:
        """The axes."""
        return self.axes

    def _normalised(self, x: Array, kink: KinkPolicy) -> tuple[Array, Array]:
        """Every e and r."""
        del kink
        inverse = 1 / np.sqrt(self._mean(np.square(x)) + x.dtype.type(self.epsilon))
        return x * inverse, inverse

    def _projected(self, e: Array, needed: Array, vector: Array) -> Array:
        """P v = r (v − e mean(e v))."""
        return needed * (vector - e * self._mean(e * vector))

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y_i) = γ² r² (σ²(x_i) + e_i² mean(e² σ²(x)) 2/n) + 8 u² y_i²: of sum, ε, √, / and both products."""
        (x,) = inputs
        e, inverse = self._normalised(x, "keras")
        gamma = self._laid("gamma", x.dtype)
        n = math.prod(x.shape[axis] for axis in self.axes)
        shared = np.square(e) * self._mean(np.square(e) * variances[0])
        carried = np.square(inverse) * (variances[0] + 2 / n * shared)
        total: Array = (carried if gamma is None else np.square(gamma) * carried) + 8 * u**2 * np.square(output)
        return total
