"""Values of few samples in several threads: each takes some units of a layer, and waits for the rest before the next.

The units of a stage, which is the inputs, a layer, or the outputs, are as many regions as there are threads. Each
begins with its own, so that its core's second cache still has their weights from the time before, and then takes what
is left of the others': of a thread that comes late, or never.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.kernels import calling
from refgrad.kernels.atomic import add
from refgrad.kernels.calling import do
from refgrad.kernels.chain import apply, listed, sums
from refgrad.kernels.compiling import inline, kernel
from refgrad.kernels.entries import packed_at
from refgrad.kernels.header import PLACES
from refgrad.kernels.listing import SPARE
from refgrad.kernels.memory import PLACE, borrow, give_back, room
from refgrad.kernels.packing import LINE, PANEL, TAIL, WIDEST, WIDTH
from refgrad.kernels.tails import NONE, outputs
from refgrad.kernels.team import FIELDS, FUNCTION, ask, dismiss, patiently, wait
from refgrad.kernels.tiles import empty, fill, lanes_for, tile_size
from refgrad.kernels.windows import WORD, matrix_at, numbers_at, places_at

NETWORK, X, Y, BATCH, WORK, COUNTS, MEMBERS, TEAM = range(FIELDS, FIELDS + 8)
LONG, APART = 10, 8
"""A job's numbers; counts are on cache lines of their own."""

WORTH_TAKING = 32_768
"""Multiply–adds that are worth asking whether somebody else has taken them, some 0.1 µs."""

_LIKE: Any = None  # for each function its own: an array of its dtype


