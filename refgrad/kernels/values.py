"""The kernel of values."""

from __future__ import annotations

from typing import Any

from refgrad.kernels.compiling import kernel
from refgrad.kernels.listing import SPARE
from refgrad.kernels.packing import WIDEST
from refgrad.kernels.tiles import lanes_for, room, run_tile, tile_size
from refgrad.kernels.windows import borrowed, keep


@kernel
def value(packed: Any, x: Any, y: Any) -> None:
    """y (batch, n_out) for x (batch, n_in)."""
    packed = borrowed(packed[0]), borrowed(packed[1]), borrowed(packed[2])
    x, y = borrowed(x), borrowed(y)
    layers = packed[0]
    most, first = lanes_for(layers, len(x)), 0
    owner, lists = room(tile_size(layers, most, False), layers[0, WIDEST] + SPARE, x)
    work, active = borrowed(owner), borrowed(lists)
    while first < len(x):
        lanes = lanes_for(layers, len(x) - first)
        run_tile(packed, 0, lanes, False, x, first, y, work, active)
        first += lanes
    keep(owner)
