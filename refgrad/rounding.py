"""How far rounding can move a number: what "equal" and "near a kink" mean, once for the whole project."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.graph import Graph
from refgrad.ops import Concatenate, Elementwise
from refgrad.ops.movement import Movement

NEAR = 8.0
"""A unit is near a kink within this many standard deviations of its rounding error."""

AWAY = 0.9
"""A comparison in which fewer than this share of the samples is away from kinks shows nothing."""


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """u = ε/2: 2⁻²⁴ in float32, 2⁻⁵³ in float64."""
    return float(np.finfo(dtype).eps) / 2


def tolerance(graph: Graph) -> float:
    """Largest difference between two right answers, relative to the largest entry over the set of samples.

    1e-13 in float64; 64 u √(Σ widths) in float32: measured, not proved (rigorous bounds are 10² to 10⁶ times looser).
    """
    if graph.dtype == np.float64:
        return 1e-13
    # An activation, or an op that moves numbers, hands on those of nodes before it, whose widths are counted already.
    passing = (Elementwise, Movement, Concatenate)
    own = (shape for node, shape in zip(graph.nodes, graph.shapes, strict=True) if not isinstance(node.op, passing))
    return 64 * unit_roundoff(graph.dtype) * math.sqrt(sum(math.prod(shape) for shape in own))


def deviations(graph: Graph, values: Sequence[Array]) -> list[Array]:
    """Standard deviation σ of every node's rounding error: the root of `variances`."""
    return [np.sqrt(variance) for variance in variances(graph, values)]


def variances(graph: Graph, values: Sequence[Array]) -> list[Array]:
    """Variance σ² of every node's rounding error, in float64, `(batch, *shape)`; inputs are exact.

    `values` are all nodes' values. See each op's `variance` for the model: on He-random nets the error measured is at
    most 4.7 σ.
    """
    u = unit_roundoff(graph.dtype)
    wide = [value.astype(np.float64) for value in values]
    found: list[Array] = []
    for node, value in zip(graph.nodes, wide, strict=True):
        inputs = tuple(wide[source] for source in node.inputs)
        before = tuple(found[source] for source in node.inputs)
        found.append(node.op.variance(u, inputs, value, before or (np.zeros_like(value),)))
    return found
