"""The value of a tile of samples, layer by layer, and its slopes.

A tile holds `lanes` samples side by side, (units, lanes), so that a vector of the machine holds one unit of many
samples; or one sample, lanes = 1. Either way a sum is taken over ascending k by fused multiply–adds, so that a sample's
numbers are the same in any batch. Everything lives in one flat array `work`, at offsets.

This module imports numba, so it is itself imported only where a kernel is about to run.
"""

from __future__ import annotations

from typing import Any

from refgrad.kernels.block import dense_plus, dense_times, listed_plus
from refgrad.kernels.compiling import inline
from refgrad.kernels.listing import nonzero
from refgrad.kernels.loops import PANELS, ROWS, most_panels
from refgrad.kernels.packing import (
    BIAS,
    EACH,
    END,
    FIRST,
    FIXED,
    FUNCTION,
    KINKS,
    PANEL,
    PLACES,
    PUSH,
    UNITS,
    WIDTH,
)
from refgrad.kernels.units import BOTH, SLOPE, VALUE, call
from refgrad.kernels.windows import window


@inline
def scale(values: Any, factors: Any) -> None:
    """values ← values ∘ factors."""
    for i in range(len(values)):
        values[i] *= factors[i]


@inline
def apply(
    packed: Any, level: Any, kink: Any, lanes: Any, work: Any, z: Any, slopes: Any, spare: Any, start: Any, end: Any
) -> None:
    """z ← f(z) for each step of a level in turn, of units start, …, end − 1.

    The product of their f′ goes to `slopes`, if that is not negative: f′ is Keras's, or where z is on a kink what
    `kink` chooses.
    """
    layers, steps, numbers = packed
    units, z, spare = end - start, z + start * lanes, spare + start * lanes
    at = slopes + (layers[level, UNITS] + start) * lanes
    for step in range(layers[level, FIRST], layers[level, END]):
        function, fixed = steps[step, FUNCTION], steps[step, FIXED] + start * steps[step, EACH]
        if slopes >= 0:
            here = at if step == layers[level, FIRST] else spare
            kinks = steps[step, KINKS] if kink > 0 else 0
            call(function, SLOPE if kinks else BOTH, kink, numbers, fixed, work, z, work, here, units, lanes)
            for place in range(kinks):
                where, slope = numbers[steps[step, PLACES] + 4 * place], numbers[steps[step, PLACES] + 4 * place + kink]
                for i in range(units * lanes):
                    if work[z + i] == where:
                        work[here + i] = slope
            if here == spare:
                scale(window(work, at, units * lanes), window(work, spare, units * lanes))
            if kinks == 0:
                continue
        call(function, VALUE, kink, numbers, fixed, work, z, work, spare, units, lanes)


inline(most_panels)


@inline
def panels_from(j: Any, columns: Any, panel: Any, rows: Any) -> Any:
    """How many panels so many rows meet at once, from column j on."""
    return max(1, min(most_panels(rows), (columns - j + panel - 1) // panel))


@inline
def listed(layers: Any, level: Any, lanes: Any, work: Any, a: Any, active: Any) -> Any:
    """List what is not 0 of the one sample that `sums` of a level are then taken of; returns how many."""
    return nonzero(work, a, layers[level - 1, WIDTH], active, 0) if lanes == 1 else 0


@inline
def sums(
    packed: Any, level: Any, lanes: Any, work: Any, a: Any, z: Any, active: Any, count: Any, start: Any, end: Any
) -> None:
    """z_j = Σ_k W_kj a_k + b_j of a tile, j = start, …, end − 1: one sample's sums begin where a panel does.

    W's columns lie along vectors for one sample, of which so many a_k are listed; the samples for several.
    """
    layers, _, numbers = packed
    before, panel, matrix, bias = layers[level - 1, WIDTH], layers[0, PANEL], layers[level, PUSH], layers[level, BIAS]
    if lanes == 1:
        for j in range(start, end, PANELS * panel):
            listed_plus(
                1, panels_from(j, end, panel, 1), work, a, panel, active, 0, count,
                numbers, matrix + j * before, panel * before, work, z + j, 0, panel, panel, numbers, bias + j,
            )  # fmt: skip
    else:
        transposed(matrix, before, start, end, panel, lanes, numbers, work, a, z, bias)


@inline
def block_of(rows: Any) -> Any:
    """How many of the rows that are left to take next: equal blocks, for a low one leaves the machine's adders idle."""
    blocks = (rows + ROWS - 1) // ROWS
    return (rows + blocks - 1) // blocks


@inline
def transposed(
    matrix: Any, before: Any, start: Any, end: Any, panel: Any, lanes: Any, numbers: Any, work: Any, a: Any, z: Any,
    bias: Any,
) -> None:  # fmt: skip
    """Z = Mᵀ A + b for M (before, units) in panels, A (before, lanes), Z (units, lanes), and b in `numbers`.

    Rows start, …, end − 1 of Z are written.
    """
    row = start
    while row < end:
        j = row - row % panel
        rows = block_of(min(j + panel, end) - row)
        dense_plus(
            rows, numbers, matrix + j * before + row - j, panel, before, work, a, lanes,
            work, z + row * lanes, lanes, lanes, numbers, bias + row,
        )  # fmt: skip
        row += rows


@inline
def transposed_times(
    matrix: Any, before: Any, units: Any, panel: Any, lanes: Any, numbers: Any, work: Any, a: Any, z: Any, slopes: Any
) -> None:
    """Z = Mᵀ A ∘ f′, f′ (units, lanes) being in `work`, or nowhere where `slopes` is negative."""
    for j in range(0, units, panel):
        last = min(j + panel, units)
        row = j
        while row < last:
            rows = block_of(last - row)
            dense_times(
                rows, numbers, matrix + j * before + row - j, panel, before, work, a, lanes,
                work, z + row * lanes, lanes, lanes, work, slopes + row * lanes if slopes >= 0 else -1,
            )  # fmt: skip
            row += rows
