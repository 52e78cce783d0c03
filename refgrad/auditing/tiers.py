"""How a sample comes to its verdict: cheap questions for all samples, dear ones for those that they leave open.

Tier 0 holds both answers to float64 and the noise model (`screening`). Tier 1 asks the exact truth where an answer is
off, where float64 cannot tell the side of a kink, and for a random share of all others. Tier 2 explains what is off
there: by units put elsewhere (`explanations`); what nothing explains is held to all that rounding can do (`enclosure`).

An `ok` of tier 0 is one of tier 1: |A − J| ≤ |A − J₆₄| + |J₆₄ − J| ≤ 8 σ (√(1 + r²) + r), which is tier 1's bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Literal

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array
from refgrad.auditing import truth
from refgrad.auditing.accuracy import assumed
from refgrad.auditing.explanations import Explanation, explain
from refgrad.auditing.gaps import Bounds, Gaps, Mask, Numbers, lined
from refgrad.auditing.screening import Screen, in_double, memory, noisy, screen, share_of_double
from refgrad.auditing.sides import Codes
from refgrad.auditing.trials import Trial, near_units, on_kinks
from refgrad.auditing.verdicts import DISCREPANT_PROVED, DISCREPANT_SUSPECT, NEAR_KINK, OK, UNDECIDED
from refgrad.chunks import each, samples_within
from refgrad.derivatives.order import from_an_end, whole
from refgrad.derivatives.products import linearize
from refgrad.graph import Graph
from refgrad.network import Network
from refgrad.options import MAX_BYTES
from refgrad.rounding import NEAR

PROVED = 32
"""Of how many discrepant samples of a side, the worst ones, a proof is sought."""

_SHARE, _SUSPECTS = 5e6, 1e9
"""Multiply-adds that may go into exact truth of samples that look right, and of those that do not."""
_OVERHEAD = 2e4
"""What a sample costs in exact truth beside its multiply-adds, in such."""
_LEAST = 4

Indices = npt.NDArray[np.intp]
Sides = Mapping[int, Codes]


@dataclass(frozen=True, eq=False)
class Side:
    """What is said of one answer: a verdict for each sample, and what explains it.

    `truth` are the numbers where `gaps` are: float64's, or true ones where these were asked for.
    """

    answer: Numbers
    bounds: Bounds
    gaps: Gaps
    truth: Numbers
    verdict: npt.NDArray[np.str_]
    explained: dict[int, Explanation] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Judged:
    """All sides, the tier that each sample came to, how far its nearest kink is, and which can be judged at all."""

    sides: dict[str, Side]
    tier: npt.NDArray[np.uint8]
    distance: Array
    finite: Mask

    @property
    def out(self) -> Mask:
        """Samples at which an answer is off."""
        inside: Mask = np.all([side.gaps.inside for side in self.sides.values()], axis=0)
        return ~inside


def has_exact() -> bool:
    """Whether python-flint is there."""
    return find_spec("flint") is not None


def judge(
    net: Network,
    inputs: Sequence[Array],
    answers: Mapping[str, Numbers],
    floor: Array,
    *,
    error: Numbers | None = None,
    certify: int | Literal["auto", "all"] = "auto",
    seed: int = 0,
    workers: int = 1,
    progress: bool = False,
) -> Judged:
    """The verdict of each answer at each sample.

    `floor` is the least bound of values, and `error` what "theirs" may be off by its method. The truth is asked of
    `certify` samples that look right, drawn with `seed`; "auto" is as many as cost little, "all" is every sample.
    """
    twin, r = in_double(net.graph), share_of_double(net.graph)
    least = NEAR * float(np.finfo(net.graph.dtype).smallest_subnormal)
    bounds = {name: Bounds(math.hypot(1, r), floor, least, error if name == "theirs" else None) for name in answers}
    seen = screen(net.graph, twin, inputs, answers, bounds)
    count = len(inputs[0])
    sides = {
        name: Side(given, bounds[name], seen.gaps[name], seen.truth[name], np.full(count, OK.name, "U24"))
        for name, given in answers.items()
    }
    judged = Judged(sides, np.zeros(count, np.uint8), seen.distance, seen.finite)
    asked = np.arange(count) if certify == "all" else _asked(net, seen, judged.out | seen.undecided, certify, seed)
    rest = np.setdiff1d(np.flatnonzero(judged.out | (seen.distance == 0)), asked)
    _explained(net.graph, twin, inputs, judged, rest, None)
    if len(asked):
        known = truth.ask(net, [x[asked] for x in inputs], workers=workers, progress=progress)
        _settle(net.graph, twin, inputs, judged, asked, known)
        # What looks right is explained too where a unit is on its kink: that is a choice all the same.
        (places,) = np.nonzero((judged.out | seen.undecided)[asked])
        if len(places):
            true = truth.sides_of(net.graph, twin, [x[asked[places]] for x in inputs], known, places)
            _explained(net.graph, twin, inputs, judged, asked[places], true)
    for side in sides.values():
        if len(asked) and side.bounds.error is None:
            _prove(net.graph, inputs, judged, side)
    return judged


def _asked(net: Network, seen: Screen, is_open: Mask, certify: int | str, seed: int) -> Indices:
    """The samples that exact truth is asked of: what is open, within a budget, and a random share of the others."""
    parameters = [array for node in net.graph.nodes for array in node.op.arrays().values()]
    if not has_exact() or not all(np.isfinite(array).all() for array in parameters):
        return np.zeros(0, np.intp)
    work = _OVERHEAD + from_an_end(net.graph, whole(net.graph)).cost
    rng = np.random.default_rng(seed)
    suspects, others = (rng.permutation(np.flatnonzero(seen.finite & mask)) for mask in (is_open, ~is_open))
    share = max(_LEAST, int(_SHARE / work)) if isinstance(certify, str) else certify
    return np.sort(np.concatenate([suspects[: max(_LEAST, int(_SUSPECTS / work))], others[:share]]))


def _settle(
    graph: Graph, twin: Graph, inputs: Sequence[Array], judged: Judged, asked: Indices, known: truth.Truth
) -> None:
    """Tier 1: hold the answers to the truth."""
    judged.tier[asked] = 1

    def work(piece: slice) -> None:
        samples = asked[piece]
        point = linearize(twin, [x[samples].astype(np.float64) for x in inputs], "keras")
        _, noise = noisy(graph, point)
        for side in judged.sides.values():
            nearest = known[piece].nearest(side.answer[samples])
            wider = replace(side.bounds[samples], factor=side.bounds.factor + share_of_double(graph))
            gaps = wider.gaps(side.answer[samples], nearest, noise.sigma)
            side.gaps.replace(samples, gaps)
            side.truth.value[samples] = nearest.value[np.arange(len(samples)), gaps.value_entry]
            side.truth.jacobian[samples] = nearest.jacobian[np.arange(len(samples)), gaps.entry]

    each(work, len(asked), samples_within(MAX_BYTES, memory(graph)))


def _explained(
    graph: Graph, twin: Graph, inputs: Sequence[Array], judged: Judged, samples: Indices, true: Sides | None
) -> None:
    """Tier 2: explain what is off, and what is exactly on a kink; what nothing explains is open, or a suspect."""
    here = [x[samples] for x in inputs]
    units = near_units(graph, twin, here, true)
    on = np.array([bool(on_kinks(units, place)) for place in range(len(samples))], bool)
    for side in judged.sides.values():
        off = ~side.gaps.inside[samples]
        trial = Trial(graph, twin, here, side.answer[samples], side.bounds[samples])
        found = explain(trial, units, np.flatnonzero(on | off), off)
        finite = np.isfinite(side.gaps.error + side.gaps.value_error)[samples]
        for place, sample in enumerate(samples.tolist()):
            if place in found:
                side.explained[sample], side.verdict[sample] = found[place], found[place].verdict
                judged.tier[sample] = 2
            elif off[place]:
                can_be = judged.distance[sample] <= NEAR and finite[place] and units.more[place]
                open_ = NEAR_KINK if true is None else UNDECIDED
                side.verdict[sample] = (open_ if can_be else DISCREPANT_SUSPECT).name


def _prove(graph: Graph, inputs: Sequence[Array], judged: Judged, side: Side) -> None:
    """Of the worst samples that are discrepant, those that no rounding at all explains."""
    from refgrad.exact.enclosure import enclosure

    suspects = np.flatnonzero((side.verdict == DISCREPANT_SUSPECT.name) & (judged.tier > 0))
    worst = np.fmax(side.gaps.ratio, side.gaps.value_ratio)[suspects]
    suspects = np.sort(suspects[np.argsort(-worst, kind="stable")[:PROVED]])

    def work(piece: slice) -> None:
        samples = suspects[piece]
        limits = enclosure(graph, [x[samples] for x in inputs], assumed)
        if limits is None:
            return
        ends = [
            Numbers(
                lined([getattr(part, end) for part in limits.values]),
                lined([getattr(part, end) for row in limits.jacobians for part in row]),
            )
            for end in ("lower", "upper")
        ]
        answer = side.answer[samples]
        outside = [
            ((getattr(answer, part) < getattr(ends[0], part)) | (getattr(answer, part) > getattr(ends[1], part))).any(1)
            for part in ("value", "jacobian")
        ]
        proved = samples[np.any(outside, axis=0)]
        side.verdict[proved], judged.tier[proved] = DISCREPANT_PROVED.name, 2

    if len(suspects):
        each(work, len(suspects), 4)
