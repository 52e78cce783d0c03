"""What an array is here: its type, and how it is made immutable."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Shape = tuple[int, ...]
Scalar = TypeVar("Scalar", bound=np.generic)

MOST_AXES = 30
"""The most axes of a sample: NumPy's arrays have 64 at most, and a Jacobian has those of an output and of an input."""


def flat(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """`(batch, …)` as `(batch, entries)`, be there samples or not."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def frozen(array: npt.ArrayLike) -> Array:
    """Copy an array into native byte order, row by row, for good: its memory is a `bytes`, which nothing can change."""
    given = np.asarray(array)
    native = given.astype(given.dtype.newbyteorder("="), copy=False)
    return np.frombuffer(native.tobytes(), native.dtype).reshape(given.shape)
