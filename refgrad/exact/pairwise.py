"""Quotients, powers, and ops of two tensors of which one is a constant, exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from flint import arb, fmpq

from refgrad.exact.local import Local, Site, inverse, stretch
from refgrad.exact.maps import Terms
from refgrad.exact.tensors import UNKNOWN, Balls, Integers, Mask, Tensor, assembled, constant

Rule = Callable[[Any, Sequence[Tensor], Site], Local]

_LARGEST = 16
"""The largest exponent of powers in integers."""

_log = np.frompyfunc(arb.log, 1, 1)


def _pairwise(of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]) -> Rule:
    """The rule of a function that gives f(a, b), ∂f/∂a and ∂f/∂b."""

    def rule(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
        """y = f(a, b), stretched to each other."""
        sources = [stretch(shape, site.shape) for shape in site.shapes]
        a, b = (x[:, taken] for x, taken in zip(inputs, sources, strict=True))
        value, *slopes = of(a, b)
        size = math.prod(site.shape)
        maps = [
            Terms(x.shape[-1], size, slope, None, taken)
            for x, slope, taken in zip(inputs, slopes, sources, strict=True)
        ]
        return Local(value, maps)

    return rule


def _reciprocal(b: Tensor) -> Tensor:
    """1/b: exact where b is one rational number everywhere."""
    if isinstance(b, Integers) and b.numbers.size:
        first = b.numbers.flat[0]
        if first != 0 and (b.numbers == first).all():
            return constant(1 / (fmpq(first) * b.scale), b.shape)
    return inverse(b)


def _quotient(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a/b, 1/b and −y/b; of b = 0 nothing is known."""
    by_a = _reciprocal(b)
    value = a * by_a
    return value, by_a, -value * by_a


def _raised(a: Tensor, b: Tensor) -> Tensor:
    """aᵇ: in integers where every b is a small whole number, else in balls. Of a < 0 it is a number for whole b."""
    if isinstance(a, Integers) and isinstance(b, Integers):
        exponents = np.asarray(b.numbers * b.scale, object)
        if all(fmpq(k).q == 1 and 0 <= k <= _LARGEST for k in exponents.ravel()):
            masks = [(k, np.asarray(exponents == k, bool)) for k in range(_LARGEST + 1)]
            return assembled(a.shape, [(mask, _product(a[mask], k)) for k, mask in masks if mask.any()])
    return Balls(a.balls().numbers ** b.balls().numbers)


def _product(x: Tensor, count: int) -> Tensor:
    """A vector times itself so many times."""
    one: Tensor = constant(1, x.shape)
    return reduce(lambda left, right: left * right, [x] * count, one)


def _power(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """aᵇ, b aᵇ⁻¹, which is 0 where b is, and aᵇ log a, where log a counts as 0 if a ≤ 0."""
    value, lower = _raised(a, b), b + constant(-1, (1, 1))
    zero: Mask = b.signs() == 0
    some, side = ~zero, a.signs()
    by_a = assembled(
        a.shape, [(zero, constant(0, (int(zero.sum()),))), (some, b[some] * _raised(a[some], lower[some]))]
    )
    above: Mask = (side == 1) | (side == UNKNOWN)
    rest = ~above
    logarithm = Balls(_log(a[above].balls().numbers))
    by_b = assembled(a.shape, [(above, value[above] * logarithm), (rest, value[rest].times(0))])
    return value, by_a, by_b


divide, power = _pairwise(_quotient), _pairwise(_power)


def partial(rules: Callable[[str], Rule]) -> Rule:
    """The rule of an op of two tensors, found by its name, with a constant in one place."""

    def rule(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
        """y = f(c, x) or f(x, c)."""
        (x,), shape = inputs, op.constant.shape
        c = site.parameter(op.constant, shape=shape)
        c = c.like(np.broadcast_to(c.numbers, (x.shape[0], c.shape[-1])))
        first = op.place == 0
        both, shapes = ([c, x], (shape, *site.shapes)) if first else ([x, c], (*site.shapes, shape))
        found = rules(op.of)(op.whole, both, Site(shapes, site.shape, site.dtype, site.kink, site.kept))
        return Local(found.value, [found.maps[1 - op.place]], found.pattern)

    return rule
