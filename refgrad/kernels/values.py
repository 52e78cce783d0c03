"""Values of samples, a tile after the other."""

from __future__ import annotations

from typing import Any

from refgrad.kernels.compiling import inline
from refgrad.kernels.listing import SPARE
from refgrad.kernels.memory import give_back, room
from refgrad.kernels.packing import WIDEST
from refgrad.kernels.tiles import lanes_for, run_tile, tile_size


@inline
def value(packed: Any, x: Any, y: Any) -> Any:
    """y (batch, n_out) for x (batch, n_in); returns whether there was memory."""
    layers = packed[0]
    most, first = lanes_for(layers, len(x)), 0
    lent, work, active = room(tile_size(layers, most, False), layers[0, WIDEST] + SPARE, x)
    if lent == 0:
        return False
    while first < len(x):
        lanes = lanes_for(layers, len(x) - first)
        run_tile(packed, 0, lanes, False, x, first, y, work, active)
        first += lanes
    give_back(lent)
    return True
