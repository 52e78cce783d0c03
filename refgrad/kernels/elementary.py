"""What stands for `np` in the activations' formulas when they are compiled for single numbers.

Each function is NumPy's by another name, as far as Numba compiles that to something a loop of vectors can hold.
"""

from __future__ import annotations

import math
from typing import Any

from numpy import abs, exp, expm1, hypot, inf, log1p, maximum, minimum, sign, sqrt, tanh  # noqa: A004

from refgrad.kernels.compiling import jit

__all__ = [
    "abs", "erfc", "exp", "expm1", "hypot", "inf", "log1p", "maximum", "minimum", "sign", "sqrt", "tanh",
]  # fmt: skip


@jit
def erfc(z: Any) -> Any:
    """The complementary error function."""
    return math.erfc(z)
