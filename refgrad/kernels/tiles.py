"""A tile of samples: where it is in the workspace, and its way in and out."""

from __future__ import annotations

from typing import Any

from refgrad.kernels.chain import apply, listed, sums
from refgrad.kernels.compiling import inline
from refgrad.kernels.packing import PADDED, PANEL, UNITS, WIDEST, WIDTH
from refgrad.kernels.tails import outputs
from refgrad.kernels.turning import turn
from refgrad.kernels.windows import copy, window

FEW = 4
"""Up to so many samples go one by one: a tile of one vector costs the same however full it is."""

SIDE_BY_SIDE = 8
"""Samples whose slopes are gathered together: a square of numbers that is turned over in registers."""


@inline
def lanes_for(layers: Any, samples: Any) -> Any:
    """How many of the samples that are left lie side by side in the next tile: one, or what fills a vector, or two."""
    panel = layers[0, PANEL]
    return 1 if samples <= FEW else panel // 2 if samples <= panel // 2 else panel


@inline
def all_units(layers: Any) -> Any:
    """How many slopes a sample has, those of padding among them."""
    return layers[-1, UNITS] + layers[-1, PADDED]


@inline
def tile_size(layers: Any, lanes: Any, sloped: Any) -> Any:
    """What a tile takes: two levels' numbers, one level's spare ones, and all slopes if they are wanted."""
    return lanes * (3 * layers[0, WIDEST] + (all_units(layers) if sloped else 0))


@inline
def fill(x: Any, first: Any, lanes: Any, work: Any, to: Any, start: Any, end: Any) -> None:
    """Numbers start, …, end − 1 of samples first, … side by side, (n, lanes); a tile that is not full has zeros."""
    width, samples = x.shape[1], min(lanes, len(x) - first)
    place, to, count = first * width + start, to + start * lanes, end - start
    if lanes == 1:
        copy(x.reshape(-1), place, count, work, to)
        return
    turn(x.reshape(-1), place, samples, count, width, work, to, lanes)
    for lane in range(samples, lanes):
        target = window(work, to + lane, count, lanes)
        for i in range(count):
            target[i] = 0


@inline
def empty(y: Any, first: Any, lanes: Any, work: Any, at: Any, start: Any, end: Any) -> None:
    """y's numbers start, …, end − 1 of samples first, … from where they are side by side."""
    width, samples = y.shape[1], min(lanes, len(y) - first)
    place, at, count = first * width + start, at + start * lanes, end - start
    if lanes == 1:
        copy(work, at, count, y.reshape(-1), place)
    else:
        turn(work, at, count, samples, lanes, y.reshape(-1), place, width)


@inline
def run_tile(
    packed: Any, kink: Any, lanes: Any, sloped: Any, x: Any, first: Any, y: Any, work: Any, active: Any
) -> Any:
    """Evaluate samples first, …: y is written, and where the slopes (units, lanes) are is returned."""
    layers = packed[0]
    size = lanes * layers[0, WIDEST]
    here, there, spare, slopes = 0, size, 2 * size, 3 * size if sloped else -1
    fill(x, first, lanes, work, here, 0, x.shape[1])
    for level in range(len(layers)):
        units = layers[level, WIDTH]
        if level > 0:
            count = listed(layers, level, lanes, work, here, active)
            sums(packed, level, lanes, work, here, there, active, count, 0, units)
            here, there = there, here
        apply(packed, level, kink, lanes, work, here, slopes, spare, 0, units)
    outputs(layers, y.shape[1], lanes, work, here)
    empty(y, first, lanes, work, here, 0, y.shape[1])
    return slopes


@inline
def gather(layers: Any, lanes: Any, lane: Any, samples: Any, work: Any, slopes: Any, to: Any) -> None:
    """The slopes of samples lane, … of a tile, one sample after the other."""
    units = all_units(layers)
    for level in range(len(layers)):
        start = layers[level, UNITS]
        turn(work, slopes + start * lanes + lane, layers[level, WIDTH], samples, lanes, work, to + start, units)
