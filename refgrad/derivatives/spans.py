"""What lies between two ends of a graph: the nodes on the paths from one to the other, and what crossing them costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from refgrad.graph import Graph


@dataclass(frozen=True)
class Span:
    """The nodes on any path from one of `sources` to one of `targets`, in topological order, sources left out.

    `dropped[i]` are the nodes that nothing after `nodes[i]` needs any more. `peak` is how many numbers of one tangent
    or cotangent are held at once, at most.
    """

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    nodes: tuple[int, ...]
    dropped: tuple[tuple[int, ...], ...]
    peak: int


def between(graph: Graph, sources: Sequence[int], targets: Sequence[int]) -> tuple[int, ...]:
    """The nodes after `sources` that lead to `targets`, in order."""
    after, leads = set(sources), set(targets)
    for index in range(min(sources), max(targets) + 1):
        if not after.isdisjoint(graph.nodes[index].inputs):
            after.add(index)
    for index in range(max(targets), min(sources), -1):
        if index in leads:
            leads.update(graph.nodes[index].inputs)
    return tuple(sorted((after & leads) - set(sources)))


def size(graph: Graph, index: int) -> int:
    """How many numbers a node gives."""
    return math.prod(graph.shapes[index])


def span(graph: Graph, sources: Sequence[int], targets: Sequence[int]) -> Span:
    """The span between some nodes and others."""
    nodes, kept = between(graph, sources, targets), set(targets)
    last: dict[int, int] = {}
    for index in nodes:
        last.update(dict.fromkeys(graph.nodes[index].inputs, index))
    dropped: dict[int, list[int]] = {index: [] for index in nodes}
    for source, index in last.items():
        if source not in kept:
            dropped[index].append(source)
    held = sum(size(graph, source) for source in set(sources))
    peak, known = held, {*sources, *nodes}
    for index in nodes:
        held += size(graph, index)
        peak = max(peak, held)
        held -= sum(size(graph, gone) for gone in dropped[index] if gone in known)
    return Span(tuple(sources), tuple(targets), nodes, tuple(tuple(dropped[index]) for index in nodes), peak)


def node_cost(graph: Graph, index: int) -> int:
    """Multiply–adds per sample of taking one tangent or cotangent through a node."""
    node = graph.nodes[index]
    return node.op.cost(1, *(graph.shapes[source] for source in node.inputs))


def push_costs(graph: Graph, nodes: Sequence[int]) -> dict[int, int]:
    """For each node, the multiply–adds per sample of pushing one unit tangent as far as there, through `nodes`.

    Up to the first op whose derivative depends on the sample, unit tangents are the same for all samples and pushed
    once for the batch: that is not counted.
    """
    varies: set[int] = set()
    total, costs = 0, {}
    for index in nodes:
        node = graph.nodes[index]
        if not node.op.linear or not varies.isdisjoint(node.inputs):
            varies.add(index)
            total += node_cost(graph, index)
        costs[index] = total
    return costs


def pull_cost(graph: Graph, nodes: Sequence[int]) -> int:
    """The same of pulling one unit cotangent back from the end of `nodes` through all of them."""
    varies: set[int] = set()
    total = 0
    for index in reversed(nodes):
        node = graph.nodes[index]
        if not node.op.linear or index in varies:
            varies.update(node.inputs)
            total += node_cost(graph, index)
    return total


def cuts(graph: Graph, source: int, nodes: Sequence[int]) -> list[int]:
    """The nodes inside a span from `source` that every path passes through, in order."""
    reach = {source: source}
    for index in nodes:
        reach.update(dict.fromkeys(graph.nodes[index].inputs, index))
    furthest, found = reach[source], []
    for index in nodes[:-1]:
        if furthest <= index:
            found.append(index)
        furthest = max(furthest, reach[index])
    return found
