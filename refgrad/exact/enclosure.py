r"""All that the floats of a network can be, whatever the order of the arithmetic: what lies outside is proved wrong.

A float operation errs by a factor 1 + δ, |δ| ≤ u, and a sum of products of k roundings, in any order, fused or not
(Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., §3.1), by

    |fl(Σ w_i x_i) − Σ w_i x_i| ≤ γ_k Σ |w_i| |x_i|,        γ_k = k u / (1 − k u)

Balls (Moore) carry this from op to op: what an op reads is anywhere in its ball, and what it gives is widened by its
own γ_k. Units whose ball holds a kink count with the slopes of all its sides. A Jacobian is a product of local ones in
any association, each rounded: it is widened by γ_N times the product of their absolute values, N all roundings
together. Whatever is below the least normal number may also be taken for zero.

Assumed of a framework, by name: an activation errs by at most c u max(1, |f|, |z|) max(1, |z|), and its slope by c u
max(1, |f′|), for the c that the caller gives. Ops that are computed by formulas of their own, such as softmax, have no
bound here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
from flint import arb

from refgrad.arrays import Array, flat
from refgrad.exact.evaluate import START, Evaluator, Pieces, for_each, held
from refgrad.exact.local import Local, Site
from refgrad.exact.maps import Chain, Kernel, Map, Sum, Terms, diagonal
from refgrad.exact.nearest import Rounded, rounded
from refgrad.exact.tensors import Balls, Integers, Tensor, read
from refgrad.graph import Graph
from refgrad.ops import Elementwise
from refgrad.ops.axes import along
from refgrad.ops.movement import Movement
from refgrad.ops.op import Op

Accuracy = Callable[[Op], float | None]
"""c of an activation; None where nothing is known."""

_upper = np.frompyfunc(lambda number: arb(number).abs_upper(), 1, 1)
_widened = np.frompyfunc(lambda number, radius: arb(number) + arb(0, radius), 2, 1)
_larger = np.frompyfunc(lambda one, other: other if other > one else one, 2, 1)


def _size(x: Tensor) -> Balls:
    """The largest |x| that a ball holds, as a point."""
    return Balls(_upper(x.balls().numbers))


def _absolute(step: Map) -> Map:
    """A map whose coefficients are at least as large as any that a map's balls hold, and positive."""
    if isinstance(step, Kernel):
        return Kernel(Integers(abs(step.matrix.numbers), step.matrix.scale))
    if isinstance(step, Terms):
        return replace(step, coefficients=None if step.coefficients is None else _size(step.coefficients))
    if isinstance(step, Chain | Sum):
        return type(step)([_absolute(part) for part in step.maps])
    raise TypeError(step)


def _terms(op: Op, site: Site) -> tuple[int, int]:
    """Of ops that add or compare: a rounding for each input, and going back one for each number that was stretched."""
    stretched = any(shape != site.shape for shape in site.shapes)
    return len(site.shapes) + 1, math.prod(site.shape) if stretched else len(site.shapes)


_ROUNDINGS: Mapping[str, Callable[[Any, Site], tuple[int, int]]] = {
    "affine": lambda op, site: (len(op.kernel) + 2, max(op.kernel.shape) + 1),
    "rescaling": lambda op, site: (2, 1),
    "batch_normalization": lambda op, site: (12, 8),
    "prelu": lambda op, site: (2, 2),
    "source": lambda op, site: (0, 0),
    "concatenate": lambda op, site: (0, 0),
    "multiply": lambda op, site: (len(site.shapes), math.prod(site.shape) + len(site.shapes)),
    **dict.fromkeys(("add", "subtract", "average", "maximum", "minimum"), _terms),
}
"""k of an op's value, and of its Jacobian applied from either side."""

_CONSTANTS: Mapping[str, Callable[[Any, Local, Site], Tensor]] = {
    "affine": lambda op, local, site: _size(site.parameter(op.bias)),
    "rescaling": lambda op, local, site: _size(site.parameter(op.offset)),
    "batch_normalization": lambda op, local, site: (
        _size(
            site.parameter(along(op.moving_mean, op.axis)) * local.maps[0].coefficients  # type: ignore[attr-defined]
        )
        + _size(site.parameter(None if op.beta is None else along(op.beta, op.axis)))
    ),
}
"""The largest of what is added to the terms of an op."""


def _roundings(op: Op, site: Site) -> tuple[int, int] | None:
    if isinstance(op, Movement):
        return 0, math.prod(site.shape)
    return _ROUNDINGS[op.name](op, site) if op.name in _ROUNDINGS else None


