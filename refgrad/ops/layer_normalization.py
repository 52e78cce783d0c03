"""Normalisation of every sample by its own mean and variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import MismatchError, UnsupportedError
from refgrad.ops.axes import check_axes, size
from refgrad.ops.broadcasting import only
from refgrad.ops.op import KinkPolicy, Op, check_epsilon


@dataclass(frozen=True, eq=False)
class LayerNormalization(Op):
    """Layer normalisation over `axes`.

    y = γ e + β,  e = r (x − m),  r = 1 / √(v + ε)        shapes: (batch, *shape) → (batch, *shape)

    m and v are mean and variance of the n entries on `axes`, which ascend (-2, -1); `gamma` γ and `beta` β have the
    shape of these axes; None is 1 and 0.
    """

    name: ClassVar[str] = "layer_normalization"
    linear: ClassVar[bool] = False

    gamma: Array | None = None
    beta: Array | None = None
    epsilon: float = 1e-3
    axes: tuple[int, ...] = (-1,)

    def __post_init__(self) -> None:
        """Freeze the arrays, if they fit the axes."""
        self.freeze("gamma", "beta")
        check_axes(self.axes)
        check_epsilon(self.epsilon)
        if tuple(sorted(self.axes)) != self.axes:
            msg = f"axes {self.axes} do not ascend"
            raise UnsupportedError(msg)
        shapes = {array.shape for array in self.arrays().values()}
        if len(shapes) > 1 or any(len(shape) != len(self.axes) for shape in shapes):
            msg = f"gamma and beta have shapes {sorted(shapes)}; equal ones of {len(self.axes)} axes are needed"
            raise MismatchError(msg)

    def _laid(self, array: Array | None, dtype: np.dtype[Any]) -> Array | None:
        """An array of the normalised axes as one that broadcasts against the features."""
        if array is None:
            return None
        sizes = dict(zip(self.axes, array.shape, strict=True))
        return array.astype(dtype).reshape([sizes.get(axis, 1) for axis in range(self.axes[0], 0)])

    def _mean(self, array: Array) -> Array:
        mean: Array = array.mean(axis=self.axes, keepdims=True)
        return mean

    def _normalised(self, x: Array) -> tuple[Array, Array, Array | None, Array | None]:
        """Every e and r; γ and β as they broadcast."""
        centred = x - self._mean(x)
        inverse = 1 / np.sqrt(self._mean(np.square(centred)) + x.dtype.type(self.epsilon))
        return centred * inverse, inverse, self._laid(self.gamma, x.dtype), self._laid(self.beta, x.dtype)

    def shape(self, *shapes: Shape) -> Shape:
        """Unchanged."""
        given = only(shapes)
        sizes = tuple(size(given, axis) for axis in self.axes)
        for name, array in self.arrays().items():
            if array.shape != sizes:
                msg = f"its {name} has shape {array.shape}; axes {self.axes} of the input's {given} have {sizes}"
                raise ValueError(msg)
        return given

    def _value(self, e: Array, gamma: Array | None, beta: Array | None) -> Array:
        scaled = e if gamma is None else gamma * e
        return scaled if beta is None else scaled + beta

    def forward(self, *inputs: Array) -> Array:
        """γ e + β."""
        e, _, gamma, beta = self._normalised(inputs[0])
        return self._value(e, gamma, beta)

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; e, r and γ."""
        del kink
        e, inverse, gamma, beta = self._normalised(inputs[0])
        return self._value(e, gamma, beta), (e, inverse, gamma)

    def _projected(self, e: Array, inverse: Array, vector: Array) -> Array:
        """The Jacobian of e, which is symmetric: r (ẋ − mean(ẋ) − e mean(e ẋ))."""
        return inverse * (vector - self._mean(vector) - e * self._mean(e * vector))

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = γ r (ẋ − mean(ẋ) − e mean(e ẋ))."""
        e, inverse, gamma = tape
        product = self._projected(e, inverse, tangents[0])
        return product if gamma is None else gamma * product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: x̄ = r (g − mean(g) − e mean(e g)), g = γ ȳ."""
        e, inverse, gamma = tape
        return (self._projected(e, inverse, cotangent if gamma is None else gamma * cotangent),)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """Rounding of the mean, of the differences t = x − m, and of what follows.

        σ²(y_i) = γ² (r² (s_i + (mean s + e_i² mean(e² s)) 2/n + σ²(m)) + 4 u² e_i²) + u² (β² + y²)

        with s = σ²(x) + u² t² and σ²(m) = u² (m² + max(1, n/6) mean(x²) / n).
        """
        (x,) = inputs
        e, inverse, gamma, beta = self._normalised(x)
        n = math.prod(x.shape[axis] for axis in self.axes)
        mean = u**2 * (np.square(self._mean(x)) + max(1.0, n / 6) * self._mean(np.square(x)) / n)
        spread = variances[0] + u**2 * np.square(e / inverse)
        shared = self._mean(spread) + np.square(e) * self._mean(np.square(e) * spread)
        own = np.square(inverse) * (spread + 2 / n * shared + mean) + 4 * u**2 * np.square(e)
        if gamma is not None:
            own = np.square(gamma) * own
        total: Array = own + u**2 * (np.square(output) + (0 if beta is None else np.square(beta)))
        return total

    def cost(self, k: int, *shapes: Shape) -> int:
        """Two sums over each axis: 2 k size."""
        return 2 * k * math.prod(shapes[0])
