"""Which units of which samples sit on a kink, or so near that rounding decides on which side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, flat
from refgrad.derivatives.products import Linearization, push
from refgrad.derivatives.spans import span
from refgrad.rounding import NEAR, unit_roundoff

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class NearKinks:
    """For each sample: whether a unit is near a kink, and near a jump, and which node and unit is nearest to one.

    `distance` is measured in rounding errors; where nothing has kinks it is infinite, and `node` is -1.
    """

    near: Mask
    jump: Mask
    distance: Array
    node: npt.NDArray[np.intp]
    unit: npt.NDArray[np.intp]


def joined(parts: Sequence[NearKinks]) -> NearKinks:
    """Those of a whole batch from those of its pieces, in order."""
    return NearKinks(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(NearKinks)))


def _moves(point: Linearization) -> list[Array]:
    """1 for units that move with the input, 0 for others, whose slope is idle, by pushing one generic tangent.

    A ReLU after a ReLU sits on its kink whenever the first is off, and nothing depends on it.
    """
    rng = np.random.default_rng(0)
    graph = point.graph
    generic = {
        index: rng.uniform(1, 2, size=(1, 1, *graph.shapes[index])).astype(graph.dtype) for index in graph.inputs
    }
    everywhere = range(len(graph.nodes))
    found = push(point, span(graph, graph.inputs, everywhere), generic)
    return [
        (found[index][0] != 0).astype(float) if index in found else np.zeros((1, *graph.shapes[index]))
        for index in everywhere
    ]


def distances(point: Linearization) -> Iterator[tuple[int, Array, Array | None]]:
    """Every node that has kinks or jumps: its units' distances to the nearest of either, and of the jumps alone.

    Units that do not move with the input are infinitely far away.
    """
    graph, moves = point.graph, _moves(point)
    for index, node in enumerate(graph.nodes):
        inputs = tuple(point.values[source] for source in node.inputs)
        distance, to_jump = node.op.margins(inputs), node.op.jump_margins(inputs)
        if distance is None:
            continue
        moving = node.op.noise(0.0, inputs, tuple(moves[source] for source in node.inputs)) != 0
        held = None if to_jump is None else flat(np.where(moving, to_jump, np.inf))
        yield index, flat(np.where(moving, distance, np.inf)), held


def on_kink(point: Linearization) -> tuple[int, str] | None:
    """The first sample and unit that sits exactly on a kink, if any does."""
    for index, distance, _ in distances(point):
        hits = np.argwhere(distance == 0)
        if len(hits):
            sample, unit = hits[0]
            return int(sample), f"{point.graph.nodes[index].name}[{unit}]"
    return None


def closeness(point: Linearization, sigma: Sequence[Array]) -> Iterator[tuple[int, Array, Mask | None]]:
    """Every node that has kinks or jumps: its units' distances to the nearest, in σ(z); and which are near a jump."""
    graph, u = point.graph, unit_roundoff(point.graph.dtype)
    for index, distance, to_jump in distances(point):
        sources = graph.nodes[index].inputs
        inputs, sigmas = (tuple(found[source] for source in sources) for found in (point.values, sigma))
        noise = graph.nodes[index].op.noise(u, inputs, sigmas)
        noise = flat(np.broadcast_to(noise, point.values[index].shape))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(distance == 0, 0, distance / noise)
        yield index, ratio, None if to_jump is None else to_jump <= NEAR * noise


def near_kinks(point: Linearization, sigma: Sequence[Array]) -> NearKinks:
    """Samples with a unit within 8 σ(z) of a kink; `sigma` are all nodes' deviations by the model of `rounding`."""
    samples = np.arange(len(point.values[point.graph.inputs[0]]))
    least, jump = np.full(len(samples), np.inf), np.zeros(len(samples), bool)
    nearest_node, nearest_unit = np.full(len(samples), -1), np.zeros(len(samples), np.intp)
    for index, ratio, jumps in closeness(point, sigma):
        if jumps is not None:
            jump |= jumps.any(axis=1)
        unit = ratio.argmin(axis=1)
        closer = ratio[samples, unit] < least
        least[closer] = ratio[samples, unit][closer]
        nearest_node[closer], nearest_unit[closer] = index, unit[closer]
    return NearKinks(least <= NEAR, jump, least, nearest_node, nearest_unit)
