"""The logarithm of a sum of exponentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array
from refgrad.ops.op import KinkPolicy
from refgrad.ops.reduction import Reduction


@dataclass(frozen=True, eq=False)
class LogSumExp(Reduction):
    """The smooth maximum along axes.

    y = m + log Σ_i exp(x_i − m),  m = max x        shapes: (batch, *shape) → (batch, *the other axes)

    w_i = s_i = exp(x_i − m) / Σ_j exp(x_j − m), softmax. −∞ counts for nothing, and alone gives −∞; +∞ gives +∞, and
    NaN for its derivative.
    """

    name: ClassVar[str] = "log_sum_exp"
    linear: ClassVar[bool] = False

    def _terms(self, x: Array) -> tuple[Array, Array, Array]:
        """m, exp(x − m), and the sum of these, with axes of 1; an infinite m counts as 0."""
        m = x.max(axis=self.axes, keepdims=True)
        m = np.where(np.isinf(m), 0, m).astype(x.dtype)
        terms = np.exp(x - m)
        return m, terms, terms.sum(axis=self.axes, keepdims=True)

    def forward(self, *inputs: Array) -> Array:
        """M + log Σ exp(x − m)."""
        m, _, total = self._terms(inputs[0])
        value: Array = m + np.log(total)
        return value if self.keepdims else value.squeeze(self.axes)

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; every s, and the feature shape."""
        del kink
        (x,) = inputs
        _, terms, total = self._terms(x)
        return self.forward(x), (terms / total, x.shape[1:])

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = Σ_i s_i² (σ²(x_i) + u² ((x_i − m)² + 4 + max(1, n/6))) + u² (y² + (log Σ)²)."""
        (x,) = inputs
        m, terms, total = self._terms(x)
        # Where s is 0 for certain, the difference may be −∞: it counts for nothing.
        differences = np.where(terms == 0, 0, x - m)
        each = variances[0] + u**2 * (np.square(differences) + 4 + max(1.0, self.count(x.shape[1:]) / 6))
        log_total = np.log(total) if self.keepdims else np.log(total).squeeze(self.axes)
        return self.summed(np.square(terms / total) * each) + u**2 * (np.square(output) + np.square(log_total))
