"""Keras's sparsemax, exactly: ranks, support and threshold are decided by signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flint import arb

from refgrad.exact.curves import pattern
from refgrad.exact.local import Local, Site, less, lines
from refgrad.exact.maps import Chain, diagonal
from refgrad.exact.tensors import UNKNOWN, Balls, Mask, Tensor, assembled, constant, rational, rationals

_AT_EDGE: Mapping[str, float] = {"keras": 1.0, "left": 0.0, "right": 1.0, "mean": 0.5}


def _threshold(z: Tensor) -> tuple[Tensor, Tensor, Mask]:
    """τ `(batch, lines, 1)`, ∂τ/∂z, and the lines where balls cannot tell ranks or support apart.

    τ = (Σ_{r≤k} C_r − 1)/k, C_r the sum of the r largest, k the number of r with r z_(r) > C_r − 1.
    """
    n = z.shape[-1]
    order = np.argsort(-z.numbers, axis=-1, kind="stable")
    ranked = z.like(np.take_along_axis(z.numbers, order, -1))
    unsure = ((ranked[..., :-1] - ranked[..., 1:]).signs() == UNKNOWN).any(axis=-1)
    sums = ranked.like(np.add.accumulate(ranked.numbers, axis=-1))
    one, rank = constant(1, (1, 1, 1)), np.arange(1, n + 1)
    gap = (ranked * rationals(rank.tolist()).reshape(1, 1, n) - sums + one).signs()
    unsure |= (gap == UNKNOWN).any(axis=-1)
    inside = gap == 1
    k = np.maximum(inside.sum(axis=-1, keepdims=True), 1)
    each = rationals([rational(1) / int(count) for count in k.ravel()]).reshape(*k.shape)
    kept = sums * rationals(inside.astype(int).ravel().tolist()).reshape(*inside.shape)
    tau = (kept.total() - one) * each
    weights = np.empty(z.shape, int)
    np.put_along_axis(weights, order, np.where(inside, k - rank + 1, 0), -1)
    return tau, rationals(weights.ravel().tolist()).reshape(*z.shape) * each, unsure


def sparsemax(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = max(z − τ, 0); ẏ = m (ż − ⟨∂τ/∂z, ż⟩), m whether z ≥ τ."""
    (z,), rows = inputs, lines(site.shape, [op.axis])
    tau, weights, unsure = _threshold(rows.split(z))
    above = z - rows.join(tau)
    if unsure.any():
        above = Balls(np.where(unsure[:, rows.line], arb.nan(), above.balls().numbers))
    side = above.signs()
    sides = {1: 1.0, 0: _AT_EDGE[site.kink], -1: 0.0, UNKNOWN: 1.0}
    slopes = [(side == code, constant(slope, (int((side == code).sum()),))) for code, slope in sides.items()]
    maybe = side == UNKNOWN
    slopes.append((maybe, constant(0, (int(maybe.sum()),))))
    kept = (side == 1) | maybe
    value = assembled(z.shape, [(kept, above[kept]), (side != 1, constant(0, (int((side != 1).sum()),)))])
    slope = assembled(z.shape, slopes)
    if unsure.any():
        slope = Balls(np.where(unsure[:, rows.line], arb.nan(), slope.balls().numbers))
    subtracted = less(z.shape[-1], rows.added(rows.join(weights), constant(-1, (1, 1))))
    return Local(value, [Chain([subtracted, diagonal(slope)])], pattern(z.shape, [side]))
