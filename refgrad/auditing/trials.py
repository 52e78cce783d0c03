"""Trying units of samples on sides of their kinks: which units are near, and whether an answer is what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from refgrad.arrays import Array, flat
from refgrad.auditing.gaps import Bounds, Numbers
from refgrad.auditing.screening import memory, noisy
from refgrad.auditing.sides import LEAVE, ON, Codes, Mask, Policy, can_be_put, put, read, sides
from refgrad.chunks import each, samples_within
from refgrad.derivatives.margins import closeness
from refgrad.derivatives.products import linearize
from refgrad.graph import Graph
from refgrad.options import MAX_BYTES
from refgrad.rounding import NEAR, deviations

MOST = 6
"""How many units of a sample, the nearest to their kinks, are tried on both sides."""

Unit = tuple[int, int]
Placing = Mapping[Unit, int]


@dataclass(frozen=True, eq=False)
class Units:
    """The units of each sample that are near kinks, the nearest first, and the side that each is on.

    `more` are samples with units that will not be tried: there are too many, or their ops have no sides.
    """

    near: list[dict[Unit, int]]
    more: Mask


@dataclass(frozen=True, eq=False)
class Trial:
    """An answer at some samples, and what it is held to."""

    graph: Graph
    twin: Graph
    inputs: Sequence[Array]
    answer: Numbers
    bounds: Bounds

    def fits(self, rows: Sequence[tuple[int, Placing]], policy: Policy = lambda op: "keras") -> Mask:
        """For each sample and placing of its units, whether the answer is the network's so placed."""
        found = np.zeros(len(rows), bool)

        def work(piece: slice) -> None:
            these = rows[piece]
            samples = np.array([sample for sample, _ in these], np.intp)
            placed: dict[int, Codes] = {}
            for row, (_, placing) in enumerate(these):
                for (node, unit), code in placing.items():
                    shape = (len(these), *self.graph.shapes[node])
                    flat(placed.setdefault(node, np.full(shape, LEAVE, np.int8)))[row, unit] = code
            inputs = [x[samples].astype(np.float64) for x in self.inputs]
            reference, noise = noisy(self.graph, put(self.twin, inputs, placed, policy))
            found[piece] = self.bounds[samples].gaps(self.answer[samples], reference, noise.sigma).inside

        if rows:
            each(work, len(rows), samples_within(MAX_BYTES, memory(self.graph)))
        return found


def near_units(graph: Graph, twin: Graph, inputs: Sequence[Array], true: Mapping[int, Codes] | None = None) -> Units:
    """Those within 8 σ of a kink. `true` are the sides of all units by node, ON where truth is on the kink itself."""
    samples = len(inputs[0])
    found: list[list[tuple[float, Unit, int]]] = [[] for _ in range(samples)]
    more = np.zeros(samples, bool)
    if not samples:
        return Units([], more)
    point = linearize(twin, [x.astype(np.float64) for x in inputs], "keras")
    for index, ratio, _ in closeness(replace(point, graph=graph), deviations(graph, point.values)):
        op = twin.nodes[index].op
        if not can_be_put(op):
            more |= (ratio <= NEAR).any(axis=1)
            continue
        reads = read(point, index)
        codes = sides(op, reads, reads) if true is None else true[index]
        if true is None:
            codes = np.where(ratio == 0, ON, codes)
        for sample, unit in np.argwhere((ratio <= NEAR) | ((codes == ON) & np.isfinite(ratio))):
            found[sample].append((float(ratio[sample, unit]), (index, int(unit)), int(codes[sample, unit])))
    nearest = [sorted(units) for units in found]
    more |= np.array([len(units) > MOST for units in nearest])
    return Units([{unit: code for _, unit, code in units} for units in nearest], more)


def on_kinks(units: Units, sample: int) -> tuple[Unit, ...]:
    """The units of a sample that are exactly on kinks."""
    return tuple(unit for unit, code in units.near[sample].items() if code == ON)
