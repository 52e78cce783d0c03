"""The rows of the activation table as curves: the real functions that are meant, each with its derivative.

Parameters and the decimal constants 0.2, 0.044715, λ and λα are floats of the network's dtype, as in the framework; √2
and √(2/π) are themselves. Which slope counts on a kink is what the table of `refgrad.activations` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flint import arb

from refgrad.activations import ACTIVATIONS, Kink
from refgrad.exact.curves import Curve, Piece, Place, polynomial, smooth
from refgrad.exact.mathematical import WHOLE
from refgrad.exact.tensors import rational
from refgrad.ops.op import KinkPolicy

_OF_LEFT, _OF_RIGHT = 0, 1
"""Which of its two pieces a place belongs to; it may also have a piece of its own."""

Parts = list[Any]
"""Pieces, and between each two of them the place where they meet and which of them it belongs to."""

Single = Callable[[float], float]
"""Rounds to the network's dtype."""

_exp, _expm1, _log1p, _sqrt, _tanh, _cosh, _erfc = (
    np.frompyfunc(function, 1, 1)
    for function in (arb.exp, arb.expm1, arb.log1p, arb.sqrt, arb.tanh, arb.cosh, arb.erfc)
)

_ZERO, _ONE, _SAME = polynomial(0), polynomial(1), polynomial(0, 1)
_SIXTH = rational(1) / 6


def _relu(_: Single, most: float, slope: float, start: float) -> Parts:
    below = polynomial(-rational(slope) * rational(start), slope)
    if most <= start:
        return [below, (start, _OF_LEFT), polynomial(most)]
    return [below, (start, _OF_LEFT), _SAME, *([] if most == math.inf else [(most, _OF_LEFT), polynomial(most)])]


def _hard_sigmoid_keras2(single: Single) -> Parts:
    fifth = rational(single(0.2))
    edge = 1 / (2 * fifth)
    return [_ZERO, (-edge, _OF_LEFT), polynomial(0.5, fifth), (edge, _OF_LEFT), _ONE]


def _hard_shrink(_: Single, threshold: float) -> Parts:
    if threshold > 0:
        return [_SAME, (-threshold, _OF_RIGHT), _ZERO, (threshold, _OF_LEFT), _SAME]
    return [_SAME, (0, _OF_LEFT), _SAME] if threshold == 0 else [_SAME]


def _soft_shrink(_: Single, threshold: float) -> Parts:
    above, below = polynomial(-threshold, 1), polynomial(threshold, 1)
    if threshold > 0:
        return [below, (-threshold, _OF_LEFT), _ZERO, (threshold, _OF_LEFT), above]
    return [below, (threshold, _OF_LEFT), above]


def _elu(_: Single, alpha: float) -> Parts:
    a = arb(alpha)
    return [smooth(lambda z: a * _expm1(z), lambda z: a * _exp(z)), (0, _OF_LEFT), _SAME]


def _celu(_: Single, alpha: float) -> Parts:
    a = arb(alpha)
    return [smooth(lambda z: a * _expm1(z / a), lambda z: _exp(z / a)), (0, _OF_LEFT), _SAME]


def _selu(single: Single) -> Parts:
    scale, below = single(1.0507009873554804934193349852946), arb(single(1.7580993408473768599402175208123))
    return [smooth(lambda z: below * _expm1(z), lambda z: below * _exp(z)), (0, _OF_LEFT), polynomial(0, scale)]


def _step(z: Any) -> Any:
    # Beyond ±2²⁰ it is nearer to its limit than any product of floats can tell; of larger numbers exp may overflow.
    far = 2**20
    if abs(z) <= far:
        return 1 / (1 + (-z).exp())
    rest = arb(-far).exp()
    return rest.union(arb(0)) if z < -far else (1 - rest).union(arb(1)) if z > far else arb(0).union(arb(1))


_sigmoid = np.frompyfunc(_step, 1, 1)


def _sigmoid_slope(z: Any) -> Any:
    # s (1 − s) = s(z) s(−z) does not cancel.
    return _sigmoid(z) * _sigmoid(-z)


def _squareplus(_: Single, b: float) -> Parts:
    quarter = arb(b) / 4

    def half(z: Any) -> Any:
        return _sqrt(z * z / 4 + quarter)

    def f(z: Any) -> Any:
        # With h = √(z² + b)/2, z/2 + h = (b/4)/(h − z/2), which does not cancel where z < 0.
        return np.where((z < 0).astype(bool), quarter / (half(z) - z / 2), z / 2 + half(z))

    return [smooth(f, lambda z: f(z) / (2 * half(z)))]


def _mish(_: Single) -> Parts:
    # tanh(log(1 + w)) = n/(n + 2), n = w(w + 2), w = eᶻ.
    def parts(z: Any) -> tuple[Any, Any]:
        w = _exp(z)
        return w, w * (w + 2)

    def f(z: Any) -> Any:
        _, n = parts(z)
        return z * n / (n + 2)

    def df(z: Any) -> Any:
        w, n = parts(z)
        return n / (n + 2) + z * 4 * w * (1 + w) / (n + 2) ** 2

    return [smooth(f, df)]


