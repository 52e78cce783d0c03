"""Products of a tile's samples side by side: one vector of each after the other, as (units, lanes), through the layers.

For Jacobians they are unit vectors.

Nothing is left out, for a unit that is off in one sample is on in another; but a matrix's numbers meet whole vectors of
samples, where the rows of one sample's few unit vectors would not fill the machine. Sums are the same, in one order.
"""

from __future__ import annotations

from typing import Any

from refgrad.kernels.chain import transposed_times
from refgrad.kernels.compiling import inline
from refgrad.kernels.packing import PANEL, TAIL, UNITS, WIDTH
from refgrad.kernels.passing import has_slopes, matrix_from
from refgrad.kernels.scaling import times
from refgrad.kernels.tails import NONE, past_tail, pulled, pushed
from refgrad.kernels.turning import turn
from refgrad.kernels.windows import copy, window


@inline
def start(packed: Any, cut: Any, way: Any, unit: Any, lanes: Any, work: Any, slopes: Any, to: Any) -> None:
    """Past the first layer a unit vector is t (n, lanes), t_j = M_uj f′_u f′_j, with f′_u where `begin` has it."""
    layers, _, numbers = packed
    following, panel, matrix = cut + way, layers[0, PANEL], matrix_from(layers, cut, way)
    by_row = has_slopes(layers, cut) and (way < 0 or cut == 0)
    of_unit, of_next = slopes + (layers[cut, UNITS] + unit) * lanes, slopes + layers[following, UNITS] * lanes
    sloped = has_slopes(layers, following)
    for j in range(layers[following, WIDTH]):
        entry = numbers[matrix + (j // panel * layers[cut, WIDTH] + unit) * panel + j % panel]
        at, factors = to + j * lanes, of_next + j * lanes
        if by_row:
            times(work, at, work, of_unit, entry, work, factors if sloped else -1, lanes)
        else:
            row = window(work, at, lanes)
            for lane in range(lanes):
                row[lane] = entry
            if sloped:
                times(work, at, work, at, work.dtype.type(1), work, factors, lanes)


@inline
def follow(packed: Any, level: Any, stop: Any, lanes: Any, work: Any, slopes: Any, here: Any, there: Any) -> Any:
    """t ← (Mᵀ t) ∘ f′ from layer to layer; returns where the last t is."""
    layers, _, numbers = packed
    way = 1 if stop > level else -1
    while level != stop:
        following = level + way
        before, units = layers[level, WIDTH], layers[following, WIDTH]
        factors = slopes + layers[following, UNITS] * lanes if has_slopes(layers, following) else -1
        transposed_times(
            matrix_from(layers, level, way), before, units, layers[0, PANEL], lanes, numbers, work, here, there, factors
        )
        here, there = there, here
        level = following
    return here


@inline
def tile_of_jacobians(
    packed: Any, cut: Any, lanes: Any, samples: Any, work: Any, slopes: Any, here: Any, there: Any, spare: Any, y: Any,
    jacobian: Any, first: Any,
) -> None:  # fmt: skip
    """The Jacobians of samples first, … whose slopes are (units, lanes); the cut is an end of the chain."""
    layers = packed[0]
    last, n_out, n_in = len(layers) - 1, layers[-1, WIDTH], layers[0, WIDTH]
    way, stop = (1, last) if cut == 0 else (-1, 0)
    count, step, skip = (n_out, n_in, 1) if cut == 0 else (n_in, 1, n_in)
    for unit in range(layers[cut, WIDTH]):
        start(packed, cut, way, unit, lanes, work, slopes, here)
        at = follow(packed, cut + way, stop, lanes, work, slopes, here, there)
        place = first * n_out * n_in + unit * skip
        if step == 1:
            turn(work, at, count, samples, lanes, jacobian, place, n_out * n_in)
            continue
        for lane in range(samples):
            result = window(jacobian, place + lane * n_out * n_in, count, step)
            found = window(work, at + lane, count, lanes)
            for k in range(count):
                result[k] = found[k]
    for sample in range(first, first + samples):
        past_tail(layers, y, jacobian, sample, work, spare)


@inline
def tile_of_products(
    packed: Any, start: Any, stop: Any, lanes: Any, samples: Any, work: Any, slopes: Any, here: Any, there: Any,
    row: Any, spare: Any, y: Any, first: Any, vectors: Any, given: Any, results: Any, to: Any,
) -> None:  # fmt: skip
    """The products of samples first, … with one vector of each: at vectors[given:] (samples, m), to results[to:]."""
    layers = packed[0]
    n_out, entering, leaving = y.shape[1], layers[start, WIDTH], layers[stop, WIDTH]
    size = entering * lanes
    turn(vectors, given, samples, entering, entering, work, here, lanes)
    for lane in range(samples if start > stop and layers[0, TAIL] != NONE else 0):
        copy(vectors, given + lane * entering, entering, work, row)
        pulled(layers, window(y, (first + lane) * n_out, n_out), work, row, entering, spare)
        cotangent = window(work, here + lane, entering, lanes)
        for i in range(entering):
            cotangent[i] = work[row + i]
    for lane in range(samples, lanes):
        nothing = window(work, here + lane, entering, lanes)
        for i in range(entering):
            nothing[i] = 0
    if has_slopes(layers, start):
        times(work, here, work, here, work.dtype.type(1), work, slopes + layers[start, UNITS] * lanes, size)
    at = follow(packed, start, stop, lanes, work, slopes, here, there)
    turn(work, at, leaving, samples, lanes, results, to, leaving)
    for lane in range(samples if start < stop else 0):
        outputs = window(y, (first + lane) * n_out, n_out)
        pushed(layers, outputs, results, to + lane * leaving, leaving, 1, 1, work, spare)
