r"""Value, Jacobian–vector and vector–Jacobian products of a whole graph: the chain rule, one node at a time.

For a chain y = f_L(… f_1(x)) with Jacobians J_l at the point,

    ẏ = J_L ⋯ J_2 J_1 ẋ        (jvp: from the inputs on)
    x̄ = J_1ᵀ J_2ᵀ ⋯ J_Lᵀ ȳ     (vjp: from the outputs back; where a node feeds several, cotangents add)

Shapes: values `(batch, *shape)`, tangents and cotangents `(k, batch, *shape)`; None is a structural zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refgrad.arrays import Array
from refgrad.graph import Graph
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


def values(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Every node's value; `inputs` are in the order of `graph.inputs`."""
    given = dict(zip(graph.inputs, inputs, strict=True))
    found: list[Array] = []
    for index, node in enumerate(graph.nodes):
        arguments = [given[index]] if index in given else [found[source] for source in node.inputs]
        found.append(node.op.forward(*arguments))
    return found


def linearize(graph: Graph, inputs: Sequence[Array], kink: KinkPolicy) -> Linearization:
    """Every node's value and tape."""
    given = dict(zip(graph.inputs, inputs, strict=True))
    found: list[Array] = []
    tapes: list[Any] = []
    for index, node in enumerate(graph.nodes):
        arguments = [given[index]] if index in given else [found[source] for source in node.inputs]
        value, tape = node.op.linearize(*arguments, kink=kink)
        found.append(value)
        tapes.append(tape)
    return Linearization(graph, tuple(found), tuple(tapes))


def pushed(point: Linearization, tangents: Sequence[Array | None]) -> list[Array | None]:
    """Every node's tangent, given those of the inputs."""
    graph = point.graph
    given = dict(zip(graph.inputs, tangents, strict=True))
    found: list[Array | None] = []
    for index, node in enumerate(graph.nodes):
        arguments = [given[index]] if index in given else [found[source] for source in node.inputs]
        zero = all(tangent is None for tangent in arguments)
        found.append(None if zero else node.op.jvp(point.tapes[index], *arguments))
    return found


def jvp(point: Linearization, tangents: Sequence[Array | None]) -> list[Array | None]:
    """Tangents of the outputs, given those of the inputs: ẏ = J ẋ."""
    found = pushed(point, tangents)
    return [found[index] for index in point.graph.outputs]


def vjp(point: Linearization, cotangents: Sequence[Array | None]) -> list[Array | None]:
    """Cotangents of the inputs, given those of the outputs: x̄ = Jᵀ ȳ."""
    graph = point.graph
    pending: dict[int, Array] = {}

    def add(index: int, cotangent: Array) -> None:
        pending[index] = pending[index] + cotangent if index in pending else cotangent

    for index, cotangent in zip(graph.outputs, cotangents, strict=True):
        if cotangent is not None:
            add(index, cotangent)
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if index in pending and node.inputs:
            pulled = node.op.vjp(point.tapes[index], pending.pop(index))
            for source, part in zip(node.inputs, pulled, strict=True):
                if part is not None:
                    add(source, part)
    return [pending.get(index) for index in graph.inputs]
