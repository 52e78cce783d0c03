"""Ops along axes, and those with roots in them: exact Jacobians of low rank beside a diagonal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flint import arb

from refgrad.exact.local import Lines, Local, Site, identity, inverse, inverse_root, less, lines, places, root
from refgrad.exact.maps import Chain, Map, Sum, Terms, diagonal
from refgrad.exact.sparsemax import sparsemax
from refgrad.exact.tensors import UNKNOWN, Balls, Tensor, assembled, constant, rational
from refgrad.ops.axes import along, as_axes

_exp, _log = (np.frompyfunc(function, 1, 1) for function in (arb.exp, arb.log))


def _softmax_of(z: Tensor, axis: Any, site: Site) -> tuple[Lines, Balls, Tensor]:
    """Lines, every s = e^{z_i} / Σ e^{z_j}, and log Σ at every number."""
    rows = lines(site.shapes[0], as_axes(axis))
    terms = Balls(_exp(rows.split(z).balls().numbers))
    total = terms.total()
    return rows, rows.join(terms * inverse(total)).balls(), rows.join(Balls(_log(total.numbers)))


def _softmax(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = s; ẏ = s (ż − ⟨s, ż⟩)."""
    rows, s, _ = _softmax_of(inputs[0], op.axis, site)
    return Local(s, [Sum([diagonal(s), rows.added(s, -s)])])


