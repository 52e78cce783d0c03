"""Softmax and its logarithm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.ops.axes import Axes, as_axes, check_axes, size
from refgrad.ops.broadcasting import only
from refgrad.ops.op import KinkPolicy, Op


@dataclass(frozen=True, eq=False)
class Softmax(Op):
    """Softmax along an axis, or over several at once.

    y_i = s_i = exp(z_i − max z) / Σ_j exp(z_j − max z)        shapes: (batch, *shape) → (batch, *shape)

    −∞ among the inputs gives 0; +∞, or nothing but −∞, gives NaN along the axis, as in TensorFlow (which over several
    axes keeps some zeros beside +∞). The tape is s and w, which is the mean of the unit vectors of the largest
    entries: as Σ s = 1, a tangent may have any number subtracted, and taking ⟨w, ż⟩ leaves no cancellation where one
    s_i is nearly 1.
    """

    name: ClassVar[str] = "softmax"
    linear: ClassVar[bool] = False

    axis: Axes = -1

    def __post_init__(self) -> None:
        """Check the axes."""
        check_axes(as_axes(self.axis))

    def _sum(self, array: Array) -> Array:
        total: Array = array.sum(axis=self.axis, keepdims=True)
        return total

    def _terms(self, z: Array) -> tuple[Array, Array, Array]:
        """The differences z − max z, their exponentials, and the sum of these."""
        differences = z - z.max(axis=self.axis, keepdims=True)
        terms = np.exp(differences)
        return differences, terms, self._sum(terms)

    def _tape(self, terms: Array, total: Array) -> tuple[Array, Array]:
        """Every s and w."""
        largest = (terms == 1).astype(terms.dtype)
        return terms / total, largest / self._sum(largest)

    def _centred(self, s: Array, w: Array, vector: Array) -> Array:
        """ż − ⟨s, ż⟩ = ḋ − ⟨s, ḋ⟩, ḋ = ż − ⟨w, ż⟩."""
        difference = vector - self._sum(w * vector)
        return difference - self._sum(s * difference)

    def shape(self, *shapes: Shape) -> Shape:
        """Unchanged."""
        given = only(shapes)
        for axis in as_axes(self.axis):
            size(given, axis)
        return given

    def forward(self, *inputs: Array) -> Array:
        """Every s."""
        _, terms, total = self._terms(inputs[0])
        return terms / total

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; s and w."""
        del kink
        _, terms, total = self._terms(inputs[0])
        tape = self._tape(terms, total)
        return tape[0], tape

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = s (ż − ⟨s, ż⟩)."""
        s, w = tape
        product: Array = s * self._centred(s, w, tangents[0])
        return product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: z̄ = s (ȳ − ⟨s, ȳ⟩); the matrix is symmetric."""
        s, w = tape
        return (s * self._centred(s, w, cotangent),)

    def _log_variance(self, u: float, z: Array, variance_of_z: Array) -> tuple[Array, Array]:
        """s, and the variance of log s.

        σ²(log s_i) = Σ_j (δ_ij − s_j)² t_j + u² max(1, n/6) Σ_j s_j²,  t = σ²(z) + u² ((z − max z)² + 4)

        where 4 is for exp.
        """
        differences, terms, total = self._terms(z)
        s = terms / total
        # Where s is 0 for certain, the difference may be −∞: it counts for nothing.
        each = variance_of_z + u**2 * (np.square(np.where(s == 0, 0, differences)) + 4)
        n = math.prod(z.shape[axis] for axis in as_axes(self.axis))
        carried = np.maximum((1 - 2 * s) * each + self._sum(np.square(s) * each), 0)
        return s, carried + u**2 * max(1.0, n / 6) * self._sum(np.square(s))

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = s² (σ²(log s) + 2 u²)."""
        s, spread = self._log_variance(u, inputs[0], variances[0])
        total: Array = np.square(s) * (spread + 2 * u**2)
        return total

    def cost(self, k: int, *shapes: Shape) -> int:
        """Two sums over the axis: 2 k size."""
        return 2 * k * math.prod(shapes[0])


@dataclass(frozen=True, eq=False)
class LogSoftmax(Softmax):
    """The logarithm of softmax.

    y_i = z_i − max z − log Σ_j exp(z_j − max z)        shapes: (batch, *shape) → (batch, *shape)

    −∞ among the inputs gives −∞; +∞, or nothing but −∞, gives NaN along the axis. The tape is that of `Softmax`.
    """

    name: ClassVar[str] = "log_softmax"

    def forward(self, *inputs: Array) -> Array:
        """log s."""
        differences, _, total = self._terms(inputs[0])
        return differences - np.log(total)

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; s and w."""
        del kink
        differences, terms, total = self._terms(inputs[0])
        return differences - np.log(total), self._tape(terms, total)

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = ż − ⟨s, ż⟩."""
        s, w = tape
        return self._centred(s, w, tangents[0])

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: z̄ = p − w Σ p, p = ȳ − s Σ ȳ; Σ p is 0 but for what cancelled."""
        s, w = tape
        product = cotangent - s * self._sum(cotangent)
        return (product - w * self._sum(product),)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = σ²(log s) + u² (y² + (log Σ)²)."""
        _, _, total = self._terms(inputs[0])
        _, spread = self._log_variance(u, inputs[0], variances[0])
        return spread + u**2 * (np.square(output) + np.square(np.log(total)))
