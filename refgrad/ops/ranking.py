"""How far the best of several numbers is ahead."""

from __future__ import annotations

import numpy as np

from refgrad.arrays import Array


def lead(best: np.ufunc, candidates: Array, axis: int) -> Array:
    """The gap between the best, by np.maximum or np.minimum, and the second best along an axis."""
    ranked = np.moveaxis(np.sort(candidates, axis=axis), axis, 0)
    one, other = (ranked[-1], ranked[-2]) if best is np.maximum else (ranked[1], ranked[0])
    # Equal infinities are tied, and have no difference.
    gap: Array = np.subtract(one, other, out=np.zeros_like(one), where=one != other)
    return gap