def _log_softmax(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = z − log Σ e^{z_j}; ẏ = ż − ⟨s, ż⟩."""
    (z,) = inputs
    rows, s, logarithm = _softmax_of(z, op.axis, site)
    return Local(z - logarithm, [less(z.shape[-1], rows.added(s, constant(-1, (1, 1))))])


def _log_sum_exp(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = log Σ e^{x_j}; ẏ = ⟨s, ẋ⟩."""
    rows, s, logarithm = _softmax_of(inputs[0], op.axes, site)
    return Local(logarithm[:, rows.index[:, 0]], [rows.summed(s)])


def _sum(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = Σ_i x_i."""
    (x,), rows = inputs, lines(site.shapes[0], op.axes)
    return Local(rows.split(x).total()[..., 0], [rows.summed(None)])


def _glu(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = a g(b), [a, b] = x, g the sigmoid."""
    (x,), n = inputs, math.prod(site.shape)
    a, b = (half.ravel() for half in np.split(places(site.shapes[0]), 2, axis=op.axis))
    gate = Balls(1 / (1 + _exp(-x[:, b].balls().numbers)))
    closed = Balls(1 / (1 + _exp(x[:, b].balls().numbers)))
    size = x.shape[-1]
    by_b = x[:, a] * gate * closed
    return Local(x[:, a] * gate, [Sum([Terms(size, n, gate, None, a), Terms(size, n, by_b, None, b)])])


def _batch_normalization(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = (x − m) γ / √(v + ε) + β."""

    def of(array: Any, default: float) -> Tensor:
        return site.parameter(None if array is None else along(array, op.axis), default)

    spread = of(op.moving_variance, 0) + constant(site.single(op.epsilon), (1, 1))
    scale = of(op.gamma, 1) * inverse_root(spread)
    return Local((inputs[0] - of(op.moving_mean, 0)) * scale + of(op.beta, 0), [diagonal(scale)])


def _normalization(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = (x − m) / s or m + s x, s = max(√v, 1e-7)."""
    (x,), mean, variances = inputs, site.parameter(op.mean), site.parameter(op.variances)
    deviation, _ = _at_least(variances, site.single(1e-7))
    slope = deviation if op.invert else inverse(deviation)
    return Local(x * slope + mean if op.invert else (x - mean) * slope, [diagonal(slope)])


def _at_least(square: Tensor, least: float) -> tuple[Tensor, Any]:
    """max(√q, ε), and the sign of q − ε²."""
    bound = rational(least)
    side = (square - constant(bound * bound, (1,) * len(square.shape))).signs()
    above, below = (side == 1) | (side == UNKNOWN), side != 1
    parts = [(above, root(square[above])), (below, constant(bound, (int(below.sum()),)))]
    return assembled(square.shape, parts), side


def _layer_normalization(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = γ e + β, e = r (x − m), r = 1/√(v + ε); ẏ = γ r (ẋ − mean(ẋ) − e mean(e ẋ))."""
    (x,), rows = inputs, lines(site.shape, op.axes)
    size, share = x.shape[-1], rational(1) / rows.index.shape[1]
    held = rows.split(x)
    centred = held - held.total().times(share)
    e, scale = _over_its_root_mean_square(centred, rows, op, site)

    def of(array: Any, default: float) -> Tensor:
        if array is None:
            return site.parameter(None, default)
        sizes = dict(zip(op.axes, array.shape, strict=True))
        return site.parameter(array.reshape([sizes.get(axis, 1) for axis in range(op.axes[0], 0)]))

    gamma, shares = of(op.gamma, 1), constant(share, (1, size))
    projected = Sum([identity(size), rows.added(shares, constant(-1, (1, 1))), rows.added(e.times(share), -e)])
    return Local(gamma * e + of(op.beta, 0), [Chain([projected, diagonal(gamma * scale)])])


def _over_its_root_mean_square(held: Tensor, rows: Lines, op: Any, site: Site) -> tuple[Tensor, Tensor]:
    """e = r x, r = 1/√(mean(x²) + ε), of x given by lines; and r."""
    share = rational(1) / rows.index.shape[1]
    spread = (held * held).total().times(share) + constant(site.single(op.epsilon), (1, 1, 1))
    scale = rows.join(inverse_root(spread))
    return rows.join(held) * scale, scale


def _rms_normalization(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = γ e, e = r x, r = 1/√(mean(x²) + ε); ẏ = γ r (ẋ − e mean(e ẋ))."""
    (x,), rows = inputs, lines(site.shape, op.axes)
    e, scale = _over_its_root_mean_square(rows.split(x), rows, op, site)
    gamma, share = site.parameter(op.gamma, 1), rational(1) / rows.index.shape[1]
    projected = less(x.shape[-1], rows.added(e.times(share), -e))
    return Local(gamma * e, [Chain([projected, diagonal(gamma * scale)])])


def _unit_normalization(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """y = x / max(‖x‖, ε)."""
    e, step = _unit(inputs[0], lines(site.shape, op.axes), site.single(op.epsilon), site)
    return Local(e, [step])


_LENGTH_COUNTS = {"keras": 1.0, "left": 0.0, "right": 1.0, "mean": 0.5}


def _unit(x: Tensor, rows: Lines, epsilon: float, site: Site) -> tuple[Tensor, Map]:
    """e = x / max(‖x‖, ε), and ė = (ẋ − w e ⟨e, ẋ⟩) / max(‖x‖, ε), w whether the length counts."""
    held = rows.split(x)
    length, side = _at_least((held * held).total(), epsilon)
    scale = rows.join(inverse(length))
    e = x * scale
    counts = {-1: [0.0], 0: [_LENGTH_COUNTS[site.kink]], 1: [1.0], UNKNOWN: [0.0, 1.0]}
    parts = [
        (side == code, constant(number, (int((side == code).sum()),)))
        for code, numbers in counts.items()
        for number in numbers
    ]
    w = rows.join(assembled(side.shape, parts))
    return e, Chain([less(x.shape[-1], rows.added(w * e, -e)), diagonal(scale)])


def _dot(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
    """z_pq = Σ_i x_pi y_qi of vectors along an axis of each, divided by their lengths first if so."""
    every = [lines(shape, [axis]) for shape, axis in zip(site.shapes, op.axes, strict=True)]
    (p, n), q = every[0].index.shape, len(every[1].index)
    taken = [np.broadcast_to(index, (p, q, n)).ravel() for index in (every[0].index[:, None], every[1].index[None])]
    before: list[Map | None] = [None, None]
    vectors = list(inputs)
    if op.normalize:
        units = [_unit(x, rows, site.single(op.epsilon), site) for x, rows in zip(inputs, every, strict=True)]
        vectors, before = [e for e, _ in units], [step for _, step in units]
    x, y = (vector[:, index] for vector, index in zip(vectors, taken, strict=True))
    targets = np.repeat(np.arange(p * q), n)
    maps: list[Map] = []
    for step, other, index, given in zip(before, (y, x), taken, inputs, strict=True):
        term = Terms(given.shape[-1], p * q, other, targets, index)
        maps.append(term if step is None else Chain([step, term]))
    return Local((x * y).sums(np.arange(p * q) * n), maps)


RULES: Mapping[str, Callable[[Any, Sequence[Tensor], Site], Local]] = {
    "glu": _glu,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "sparsemax": sparsemax,
    "sum": _sum,
    "log_sum_exp": _log_sum_exp,
    "dot": _dot,
    "batch_normalization": _batch_normalization,
    "layer_normalization": _layer_normalization,
    "rms_normalization": _rms_normalization,
    "unit_normalization": _unit_normalization,
    "normalization": _normalization,
}
"""The rules of this room, by the names of their ops."""
