"""Normalisation by the statistics of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import MismatchError
from refgrad.ops.axes import along, check_axis, size
from refgrad.ops.broadcasting import only
from refgrad.ops.diagonal import Diagonal
from refgrad.ops.op import KinkPolicy, check_epsilon


@dataclass(frozen=True, eq=False)
class BatchNormalization(Diagonal):
    """Batch normalisation at inference.

    y = x s + (β − m s),  s = γ / √(v + ε)        shapes: (batch, *shape) → (batch, *shape)

    `moving_mean` m, `moving_variance` v, `gamma` γ and `beta` β are `(features of axis,)`; γ None is 1, β None is 0.
    They are kept as the file has them: folding them into a neighbour would round.
    """

    name: ClassVar[str] = "batch_normalization"
    linear: ClassVar[bool] = True

    moving_mean: Array
    moving_variance: Array
    gamma: Array | None = None
    beta: Array | None = None
    epsilon: float = 1e-3
    axis: int = -1

    def __post_init__(self) -> None:
        """Freeze the arrays, if they fit each other."""
        self.freeze("moving_mean", "moving_variance", "gamma", "beta")
        check_axis(self.axis)
        check_epsilon(self.epsilon)
        for name, array in self.arrays().items():
            if array.ndim != 1 or array.shape != self.moving_mean.shape:
                msg = f"{name} has shape {array.shape}, the mean {self.moving_mean.shape}; equal vectors are needed"
                raise MismatchError(msg)

    def _parts(self, dtype: np.dtype[Any]) -> tuple[Array, Array, Array | None]:
        """m, s and β, each of which broadcasts along the axis."""
        scale: Array = 1 / np.sqrt(self.moving_variance.astype(dtype) + dtype.type(self.epsilon))
        if self.gamma is not None:
            scale = scale * self.gamma.astype(dtype)
        beta = None if self.beta is None else along(self.beta.astype(dtype), self.axis)
        return along(self.moving_mean.astype(dtype), self.axis), along(scale, self.axis), beta

    def shape(self, *shapes: Shape) -> Shape:
        """Unchanged."""
        given = only(shapes)
        if size(given, self.axis) != len(self.moving_mean):
            msg = f"its mean holds {len(self.moving_mean)} numbers, axis {self.axis} of the input's {given} does not"
            raise ValueError(msg)
        return given

    def forward(self, *inputs: Array) -> Array:
        """x s + (β − m s)."""
        (x,) = inputs
        mean, scale, beta = self._parts(x.dtype)
        offset = -mean * scale if beta is None else beta - mean * scale
        value: Array = x * scale + offset
        return value

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Array]:
        """The value, and s."""
        del kink
        return self.forward(*inputs), self._parts(inputs[0].dtype)[1]

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = s² σ²(x) + u² ((x s)² + 2 (m s)² + β² + y² + 4 ((x − m) s)²); the last is the rounding of s."""
        (x,), (variance_of_x,) = inputs, variances
        mean, scale, beta = self._parts(np.dtype(np.float64))
        terms: Array = np.square(x * scale) + 2 * np.square(mean * scale) + np.square(output)
        terms += 4 * np.square((x - mean) * scale) + (0 if beta is None else np.square(beta))
        return np.square(scale) * variance_of_x + u**2 * terms
