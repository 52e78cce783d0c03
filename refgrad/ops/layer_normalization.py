"""Normalisation of every sample by its own mean and variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import MismatchError
from refgrad.ops.op import KinkPolicy
from refgrad.ops.per_sample import PerSample


@dataclass(frozen=True, eq=False)
class LayerNormalization(PerSample):
    """Layer normalisation over `axes`.

    y = γ e + β,  e = r (x − m),  r = 1 / √(v + ε)        shapes: (batch, *shape) → (batch, *shape)

    m and v are mean and variance of the n entries on `axes`, which ascend (-2, -1); `gamma` γ and `beta` β have the
    shape of these axes; None is 1 and 0.
    """

    name: ClassVar[str] = "layer_normalization"

    gamma: Array | None = None
    beta: Array | None = None
    epsilon: float = 1e-3
    axes: tuple[int, ...] = (-1,)

    def __post_init__(self) -> None:
        """Freeze the arrays, if they fit the axes."""
        self.check(self.epsilon)
        shapes = {array.shape for array in self.arrays().values()}
        if len(shapes) > 1 or any(len(shape) != len(self.axes) for shape in shapes):
            msg = f"gamma and beta have shapes {sorted(shapes)}; equal ones of {len(self.axes)} axes are needed"
            raise MismatchError(msg)

    @property
    def over(self) -> tuple[int, ...]:
        """The axes."""
        return self.axes

    def _laid(self, name: str, dtype: np.dtype[Any]) -> Array | None:
        """An array of the normalised axes as one that broadcasts against the features."""
        array = super()._laid(name, dtype)
        if array is None:
            return None
        sizes = dict(zip(self.axes, array.shape, strict=True))
        return array.reshape([sizes.get(axis, 1) for axis in range(self.axes[0], 0)])

    def shape(self, *shapes: Shape) -> Shape:
        """Unchanged."""
        given = super().shape(*shapes)
        sizes = tuple(given[axis] for axis in self.axes)
        for name, array in self.arrays().items():
            if array.shape != sizes:
                msg = f"its {name} has shape {array.shape}; axes {self.axes} of the input's {given} have {sizes}"
                raise ValueError(msg)
        return given

    def _normalised(self, x: Array, kink: KinkPolicy) -> tuple[Array, Array]:
        """Every e and r."""
        del kink
        centred = x - self._mean(x)
        inverse = 1 / np.sqrt(self._mean(np.square(centred)) + x.dtype.type(self.epsilon))
        return centred * inverse, inverse

    def _projected(self, e: Array, needed: Array, vector: Array) -> Array:
        """P v = r (v − mean(v) − e mean(e v))."""
        return needed * (vector - self._mean(vector) - e * self._mean(e * vector))

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """Rounding of the mean, of the differences t = x − m, and of what follows.

        σ²(y_i) = γ² (r² (s_i + (mean s + e_i² mean(e² s)) 2/n + σ²(m)) + 4 u² e_i²) + u² (β² + y²)

        with s = σ²(x) + u² t² and σ²(m) = u² (m² + max(1, n/6) mean(x²) / n).
        """
        (x,) = inputs
        e, inverse = self._normalised(x, "keras")
        gamma, beta = self._laid("gamma", x.dtype), self._laid("beta", x.dtype)
        n = math.prod(x.shape[axis] for axis in self.axes)
        mean = u**2 * (np.square(self._mean(x)) + max(1.0, n / 6) * self._mean(np.square(x)) / n)
        spread = variances[0] + u**2 * np.square(e / inverse)
        shared = self._mean(spread) + np.square(e) * self._mean(np.square(e) * spread)
        own = np.square(inverse) * (spread + 2 / n * shared + mean) + 4 * u**2 * np.square(e)
        if gamma is not None:
            own = np.square(gamma) * own
        total: Array = own + u**2 * (np.square(output) + (0 if beta is None else np.square(beta)))
        return total
