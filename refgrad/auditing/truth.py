"""Our own floats against the truth of `refgrad.exact`: which of them are off, and whether a kink is why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from refgrad import exact
from refgrad.agreement import Agreement, Answer
from refgrad.arrays import Array
from refgrad.auditing.verdicts import KINK_FLIP, NEAR_KINK
from refgrad.ends import choose
from refgrad.network import Network

HOW = "exact truth (integers and balls, rounded to float64)"


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth as an answer to compare with, and the units of each sample that rounding puts elsewhere."""

    answer: Answer
    flipped: list[tuple[str, ...]]


def _nearest(ours: Array, value: Array, lower: Array, upper: Array, proved: Array) -> Array:
    """The true number; of one that is only enclosed the number nearest to ours."""
    held: Array = np.where(proved, value, np.clip(ours, lower, upper))
    return held


def ask(net: Network, inputs: Sequence[Array], ours: Answer) -> Truth:
    """The truth at inputs `(batch, *in)`, in the order of the network's own."""
    outputs, by = choose("outputs", None, net.output_names), choose("inputs", None, net.input_names)
    found = exact.value_and_jacobian(net, dict(zip(net.input_names, inputs, strict=True)))
    parts = (found.value, found.value_lower, found.value_upper, found.value_proved)
    sides = zip(ours.values, *(outputs.unpack(part, "y") for part in parts), strict=True)
    values = tuple(_nearest(*side) for side in sides)
    blocks = (found.jacobian, found.lower, found.upper, found.proved)
    rows = zip(ours.jacobians, *(outputs.unpack(part, "J") for part in blocks), strict=True)
    jacobians = tuple(
        tuple(_nearest(*side) for side in zip(own, *(by.unpack(part, "J") for part in row), strict=True))
        for own, *row in rows
    )
    return Truth(Answer(values, jacobians), exact.flips(net, inputs, found))


def settled(agreement: Agreement) -> Agreement:
    """A comparison in which samples near a kink that are right all the same are judged as all others are."""
    right = agreement.agrees & (agreement.jacobian_error <= agreement.jacobian_bound) & ~agreement.kinks.jump
    kinks = replace(agreement.kinks, near=agreement.kinks.near & ~right)
    return replace(agreement, kinks=kinks, judged=agreement.judged | right)


def named(rows: npt.NDArray[np.void], known: Truth) -> npt.NDArray[np.void]:
    """Verdicts that know the truth, and name the flipped units of samples near a kink."""
    rows["tier"], rows["truth"] = 1, rows["theirs"]
    for row, units in zip(rows, known.flipped, strict=True):
        if units and row["verdict"] == NEAR_KINK.name:
            more = f" and {len(units) - 2} more" if len(units) > 2 else ""
            row["verdict"], row["where"] = KINK_FLIP.name, ", ".join(units[:2]) + more
    return rows
