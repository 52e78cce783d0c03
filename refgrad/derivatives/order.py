"""Which end to start a chain of Jacobian products from: multiply–adds, counted before any arithmetic."""

from __future__ import annotations

import math
from typing import Literal

from refgrad.graph import Graph

Direction = Literal["forward", "reverse"]


def vectors(graph: Graph, direction: Direction) -> int:
    """How many unit vectors a Jacobian takes: n_in forward, n_out in reverse."""
    (end,) = graph.inputs if direction == "forward" else graph.outputs
    return math.prod(graph.shapes[end])


def cost(graph: Graph, direction: Direction) -> int:
    """Multiply–adds per sample of a Jacobian of the (one) output with respect to the (one) input.

    Forward pushes n_in tangents through every op, reverse pulls n_out cotangents. Up to the first op whose derivative
    depends on the sample the product is the same for all of them and made once for the batch: it is not counted.
    """
    k, step = vectors(graph, direction), 1 if direction == "forward" else -1
    nodes = graph.nodes[::step]
    varying = next((index for index, node in enumerate(nodes) if not node.op.linear), len(nodes))
    return sum(node.op.cost(k, *(graph.shapes[source] for source in node.inputs)) for node in nodes[varying:])


def direction(graph: Graph) -> Direction:
    """The cheaper one; of equals the one with fewer vectors, whose uncounted part is smaller too."""
    return min(("forward", "reverse"), key=lambda way: (cost(graph, way), vectors(graph, way)))
