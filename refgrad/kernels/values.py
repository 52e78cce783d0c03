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
    lanes = lanes_for(layers, len(x))
    owner, lists = room(tile_size(layers, lanes, False), layers[0, WIDEST] + SPARE, x)
    work, active = borrowed(owner), borrowed(lists)
    for first in range(0, len(x), lanes):
        run_tile(packed, 0, lanes, False, x, first, y, work, active)
    keep(owner)
