"""The noise model as its equations say it, in units of u², of exact inputs: what each op's own roundings add.

Not how the ops compute it: vectors by `einsum`, every sum on its way, and nothing of refgrad.
"""

from __future__ import annotations

import numpy as np


def _aligned(xs, rank):
    return [x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in xs]


def _combination(signs, divided):
    def own(p, xs, y):
        terms = [sign * x for sign, x in zip(signs(len(xs)), _aligned(xs, y.ndim), strict=True)]
        sums = [sum(terms[: last + 1]) for last in range(1, len(terms))]
        n = len(xs) if divided else 1
        return sum((s**2 / n**2 for s in sums), np.zeros_like(y)) + (y**2 if n > 1 else 0)

    return own


def _along(p, x, vector):
    """A vector along `axis`, and None as it is."""
    if vector is None:
        return None
    return np.moveaxis(np.broadcast_to(vector, (*np.moveaxis(x, p["axis"], -1).shape,)), -1, p["axis"])


def _batch_normalization(p, xs, y):
    (x,) = xs
    m, v, gamma, beta = (_along(p, x, p[name]) for name in ("moving_mean", "moving_variance", "gamma", "beta"))
    s = (1 if gamma is None else gamma) / np.sqrt(v + p["epsilon"])
    return (x * s) ** 2 + 2 * (m * s) ** 2 + (0 if beta is None else beta**2) + y**2 + 4 * ((x - m) * s) ** 2


def _normalization(p, xs, y):
    s = np.maximum(np.sqrt(p["variances"]), 1e-7)
    return 2 * (s * xs[0]) ** 2 + y**2 if p["invert"] else 3 * y**2


def unit_vectors(p, x, axis):
    """e and r of x / max(‖x‖, ε), and whether ‖x‖ counts."""
    norm = np.sqrt((x**2).sum(axis=axis, keepdims=True))
    if not p["normalize"]:
        return x, 1.0, 0.0
    r = 1 / np.maximum(norm, p["epsilon"])
    return x * r, r, norm > p["epsilon"]


def products(p, one, other, y):
    """Σ_i x_i y_i over the two axes, for every pair of vectors, in the shape of y."""
    one, other = np.moveaxis(one, p["axes"][0], -1), np.moveaxis(other, p["axes"][1], -1)
    one, other = (part.reshape(len(part), -1, part.shape[-1]) for part in (one, other))
    return np.einsum("bpi,bqi->bpq", one, other).reshape(y.shape)


def _dot(p, xs, y):
    (one, *_), (other, *_) = (unit_vectors(p, x, axis) for x, axis in zip(xs, p["axes"], strict=True))
    n = one.shape[p["axes"][0]]
    return max(1, n / 6) * products(p, one**2, other**2, y) + (9 if p["normalize"] else 1) * y**2


def carried_by_dot(p, xs, variances, y):
    """σ²(e_i) = r² (σ²(x_i) + w e_i² Σ_j e_j² σ²(x_j)) of both, through the product."""
    units, spreads = [], []
    for x, v, axis in zip(xs, variances, p["axes"], strict=True):
        e, r, w = unit_vectors(p, x, axis)
        units.append(e**2)
        spreads.append(r**2 * (v + w * e**2 * (e**2 * v).sum(axis=axis, keepdims=True)))
    return products(p, spreads[0], units[1], y) + products(p, units[0], spreads[1], y)


def _layer(p, x, y, s, own):
    """γ² (r² (s_i + (mean s + e_i² mean(e² s)) 2/n + own σ²(m)) + own 4 e_i²) + own (β² + y²)."""
    axes = p["axes"]
    n = np.prod([x.shape[axis] for axis in axes])

    def mean(array):
        return array.sum(axis=axes, keepdims=True) / n

    laid = [1 if axis not in axes else x.shape[axis] for axis in range(axes[0], 0)]
    gamma, beta = (none if p[name] is None else p[name].reshape(laid) for name, none in (("gamma", 1), ("beta", 0)))
    m = mean(x)
    t = x - m
    r = 1 / np.sqrt(mean(t**2) + p["epsilon"])
    e = r * t
    s = s + own * t**2
    of_m = own * (m**2 + max(1, n / 6) * mean(x**2) / n)
    inside = r**2 * (s + (mean(s) + e**2 * mean(e**2 * s)) * 2 / n + of_m) + 4 * own * e**2
    return gamma**2 * inside + own * (beta**2 + y**2)


def carried_by_layer_normalization(p, xs, variances, y):
    """The equation without u."""
    return _layer(p, xs[0], y, variances[0], 0)


def carried_by_rms_normalization(p, xs, variances, y):
    """γ² r² (σ²(x_i) + e_i² mean(e² σ²(x)) 2/n)."""
    (x,), (v,), axes = xs, variances, p["axes"]
    n = np.prod([x.shape[axis] for axis in axes])
    r = 1 / np.sqrt((x**2).sum(axis=axes, keepdims=True) / n + p["epsilon"])
    gamma = 1 if p["gamma"] is None else p["gamma"]
    return gamma**2 * r**2 * (v + 2 * (r * x) ** 2 * (r**2 * x**2 * v).sum(axis=axes, keepdims=True) / n**2)


