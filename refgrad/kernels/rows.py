"""Jacobians sample by sample: rows of unit vectors through the layers, leaving out what a ReLU switched off."""

from __future__ import annotations

from typing import Any

from refgrad.kernels.beside import tile_of_jacobians
from refgrad.kernels.block import dense_times
from refgrad.kernels.chain import block_of
from refgrad.kernels.compiling import inline
from refgrad.kernels.forward import forward
from refgrad.kernels.listing import SPARE
from refgrad.kernels.memory import give_back, room
from refgrad.kernels.packing import PANEL, WIDEST, WIDTH
from refgrad.kernels.passing import begin, go_on
from refgrad.kernels.tails import past_tail
from refgrad.kernels.tiles import SIDE_BY_SIDE, all_units, gather, lanes_for, run_tile, tile_size
from refgrad.kernels.turning import turn
from refgrad.kernels.windows import copy


@inline
def one_way(
    packed: Any, cut: Any, way: Any, samples: Any, work: Any, slopes: Any, to: Any, active: Any, counts: Any,
    jacobian: Any, start: Any,
) -> Any:  # fmt: skip
    """From the cut forward to the outputs (way = 1) or backward to the inputs; returns where the T (rows, n) are then.

    `to` has room for two T of each sample; the results are as far apart. What comes backward from the outputs are rows
    of J: the last product writes them to jacobian[start:] itself, if start is not negative, and if there is one.
    """
    layers = packed[0]
    rows, units, stop = layers[cut, WIDTH], all_units(layers), len(layers) - 1 if way > 0 else 0
    size = rows * layers[0, WIDEST]
    for sample in range(samples):
        begin(packed, cut, way, work, slopes + sample * units, to + sample * size, rows)
    return go_on(
        packed, cut + way, stop, rows, samples, work, slopes, units, to, to + samples * size, size, active, counts,
        jacobian, start,
    )  # fmt: skip


@inline
def multiply(layers: Any, cut: Any, work: Any, forward: Any, backward: Any, jacobian: Any, to: Any) -> None:
    """J = Tᵀ G for T (n_c, n_out) and G (n_c, n_in), both in panels: J_ji = Σ_c T_cj G_ci."""
    middle, n_out, n_in, panel = layers[cut, WIDTH], layers[-1, WIDTH], layers[0, WIDTH], layers[0, PANEL]
    for j in range(0, n_out, panel):
        last, row = min(j + panel, n_out), j
        while row < last:
            rows = block_of(last - row)
            for i in range(0, n_in, panel):  # along rows of J, which may be more than caches hold
                dense_times(
                    rows, work, forward + j * middle + row - j, panel, middle, work, backward + i * middle, panel,
                    jacobian, to + row * n_in + i, n_in, min(panel, n_in - i), work, -1,
                )  # fmt: skip
            row += rows


@inline
def write(layers: Any, cut: Any, work: Any, found: Any, height: Any, jacobian: Any, to: Any) -> None:
    """One sample's J (n_out, n_in), at jacobian[to:], from what is in panels of some height.

    It is Jᵀ if the cut is the input, or else J.
    """
    n_out, n_in, panel = layers[-1, WIDTH], layers[0, WIDTH], layers[0, PANEL]
    if cut == 0:
        for j in range(0, n_out, panel):
            turn(work, found + j * height, n_in, min(panel, n_out - j), panel, jacobian, to + j * n_in, n_in)
    else:
        for j in range(n_out):
            for i in range(0, n_in, panel):
                copy(work, found + i * height + j * panel, min(panel, n_in - i), jacobian, to + j * n_in + i)


@inline
def buffers(layers: Any, cut: Any) -> Any:
    """How many numbers T of a sample take: two or four (rows, n), with one row more for what goes forward."""
    ways = 4 if 0 < cut < len(layers) - 1 else 2
    return ways * (layers[cut, WIDTH] + (cut == 0)) * layers[0, WIDEST]


