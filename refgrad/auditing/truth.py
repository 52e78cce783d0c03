"""Tier 1: the exact truth at some samples, as numbers to compare with, and the sides that units are on in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad import exact
from refgrad.agreement import Answer
from refgrad.arrays import Array, flat
from refgrad.auditing.gaps import Numbers, numbers
from refgrad.auditing.sides import Codes, can_be_put, read, true_sides
from refgrad.derivatives.products import linearize
from refgrad.ends import choose
from refgrad.exact.flips import patterns
from refgrad.exact.truth import names_of
from refgrad.graph import Graph
from refgrad.network import Network

HOW = "exact truth (integers and balls, rounded to float64)"


@dataclass(frozen=True, eq=False)
class Truth:
    """True numbers, or what encloses them where they do not round uniquely, and the exact patterns by layer."""

    lower: Numbers
    upper: Numbers
    patterns: Mapping[str, Any]

    def __getitem__(self, samples: slice) -> Truth:
        return Truth(self.lower[samples], self.upper[samples], {})

    def nearest(self, answer: Numbers) -> Numbers:
        """The true numbers; of those that are only enclosed what is nearest to an answer's."""

        def held(part: str) -> Array:
            given, lower, upper = (getattr(side, part) for side in (answer, self.lower, self.upper))
            found: Array = np.where(np.isnan(given), lower, np.clip(given, lower, upper))
            return found

        return Numbers(held("value"), held("jacobian"))


def ask(net: Network, inputs: Sequence[Array], *, workers: int = 1, progress: bool = False) -> Truth:
    """The truth at finite inputs `(batch, *in)`, in the order of the network's own."""
    found = exact.value_and_jacobian(
        net, dict(zip(net.input_names, inputs, strict=True)), workers=workers, progress=progress
    )
    outputs, by = choose("outputs", None, net.output_names), choose("inputs", None, net.input_names)

    def unpacked(value: Any, jacobian: Any) -> Numbers:
        rows = (by.unpack(row, "J") for row in outputs.unpack(jacobian, "J"))
        return numbers(Answer(tuple(outputs.unpack(value, "y")), tuple(map(tuple, rows))))

    nearest, proved = unpacked(found.value, found.jacobian), unpacked(found.value_proved, found.proved)

    def end(value: Any, jacobian: Any) -> Numbers:
        given = unpacked(value, jacobian)
        return Numbers(
            np.where(proved.value != 0, nearest.value, given.value),
            np.where(proved.jacobian != 0, nearest.jacobian, given.jacobian),
        )

    return Truth(end(found.value_lower, found.lower), end(found.value_upper, found.upper), found.pattern)


def sides_of(graph: Graph, twin: Graph, inputs: Sequence[Array], truth: Truth, samples: Any) -> dict[int, Codes]:
    """The true sides `(batch, units)` of every unit that can be put on one, at `inputs`: `samples` of the truth's."""
    point = linearize(twin, [x.astype(np.float64) for x in inputs], "keras")
    seen = patterns(graph, point.values)
    found: dict[int, Codes] = {}
    for index, name in zip(sorted(seen), names_of(graph, sorted(seen)), strict=True):
        op, reads = twin.nodes[index].op, read(point, index)
        if can_be_put(op):
            found[index] = true_sides(op, reads, seen[index], flat(truth.patterns[name][samples]))
    return found
