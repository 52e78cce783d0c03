"""Which units of which samples sit on a kink, or so near that rounding decides on which side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array
from refgrad.graph import Graph
from refgrad.rounding import NEAR, variances

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class NearKinks:
    """For each sample: whether a unit is near a kink, and which node and unit is nearest for its rounding error.

    `node` is -1 where nothing has kinks.
    """

    near: Mask
    node: npt.NDArray[np.intp]
    unit: npt.NDArray[np.intp]


def _margins(graph: Graph, values: Sequence[Array]) -> Iterator[tuple[int, Array]]:
    """Every node that has kinks, with its units' distances to them, `(batch, units)`."""
    for index, node in enumerate(graph.nodes):
        distance = node.op.margins(tuple(values[source] for source in node.inputs))
        if distance is not None:
            yield index, distance.reshape(len(distance), math.prod(distance.shape[1:]))


def on_kink(graph: Graph, values: Sequence[Array]) -> tuple[int, str] | None:
    """The first sample and unit that sits exactly on a kink, if any does."""
    for index, distance in _margins(graph, values):
        hits = np.argwhere(distance == 0)
        if len(hits):
            sample, unit = hits[0]
            return int(sample), f"{graph.nodes[index].name}[{unit}]"
    return None


def near_kinks(graph: Graph, values: Sequence[Array]) -> NearKinks:
    """Samples with a unit within 8 σ(z) of a kink, by the noise model of `rounding`."""
    sigma = [np.sqrt(variance) for variance in variances(graph, values)]
    samples = np.arange(len(values[graph.inputs[0]]))
    least = np.full(len(samples), np.inf)
    nearest_node, nearest_unit = np.full(len(samples), -1), np.zeros(len(samples), np.intp)
    for index, distance in _margins(graph, values):
        noise = sum(sigma[source] for source in graph.nodes[index].inputs)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(distance == 0, 0, distance / np.reshape(noise, distance.shape))
        unit = ratio.argmin(axis=1)
        closer = ratio[samples, unit] < least
        least[closer] = ratio[samples, unit][closer]
        nearest_node[closer], nearest_unit[closer] = index, unit[closer]
    return NearKinks(least <= NEAR, nearest_node, nearest_unit)