@inline
def part_size(layers: Any, level: Any, lanes: Any) -> Any:
    """How many units of a layer to take at a time: whole panels, and two of one sample's, who needs no more at once."""
    least = layers[0, PANEL] * (2 if lanes == 1 else 1)
    wanted = WORTH_TAKING // max(1, layers[level - 1, WIDTH] * lanes)
    return max(1, (wanted + least - 1) // least) * least


@inline
def take(counts: Any, stage: Any, members: Any, region: Any, parts: Any) -> Any:
    """A part of some region of a stage that nobody has taken, or −1."""
    first, last = region * parts // members, (region + 1) * parts // members
    if first == last:
        return -1
    part = first + add(counts, (stage * (members + 1) + 1 + region) * APART, 1)
    return part if part < last else -1


@inline
def some_units(
    packed: Any, stage: Any, lanes: Any, x: Any, y: Any, first: Any, work: Any, here: Any, there: Any, active: Any,
    count: Any, start: Any, end: Any,
) -> None:  # fmt: skip
    """Units start, …, end − 1 of a stage: the inputs, a layer, which writes `there`, or the outputs."""
    layers = packed[0]
    levels = len(layers)
    if stage == 0:
        fill(x, first, lanes, work, here, start, end)
        apply(packed, 0, 0, lanes, work, here, -1, 0, start, end)
    elif stage < levels:
        sums(packed, stage, lanes, work, here, there, active, count, start, end)
        apply(packed, stage, 0, lanes, work, there, -1, 0, start, end)
    else:
        outputs(layers, y.shape[1], lanes, work, here)
        empty(y, first, lanes, work, here, start, end)


@inline
def parted(layers: Any, stage: Any, lanes: Any) -> Any:
    """How many units a stage has, and how many to take at a time: one sample is copied at once, as is a softmax."""
    levels = len(layers)
    units = layers[min(stage, levels - 1), WIDTH]
    if 0 < stage < levels:
        return units, part_size(layers, stage, lanes)
    whole = lanes == 1 or (stage == levels and layers[0, TAIL] != NONE)
    return units, units if whole else 2 * layers[0, PANEL]


@inline
def stages(
    packed: Any, lanes: Any, x: Any, y: Any, first: Any, work: Any, active: Any, counts: Any, members: Any, place: Any,
    team: Any,
) -> Any:  # fmt: skip
    """Samples first, … from inputs to outputs; returns whether that is done, or a helper is to go."""
    layers = packed[0]
    here, there, levels = 0, lanes * layers[0, WIDEST], len(layers)
    for stage in range(levels + 1):
        units, size = parted(layers, stage, lanes)
        count = listed(layers, stage, lanes, work, here, active) if 0 < stage < levels else 0
        parts, done, ended = (units + size - 1) // size, 0, stage * (members + 1) * APART
        for further in range(members):
            region = (place + further) % members
            part = take(counts, stage, members, region, parts)
            while part >= 0:
                start, end = part * size, min((part + 1) * size, units)
                some_units(packed, stage, lanes, x, y, first, work, here, there, active, count, start, end)
                done += 1
                part = take(counts, stage, members, region, parts)
        add(counts, ended, done)
        if place == 0:
            wait(team, counts, ended, parts)
        elif not patiently(counts, ended, parts):
            return False
        if 0 < stage < levels:
            here, there = there, here
    return True


def layers_of(job: Any, place: Any) -> Any:
    """Do what nobody else has taken, until there is nothing; a helper goes when it has to wait long."""
    told = places_at(job, 1, LONG).reshape(-1)
    packed = packed_at(places_at(told[NETWORK], 1, PLACES).reshape(-1), _LIKE)
    layers, batch, members = packed[0], told[BATCH], told[MEMBERS]
    x, y = matrix_at(told[X], batch, layers[0, WIDTH], _LIKE), matrix_at(told[Y], batch, layers[-1, WIDTH], _LIKE)
    most, lists = tile_size(layers, lanes_for(layers, batch), False), layers[0, WIDEST] + SPARE
    work = numbers_at(told[WORK], most, _LIKE)
    active = numbers_at(told[WORK] + most * _LIKE.itemsize + 4 * place * lists, lists, PLACE)
    counts, of_a_tile = told[COUNTS], counted(len(layers), members)
    first = 0
    while first < batch:
        lanes = lanes_for(layers, batch - first)
        its_counts = numbers_at(counts, of_a_tile, WORD)
        if not stages(packed, lanes, x, y, first, work, active, its_counts, members, place, told[TEAM]):
            break
        first, counts = first + lanes, counts + 8 * of_a_tile
    return 0


@inline
def counted(levels: Any, members: Any) -> Any:
    """How many numbers count what is done of a tile."""
    return (levels + 1) * (members + 1) * APART


def address(dtype: np.dtype[Any]) -> int:
    """Where `layers_of` starts, for a dtype."""
    return calling.address(layers_of, 2, dtype)


@inline
def tiles_of(layers: Any, batch: Any) -> Any:
    """How many tiles so many samples are."""
    tiles, first = 0, 0
    while first < batch:
        tiles, first = tiles + 1, first + lanes_for(layers, batch - first)
    return tiles


@kernel
def share_layers(network: Any, x: Any, y: Any, function: Any, team: Any, helpers: Any) -> None:
    """What `plain` does for values, with so many helpers."""
    layers = packed_at(places_at(network, 1, PLACES).reshape(-1), x)[0]
    members, batch = helpers + 1, len(x)
    most, lists = tile_size(layers, lanes_for(layers, batch), False), layers[0, WIDEST] + SPARE
    lent, work, _ = room(most, members * lists, x)
    size = LONG + APART + tiles_of(layers, batch) * counted(len(layers), members)
    job = borrow(8 * size)
    if lent == 0 or job == 0:
        for address in (lent, job):
            if address != 0:
                give_back(address)
        raise MemoryError
    told = numbers_at(job, size, WORD)
    for place in range(size):
        told[place] = 0
    told[FUNCTION], told[NETWORK], told[BATCH], told[MEMBERS], told[TEAM] = function, network, batch, members, team
    told[X], told[Y], told[WORK] = x.ctypes.data, y.ctypes.data, work.ctypes.data
    told[COUNTS] = job + 8 * LONG + -(job + 8 * LONG) % LINE
    asked = ask(team, helpers, job)
    do(function, job, 0)
    dismiss(team, helpers, job, asked)
    give_back(job)
    give_back(lent)
