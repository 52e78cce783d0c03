"""Chains inside a graph that is none: each as one op, so that the kernels run them and NumPy what joins them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.derivatives.order import Direction
from refgrad.graph import Graph, Node
from refgrad.kernels.lower import ends_chain, lower, stands_in_chain
from refgrad.kernels.program import Program
from refgrad.kernels.run import Runner
from refgrad.ops import Op, Source
from refgrad.ops.op import KinkPolicy


@dataclass(frozen=True, eq=False)
class Segment(Op):
    """A chain of nodes.

    y = f(x)           shapes: (batch, *taken) → (batch, *given)

    The tape is x and the policy at kinks: each product passes the layers with the values beside it, once more.
    """

    name: ClassVar[str] = "segment"
    linear: ClassVar[bool] = False

    runner: Runner
    taken: Shape
    given: Shape

    def shape(self, *shapes: Shape) -> Shape:
        """Its own; it is made for one place in a graph."""
        del shapes
        return self.given

    def _rows(self, *lead: int, shape: Shape) -> Array:
        return np.empty((*lead, math.prod(shape)), self.runner.dtype)

    def forward(self, *inputs: Array) -> Array:
        """f(x)."""
        (x,) = inputs
        y = self._rows(len(x), shape=self.given)
        self.runner.value(np.ascontiguousarray(x), y)
        return y.reshape(len(x), *self.given)

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, tuple[Array, KinkPolicy]]:
        """f(x), and what products need to begin anew."""
        (x,) = inputs
        return self.forward(x), (np.ascontiguousarray(x), kink)

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẋ ↦ J ẋ, (k, batch, *taken) → (k, batch, *given)."""
        return self._product(tape, tangents[0], "forward", self.given)

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: ȳ ↦ Jᵀ ȳ, (k, batch, *given) → (k, batch, *taken)."""
        return (self._product(tape, cotangent, "reverse", self.taken),)

    def _product(self, tape: tuple[Array, KinkPolicy], vectors: Array, direction: Direction, shape: Shape) -> Array:
        x, kink = tape
        k, samples = len(vectors), len(x)
        if vectors.shape[1] != samples:
            vectors = np.broadcast_to(vectors, (k, samples, *vectors.shape[2:]))
        results, y = self._rows(k, samples, shape=shape), self._rows(samples, shape=self.given)
        self.runner.products(x, np.require(vectors, requirements=["C", "W", "A"]), 0, direction, kink, y, results)
        return results.reshape(k, samples, *shape)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """Nobody asks: the model of rounding is of a network's own nodes."""
        raise NotImplementedError

    def cost(self, k: int, *shapes: Shape) -> int:
        """Of the layers; that the values come once more is not counted."""
        del shapes
        return k * self.runner.program.multiply_adds


Programs = dict[tuple[int, ...], Program]
"""Of chains, by the places of their nodes."""


def chains(graph: Graph) -> Iterator[tuple[int, ...]]:
    """Nodes one after the other, the longest such rows, that a program may be made of, each with a Dense layer."""
    readers = Counter(source for node in graph.nodes for source in node.inputs) + Counter(graph.outputs)
    following = {node.inputs[0]: index for index, node in enumerate(graph.nodes) if len(node.inputs) == 1}
    taken: set[int] = set()
    for first in range(len(graph.nodes)):
        row: list[int] = []
        index: int | None = first
        while index is not None and index not in taken and len(graph.nodes[index].inputs) == 1:
            shape = graph.shapes[graph.nodes[index].inputs[0]]
            last = ends_chain(graph.nodes[index], shape)
            if not last and not stands_in_chain(graph.nodes[index], shape):
                break
            row.append(index)
            index = following.get(index) if readers[index] == 1 and not last else None
        taken.update(row)
        if row:
            yield tuple(row)


def program_of(graph: Graph, row: tuple[int, ...]) -> Program | None:
    """The program of some nodes one after the other, if there is one."""
    nodes = [Node(Source(graph.shapes[graph.nodes[row[0]].inputs[0]]), (), "input")]
    nodes += [replace(graph.nodes[index], inputs=(place,)) for place, index in enumerate(row)]
    part = replace(graph, nodes=tuple(nodes), inputs=(0,), outputs=(len(row),), input_names=("x",), output_names=("y",))
    found = lower(part)
    return found if isinstance(found, Program) else None


def is_joined(graph: Graph) -> bool:
    """Whether kernels run a part of it."""
    return any(isinstance(node.op, Segment) for node in graph.nodes)


def programs(graph: Graph) -> Programs:
    """What kernels can run of a graph."""
    found = {row: program_of(graph, row) for row in chains(graph)}
    return {row: program for row, program in found.items() if program is not None}


def segmented(graph: Graph, found: Programs) -> Graph:
    """The graph with each of those chains as one node; making it imports Numba.

    Chains of the same ops share a runner, and its weights in panels.
    """
    runners: dict[tuple[Any, ...], Runner] = {}
    ends = {row[-1]: row for row in found}
    inside = {index for row in found for index in row[:-1]}
    kept = [index for index in range(len(graph.nodes)) if index not in inside]
    new = {old: place for place, old in enumerate(kept)}
    nodes: list[Node] = []
    for index in kept:
        node = graph.nodes[index]
        if index in ends:
            row = ends[index]
            start = graph.nodes[row[0]].inputs
            taken = graph.shapes[start[0]]
            key = (taken, *(id(graph.nodes[place].op) for place in row))
            if key not in runners:
                runners[key] = Runner(found[row], graph.dtype)
            node = Node(Segment(runners[key], taken, graph.shapes[index]), start, node.name)
        nodes.append(replace(node, inputs=tuple(new[source] for source in node.inputs)))
    return replace(
        graph,
        nodes=tuple(nodes),
        inputs=tuple(new[index] for index in graph.inputs),
        outputs=tuple(new[index] for index in graph.outputs),
    )