def _gelu(_: Single) -> Parts:
    def below(z: Any) -> Any:
        return _erfc(-z / arb(2).sqrt()) / 2

    def density(z: Any) -> Any:
        return _exp(-z * z / 2) / (2 * arb.pi()).sqrt()

    return [smooth(lambda z: z * below(z), lambda z: below(z) + z * density(z))]


def _gelu_tanh(single: Single) -> Parts:
    cubic = arb(single(0.044715))

    def inner(z: Any) -> Any:
        # (1 + tanh(v/2))/2 is the sigmoid of v.
        return 2 * (2 / arb.pi()).sqrt() * (z + cubic * z * z * z)

    def df(z: Any) -> Any:
        by_z = 2 * (2 / arb.pi()).sqrt() * (1 + 3 * cubic * z * z)
        return _sigmoid(inner(z)) + z * _sigmoid_slope(inner(z)) * by_z

    return [smooth(lambda z: z * _sigmoid(inner(z)), df)]


def _whole(f: Callable[[Any], Any], df: Callable[[Any], Any]) -> Callable[[Single], Parts]:
    """One smooth piece without parameters."""
    return lambda _: [smooth(f, df)]


def _fixed(*parts: Any) -> Callable[[Single], Parts]:
    """Polynomials without parameters; the places belong to both pieces."""
    return lambda _: [part if isinstance(part, Piece) else (part, _OF_LEFT) for part in parts]


CURVES: Mapping[str, Callable[..., Parts]] = {
    "linear": _fixed(_SAME),
    "relu": _relu,
    "hard_sigmoid": _fixed(_ZERO, -3, polynomial(0.5, _SIXTH), 3, _ONE),
    "hard_sigmoid_keras2": _hard_sigmoid_keras2,
    "hard_silu": _fixed(_ZERO, -3, polynomial(0, 0.5, _SIXTH), 3, _SAME),
    "hard_tanh": _fixed(polynomial(-1), -1, _SAME, 1, _ONE),
    "hard_shrink": _hard_shrink,
    "soft_shrink": _soft_shrink,
    "sparse_plus": _fixed(_ZERO, -1, polynomial(0.25, 0.5, 0.25), 1, _SAME),
    "sparse_sigmoid": _fixed(_ZERO, -1, polynomial(0.5, 0.5), 1, _ONE),
    "threshold": lambda _, threshold, default: [polynomial(default), (threshold, _OF_LEFT), _SAME],
    "exponential": _whole(_exp, _exp),
    "elu": _elu,
    "celu": _celu,
    "selu": _selu,
    "sigmoid": _whole(_sigmoid, _sigmoid_slope),
    "log_sigmoid": _whole(lambda z: -_log1p(_exp(-z)), lambda z: _sigmoid(-z)),
    "softplus": _whole(lambda z: _log1p(_exp(z)), _sigmoid),
    "tanh": _whole(_tanh, lambda z: 1 / _cosh(z) ** 2),
    "tanh_shrink": _whole(lambda z: z - _tanh(z), lambda z: _tanh(z) ** 2),
    "softsign": _whole(lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    "squareplus": _squareplus,
    "silu": _whole(lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) + z * _sigmoid_slope(z)),
    "mish": _mish,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "abs": _fixed(polynomial(0, -1), 0, _SAME),
    "sign": lambda _: [polynomial(-1), (0, _ZERO), _ONE],
    **{name: _fixed(piece) for name, piece in WHOLE.items()},
}
"""The parts of each row, of a function that rounds to the network's dtype and the row's parameters so rounded."""


def _weights(where: Any, kinks: tuple[Kink, ...], policy: KinkPolicy) -> tuple[Any, Any, Any]:
    """What of the left slope, of the right one, and beside them is the slope at a place."""
    near = [kink for kink in kinks if math.isclose(kink.where, float(rational(where)), rel_tol=1e-6)]
    kink = near[0] if near else None
    if policy == "mean":
        return 0.5, 0.5, 0
    if policy == "right" or (policy == "keras" and kink is not None and kink.keras == kink.right):
        return 0, 1, 0
    if policy == "left" or kink is None or kink.keras == kink.left:
        return 1, 0, 0
    return 0, 0, kink.keras


def curve(name: str, parameters: tuple[float, ...], dtype: np.dtype[Any], policy: KinkPolicy) -> Curve:
    """A row of the table, of parameters, for a network of a dtype, with the slopes on kinks that a policy chooses."""

    def single(number: float) -> float:
        return float(dtype.type(number))

    rounded = tuple(map(single, parameters))
    parts, kinks = CURVES[name](single, *rounded), ACTIVATIONS[name].kinks(*rounded)
    pieces = tuple(parts[::2])
    places = tuple(
        Place(
            rational(where),
            owner if isinstance(owner, Piece) else pieces[index + owner],
            _weights(where, kinks, policy),
        )
        for index, (where, owner) in enumerate(parts[1::2])
    )
    return Curve(pieces, places)
