"""Which of the usual suspects explains a wrong answer: the faulty network is computed, and compared with it.

A fault explains an answer if value and Jacobian of the faulty network, in float64, agree with it to rounding where
those of the right network do not: at some of the samples in question, and then at more of all samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refgrad.agreement import Answer, compare
from refgrad.arrays import Array, flat
from refgrad.auditing.faults import FAULTS, ONE_WEIGHT, REDUCED_PRECISION, TRAINING_MODE, one_weight
from refgrad.auditing.faulty import Faulty, layers
from refgrad.auditing.misreadings import MISREADINGS
from refgrad.auditing.screening import in_double, jacobians
from refgrad.derivatives.products import Linearization, linearize, pull, values
from refgrad.derivatives.spans import size, span
from refgrad.graph import Graph
from refgrad.ops import Affine, Op
from refgrad.rounding import NEAR, deviations, tolerance

_FEW, _MORE = 6, 48
"""How many samples a fault is tried at, and how many it must explain."""

_FAR = 0.1
"""Of the largest value: what is further off is no rounding, and is not worth the deviations."""

_NUMBERS = 4_000_000
"""Entries of Jacobians that are held at a time."""

_WORK = 20_000_000_000
"""Multiply–adds after which no more faults are tried; a node counts as many thousands at least."""

_PER_NODE = 20_000
_WEIGHTS = 128
"""How many weights are tried with the other sign: those that would explain the values best, to first order."""

_ENTRIES = 8
"""How many entries of an output they are judged by."""

_AS_WELL, _ROUNDING = 1.1, 2.0**-46
"""How much further from the answer the simplest fault may be than the best, beside what float64 does itself."""

_COARSER = 0.5
"""What reduced precision has to leave of the error of the values to be what explains it."""

Samples = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class _Case:
    """A graph, and the answer about it that has to be explained, at some samples."""

    graph: Graph
    inputs: list[Array]
    answer: Answer

    def at(self, samples: Samples) -> _Case:
        blocks = tuple(tuple(block[samples] for block in row) for row in self.answer.jacobians)
        answer = Answer(tuple(y[samples] for y in self.answer.values), blocks)
        return _Case(self.graph, [x[samples] for x in self.inputs], answer)


def _in_float64(graph: Graph, inputs: Sequence[Array]) -> Answer:
    """What the graph says as a real function, to float64."""
    point = linearize(in_double(graph), [x.astype(np.float64) for x in inputs], "keras")
    shapes = [graph.shapes[index] for index in graph.inputs]
    blocks = tuple(
        tuple(block.reshape(*y.shape, *shape) for block, shape in zip(row, shapes, strict=True))
        for y, row in zip(point.outputs, jacobians(point), strict=True)
    )
    return Answer(point.outputs, blocks)


def _length(arrays: Sequence[Array], samples: npt.NDArray[np.bool_]) -> float:
    return math.sqrt(sum(float(np.square(array[samples], dtype=np.float64).sum()) for array in arrays))


def _misfit(case: _Case, graph: Graph, answer: Answer) -> float:
    """How far an answer about a graph is from the one in question: ‖Δy‖/‖y‖ + ‖ΔJ‖/‖J‖ of the samples away from kinks.

    Infinite where that is more than rounding.
    """
    agreement = compare(graph, case.inputs, answer, case.answer)
    if not agreement.agrees.all() or not agreement.judged.any():
        return math.inf
    found = (answer.values, [block for row in answer.jacobians for block in row])
    others = (case.answer.values, [block for row in case.answer.jacobians for block in row])
    total = 0.0
    for arrays, other in zip(found, others, strict=True):
        gap = [one.astype(np.float64) - two for one, two in zip(arrays, other, strict=True)]
        total += _length(gap, agreement.judged) / (_length(arrays, agreement.judged) or 1.0)
    return total


def _gaps(case: _Case, graph: Graph, found: Sequence[Array]) -> list[Array]:
    pairs = zip(graph.outputs, case.answer.values, strict=True)
    return [np.abs(found[index] - y.astype(np.float64)) for index, y in pairs]


def _values_fit(case: _Case, graph: Graph) -> bool:
    """Whether the values alone are roughly so."""
    found = values(graph, case.inputs)
    gaps = _gaps(case, graph, found)
    sizes = [float(np.abs(found[index]).max()) for index in graph.outputs]
    if any(not (gap <= _FAR * largest).all() for gap, largest in zip(gaps, sizes, strict=True)):
        return False
    sigma = deviations(graph, found)
    return all(
        bool((gap <= np.fmax(2 * NEAR * sigma[index], 4 * tolerance(graph) * largest)).all())
        for gap, index, largest in zip(gaps, graph.outputs, sizes, strict=True)
    )


def _explained(few: _Case, more: _Case, faulty: Iterator[Faulty]) -> str | None:
    """The first of the faults that explain the answer about as well as the best does."""
    found: list[tuple[float, str]] = []
    for phrase, graph in _affordable(faulty, len(few.inputs[0])):
        if _values_fit(few, graph) and _misfit(few, graph, _in_float64(graph, few.inputs)) < math.inf:
            found.append((_misfit(more, graph, _in_float64(graph, more.inputs)), phrase))
    best = min((misfit for misfit, _ in found), default=math.inf)
    return next((phrase for misfit, phrase in found if misfit <= _AS_WELL * best + _ROUNDING < math.inf), None)


def _work(graph: Graph, samples: int) -> int:
    def cost(index: int) -> int:
        node = graph.nodes[index]
        return node.op.cost(1, *(graph.shapes[source] for source in node.inputs)) if node.inputs else 0

    return sum(samples * cost(index) + _PER_NODE for index in range(len(graph.nodes)))


def _unexplained(point: Linearization, answer: Answer, places: Sequence[int]) -> Array:
    """How much of the values' error is left, to first order, if weight [k, j] of a map has the other sign.

    Σ (Δy_o + 2 W_kj a_k C_oj)²        a: input of the map, at `places` in the graph; C: cotangents of its output

    over all samples, for those entries o of the outputs that are furthest off.
    """
    graph, op = point.graph, point.graph.nodes[places[0]].op
    assert isinstance(op, Affine)
    left: Array = np.zeros_like(op.kernel)
    for target, y, other in zip(graph.outputs, point.outputs, answer.values, strict=True):
        gap = flat(other.astype(np.float64) - y)
        worst = np.argsort(-np.abs(gap).max(axis=0))[:_ENTRIES]
        units = np.eye(gap.shape[1])[worst].reshape(len(worst), 1, *y.shape[1:])
        seeds = {target: np.broadcast_to(units, (len(worst), *y.shape))}
        for index in places:
            pulled = pull(point, span(graph, [index], [target]), seeds).get(index)
            if pulled is not None:
                c = np.moveaxis(pulled, -1, 0).reshape(pulled.shape[-1], len(worst), len(gap), -1)
                a = point.values[graph.nodes[index].inputs[0]].reshape(len(gap), -1, len(op.kernel))
                along = np.einsum("stk,os,jost->kj", a, gap.T[worst], c, optimize=True)
                left += 4 * op.kernel * along
                left += 4 * np.square(op.kernel) * np.einsum("stk,jost->kj", a**2, c**2, optimize=True)
    return left


def _weights(few: _Case) -> Iterator[Faulty]:
    """The weights whose other sign would explain the values best, the best first."""
    graph = few.graph
    point = linearize(in_double(graph), [x.astype(np.float64) for x in few.inputs], "keras")
    found: list[tuple[float, tuple[int, int], str, Affine, Callable[[Op], Graph]]] = []
    for name, op, put in layers(graph, Affine):
        places = [index for index, node in enumerate(graph.nodes) if node.op is op]
        left = _unexplained(point, few.answer, places)
        for entry in np.argsort(left, axis=None)[:_WEIGHTS]:
            k, j = np.unravel_index(entry, left.shape)
            found.append((float(left[k, j]), (int(k), int(j)), name, op, put))
    for _, place, name, op, put in sorted(found, key=lambda row: row[0])[:_WEIGHTS]:
        phrase, changed = one_weight(op, *place)
        yield phrase.format(name), put(changed)


def _suspects(few: _Case, inputs: Sequence[Array]) -> Iterator[Faulty]:
    for name, fault in FAULTS.items():
        if name not in (ONE_WEIGHT, REDUCED_PRECISION):
            yield from fault(few.graph, inputs)


def _affordable(faulty: Iterator[Faulty], samples: int) -> Iterator[Faulty]:
    """Faulty graphs until they are enough work."""
    done = 0
    for phrase, graph in faulty:
        done += _work(graph, samples)
        if done > _WORK:
            return
        yield phrase, graph


def _misread(few: _Case, more: _Case) -> str | None:
    right = [(case, _in_float64(case.graph, case.inputs)) for case in (few, more)]
    for phrase, misreading in MISREADINGS.items():
        wrong = [(case, misreading(answer)) for case, answer in right]
        if all(answer is not None and _misfit(case, case.graph, answer) < math.inf for case, answer in wrong):
            return phrase
    return None


def _in_training(more: _Case, inputs: Sequence[Array]) -> str | None:
    """Training mode by values alone: a Jacobian that goes through the batch's moments is one of a sum of samples."""
    if _values_fit(more, more.graph):
        return None
    tried = FAULTS[TRAINING_MODE](more.graph, inputs)
    return next((phrase for phrase, graph in tried if _values_fit(more, graph)), None)


