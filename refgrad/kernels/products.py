"""Jacobian–vector and vector–Jacobian products, sample by sample, or few vectors of many samples side by side."""

from __future__ import annotations

from typing import Any

from refgrad.kernels.beside import tile_of_products
from refgrad.kernels.compiling import inline
from refgrad.kernels.listing import SPARE
from refgrad.kernels.memory import give_back, room
from refgrad.kernels.packing import WIDEST, WIDTH
from refgrad.kernels.passing import go_on, move_row, times_slopes
from refgrad.kernels.tails import pulled, pushed
from refgrad.kernels.tiles import all_units, gather, lanes_for, run_tile, tile_size
from refgrad.kernels.windows import copy, window


@inline
def products(
    packed: Any, kink: Any, forward: Any, group: Any, k: Any, whole: Any, batch: Any, x: Any, vectors: Any, y: Any,
    results: Any,
) -> Any:  # fmt: skip
    """y (samples, n_out) and, flat, results (k, whole, n) for x (samples, n_in) and vectors (k, whole, m).

    Sample i of x is sample `batch` + i of the vectors. Returns whether there was memory.

    Forward: tangents of the inputs give those of the outputs, ẏ = J ẋ. Backward: cotangents of the outputs give the
    inputs', x̄ = Jᵀ ȳ. So many samples as `group` says go through the layers together; if it is 0, a tile of them side
    by side.
    """
    layers = packed[0]
    units, widest, first = all_units(layers), layers[0, WIDEST], 0
    start, stop = (0, len(layers) - 1) if forward else (len(layers) - 1, 0)
    n_out, entering, leaving = y.shape[1], layers[start, WIDTH], layers[stop, WIDTH]
    beside, group = group == 0, max(group, 1)
    size = k * widest
    tile = tile_size(layers, lanes_for(layers, len(x)), True)
    to = tile + group * units
    row = to + 2 * group * size
    spare = row + widest
    lent, work, lists = room(spare + widest, group + group * widest + SPARE, x)
    if lent == 0:
        return False
    counts, active = lists[:group], lists[group:]
    while first < len(x):
        lanes = lanes_for(layers, len(x) - first)
        slopes = run_tile(packed, kink, lanes, True, x, first, y, work, active)
        end = min(first + lanes, len(x))
        for r in range(k if beside and lanes > 1 else 0):
            place = r * whole + batch + first
            tile_of_products(
                packed, start, stop, lanes, end - first, work, slopes, 0, lanes * widest, row, spare, y, first,
                vectors, place * entering, results, place * leaving,
            )  # fmt: skip
        for begin in range(end if beside and lanes > 1 else first, end, group):
            samples = min(group, end - begin)
            gather(layers, lanes, begin - first, samples, work, slopes, tile)
            for sample in range(samples):
                outputs, at = window(y, (begin + sample) * n_out, n_out), to + sample * size
                for r in range(k):
                    copy(vectors, (r * whole + batch + begin + sample) * entering, entering, work, row)
                    if not forward:
                        pulled(layers, outputs, work, row, entering, spare)
                    move_row(layers, start, work, row, at, k, r, True)
                times_slopes(packed, start, k, work, tile + sample * units, at, k)
            found = go_on(
                packed,
                start,
                stop,
                k,
                samples,
                work,
                tile,
                units,
                to,
                to + group * size,
                size,
                active,
                counts,
                work,
                -1,
            )
            for sample in range(samples):
                outputs = window(y, (begin + sample) * n_out, n_out)
                for r in range(k):
                    move_row(layers, stop, work, row, found + sample * size, k, r, False)
                    if forward:
                        pushed(layers, outputs, work, row, leaving, 1, 1, work, spare)
                    copy(work, row, leaving, results, (r * whole + batch + begin + sample) * leaving)
        first += lanes
    give_back(lent)
    return True