@dataclass(eq=False)
class _Widening:
    """Rounding in arithmetic of unit roundoff u and least normal number η, and what has come of it so far."""

    u: Any
    eta: Any
    accuracy: Accuracy
    roundings: int = 0
    growth: Any = field(default_factory=lambda: arb(1))
    numbers: int = 0

    def gamma(self, k: int) -> Any:
        """k u / (1 − k u)."""
        return arb(k) * self.u / (1 - arb(k) * self.u)

    def local(self, op: Op, local: Local, reads: Sequence[Tensor], site: Site) -> Local | None:
        """An op at its reads, its value and its slopes widened; None where no bound of it is known."""
        made = (
            self._activation(op, local, reads[0]) if isinstance(op, Elementwise) else self._sum(op, local, reads, site)
        )
        if made is None:
            return None
        # What is taken for zero on the way errs by η, times all that follows or comes before.
        self.numbers += math.prod(site.shape)
        ones = Balls(np.full((1, math.prod(site.shape)), arb(1), object))
        for step in made.maps:
            self.growth *= _most(_absolute(step).pull(ones))
        return made

    def _sum(self, op: Op, local: Local, reads: Sequence[Tensor], site: Site) -> Local | None:
        found = _roundings(op, site)
        if found is None:
            return None
        k, by_jacobian = found
        self.roundings += by_jacobian + len(reads)
        if k == 0:
            return local
        total = reduce(
            lambda one, other: one + other,
            [_absolute(step).push(_size(x)) for step, x in zip(local.maps, reads, strict=True)],
        )
        if op.name in _CONSTANTS:
            total = total + _CONSTANTS[op.name](op, local, site)
        radius = _upper(total.balls().numbers * self.gamma(k) + self.eta * k)
        return replace(local, value=Balls(_widened(local.value.balls().numbers, radius)))

    def _activation(self, op: Elementwise, local: Local, z: Tensor) -> Local | None:
        c = self.accuracy(op)
        if c is None:
            return None
        self.roundings += 2
        if c == 0:
            return local
        (step,) = local.maps
        slope = step.coefficients  # type: ignore[attr-defined]
        one, of_z = np.full(z.shape, arb(1), object), _size(z).numbers
        size = _larger(_larger(_size(local.value).numbers, of_z), one) * _larger(of_z, one)
        value = _widened(local.value.balls().numbers, size * (c * self.u) + self.eta)
        by = _larger(_size(slope).numbers, one) * (c * self.u)
        return replace(local, value=Balls(value), maps=[diagonal(Balls(_widened(slope.balls().numbers, by)))])


def _most(x: Tensor) -> Any:
    """The largest number, and at least 1."""
    return reduce(lambda one, other: other if other > one else one, _upper(x.balls().numbers).ravel(), arb(1))


def enclosure(graph: Graph, inputs: Sequence[Array], accuracy: Accuracy) -> Pieces | None:
    """Intervals for the values and Jacobians at samples `(batch, *in)` in arithmetic of the graph's dtype.

    The `lower` and `upper` of what is returned; None where an op has no bound. No kinks are decided by rounding here:
    all that it can make of a unit is inside.
    """
    ready, limits = Evaluator(graph, "keras", np.dtype(np.float64), START), np.finfo(graph.dtype)
    with held(START):
        widening = _Widening(arb(float(limits.eps)) / 2, arb(float(limits.tiny)), accuracy)
        given = {index: read(flat(x)) for index, x in zip(graph.inputs, inputs, strict=True)}
        point: list[Local] = []
        for index, (node, of, site) in enumerate(zip(graph.nodes, ready.rules, ready.sites, strict=True)):
            reads = [given[index]] if index in given else [point[source].value for source in node.inputs]
            made = widening.local(node.op, of(node.op, reads, site), reads, site)
            if made is None:
                return None
            point.append(made)
        sizes = [Local(local.value, [_absolute(step) for step in local.maps]) for local in point]
        flushed = widening.eta * widening.numbers * widening.growth
        by = widening.gamma(widening.roundings)
        blocks: list[list[Rounded]] = [[] for _ in graph.outputs]
        for (o, _, block), (*_, size) in zip(ready.blocks(point), ready.blocks(sizes), strict=True):
            radius = _upper(size.balls().numbers * by + flushed)
            found = rounded(Balls(_widened(block.balls().numbers, radius)), ready.dtype)
            blocks[o].append(for_each(found, len(inputs[0])))
        values = [rounded(point[index].value, ready.dtype) for index in graph.outputs]
    return Pieces(values, blocks, {}, np.full(len(inputs[0]), START))