@inline
def jacobians(
    packed: Any, cut: Any, samples: Any, work: Any, slopes: Any, to: Any, spare: Any, active: Any, counts: Any,
    y: Any, jacobian: Any, first: Any,
) -> None:  # fmt: skip
    """The Jacobians of samples first, … whose slopes are in `work` one sample after the other."""
    layers = packed[0]
    last, n_out, n_in = len(layers) - 1, layers[-1, WIDTH], layers[0, WIDTH]
    size, start = layers[cut, WIDTH] * layers[0, WIDEST], first * n_out * n_in
    direct = cut == last and last > 1
    pushes, pulls = to, to + 2 * samples * size if cut < last else to
    for way in range(-1 if cut > 0 else 1, 2 if cut < last else 0, 2):
        found = one_way(
            packed, cut, way, samples, work, slopes, pushes if way > 0 else pulls, active, counts,
            jacobian, start if direct else -1,
        )  # fmt: skip
        pushes, pulls = found if way > 0 else pushes, found if way < 0 else pulls
    for sample in range(0 if direct else samples):
        place, pushed_to, pulled_to = start + sample * n_out * n_in, pushes + sample * size, pulls + sample * size
        if 0 < cut < last:
            multiply(layers, cut, work, pushed_to, pulled_to, jacobian, place)
        else:
            write(layers, cut, work, pushed_to if cut == 0 else pulled_to, layers[cut, WIDTH], jacobian, place)
    for sample in range(first, first + samples):
        past_tail(layers, y, jacobian, sample, work, spare)


@inline
def rows(packed: Any, kink: Any, cut: Any, group: Any, x: Any, y: Any, jacobian: Any) -> Any:
    """y (batch, n_out) and, flat, jacobian (batch, n_out, n_in) for x (batch, n_in); returns whether there was memory.

    Unit vectors start at level `cut`: the input (0) pushes forward, the output pulls back, any other does both, and
    multiplies. So many samples as `group` says go through the layers together; if it is 0, a tile of them side by side.
    """
    layers = packed[0]
    units, widest, first, n_in, n_out = all_units(layers), layers[0, WIDEST], 0, layers[0, WIDTH], layers[-1, WIDTH]
    beside, group = group == 0, max(group, 1)
    tile, gathered = tile_size(layers, lanes_for(layers, len(x)), True), max(group, SIDE_BY_SIDE)
    to = tile + gathered * units
    spare = to + group * buffers(layers, cut)
    lent, work, lists = room(spare + widest, group + group * widest + SPARE, x)
    if lent == 0:
        return False
    counts, active = lists[:group], lists[group:]
    while first < len(x):
        lanes = lanes_for(layers, len(x) - first)
        end = min(first + lanes, len(x))
        if cut == 0 and (lanes == 1 or (group > 1 and not beside)):
            end = min(first + group, len(x))
            found = forward(packed, kink, x, first, end - first, y, work, tile, units, to, active, counts)
            for sample in range(first, end):
                at = found + (sample - first) * (n_in + 1) * widest
                write(layers, 0, work, at, n_in + 1, jacobian, sample * n_out * n_in)
                past_tail(layers, y, jacobian, sample, work, spare)
            first = end
            continue
        slopes = run_tile(packed, kink, lanes, True, x, first, y, work, active)
        if beside and lanes > 1:
            tile_of_jacobians(
                packed, cut, lanes, end - first, work, slopes, 0, lanes * widest, spare, y, jacobian, first
            )
            first = end
            continue
        for begun in range(first, end, gathered):
            beyond = min(begun + gathered, end)
            if lanes > 1:
                gather(layers, lanes, begun - first, beyond - begun, work, slopes, tile)
            for start in range(begun, beyond, group):
                at = tile + (start - begun) * units if lanes > 1 else slopes
                samples = min(group, beyond - start)
                jacobians(packed, cut, samples, work, at, to, spare, active, counts, y, jacobian, start)
        first = end
    give_back(lent)
    return True