def carried_by_unit_normalization(p, xs, variances, y):
    """r² (σ²(x_i) + 2 w e_i² Σ e² σ²(x))."""
    (x,), (v,), axes = xs, variances, p["axes"]
    length = np.sqrt((x**2).sum(axis=axes, keepdims=True))
    r = 1 / np.maximum(length, p["epsilon"])
    return r**2 * (v + 2 * (length > p["epsilon"]) * (r * x) ** 2 * (r**2 * x**2 * v).sum(axis=axes, keepdims=True))


def _log_softmax(p, x):
    """s, log Σ and u⁻² σ²(log s) by the whole matrix (δ_ij − s_j)²."""
    axes = p["axis"] if isinstance(p["axis"], tuple) else (p["axis"],)
    moved = np.moveaxis(x, axes, range(-len(axes), 0))
    rows = moved.reshape(*moved.shape[: -len(axes)], -1)
    n, z = rows.shape[-1], rows - rows.max(axis=-1, keepdims=True)
    total = np.exp(z).sum(axis=-1, keepdims=True)
    s = np.exp(z) / total
    matrix = (np.eye(n) - s[..., None, :]) ** 2
    spread = np.einsum("...ij,...j->...i", matrix, z**2 + 4) + max(1, n / 6) * (s**2).sum(axis=-1, keepdims=True)

    def back(array):
        return np.moveaxis(np.broadcast_to(array, rows.shape).reshape(moved.shape), range(-len(axes), 0), axes)

    return back(s), back(np.log(total)), back(spread)


def _softmax_own(p, xs, y):
    s, _, spread = _log_softmax(p, xs[0])
    return s**2 * (spread + 2)


def _log_softmax_own(p, xs, y):
    _, log_sum, spread = _log_softmax(p, xs[0])
    return spread + y**2 + log_sum**2


def _sparsemax(p, xs, y):
    """2 Σ_{r≤k} C_r² + 2 τ², and y², above the threshold."""
    own = np.zeros_like(y)
    rows, out, values = (np.moveaxis(array, p["axis"], -1) for array in (xs[0], own, y))
    for place in np.ndindex(rows.shape[:-1]):
        ranked = sorted(rows[place], reverse=True)
        sums = [sum(ranked[:r]) for r in range(1, len(ranked) + 1)]
        inside = [c for r, (z, c) in enumerate(zip(ranked, sums, strict=True), 1) if r * z > c - 1]
        tau = (sum(inside) - 1) / len(inside)
        total = 2 * sum(c**2 for c in inside) + 2 * tau**2
        out[place] = [total + value**2 if value > 0 else 0 for value in values[place]]
    return own


def _partial(p, xs, y):
    """As of both, of which only the one moves."""
    squares = {"add": y**2, "subtract": y**2, "multiply": y**2, "divide": y**2, "power": 4 * y**2}
    return squares.get(p["of"], np.zeros_like(y))


def _summed(p, x):
    return x.sum(axis=p["axes"], keepdims=p["keepdims"])


def _count(p, x):
    return np.prod([x.shape[axis] for axis in p["axes"]])


def _log_sum_exp(p, xs, y):
    (x,) = xs
    z = x - x.max(axis=p["axes"], keepdims=True)
    total = np.exp(z).sum(axis=p["axes"], keepdims=True)
    s = np.exp(z) / total
    each = s**2 * (z**2 + 4 + max(1, _count(p, x) / 6))
    return _summed(p, each) + y**2 + np.log(total).reshape(y.shape) ** 2


def _nothing(p, xs, y):
    return np.zeros_like(y)


OWN = {
    **dict.fromkeys(
        ["maximum", "minimum", "max", "min", "take", "concatenate", "reshape", "permute", "repeat"], _nothing
    ),
    "add": _combination(lambda n: [1] * n, False),
    "subtract": _combination(lambda n: [1, -1], False),
    "average": _combination(lambda n: [1] * n, True),
    "divide": lambda p, xs, y: y**2,
    "power": lambda p, xs, y: 4 * y**2,
    "partial": _partial,
    "sum": lambda p, xs, y: max(1, _count(p, xs[0]) / 6) * _summed(p, xs[0] ** 2) + y**2,
    "log_sum_exp": _log_sum_exp,
    "multiply": lambda p, xs, y: (len(xs) - 1) * y**2,
    "prelu": lambda p, xs, y: np.where(xs[0] < 0, y**2, 0),
    "batch_normalization": _batch_normalization,
    "normalization": _normalization,
    "rescaling": lambda p, xs, y: (p["scale"] * xs[0]) ** 2 + y**2,
    "layer_normalization": lambda p, xs, y: _layer(p, xs[0], y, 0 * xs[0], 1),
    "rms_normalization": lambda p, xs, y: 8 * y**2,
    "unit_normalization": lambda p, xs, y: 6 * y**2,
    "dot": _dot,
    "softmax": _softmax_own,
    "log_softmax": _log_softmax_own,
    "sparsemax": _sparsemax,
    "glu": lambda p, xs, y: 4 * y**2,
}
BOUNDED = {
    "dot": carried_by_dot,
    "layer_normalization": carried_by_layer_normalization,
    "rms_normalization": carried_by_rms_normalization,
    "unit_normalization": carried_by_unit_normalization,
}
"""Ops that carry their inputs' variances by a bound; the others by the squares of the Jacobian."""