def _precision(more: _Case) -> str | None:
    """The precision whose own values are so near to the answer's that they explain most of the error.

    Rounding of rounded numbers goes one way or the other, so that no more than that can be asked.
    """

    def error(graph: Graph) -> float:
        found = values(graph, [x.astype(graph.dtype) for x in more.inputs])
        pairs = zip(graph.outputs, more.answer.values, strict=True)
        return _length([found[index] - y.astype(np.float64) for index, y in pairs], every)

    every = np.ones(len(more.inputs[0]), bool)
    tried = FAULTS[REDUCED_PRECISION](more.graph, more.inputs)
    errors = [(error(graph), phrase) for phrase, graph in tried]
    least, phrase = min(errors, default=(math.inf, ""))
    return phrase if least <= _COARSER * error(in_double(more.graph)) else None


def _affordable_samples(graph: Graph) -> int:
    """How many samples' Jacobians may be held at a time, several times over."""
    entries = sum(size(graph, index) for index in graph.outputs) * sum(size(graph, index) for index in graph.inputs)
    return max(1, min(_MORE, _NUMBERS // entries))


def _spread(samples: Samples, most: int) -> Samples:
    """At most so many of some samples, evenly."""
    return samples[np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(np.intp))]


def explain(graph: Graph, inputs: Sequence[Array], answer: Answer, samples: npt.ArrayLike) -> str | None:
    """What fault of the network makes the answer, theirs or ours, of some samples that it is wrong at, in a phrase.

    The simplest one where several do; None where none does, or the answer is right at these samples as far as
    rounding and kinks let one see. The inputs and the answer are those of all samples.
    """
    wrong = np.asarray(samples, np.intp)
    every = np.arange(len(inputs[0]))
    whole = _Case(graph, list(inputs), answer)
    most = _affordable_samples(graph)
    few = whole.at(_spread(wrong, min(_FEW, most)))
    more = whole.at(np.union1d(_spread(wrong, most), _spread(every, most)))
    with np.errstate(all="ignore"):
        if not len(wrong) or _misfit(few, graph, _in_float64(graph, few.inputs)) < math.inf:
            return None
        return (
            _explained(few, more, _suspects(few, inputs))
            or _misread(few, more)
            or _in_training(more, inputs)
            or _precision(more)
            or _explained(few, more, _weights(few))
        )
