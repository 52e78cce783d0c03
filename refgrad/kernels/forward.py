"""Value and Jacobian forward together, layer by layer: the value is one more row beside the tangents.

A matrix that does not stay in a near cache passes through it once, not once for values and again for products; and the
value too leaves out the units that are off.
"""

from __future__ import annotations

from typing import Any

from refgrad.kernels.chain import apply, listed, sums
from refgrad.kernels.compiling import inline
from refgrad.kernels.listing import nonzero
from refgrad.kernels.packing import BIAS, PANEL, UNITS, WIDEST, WIDTH
from refgrad.kernels.passing import all_listed, begin, has_slopes, move_row, past_layer, times_slopes
from refgrad.kernels.tails import outputs
from refgrad.kernels.windows import copy, window


@inline
def not_off(layers: Any, level: Any, work: Any, a: Any, slopes: Any, spare: Any, active: Any, first: Any) -> Any:
    """List the units of a level whose value or slope is not 0; returns how many."""
    units = layers[level, WIDTH]
    if not has_slopes(layers, level):
        return all_listed(units, active, first)
    values, slope = window(work, a, units), window(work, slopes + layers[level, UNITS], units)
    either = window(work, spare, units)
    for i in range(units):
        either[i] = slope[i] if slope[i] != 0 else values[i]
    return nonzero(work, spare, units, active, first)


@inline
def forward(
    packed: Any, kink: Any, x: Any, first: Any, samples: Any, y: Any, work: Any, slopes: Any, all_units: Any, to: Any,
    active: Any, counts: Any,
) -> Any:  # fmt: skip
    """The values of samples first, …, and where their T (n_in + 1, n_out) are, in panels, the last row for the values.

    T of the samples are (n_in + 1) · WIDEST numbers apart. At the start of `work` are three levels' numbers to work in.
    """
    layers, _, numbers = packed
    n_in, n_out, last = layers[0, WIDTH], layers[-1, WIDTH], len(layers) - 1
    widest, panel = layers[0, WIDEST], layers[0, PANEL]
    rows, a, z, spare = n_in + 1, 0, widest, 2 * widest
    size = rows * widest
    here, there = to, to + samples * size
    for level in range(1, last + 1):
        if level > 1:
            past_layer(
                packed, level - 1, 1, rows, samples, work, -1, all_units, here, size, active, counts,
                work, there, size, panel,
            )  # fmt: skip
            here, there = there, here
        bias = layers[level, BIAS]
        for sample in range(samples):
            at, its_slopes = here + sample * size, slopes + sample * all_units
            if level == 1:
                copy(x.reshape(-1), (first + sample) * n_in, n_in, work, a)
                apply(packed, 0, kink, 1, work, a, its_slopes, spare, 0, n_in)
                its_list = active[sample * widest :]
                count = listed(layers, 1, 1, work, a, its_list)
                sums(packed, 1, 1, work, a, z, its_list, count, 0, layers[1, WIDTH])
            else:
                move_row(layers, level, work, z, at, rows, n_in, False)
                for i in range(layers[level, WIDTH]):
                    work[z + i] += numbers[bias + i]
            apply(packed, level, kink, 1, work, z, its_slopes, spare, 0, layers[level, WIDTH])
            if level == 1:
                begin(packed, 0, 1, work, its_slopes, at, rows)
            else:
                times_slopes(packed, level, n_in, work, its_slopes, at, rows)
            if level < last:
                move_row(layers, level, work, z, at, rows, n_in, True)
                counts[sample] = not_off(layers, level, work, z, its_slopes, spare, active, sample * widest)
            else:
                outputs(layers, n_out, 1, work, z)
                copy(work, z, n_out, y.reshape(-1), (first + sample) * n_out)
    return here
