"""Jacobians sample by sample: rows of unit vectors through the layers, leaving out what a ReLU switched off."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.kernels.beside import tile_of_jacobians
from refgrad.kernels.block import ROWS, dense_times
from refgrad.kernels.chain import begin, go_on
from refgrad.kernels.compiling import inline, kernel
from refgrad.kernels.packing import PADDED, PANEL, WIDEST, WIDTH
from refgrad.kernels.tails import pushed
from refgrad.kernels.tiles import all_units, gather, lanes_for, room, run_tile, tile_size
from refgrad.kernels.windows import borrowed, keep, window


@inline
def ends(
    packed: Any, cut: Any, samples: Any, work: Any, slopes: Any, to: Any, size: Any, active: Any, counts: Any
) -> Any:
    """Forward from the cut to the outputs, and backward from there to the inputs; returns where both results are.

    At the input (cut = 0) or the output there is only one way to go. `to` has room for two times two T (rows, n), or
    two where there is one way; sample s of each is at + s·size.
    """
    layers = packed[0]
    last, rows, units, widest = len(layers) - 1, layers[cut, WIDTH], all_units(layers), layers[0, WIDEST]
    forward, backward = to, to if cut == last else to + 2 * samples * size
    if cut < last:
        for sample in range(samples):
            begin(packed, cut, 1, work, slopes + sample * units, to + sample * size)
        forward = go_on(
            packed, cut + 1, last, rows, samples, work, slopes, units, to, to + samples * size, size, active, widest,
            counts,
        )  # fmt: skip
    if cut > 0:
        at = backward
        for sample in range(samples):
            begin(packed, cut, -1, work, slopes + sample * units, at + sample * size)
        backward = go_on(
            packed, cut - 1, 0, rows, samples, work, slopes, units, at, at + samples * size, size, active, widest,
            counts,
        )  # fmt: skip
    return forward, backward


@inline
def multiply(layers: Any, cut: Any, work: Any, forward: Any, backward: Any, spare: Any, jacobian: Any, to: Any) -> None:
    """J = Tᵀ G for T (n_c, n_out) and G (n_c, n_in): J_ji = Σ_c T_cj G_ci, a panel of G's columns at a time."""
    middle, n_out, n_in = layers[cut, WIDTH], layers[-1, WIDTH], layers[0, WIDTH]
    wide, wide_in, panel = layers[-1, PADDED], layers[0, PADDED], layers[0, PANEL]
    result = spare + middle * panel
    for i in range(0, n_in, panel):
        for c in range(middle):
            target, source = window(work, spare + c * panel, panel), window(work, backward + c * wide_in + i, panel)
            for k in range(panel):
                target[k] = source[k]
        j = 0
        while j < n_out:
            rows = min(ROWS, n_out - j)
            if i + panel <= n_in:
                place = to + j * n_in + i
                dense_times(
                    rows, work, forward + j, 1, wide, middle, work, spare, panel, jacobian, place, n_in, work, -1, 0
                )
            else:
                dense_times(
                    rows, work, forward + j, 1, wide, middle, work, spare, panel, work, result, panel, work, -1, 0
                )
                for r in range(rows):
                    for k in range(n_in - i):
                        jacobian[to + (j + r) * n_in + i + k] = work[result + r * panel + k]
            j += rows


@inline
def write(layers: Any, cut: Any, work: Any, forward: Any, backward: Any, spare: Any, jacobian: Any, to: Any) -> None:
    """One sample's J (n_out, n_in), at jacobian[to:], from Jᵀ (forward), J (backward), or the product of both."""
    n_out, n_in, wide_out, wide_in = layers[-1, WIDTH], layers[0, WIDTH], layers[-1, PADDED], layers[0, PADDED]
    if cut == 0:
        for j in range(n_out):
            row, column = window(jacobian, to + j * n_in, n_in), window(work, forward + j, n_in, wide_out)
            for i in range(n_in):
                row[i] = column[i]
    elif cut == len(layers) - 1:
        for j in range(n_out):
            row, found = window(jacobian, to + j * n_in, n_in), window(work, backward + j * wide_in, n_in)
            for i in range(n_in):
                row[i] = found[i]
    else:
        multiply(layers, cut, work, forward, backward, spare, jacobian, to)


@inline
def buffers(layers: Any, cut: Any) -> Any:
    """How many numbers `ends` needs for a sample: two or four T (rows, n)."""
    ways = 4 if 0 < cut < len(layers) - 1 else 2
    return ways * layers[cut, WIDTH] * layers[0, WIDEST]


@inline
def spare_size(layers: Any, cut: Any) -> Any:
    """What `multiply` needs: a panel, and a block of rows; and `pushed`: a number for each output."""
    return (layers[cut, WIDTH] + ROWS) * layers[0, PANEL] + layers[0, WIDEST]


@inline
def jacobians(
    packed: Any, cut: Any, samples: Any, work: Any, slopes: Any, to: Any, spare: Any, active: Any, counts: Any,
    y: Any, jacobian: Any, first: Any,
) -> None:  # fmt: skip
    """The Jacobians of samples first, … whose slopes are in `work` one sample after the other."""
    layers = packed[0]
    size, n_out, n_in = layers[cut, WIDTH] * layers[0, WIDEST], layers[-1, WIDTH], layers[0, WIDTH]
    forward, backward = ends(packed, cut, samples, work, slopes, to, size, active, counts)
    for sample in range(samples):
        start = (first + sample) * n_out * n_in
        write(layers, cut, work, forward + sample * size, backward + sample * size, spare, jacobian, start)
        pushed(layers, window(y, (first + sample) * n_out, n_out), jacobian, start, n_out, n_in, n_in, work, spare)


@kernel
def rows(packed: Any, kink: Any, cut: Any, group: Any, x: Any, y: Any, jacobian: Any) -> None:
    """y (batch, n_out) and jacobian (batch, n_out, n_in) for x (batch, n_in).

    Unit vectors start at level `cut`: the input (0) pushes forward, the output pulls back, any other does both, and
    multiplies. So many samples as `group` says go through the layers together; if it is 0, a tile of them side by side.
    """
    packed = borrowed(packed[0]), borrowed(packed[1]), borrowed(packed[2])
    x, y, jacobian = borrowed(x), borrowed(y), borrowed(jacobian).reshape(-1)
    layers = packed[0]
    lanes, units, widest = lanes_for(layers, len(x)), all_units(layers), layers[0, WIDEST]
    beside, group = group == 0 and lanes > 1, max(group, 1)
    tile = tile_size(layers, lanes, True)
    to = tile + group * units
    spare = to + group * buffers(layers, cut)
    work, counts = room(spare + spare_size(layers, cut), x), np.empty(group, np.int64)
    active = np.empty(group * widest + 1, np.int64)
    owners = work, counts, active
    work, counts, active = borrowed(work), borrowed(counts), borrowed(active)
    for first in range(0, len(x), lanes):
        slopes = run_tile(packed, kink, lanes, True, x, first, y, work, active)
        end = min(first + lanes, len(x))
        if beside:
            tile_of_jacobians(
                packed, cut, lanes, end - first, work, slopes, 0, lanes * widest, spare, y, jacobian, first
            )
            continue
        for start in range(first, end, group):
            samples = min(group, end - start)
            if lanes > 1:
                gather(layers, lanes, start - first, samples, work, slopes, tile)
            jacobians(
                packed, cut, samples, work, tile if lanes > 1 else slopes, to, spare, active, counts, y, jacobian, start
            )
    keep(owners)
