"""Faults of a network's ends: features in another order or scale, and inputs or outputs taken for one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.auditing.faulty import Faulty, after, at_output, short
from refgrad.graph import Graph
from refgrad.ops import Rescaling, Take

_FEW = 32
"""Features of which any two may be swapped; of more none are."""


def _orders(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, Take]]:
    """Wrong orders of the last axis of an end of the network."""
    n = shape[-1] if shape else 1
    if n > 2:
        yield f"{name} is in reverse order", Take(tuple(reversed(range(n))))
    for i, j in combinations(range(n), 2) if n <= _FEW else ():
        order = list(range(n))
        order[i], order[j] = j, i
        yield f"{name}[{i}] and [{j}] are swapped", Take(tuple(order))


def reordered(graph: Graph, inputs: Sequence[Array]) -> Iterator[Faulty]:
    """The last axis of an input or output in another order."""
    del inputs
    for index, name in zip(graph.inputs, graph.input_names, strict=True):
        for phrase, op in _orders(f"input {short(name)}", graph.shapes[index]):
            yield phrase, after(graph, index, op)
    for place, (index, name) in enumerate(zip(graph.outputs, graph.output_names, strict=True)):
        for phrase, op in _orders(f"output {short(name)}", graph.shapes[index]):
            yield phrase, at_output(graph, place, op)


def _swapped(ends: tuple[int, ...], i: int, j: int) -> tuple[int, ...]:
    swapped = list(ends)
    swapped[i], swapped[j] = ends[j], ends[i]
    return tuple(swapped)


def exchanged(graph: Graph, inputs: Sequence[Array]) -> Iterator[Faulty]:
    """Two inputs, or two outputs, in each other's place."""
    del inputs
    for what, ends, names in (
        ("inputs", graph.inputs, graph.input_names),
        ("outputs", graph.outputs, graph.output_names),
    ):
        for i, j in combinations(range(len(ends)), 2):
            if graph.shapes[ends[i]] == graph.shapes[ends[j]]:
                changed: Any = {what: _swapped(ends, i, j)}
                yield f"{what} {short(names[i])} and {short(names[j])} are exchanged", replace(graph, **changed)


_SCALES: Mapping[str, tuple[float, float]] = {
    "divided by 255": (1 / 255, 0.0),
    "multiplied by 255": (255.0, 0.0),
    "scaled from 0…255 to −1…1": (1 / 127.5, -1.0),
    "doubled": (2.0, 0.0),
    "halved": (0.5, 0.0),
    "negated": (-1.0, 0.0),
}
"""What is done to numbers that should not be: factor and offset."""


def _rescaled(dtype: np.dtype[Any]) -> Iterator[tuple[str, Rescaling]]:
    for how, (scale, offset) in _SCALES.items():
        yield how, Rescaling(np.array(scale, dtype), np.array(offset, dtype))


def scaled_inputs(graph: Graph, inputs: Sequence[Array]) -> Iterator[Faulty]:
    """An input that is scaled, or standardised by its own samples."""
    for index, name, x in zip(graph.inputs, graph.input_names, inputs, strict=True):
        for how, op in _rescaled(graph.dtype):
            yield f"input {short(name)} is {how}", after(graph, index, op)
        mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
        if (deviation > 0).all():
            scale, offset = ((1 / deviation).astype(graph.dtype), (-mean / deviation).astype(graph.dtype))
            yield f"input {short(name)} is standardised", after(graph, index, Rescaling(scale, offset))


def scaled_outputs(graph: Graph, inputs: Sequence[Array]) -> Iterator[Faulty]:
    """An output that is scaled."""
    del inputs
    for place, name in enumerate(graph.output_names):
        for how, op in _rescaled(graph.dtype):
            yield f"output {short(name)} is {how}", at_output(graph, place, op)
