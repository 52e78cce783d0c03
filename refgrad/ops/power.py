"""Powers, number by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array
from refgrad.ops.pairwise import Pairwise


@dataclass(frozen=True, eq=False)
class Power(Pairwise):
    """A power.

    y = aᵇ             shapes: (batch, *shape_a), (batch, *shape_b) → (batch, *shape)

    ∂y/∂a = b aᵇ⁻¹, which is 0 where b is 0, and ∂y/∂b = aᵇ log a. Where a ≤ 0, y is a number for single b only, and
    log a counts as 0 there, as in TensorFlow. aᵇ of a < 0 is NaN unless b is whole; NaN in either gives NaN.
    """

    name: ClassVar[str] = "power"

    def value(self, a: Array, b: Array) -> Array:
        """aᵇ."""
        return np.where(np.isnan(a) | np.isnan(b), a + b, np.power(a, b))

    def slopes(self, a: Array, b: Array) -> tuple[Array, Array]:
        """b aᵇ⁻¹ and aᵇ log a."""
        unknown = np.isnan(a) | np.isnan(b)
        of_a = np.where(b == 0, 0, b * np.power(a, b - 1))
        of_b = np.power(a, b) * np.log(np.where(a > 0, a, 1))
        return tuple(np.where(unknown, a + b, slope).astype(a.dtype) for slope in (of_a, of_b))  # type: ignore[return-value]

    def own(self, a: Array, b: Array, y: Array) -> Any:
        """4 y²: powers are off by more than their last digit."""
        return 4 * np.square(y)
