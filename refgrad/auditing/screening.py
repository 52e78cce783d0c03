"""Tier 0: every sample against the network in float64, in deviations of the rounding error.

    |A − J₆₄| ≤ 8 σ √(1 + r²)        r = u₆₄ / u: the reference rounds too, in a float64 network as much

for every entry of the Jacobian of an answer A; for values, 8 σ or the project's tolerance of max|y|, if that is more.
Noise is proportional to u, so the reference's own is r σ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from refgrad.agreement import Answer
from refgrad.arrays import Array
from refgrad.auditing.gaps import Bounds, Gaps, Numbers, lined
from refgrad.auditing.noise import jacobian_variances, least_variances
from refgrad.chunks import each, samples_within
from refgrad.derivatives.jacobian import Picked, fill
from refgrad.derivatives.margins import Mask, NearKinks, near_kinks
from refgrad.derivatives.order import from_an_end, whole
from refgrad.derivatives.products import Linearization, linearize
from refgrad.derivatives.spans import size
from refgrad.graph import Graph
from refgrad.ops import Elementwise
from refgrad.options import MAX_BYTES
from refgrad.rounding import NEAR, deviations, tolerance, unit_roundoff

DOUBLE = np.dtype(np.float64)

MANY = 64
"""More outputs than this have the noise of their Jacobians bounded from below first."""


def in_double(graph: Graph) -> Graph:
    """The same real function computed in float64: what was a float of the network's dtype stays that float."""
    wide = graph.astype(DOUBLE)

    def kept(parameters: Sequence[float]) -> tuple[float, ...]:
        return tuple(float(graph.dtype.type(parameter)) for parameter in parameters)

    nodes = tuple(
        replace(node, op=replace(node.op, parameters=kept(node.op.parameters)))
        if isinstance(node.op, Elementwise)
        else node
        for node in wide.nodes
    )
    return replace(wide, nodes=nodes)


def jacobians(point: Linearization) -> list[list[Array]]:
    """J of each output by each input, `(batch, n_out, n_in)`."""
    graph, samples = point.graph, len(point.values[point.graph.inputs[0]])
    blocks: list[list[Array]] = [
        [np.empty((samples, size(graph, target), size(graph, source))) for source in graph.inputs]
        for target in graph.outputs
    ]
    everything = Picked((None,) * len(graph.outputs), (None,) * len(graph.inputs))
    ends = max(size(graph, end) for end in (*graph.inputs, *graph.outputs))
    fill(point, from_an_end(graph, whole(graph)), everything, ends, blocks)
    return blocks


@dataclass(frozen=True, eq=False)
class Noise:
    """The deviations of the numbers' rounding errors, and which samples kinks are near to."""

    sigma: Numbers
    kinks: NearKinks


def noisy(graph: Graph, point: Linearization, least: bool = False) -> tuple[Numbers, Noise]:
    """The reference at some samples, and the noise of arithmetic in `graph.dtype` there, or `least` of it."""
    sigma = deviations(graph, point.values)
    there = Numbers(lined(point.outputs), lined([block for row in jacobians(point) for block in row]))
    found = (least_variances if least else jacobian_variances)(graph, point)
    spread = [np.sqrt(block) for row in found for block in row]
    values = lined([np.broadcast_to(sigma[index], point.values[index].shape) for index in graph.outputs])
    return there, Noise(Numbers(values, lined(spread)), near_kinks(replace(point, graph=graph), sigma))


def share_of_double(graph: Graph) -> float:
    """r = u₆₄ / u."""
    return unit_roundoff(DOUBLE) / unit_roundoff(graph.dtype)


@dataclass(frozen=True, eq=False)
class Screen:
    """What tier 0 says of all samples: how far each answer is off, kinks, and the reference at the entries found.

    `truth` are the reference's numbers where `gaps` are, of Jacobian and value; `finite` samples whose reference and
    noise are finite; `undecided` those where float64 cannot tell the side of a kink either.
    """

    gaps: Mapping[str, Gaps]
    truth: Mapping[str, Numbers]
    distance: Array
    jump: Mask
    finite: Mask
    undecided: Mask


def value_floor(graph: Graph, answer: Answer) -> Array:
    """The project's tolerance of max|y| of each output, for each entry of the value."""
    parts = [
        np.full(
            math.prod(y.shape[1:]),
            tolerance(graph) * float(np.max(np.abs(y), initial=0, where=np.isfinite(y))),
        )
        for y in answer.values
    ]
    return np.concatenate(parts)


def memory(graph: Graph) -> int:
    """Bytes that a sample takes: tangents and cotangents of every node, with their squares."""
    vectors = sum(size(graph, end) for end in (*graph.inputs, *graph.outputs))
    return 8 * 4 * (vectors + 8) * sum(size(graph, index) for index in range(len(graph.nodes)))


def _at_entries(reference: Numbers, found: Gaps) -> Numbers:
    """The reference's numbers where an answer is furthest off."""
    samples = np.arange(len(found.entry))
    return Numbers(reference.value[samples, found.value_entry], reference.jacobian[samples, found.entry])


def screen(
    graph: Graph, twin: Graph, inputs: Sequence[Array], answers: Mapping[str, Numbers], bounds: Mapping[str, Bounds]
) -> Screen:
    """Tier 0."""
    parts: list[Screen] = []

    def work(piece: slice) -> None:
        point = linearize(twin, [x[piece].astype(np.float64) for x in inputs], "keras")
        reference, noise = noisy(graph, point, _quick(graph))
        found = {side: bounds[side][piece].gaps(answers[side][piece], reference, noise.sigma) for side in answers}
        again = np.flatnonzero(~np.all([gaps.inside for gaps in found.values()], axis=0))
        if _quick(graph) and len(again):
            _, wider = noisy(graph, linearize(twin, [x[piece][again].astype(np.float64) for x in inputs], "keras"))
            for side, gaps in found.items():
                given = answers[side][piece][again]
                gaps.replace(again, bounds[side][piece][again].gaps(given, reference[again], wider.sigma))
        whole = np.concatenate([*vars(reference).values(), *vars(noise.sigma).values()], axis=1)
        parts.append(
            Screen(
                gaps=found,
                truth={side: _at_entries(reference, gaps) for side, gaps in found.items()},
                distance=noise.kinks.distance,
                jump=noise.kinks.jump,
                finite=np.isfinite(whole).all(axis=1),
                undecided=noise.kinks.distance <= NEAR * share_of_double(graph),
            )
        )

    each(work, len(inputs[0]), samples_within(MAX_BYTES, memory(graph)))
    rest = ("distance", "jump", "finite", "undecided")
    return Screen(
        gaps={side: Gaps.joined([part.gaps[side] for part in parts]) for side in answers},
        truth={side: Numbers.joined([part.truth[side] for part in parts]) for side in answers},
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in rest},
    )


def _quick(graph: Graph) -> bool:
    """Whether all cotangents of a graph are so many that a lower bound of σ is tried first."""
    return sum(size(graph, end) for end in graph.outputs) > MANY
