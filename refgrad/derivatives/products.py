r"""Value, Jacobian–vector and vector–Jacobian products of a whole graph: the chain rule, one node at a time.

For a chain y = f_L(… f_1(x)) with Jacobians J_l at the point,

    ẏ = J_L ⋯ J_2 J_1 ẋ        (jvp: from the inputs on)
    x̄ = J_1ᵀ J_2ᵀ ⋯ J_Lᵀ ȳ     (vjp: from the outputs back; where a node feeds several, cotangents add)

Shapes: values `(batch, *shape)`, tangents and cotangents `(k, batch, *shape)`; None is a structural zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refgrad.arrays import Array
from refgrad.derivatives.spans import Span, span
from refgrad.graph import Graph, Node
from refgrad.ops.op import KinkPolicy


@dataclass(frozen=True, eq=False)
class Linearization:
    """A graph at a point: every node's value, and what its op needs to apply its Jacobian there."""

    graph: Graph
    values: tuple[Array, ...]
    tapes: tuple[Any, ...]

    @property
    def outputs(self) -> tuple[Array, ...]:
        """The values of the graph's outputs."""
        return tuple(self.values[index] for index in self.graph.outputs)


def _evaluate(graph: Graph, inputs: Sequence[Array], at: Callable[[Node, list[Array]], Array]) -> list[Array]:
    """Every node's value by `at`; `inputs` are in the order of `graph.inputs`."""
    given = dict(zip(graph.inputs, inputs, strict=True))
    found: list[Array] = []
    for index, node in enumerate(graph.nodes):
        found.append(at(node, [given[index]] if index in given else [found[source] for source in node.inputs]))
    return found


def values(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Every node's value."""
    return _evaluate(graph, inputs, lambda node, arguments: node.op.forward(*arguments))


def linearize(graph: Graph, inputs: Sequence[Array], kink: KinkPolicy) -> Linearization:
    """Every node's value and tape."""
    tapes: list[Any] = []

    def at(node: Node, arguments: list[Array]) -> Array:
        value, tape = node.op.linearize(*arguments, kink=kink)
        tapes.append(tape)
        return value

    return Linearization(graph, tuple(_evaluate(graph, inputs, at)), tuple(tapes))


def push(point: Linearization, path: Span, seeds: Mapping[int, Array]) -> dict[int, Array]:
    """Tangents of a span's targets, given those of its sources; what is missing is zero."""
    found = dict(seeds)
    for index, dropped in zip(path.nodes, path.dropped, strict=True):
        node = point.graph.nodes[index]
        arguments = [found.get(source) for source in node.inputs]
        if any(argument is not None for argument in arguments):
            found[index] = node.op.jvp(point.tapes[index], *arguments)
        for gone in dropped:
            found.pop(gone, None)
    return found


def pull(point: Linearization, path: Span, seeds: Mapping[int, Array]) -> dict[int, Array]:
    """Cotangents of a span's sources, given those of its targets; what is missing is zero."""
    pending, wanted = dict(seeds), {*path.nodes, *path.sources}
    for index in reversed(path.nodes):
        if index not in pending:
            continue
        node = point.graph.nodes[index]
        parts = node.op.vjp(point.tapes[index], pending.pop(index))
        for source, part in zip(node.inputs, parts, strict=True):
            if part is not None and source in wanted:
                pending[source] = pending[source] + part if source in pending else part
    return pending


def _given(ends: Sequence[int], vectors: Sequence[Array | None]) -> dict[int, Array]:
    """The vectors of some ends by node, without structural zeros; those of an end that is there twice add up."""
    found: dict[int, Array] = {}
    for index, vector in zip(ends, vectors, strict=True):
        if vector is not None:
            found[index] = found[index] + vector if index in found else vector
    return found


def jvp(point: Linearization, tangents: Sequence[Array | None]) -> list[Array | None]:
    """Tangents of the outputs, given those of the inputs: ẏ = J ẋ."""
    graph = point.graph
    found = push(point, span(graph, graph.inputs, graph.outputs), _given(graph.inputs, tangents))
    return [found.get(index) for index in graph.outputs]


def vjp(point: Linearization, cotangents: Sequence[Array | None]) -> list[Array | None]:
    """Cotangents of the inputs, given those of the outputs: x̄ = Jᵀ ȳ."""
    graph = point.graph
    found = pull(point, span(graph, graph.inputs, graph.outputs), _given(graph.outputs, cotangents))
    return [found.get(index) for index in graph.inputs]
