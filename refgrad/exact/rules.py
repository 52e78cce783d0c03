"""Every op as an exact function with an exact Jacobian: the table by op name, and the ops that stay in integers.

A rule takes the op, its inputs `(batch, n)` with flat features, and its site. It holds the op's mathematics once more,
as maps that are applied either way, and shares nothing with the op but its parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np

from refgrad.errors import UnsupportedError
from refgrad.exact import axiswise, pairwise
from refgrad.exact.activations import curve
from refgrad.exact.curves import pattern
from refgrad.exact.extremum import extreme, extremum
from refgrad.exact.local import Local, Site, identity, places, stretch
from refgrad.exact.maps import Kernel, Terms, diagonal, gather
from refgrad.exact.tensors import UNKNOWN, Mask, Tensor, assembled, constant, joined, rational, read
from refgrad.ops.movement import Movement
from refgrad.ops.op import Op

Rule = Callable[[Any, Sequence[Tensor], Site], Local]


def _source(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = x."""
    return Local(inputs[0], [identity(inputs[0].shape[-1])])


def _affine(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = x W + b."""
    if (op, "kernel") not in site.kept:
        site.kept[op, "kernel"] = Kernel(read(op.kernel))
        site.kept[op, "bias"] = site.parameter(op.bias)
    kernel = site.kept[op, "kernel"]
    return Local(kernel.push(inputs[0]) + site.kept[op, "bias"], [kernel])


def _elementwise(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = f(z)."""
    row = curve(op.activation, op.parameters, site.dtype, site.kink)
    value, slope, on = row.at(inputs[0])
    return Local(value, [diagonal(slope)], on if row.places else None)


_PRELU: Mapping[str, Callable[[Tensor], Tensor]] = {
    "keras": lambda alpha: alpha.times(0),
    "left": lambda alpha: alpha,
    "right": lambda alpha: constant(1, alpha.shape),
    "mean": lambda alpha: (alpha + constant(1, (1, 1))).times(rational(0.5)),
}


def _prelu(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = z above zero, α z below; the slope at 0 is 0 to Keras."""
    (z,), alpha = inputs, site.parameter(op.alpha)
    alpha = alpha.like(np.broadcast_to(alpha.numbers, z.shape))
    side = z.signs()
    above: Mask = (side == 1) | (side == UNKNOWN)
    below: Mask = (side == -1) | (side == UNKNOWN)
    on: Mask = (side == 0) | (side == UNKNOWN)
    value = assembled(z.shape, [(above | on, z[above | on]), (below, alpha[below] * z[below])])
    slopes = [(above, constant(1, (int(above.sum()),))), (below, alpha[below]), (on, _PRELU[site.kink](alpha)[on])]
    return Local(value, [diagonal(assembled(z.shape, slopes))], pattern(z.shape, [side]))


def _combination(weights: Callable[[int], Sequence[Any]]) -> Rule:
    def rule(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
        """y = Σ_i w_i x_i, stretched to each other."""
        n, parts, maps = math.prod(site.shape), [], []
        for x, shape, weight in zip(inputs, site.shapes, weights(len(inputs)), strict=True):
            sources = stretch(shape, site.shape)
            parts.append(x[:, sources].times(weight))
            maps.append(Terms(x.shape[-1], n, constant(weight, (1, n)), None, sources))
        return Local(reduce(lambda one, other: one + other, parts), maps)

    return rule


def _multiply(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = Π_i x_i, stretched to each other; ∂y/∂x_i is the product of the others."""
    n, sources = math.prod(site.shape), [stretch(shape, site.shape) for shape in site.shapes]
    parts = [x[:, taken] for x, taken in zip(inputs, sources, strict=True)]
    one: Tensor = constant(1, (1, n))

    def product(factors: Sequence[Tensor]) -> Tensor:
        return reduce(lambda left, right: left * right, factors, one)

    maps = [
        Terms(x.shape[-1], n, product([*parts[:i], *parts[i + 1 :]]), None, taken)
        for i, (x, taken) in enumerate(zip(inputs, sources, strict=True))
    ]
    return Local(product(parts), maps)


def _concatenate(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = [x_1, x_2, …] along the axis."""
    sizes = [x.shape[-1] for x in inputs]
    starts = [0, *accumulate(sizes)][:-1]
    whole = np.concatenate(
        [places(shape) + start for shape, start in zip(site.shapes, starts, strict=True)], axis=op.axis
    ).ravel()
    maps = []
    for size, start in zip(sizes, starts, strict=True):
        (targets,) = np.nonzero((whole >= start) & (whole < start + size))
        maps.append(Terms(size, len(whole), None, targets, whole[targets] - start))
    return Local(joined(inputs)[:, whole], maps)


def _movement(op: Movement, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = M x: where each number comes from is seen by moving their places."""
    moved: Any = op.moved(places(site.shapes[0])[None], 1)  # type: ignore[arg-type]
    sources = moved.ravel()
    return Local(inputs[0][:, sources], [gather(sources, inputs[0].shape[-1])])


def _rescaling(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = s x + o."""
    scale = site.parameter(op.scale)
    return Local(scale * inputs[0] + site.parameter(op.offset), [diagonal(scale)])


RULES: Mapping[str, Rule] = {
    "source": _source,
    "affine": _affine,
    "elementwise": _elementwise,
    "prelu": _prelu,
    "add": _combination(lambda count: [1] * count),
    "subtract": _combination(lambda count: [1, -1]),
    "average": _combination(lambda count: [rational(1) / count] * count),
    "multiply": _multiply,
    "maximum": extremum(1),
    "minimum": extremum(-1),
    "max": extreme(1),
    "min": extreme(-1),
    "divide": pairwise.divide,
    "power": pairwise.power,
    "partial": pairwise.partial(lambda name: RULES[name]),
    "concatenate": _concatenate,
    "rescaling": _rescaling,
    **axiswise.RULES,
}
"""The rule of every op by its name, but for those that only move numbers, which have one together."""


def rule(op: type[Op]) -> Rule:
    """The rule of an op, if it has one."""
    if issubclass(op, Movement):
        return _movement
    if op.name not in RULES:
        msg = f"{op.name} has no exact rule; there are {', '.join(RULES)}"
        raise UnsupportedError(msg)
    return RULES[op.name]
