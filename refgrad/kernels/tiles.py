"""A tile of samples: where it is in the workspace, and its way in and out."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.kernels.chain import evaluate
from refgrad.kernels.compiling import inline
from refgrad.kernels.packing import LINE, PADDED, PANEL, UNITS, WIDEST, WIDTH
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
def run_tile(
    packed: Any, kink: Any, lanes: Any, sloped: Any, x: Any, first: Any, y: Any, work: Any, active: Any
) -> Any:
    """Evaluate samples first, …: y is written, and where the slopes (units, lanes) are is returned.

    A tile that is not full is filled up with zeros.
    """
    layers = packed[0]
    samples, size = min(lanes, len(x) - first), lanes * layers[0, WIDEST]
    width = x.shape[1]
    if lanes == 1:
        copy(x.reshape(-1), first * width, width, work, 0)
    else:
        turn(x.reshape(-1), first * width, samples, width, width, work, 0, lanes)
    for lane in range(samples, lanes):
        target = window(work, lane, width, lanes)
        for i in range(width):
            target[i] = 0
    slopes = 3 * size if sloped else -1
    at = evaluate(packed, kink, lanes, work, 0, size, slopes, 2 * size, active)
    outputs(layers, y.shape[1], lanes, work, at)
    units = y.shape[1]
    if lanes == 1:
        copy(work, at, units, y.reshape(-1), first * units)
    else:
        turn(work, at, units, samples, lanes, y.reshape(-1), first * units, units)
    return slopes


@inline
def gather(layers: Any, lanes: Any, lane: Any, samples: Any, work: Any, slopes: Any, to: Any) -> None:
    """The slopes of samples lane, … of a tile, one sample after the other."""
    units = all_units(layers)
    for level in range(len(layers)):
        start = layers[level, UNITS]
        turn(work, slopes + start * lanes + lane, layers[level, WIDTH], samples, lanes, work, to + start, units)


@inline
def room(size: Any, places: Any, like: Any) -> Any:
    """A workspace that starts with a cache line, and room for lists, of 32 bits a place."""
    raw = np.empty(size + places + LINE // like.itemsize, like.dtype)
    start = (-raw.ctypes.data % LINE) // like.itemsize
    return raw[start : start + size], raw[start + size :].view(np.int32)
