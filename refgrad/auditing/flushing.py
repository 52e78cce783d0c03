"""A network computed by a machine that takes numbers below the least normal one for zero, as many do for speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refgrad.arrays import Array, flat
from refgrad.auditing.gaps import Mask
from refgrad.derivatives.products import Linearization
from refgrad.graph import Graph, Node


def _normal(array: Array, tiny: float) -> Array:
    return np.where(np.abs(array) < tiny, array.dtype.type(0), array)


def flushed(graph: Graph, inputs: Sequence[Array], tiny: float) -> tuple[Linearization, Mask]:
    """The graph so computed at some samples, and at which of them a number was lost.

    Parameters, inputs and what nodes give count; a Jacobian's own products do not.
    """
    given = dict(zip(graph.inputs, inputs, strict=True))
    lost = np.zeros(len(inputs[0]), bool)
    nodes: list[Node] = []
    values: list[Array] = []
    tapes: list[Any] = []
    for index, node in enumerate(graph.nodes):
        arrays = {name: _normal(array, tiny) for name, array in node.op.arrays().items()}
        lost |= any((array != node.op.arrays()[name]).any() for name, array in arrays.items())
        node = replace(node, op=replace(node.op, **arrays))
        arguments = [_normal(given[index], tiny)] if index in given else [values[source] for source in node.inputs]
        value, tape = node.op.linearize(*arguments, kink="keras")
        if index in given:
            lost |= (flat(given[index]) != flat(value)).any(axis=1)
        small = _normal(value, tiny)
        lost |= (flat(small) != flat(value)).any(axis=1)
        nodes.append(node)
        values.append(small)
        tapes.append(tape)
    return Linearization(replace(graph, nodes=tuple(nodes)), tuple(values), tuple(tapes)), lost
