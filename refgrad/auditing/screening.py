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
import numpy.typing as npt

from refgrad.agreement import Answer
from refgrad.arrays import Array, flat
from refgrad.auditing.noise import jacobian_variances
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


def lined(blocks: Sequence[Array]) -> Array:
    """Arrays `(batch, …)` one after the other, `(batch, entries)`, in float64."""
    return np.concatenate([flat(block).astype(np.float64) for block in blocks], axis=1)


@dataclass(frozen=True, eq=False)
class Numbers:
    """Values `(batch, entries)` and Jacobians `(batch, entries)` of all outputs by all inputs."""

    value: Array
    jacobian: Array

    def __getitem__(self, samples: slice) -> Numbers:
        return Numbers(self.value[samples], self.jacobian[samples])


def numbers(answer: Answer) -> Numbers:
    """An answer's, in the order of outputs, and of inputs within."""
    return Numbers(lined(answer.values), lined([block for row in answer.jacobians for block in row]))


@dataclass(frozen=True, eq=False)
class Noise:
    """The deviations of the numbers' rounding errors, and which samples kinks are near to."""

    sigma: Numbers
    kinks: NearKinks


def noisy(graph: Graph, point: Linearization) -> tuple[Numbers, Noise]:
    """The reference at some samples, and the noise of arithmetic in `graph.dtype` there."""
    sigma = deviations(graph, point.values)
    there = Numbers(lined(point.outputs), lined([block for row in jacobians(point) for block in row]))
    spread = [np.sqrt(block) for row in jacobian_variances(graph, point) for block in row]
    values = lined([sigma[index] for index in graph.outputs])
    return there, Noise(Numbers(values, lined(spread)), near_kinks(replace(point, graph=graph), sigma))


def share_of_double(graph: Graph) -> float:
    """r = u₆₄ / u."""
    return unit_roundoff(DOUBLE) / unit_roundoff(graph.dtype)


@dataclass(frozen=True, eq=False)
class Gaps:
    """How far an answer is off at each sample: at the entry of the Jacobian, and of the value, with the largest ratio.

    `ratio` is in deviations, the bound `NEAR` of them; `inside` says of both that all entries are within their bounds.
    """

    entry: npt.NDArray[np.intp]
    error: Array
    bound: Array
    ratio: Array
    value_entry: npt.NDArray[np.intp]
    value_error: Array
    value_bound: Array
    value_ratio: Array
    inside: Mask

    @property
    def jacobian_inside(self) -> Mask:
        """Whether the Jacobian is within its bounds."""
        inside: Mask = self.error <= self.bound
        return inside

    @property
    def value_inside(self) -> Mask:
        """Whether the value is within its bounds."""
        inside: Mask = self.value_error <= self.value_bound
        return inside


def difference(one: Array, other: Array) -> Array:
    """|one − other|; equal infinities and NaN against NaN count as equal, NaN against a number as infinitely far."""
    gap = np.abs(one - other)
    gap[(one == other) | (np.isnan(one) & np.isnan(other))] = 0
    gap[np.isnan(gap)] = np.inf
    return gap


def _worst(gap: Array, bound: Array) -> tuple[npt.NDArray[np.intp], Array, Array]:
    """The entry of each sample with the largest share of its bound, the error there, and the bound."""
    share = np.where(gap == 0, 0, gap / bound)
    entry = share.argmax(axis=1)
    samples = np.arange(len(gap))
    return entry, gap[samples, entry], bound[samples, entry]


def gaps(answer: Numbers, truth: Numbers, sigma: Numbers, floor: Array, factor: float) -> Gaps:
    """Compare with the truth, or a reference; σ counts `factor` times, and a value's bound is at least `floor`."""

    def bounded(deviation: Array) -> Array:
        # What overflowed in the model says nothing of how far a number may be off.
        return NEAR * factor * np.where(np.isfinite(deviation), deviation, 0)

    entry, error, bound = _worst(difference(answer.jacobian, truth.jacobian), bounded(sigma.jacobian))
    value = _worst(difference(answer.value, truth.value), np.fmax(bounded(sigma.value), floor))
    value_entry, value_error, value_bound = value

    def ratio(gap: Array, limit: Array) -> Array:
        return np.where(gap == 0, 0, gap / limit * NEAR)

    return Gaps(
        *(entry, error, bound, ratio(error, bound)),
        *(value_entry, value_error, value_bound, ratio(value_error, value_bound)),
        inside=(error <= bound) & (value_error <= value_bound),
    )


def joined(parts: Sequence[Gaps]) -> Gaps:
    """Those of a whole batch from those of its pieces."""
    return Gaps(*(np.concatenate([getattr(part, name) for part in parts]) for name in Gaps.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Screen:
    """What tier 0 says of all samples: how far each answer is off, kinks, and the reference at the entries found.

    `finite` are samples whose numbers and noise are finite; `undecided` those where float64 cannot tell the side of
    a kink either.
    """

    gaps: Mapping[str, Gaps]
    truth: Mapping[str, tuple[Array, Array]]
    distance: Array
    jump: Mask
    unit: list[str]
    finite: Mask
    undecided: Mask
    floor: Array


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


def _memory(graph: Graph) -> int:
    """Bytes that a sample takes: tangents and cotangents of every node, with their squares."""
    vectors = sum(size(graph, end) for end in (*graph.inputs, *graph.outputs))
    return 8 * 4 * (vectors + 8) * sum(size(graph, index) for index in range(len(graph.nodes)))


def screen(graph: Graph, inputs: Sequence[Array], answers: Mapping[str, Answer]) -> Screen:
    """Tier 0."""
    twin, floor = in_double(graph), value_floor(graph, answers["ours"])
    ratio = share_of_double(graph)
    all_numbers = {side: numbers(answer) for side, answer in answers.items()}
    parts: list[tuple[dict[str, Gaps], dict[str, tuple[Array, Array]], NearKinks, Mask]] = []

    def work(piece: slice) -> None:
        point = linearize(twin, [x[piece].astype(np.float64) for x in inputs], "keras")
        reference, noise = noisy(graph, point)
        finite = np.isfinite(np.concatenate([*vars(reference).values(), *vars(noise.sigma).values()], axis=1)).all(
            axis=1
        )
        found, truth = {}, {}
        for side, given in all_numbers.items():
            here = gaps(given[piece], reference, noise.sigma, floor, math.hypot(1, ratio))
            samples = np.arange(len(here.entry))
            found[side] = here
            truth[side] = reference.jacobian[samples, here.entry], reference.value[samples, here.value_entry]
        parts.append((found, truth, noise.kinks, finite))

    each(work, len(inputs[0]), samples_within(MAX_BYTES, _memory(graph)))
    kinks = [part[2] for part in parts]
    distance = np.concatenate([near.distance for near in kinks])
    return Screen(
        gaps={side: joined([part[0][side] for part in parts]) for side in answers},
        truth={
            side: tuple(np.concatenate(pair) for pair in zip(*(part[1][side] for part in parts), strict=True))  # type: ignore[misc]
            for side in answers
        },
        distance=distance,
        jump=np.concatenate([near.jump for near in kinks]),
        unit=[
            "" if node < 0 else f"{graph.nodes[node].name}[{unit}]"
            for near in kinks
            for node, unit in zip(near.node, near.unit, strict=True)
        ],
        finite=np.concatenate([part[3] for part in parts]),
        undecided=distance <= NEAR * ratio,
        floor=floor,
    )
