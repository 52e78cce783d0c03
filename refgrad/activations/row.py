"""What a row of the activation table is, and the two functions its formulas need beside NumPy's ufuncs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Elementwise = Callable[..., Any]

_erfc = np.frompyfunc(math.erfc, 1, 1)
_erf = np.frompyfunc(math.erf, 1, 1)


def where(condition: Any, then: Any, otherwise: Any) -> Any:
    """`np.where` by a name of its own: Numba's makes an array of every scalar, the kernels give it a plain choice."""
    return np.where(condition, then, otherwise)


def erfc(z: Any) -> Any:
    """The complementary error function in z's dtype: `math.erfc` of each number, since NumPy has none."""
    return np.asarray(_erfc(z), z.dtype)


def erf(z: Any) -> Any:
    """The error function in z's dtype, in the same way."""
    return np.asarray(_erf(z), z.dtype)


@dataclass(frozen=True)
class Kink:
    """A point where the slope changes: its place, both one-sided slopes, and what eager TensorFlow takes there."""

    where: float
    left: float
    right: float
    keras: float


def kinks(*candidates: Kink) -> tuple[Kink, ...]:
    """Those of several points that are kinks: a slope that changes there, or one that TensorFlow makes up."""
    return tuple(kink for kink in candidates if not kink.left == kink.right == kink.keras)


@dataclass(frozen=True)
class Activation:
    """A row of the table.

    `f(z, *params)` and `df(z, *params)` are the function and its derivative, `kinks(*params)` and `jumps(*params)`
    say where the slope and where the value itself is discontinuous. `parameters` holds names and defaults in order.
    `domain` is where it is a number.
    """

    name: str
    f: Elementwise
    df: Elementwise
    source: str
    parameters: tuple[tuple[str, float], ...] = ()
    kinks: Callable[..., tuple[Kink, ...]] = lambda *_: ()
    jumps: Callable[..., tuple[float, ...]] = lambda *_: ()
    domain: tuple[float, float] = (-math.inf, math.inf)

    @property
    def defaults(self) -> tuple[float, ...]:
        """The parameters' default values, in order."""
        return tuple(value for _, value in self.parameters)
