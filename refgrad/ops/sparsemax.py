"""Keras's sparsemax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.ops.axes import along, check_axis, part, size
from refgrad.ops.broadcasting import only
from refgrad.ops.op import KinkPolicy, Op

_SLOPE_AT_KINK: dict[KinkPolicy, float] = {"keras": 1.0, "left": 0.0, "right": 1.0, "mean": 0.5}


@dataclass(frozen=True)
class _Support:
    """Entries from the largest down, their sums C_r, what holds the r-th in the support, and the threshold.

    `gap` is z_(r) − (C_r − 1)/r, `inside` whether that is positive, `weights` are ∂τ/∂z in the order of z.
    """

    ranked: Array
    sums: Array
    gap: Array
    inside: Any
    tau: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class Sparsemax(Op):
    """Sparsemax as Keras 3 computes it.

    y_i = max(z_i − τ, 0),  τ = (Σ_{r≤k} C_r − 1) / k        shapes: (batch, *shape) → (batch, *shape)

    z_(1) ≥ z_(2) ≥ … are the entries along the axis, C_r = Σ_{s≤r} z_(s), and k counts the r with
    z_(r) > (C_r − 1)/r. Sparsemax proper has τ = (C_k − 1)/k: Keras adds all sums up to the k-th instead, so that for
    k > 1 the outputs do not sum to 1, and the value jumps where k changes. ∂τ/∂z_(r) = (k − r + 1)/k for r ≤ k.

    Kinks: a unit at the edge of the support, z_i = τ, has slope 1 ("keras", "right"), 0 ("left") or ½ ("mean"). Of
    equal entries the first ranks first under every policy. NaN gives NaN along the axis; −∞ gives 0.
    """

    name: ClassVar[str] = "sparsemax"
    linear: ClassVar[bool] = False

    axis: int = -1

    def __post_init__(self) -> None:
        """Check the axis."""
        check_axis(self.axis)

    def _support(self, z: Array) -> _Support:
        order = np.argsort(-z, axis=self.axis, kind="stable")
        ranked = np.take_along_axis(z, order, self.axis)
        sums = np.cumsum(ranked, axis=self.axis)
        rank = along(np.arange(1, z.shape[self.axis] + 1, dtype=z.dtype), self.axis)
        gap = ranked - (sums - 1) / rank
        inside = gap > 0
        k = inside.sum(axis=self.axis, keepdims=True, dtype=z.dtype)
        tau = (np.where(inside, sums, 0).sum(axis=self.axis, keepdims=True) - 1) / k
        tau = np.where(np.isnan(z).any(axis=self.axis, keepdims=True), np.nan, tau).astype(z.dtype)
        weights = np.empty_like(z)
        np.put_along_axis(weights, order, np.where(inside, (k - rank + 1) / k, 0), self.axis)
        return _Support(ranked, sums, gap, inside, tau, weights)

    def shape(self, *shapes: Shape) -> Shape:
        """Unchanged."""
        given = only(shapes)
        size(given, self.axis)
        return given

    def forward(self, *inputs: Array) -> Array:
        """max(z − τ, 0)."""
        value: Array = np.maximum(inputs[0] - self._support(inputs[0]).tau, 0)
        return value

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; each unit's slope m in z − τ, and ∂τ/∂z."""
        (z,) = inputs
        support = self._support(z)
        above = z - support.tau
        slope = np.where(above == 0, _SLOPE_AT_KINK[kink], above > 0)
        return np.maximum(above, 0), (np.where(np.isnan(above), above, slope).astype(z.dtype), support.weights)

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = m (ż − ⟨∂τ/∂z, ż⟩)."""
        slope, weights = tape
        (tangent,) = tangents
        product: Array = slope * (tangent - (weights * tangent).sum(axis=self.axis, keepdims=True))
        return product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: z̄ = p − ∂τ/∂z Σ p, p = m ȳ."""
        slope, weights = tape
        product = slope * cotangent
        return (product - weights * product.sum(axis=self.axis, keepdims=True),)

    def _threshold_variance(self, u: float, support: _Support, variance_of_z: Array) -> Array:
        """σ²(τ) = Σ_j (∂τ/∂z_j)² σ²(z_j) + 2 u² Σ_{r≤k} C_r² + 2 u² τ²: each C_r rounds, and so do their sum and τ."""
        carried = (np.square(support.weights) * variance_of_z).sum(axis=self.axis, keepdims=True)
        sums = np.where(support.inside, np.square(support.sums), 0).sum(axis=self.axis, keepdims=True)
        total: Array = carried + 2 * u**2 * (sums + np.square(support.tau))
        return total

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y_i) = (1 − 2 ∂τ/∂z_i) σ²(z_i) + σ²(τ) + u² y_i² above the threshold, 0 below."""
        (variance_of_z,), support = variances, self._support(inputs[0])
        carried = (1 - 2 * support.weights) * variance_of_z + self._threshold_variance(u, support, variance_of_z)
        kept: Array = np.where(output == 0, 0, np.maximum(carried, 0) + u**2 * np.square(output))
        return kept

    def cost(self, k: int, *shapes: Shape) -> int:
        """One sum over the axis: k size."""
        return k * math.prod(shapes[0])

    def jump_margins(self, inputs: tuple[Array, ...]) -> Array:
        """The least |z_(r) − (C_r − 1)/r| along the axis: how far k is from changing."""
        least: Array = np.abs(self._support(inputs[0]).gap).min(axis=self.axis, keepdims=True)
        return np.broadcast_to(least, inputs[0].shape)

    def margins(self, inputs: tuple[Array, ...]) -> Array:
        """|z − τ|, the distance to a jump, or the least difference of two neighbours in the support."""
        (z,) = inputs
        support = self._support(z)
        own: Array = np.minimum(np.abs(z - support.tau), self.jump_margins(inputs))
        n = z.shape[self.axis]
        higher, lower = (support.ranked[part(self.axis, start, start + n - 1)] for start in (0, 1))
        apart = np.where(support.inside[part(self.axis, 1, n)], higher - lower, np.inf)
        least: Array = np.minimum(own, apart.min(axis=self.axis, keepdims=True, initial=np.inf))
        return least.astype(z.dtype)

    def noise(self, u: float, inputs: tuple[Array, ...], sigmas: tuple[Array, ...]) -> Array:
        """σ(z), the largest along the axis, and σ(τ)."""
        (sigma,) = sigmas
        support = self._support(inputs[0].astype(np.float64))
        tau = np.sqrt(self._threshold_variance(u, support, np.square(sigma)))
        total: Array = sigma + sigma.max(axis=self.axis, keepdims=True) + tau
        return total
