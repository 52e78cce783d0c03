"""From layer to layer: rows of a Jacobian, T (rows, n), times a matrix and slopes, without the units that are off.

T is in panels, as the matrices are: (⌈n/P⌉, rows, P).
"""

from __future__ import annotations

from typing import Any

from refgrad.kernels.block import listed_times
from refgrad.kernels.chain import block_of, panels_from
from refgrad.kernels.compiling import inline
from refgrad.kernels.listing import nonzero
from refgrad.kernels.packing import END, FIRST, PANEL, PULL, PUSH, UNITS, WIDEST, WIDTH
from refgrad.kernels.scaling import times, times_columns
from refgrad.kernels.windows import copy


@inline
def has_slopes(layers: Any, level: Any) -> Any:
    """Whether a level has steps; else its slopes are 1, and written nowhere."""
    return layers[level, END] > layers[level, FIRST]


@inline
def slopes_at(layers: Any, level: Any, slopes: Any) -> Any:
    """Where a sample's slopes of a level are, or −1 where there are none."""
    return slopes + layers[level, UNITS] if has_slopes(layers, level) else -1


@inline
def matrix_from(layers: Any, level: Any, way: Any) -> Any:
    """Where M is that leads from a level to the next on the way: W forward (way = 1), Wᵀ backward (way = −1)."""
    return layers[level + 1, PUSH] if way > 0 else layers[level, PULL]


@inline
def begin(packed: Any, level: Any, way: Any, work: Any, slopes: Any, to: Any, height: Any) -> None:
    """The Jacobian of the first layer on the way, with the slopes at both its ends.

    Forward (way = 1) it is T (n_l, n_{l+1}) = W ∘ f′, one row for each number of level l, and the slopes of level l
    itself belong to what comes before, unless it is the input. Backward (way = −1) it is G (n_l, n_{l−1}) = f′ Wᵀ ∘ f′,
    one row for each number of level l. Either is in panels, as the matrix is, with room for `height` rows.
    """
    layers, _, numbers = packed
    following = level + way
    matrix = matrix_from(layers, level, way)
    rows, columns, panel = layers[level, WIDTH], layers[following, WIDTH], layers[0, PANEL]
    by_row = slopes_at(layers, level, slopes) if way < 0 or level == 0 else -1
    by_column = slopes_at(layers, following, slopes)
    for j in range(0, columns, panel):
        start, out, at = matrix + j * rows, to + j * height, by_column + j if by_column >= 0 else -1
        if by_row < 0:
            times_columns(work, out, numbers, start, rows, work, at)
        else:
            for r in range(rows):
                times(work, out + r * panel, numbers, start + r * panel, work[by_row + r], work, at, panel)


@inline
def times_slopes(packed: Any, level: Any, rows: Any, work: Any, slopes: Any, at: Any, height: Any) -> None:
    """T[r, j] ← T[r, j] f′(z_j) for the units j of a level, T (rows, n) being in panels with room for `height` rows."""
    layers = packed[0]
    if has_slopes(layers, level):
        panel, start = layers[0, PANEL], slopes + layers[level, UNITS]
        for j in range(0, layers[level, WIDTH], panel):
            times_columns(work, at + j * height, work, at + j * height, rows, work, start + j)


@inline
def move_row(layers: Any, level: Any, work: Any, row: Any, at: Any, rows: Any, r: Any, into: Any) -> None:
    """Row r of T (rows, n), which is in panels at `at`: copied there from work[row:] (n,), or from there."""
    panel = layers[0, PANEL]
    for j in range(0, layers[level, WIDTH], panel):
        count, flat, paneled = min(panel, layers[level, WIDTH] - j), row + j, at + j * rows + r * panel
        if into:
            copy(work, flat, count, work, paneled)
        else:
            copy(work, paneled, count, work, flat)


@inline
def all_listed(units: Any, active: Any, first: Any) -> Any:
    """List all units; returns how many."""
    for k in range(units):
        active[first + k] = k
    return units


@inline
def active_units(
    layers: Any, level: Any, samples: Any, work: Any, slopes: Any, all_units: Any, active: Any, counts: Any
) -> None:
    """List the units of a level whose slope is not 0, for each sample."""
    units, widest = layers[level, WIDTH], layers[0, WIDEST]
    for sample in range(samples):
        if has_slopes(layers, level):
            start = slopes + sample * all_units + layers[level, UNITS]
            counts[sample] = nonzero(work, start, units, active, sample * widest)
        else:
            counts[sample] = all_listed(units, active, sample * widest)


@inline
def past_layer(
    packed: Any, level: Any, way: Any, rows: Any, samples: Any, work: Any, slopes: Any, all_units: Any, here: Any,
    size: Any, active: Any, counts: Any, out: Any, to: Any, out_size: Any, out_row: Any,
) -> None:  # fmt: skip
    """T M ∘ f′ past one layer, M being W forward and Wᵀ backward.

    T (rows, n) of each sample is in panels at here + sample·size, and goes to `out` at to + sample·out_size: in panels
    if `out_row`, how far apart its rows are, is P, else row by row. A panel of M, or a few for few rows, meets all
    samples before the next one's turn: it stays in a near cache. Where f′ is 0 so is T, and is left out. Without slopes
    (−1) it is T M alone.
    """
    layers, _, numbers = packed
    panel, units, columns = layers[0, PANEL], layers[level, WIDTH], layers[level + way, WIDTH]
    matrix, widest = matrix_from(layers, level, way), layers[0, WIDEST]
    per_column, tallest = rows if out_row == panel else 1, block_of(rows)
    whole = columns if out_row == panel else columns // panel * panel  # written up to there in whole panels
    j = 0
    while j < columns:
        panels, width = panels_from(j, whole, panel, tallest), panel
        if 2 * (columns - j) <= panel:
            width = panel // 2
        if j >= whole:
            width = columns - j
        for sample in range(samples):
            at = slopes_at(layers, level + way, slopes + sample * all_units) if slopes >= 0 else -1
            row = 0
            while row < rows:
                height = block_of(rows - row)
                listed_times(
                    height, panels, work, here + sample * size + row * panel, rows * panel, active, sample * widest,
                    counts[sample], numbers, matrix + j * units, panel * units,
                    out, to + sample * out_size + j * per_column + row * out_row, out_row, panel * per_column, width,
                    work, at + j if at >= 0 else -1,
                )  # fmt: skip
                row += height
        j += panels * panel


@inline
def go_on(
    packed: Any, level: Any, stop: Any, rows: Any, samples: Any, work: Any, slopes: Any, all_units: Any,
    here: Any, there: Any, size: Any, active: Any, counts: Any, results: Any, start: Any,
) -> Any:  # fmt: skip
    """T from layer to layer; returns where the last T is. T of the samples are `size` apart, slopes `all_units`.

    If `start` is not negative, the last product, if there is one, goes to results[start:] row by row instead.
    """
    layers = packed[0]
    way = 1 if stop > level else -1
    while level != stop:
        active_units(layers, level, samples, work, slopes, all_units, active, counts)
        out, place, out_size, out_row = work, there, size, layers[0, PANEL]
        if start >= 0 and level + way == stop:
            out, place, out_size, out_row = results, start, rows * layers[stop, WIDTH], layers[stop, WIDTH]
        past_layer(
            packed, level, way, rows, samples, work, slopes, all_units, here, size, active, counts,
            out, place, out_size, out_row,
        )  # fmt: skip
        here, there = there, here
        level += way
    return here
