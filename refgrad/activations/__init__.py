"""The table of elementwise activations: one row each, with its derivative, kinks, jumps and source.

`f` and `df` run on arrays under NumPy and on scalars under Numba, so they use ufuncs, `where` and `erfc` only. Their
parameters come as numbers of the same dtype as `z`. At a kink `df` is what eager TensorFlow uses.
±inf gives the limit of value and slope. NaN gives NaN, but for `linear`, whose slope is 1 everywhere.
"""

from __future__ import annotations

from refgrad.activations import exponential, gated, mathematical, piecewise, sigmoid
from refgrad.activations.row import Activation, Kink, erf, erfc, where

ACTIVATIONS: dict[str, Activation] = {
    row.name: row for room in (piecewise, exponential, sigmoid, gated, mathematical) for row in room.ROWS
}

__all__ = ["ACTIVATIONS", "Activation", "Kink", "erf", "erfc", "where"]
