"""Which units rounding puts on another side of their kinks than the truth is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refgrad.arrays import Array, flat
from refgrad.chunks import each
from refgrad.derivatives.products import values
from refgrad.exact.truth import Exact, evaluator, names_of
from refgrad.network import Network


def flips(net: Network, inputs: Sequence[Array], truth: Exact) -> list[tuple[str, ...]]:
    """For each sample of a batch, the units that the network's own arithmetic has elsewhere than `truth` has them.

    A unit's place is that of its pre-activation as NumPy computes it, seen exactly; what the truth leaves open is none.
    Kernels, and NumPy in batches of another length, add in another order and may flip others.
    """
    ready = evaluator((net.graph, "keras", net.dtype, 1))
    found: list[list[str]] = [[] for _ in inputs[0]]

    def work(piece: slice) -> None:
        computed = values(net.graph, [x[piece] for x in inputs])
        (finite,) = np.nonzero(np.all([np.isfinite(flat(value)).all(axis=1) for value in computed], axis=0))
        patterns = ready.patterns([value[finite] for value in computed])
        for (index, codes), name in zip(sorted(patterns.items()), names_of(net.graph, sorted(patterns)), strict=True):
            shape = net.graph.shapes[index]
            wanted = truth.pattern[name].reshape(len(found), -1)[piece][finite]
            for sample, unit in np.argwhere((codes != wanted) & (wanted >= 0)):
                place = ", ".join(map(str, np.unravel_index(unit, shape)))
                found[piece.start + finite[sample]].append(f"{name}[{place}]")

    each(work, len(found), ready.at_once())
    return [tuple(units) for units in found]
