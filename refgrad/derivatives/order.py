"""Which end to start a chain of Jacobian products from: multiply–adds, counted before any arithmetic."""

from __future__ import annotations

import math
from typing import Literal

from refgrad.graph import Graph

Direction = Literal["forward", "reverse"]


def cost(graph: Graph, direction: Direction) -> int:
    """Multiply–adds per sample of a Jacobian of the (one) output with respect to the (one) input.

    Forward pushes n_in tangents through every op, reverse pulls n_out cotangents. Up to the first op whose derivative
    depends on the sample the product is the same for all of them and made once: it counts as free.
    """
    start, step = (graph.inputs[0], 1) if direction == "forward" else (graph.outputs[0], -1)
    k = math.prod(graph.shapes[start])
    nodes = graph.nodes[::step]
    varying = next((index for index, node in enumerate(nodes) if not node.op.linear), len(nodes))
    return sum(node.op.cost(k) for node in nodes[varying:])


def direction(graph: Graph) -> Direction:
    """The cheaper one; forward where they cost the same."""
    return min(("forward", "reverse"), key=lambda way: cost(graph, way))
