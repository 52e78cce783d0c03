"""The affine map y = x W + b on the last axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape, frozen
from refgrad.errors import MismatchError
from refgrad.ops.op import KinkPolicy, Op


def _times(rows: Array, matrix: Array) -> Array:
    """`rows @ matrix` as one product, whatever the leading axes: many small ones cost more than the arithmetic."""
    flat: Array = rows.reshape(-1, rows.shape[-1]) @ matrix
    return flat.reshape(*rows.shape[:-1], matrix.shape[1])


@dataclass(frozen=True, eq=False)
class Affine(Op):
    """An affine map.

    y = x W + b        shapes: (batch, …, n_in) → (batch, …, n_out)

    `kernel` W is `(n_in, n_out)`, Keras's layout; `bias` b is `(n_out,)` or None. Its Jacobian ∂y_j/∂x_i = W_ij is the
    same everywhere, so the tape is empty and there are no kinks.
    """

    name: ClassVar[str] = "affine"
    linear: ClassVar[bool] = True

    kernel: Array
    bias: Array | None = None

    def __post_init__(self) -> None:
        """Freeze the arrays, if they fit each other."""
        if self.kernel.ndim != 2:
            msg = f"kernel has shape {self.kernel.shape}; (inputs, units) is needed"
            raise MismatchError(msg)
        if self.bias is not None and self.bias.shape != self.kernel.shape[1:]:
            msg = f"bias has shape {self.bias.shape}; the kernel {self.kernel.shape} needs {self.kernel.shape[1:]}"
            raise MismatchError(msg)
        object.__setattr__(self, "kernel", frozen(self.kernel))
        if self.bias is not None:
            object.__setattr__(self, "bias", frozen(self.bias))

    def shape(self, *shapes: Shape) -> Shape:
        """(…, n_in) → (…, n_out)."""
        (given,) = shapes
        n_in, n_out = self.kernel.shape
        if not given or given[-1] != n_in:
            msg = f"its kernel {self.kernel.shape} takes {n_in} features, the input has shape {given}"
            raise ValueError(msg)
        return (*given[:-1], n_out)

    def forward(self, *inputs: Array) -> Array:
        """X W + b."""
        (x,) = inputs
        product = _times(x, self.kernel)
        if self.bias is not None:
            product += self.bias
        return product

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, None]:
        """The value; the derivative is known already."""
        del kink
        return self.forward(*inputs), None

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product of an affine map.

        ẋ ↦ ẋ W            shapes: (k, batch, …, n_in) → (k, batch, …, n_out)
        """
        (tangent,) = tangents
        return _times(tangent, self.kernel)

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product of an affine map.

        ȳ ↦ ȳ Wᵀ           shapes: (k, batch, …, n_out) → (k, batch, …, n_in)
        """
        return (_times(cotangent, self.kernel.T),)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """Random-walk model of the rounding error of a sum of n products.

        σ²(z_j) = Σ_k W_kj² (σ²(a_k) + u² max(1, n/6) a_k²) + u² (z_j² + b_j²)
        """
        (a,), (variance_of_a,) = inputs, variances
        per_term = variance_of_a + u**2 * max(1.0, len(self.kernel) / 6) * np.square(a)
        bias = 0.0 if self.bias is None else self.bias.astype(np.float64)
        total: Array = _times(per_term, np.square(self.kernel.astype(np.float64)))
        return total + u**2 * (np.square(output) + np.square(bias))

    def cost(self, k: int, *shapes: Shape) -> int:
        """k · n_in · n_out for each position of the leading axes."""
        (given,) = shapes
        return k * math.prod(given[:-1]) * self.kernel.size

    def config(self) -> dict[str, Any]:
        """Nothing but the arrays."""
        return {}
