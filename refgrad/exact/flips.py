"""Which units rounding puts on another side of their kinks than the truth is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, flat
from refgrad.chunks import each
from refgrad.derivatives.products import values
from refgrad.exact.truth import Exact, evaluator, names_of
from refgrad.graph import Graph
from refgrad.network import Network

Codes = npt.NDArray[np.signedinteger]

_AT_ONCE = 1024
"""How many samples' values are held at once."""


def patterns(graph: Graph, computed: Sequence[Array]) -> dict[int, Codes]:
    """Which piece each unit of every node with kinks is on, `(batch, units)`, if these are the values of all nodes.

    They are seen exactly; samples that are not finite have the code −1.
    """
    samples = len(computed[0])
    (finite,) = np.nonzero(np.all([np.isfinite(flat(value)).all(axis=1) for value in computed], axis=0))
    ready = evaluator((graph, "keras", graph.dtype, 1))
    parts: list[tuple[slice, dict[int, Codes]]] = []

    def work(piece: slice) -> None:
        parts.append((piece, ready.patterns([value[finite[piece]] for value in computed])))

    each(work, len(finite), ready.at_once())
    found: dict[int, Codes] = {}
    for piece, codes in parts:
        for index, of_node in codes.items():
            whole = found.setdefault(index, np.full((samples, *of_node.shape[1:]), -1, np.intp))
            whole[finite[piece]] = of_node
    return found


def flips(net: Network, inputs: Sequence[Array], truth: Exact) -> list[tuple[str, ...]]:
    """For each sample of a batch, the units that the network's own arithmetic has elsewhere than `truth` has them.

    A unit's place is that of its pre-activation as NumPy computes it, seen exactly; what the truth leaves open is none.
    Kernels, and NumPy in batches of another length, add in another order and may flip others.
    """
    found: list[list[str]] = [[] for _ in inputs[0]]

    def work(piece: slice) -> None:
        seen = patterns(net.graph, values(net.graph, [x[piece] for x in inputs]))
        for (index, codes), name in zip(sorted(seen.items()), names_of(net.graph, sorted(seen)), strict=True):
            wanted = truth.pattern[name].reshape(len(found), -1)[piece]
            for sample, unit in np.argwhere((codes != wanted) & (wanted >= 0) & (codes >= 0)):
                place = ", ".join(map(str, np.unravel_index(unit, net.graph.shapes[index])))
                found[piece.start + sample].append(f"{name}[{place}]")

    each(work, len(found), _AT_ONCE)
    return [tuple(units) for units in found]
