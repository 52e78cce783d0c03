"""What an array is here: its type, and how it is made immutable."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Shape = tuple[int, ...]


def frozen(array: npt.ArrayLike) -> Array:
    """Copy an array into native byte order, row by row, for good: its memory is a `bytes`, which nothing can change."""
    given = np.asarray(array)
    native = given.astype(given.dtype.newbyteorder("="), copy=False)
    return np.frombuffer(native.tobytes(), native.dtype).reshape(given.shape)
