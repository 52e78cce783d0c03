"""Networks with a fault in them: how a graph is changed in one place, and ops that are wrong as hardware or code is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from refgrad.arrays import Array
from refgrad.graph import Graph, Node
from refgrad.ops import Affine, Elementwise, Op
from refgrad.ops.op import KinkPolicy

AnOp = TypeVar("AnOp", bound=Op)

Faulty = tuple[str, Graph]
"""What is wrong, and the graph that has it."""

_LONGEST = 30
"""Of a layer's name in a phrase: the row of a sample has room for 80 characters."""


@dataclass(frozen=True, eq=False)
class Rounded(Affine):
    """An affine map whose factors are rounded to `bits` explicit bits of the mantissa, as TF32 (10) and bf16 (7) are.

    y = ⌊x⌉ ⌊W⌉ + b        sums and the bias keep all their digits
    """

    bits: int = 10

    def _rounded(self, array: Array) -> Array:
        mantissa, exponent = np.frexp(array)
        whole = np.rint(np.ldexp(mantissa, self.bits + 1))
        rounded: Array = np.ldexp(whole, exponent - (self.bits + 1))
        return rounded

    def _coarse(self) -> Affine:
        return Affine(self._rounded(self.kernel), self.bias)

    def forward(self, *inputs: Array) -> Array:
        """⌊X⌉ ⌊W⌉ + b."""
        return self._coarse().forward(self._rounded(inputs[0]))

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """ẋ ↦ ⌊ẋ⌉ ⌊W⌉."""
        return self._coarse().jvp(tape, self._rounded(tangents[0]))

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """ȳ ↦ ⌊ȳ⌉ ⌊W⌉ᵀ."""
        return self._coarse().vjp(tape, self._rounded(cotangent))


@dataclass(frozen=True, eq=False)
class Shifted(Elementwise):
    """An activation whose slopes are those of the unit before: ẏ_j = f′(z_{j−1}) ẋ_j; its value is right."""

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Array]:
        """f(z), and the slopes a unit further on."""
        value, slope = super().linearize(*inputs, kink=kink)
        return value, np.roll(slope, 1, axis=-1)


def short(name: str) -> str:
    """A layer's name; of a long one the end."""
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def layers(graph: Graph, kind: type[AnOp]) -> Iterator[tuple[str, AnOp, Callable[[Op], Graph]]]:
    """Each op of a kind once, with its layer's name and what puts another op in its place, wherever it is shared."""
    done: set[tuple[int, str]] = set()
    for node in graph.nodes:
        if isinstance(node.op, kind) and (id(node.op), node.name) not in done:
            done.add((id(node.op), node.name))
            yield short(node.name), node.op, _replacing(graph, node)


def _replacing(graph: Graph, like: Node) -> Callable[[Op], Graph]:
    def put(op: Op) -> Graph:
        nodes = (
            replace(node, op=op) if node.op is like.op and node.name == like.name else node for node in graph.nodes
        )
        return replace(graph, nodes=tuple(nodes))

    return put


def after(graph: Graph, index: int, op: Op) -> Graph:
    """The graph with an op between a node and all that takes from it, outputs among them."""

    def moved(end: int) -> int:
        return end if end < index else end + 1

    nodes = [replace(node, inputs=tuple(moved(source) for source in node.inputs)) for node in graph.nodes]
    nodes.insert(index + 1, Node(op, (index,), graph.nodes[index].name))
    starts = tuple(end if end <= index else end + 1 for end in graph.inputs)
    return replace(graph, nodes=tuple(nodes), inputs=starts, outputs=tuple(moved(end) for end in graph.outputs))


def at_output(graph: Graph, place: int, op: Op) -> Graph:
    """The graph with an op after one of its outputs, and nowhere else."""
    nodes = (*graph.nodes, Node(op, (graph.outputs[place],), graph.output_names[place]))
    outputs = list(graph.outputs)
    outputs[place] = len(nodes) - 1
    return replace(graph, nodes=nodes, outputs=tuple(outputs))
