"""What an array is here: its type, and how it is made immutable."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Shape = tuple[int, ...]


def frozen(array: npt.ArrayLike) -> Array:
    """Copy an array into native byte order, C-contiguous, and make it read-only."""
    given = np.asarray(array)
    copy: Array = np.array(given, dtype=given.dtype.newbyteorder("="), order="C", copy=True)
    copy.setflags(write=False)
    return copy
