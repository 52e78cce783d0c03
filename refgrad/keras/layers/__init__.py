"""The table of layer classes that can be read: one row each, by kind in the modules beside."""

from __future__ import annotations

from collections.abc import Mapping

from refgrad.keras.layers import activating, affine, einsum, merging, normalising, passing, scaling, shaping
from refgrad.keras.rows import Row

LAYERS: Mapping[str, Row] = {
    **passing.ROWS,
    **affine.ROWS,
    **einsum.ROWS,
    **activating.ROWS,
    **merging.ROWS,
    **shaping.ROWS,
    **scaling.ROWS,
    **normalising.ROWS,
}
"""Class name → row."""
