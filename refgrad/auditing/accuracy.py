"""How accurately frameworks compute activations: assumptions with names, measured.

The slope that a framework takes at z differs from f′(z) by at most c u max(1, |f′(z)|), u the unit roundoff. Each c was
measured on eager TensorFlow 2.21 in float32, on a CPU, at 20001 points of [−20, 20] and as many of [−2, 2], against the
row in float64, and rounded up. `tests/test_noise.py` measures again, and fails where a c is too small or twice too big.
Other frameworks and devices were not measured.
"""

from __future__ import annotations

from collections.abc import Mapping

from refgrad.ops import Elementwise
from refgrad.ops.op import Op

SLOPES: Mapping[str, float] = {
    "tanh": 10.0,
    "sigmoid": 1.5,
    "softplus": 2.5,
    "elu": 2.0,
    "selu": 3.0,
    "gelu": 2.5,
    "silu": 16.0,
    "softsign": 3.0,
    "gelu_tanh": 70.0,
    "mish": 68.0,
}
"""c by row of the activation table."""

PIECEWISE = frozenset({"linear", "relu", "hard_tanh", "hard_shrink", "soft_shrink", "threshold", "abs", "sign"})
"""Rows whose slopes are parameters: nothing is computed."""

OTHERS = 16.0
"""c of rows that were not measured."""


def slope_accuracy(op: Elementwise) -> float:
    """c of an activation."""
    return 0.0 if op.activation in PIECEWISE else SLOPES.get(op.activation, OTHERS)


_ONLY_CHOSEN = frozenset({"linear", "abs", "sign"})
"""Rows that do not round; relu does not if it has no slope below."""


def assumed(op: Op) -> float | None:
    """c of the rigorous bound of an activation's value and slope: four times what was seen; None of rows not measured.

    See `refgrad.exact.enclosure` for what is bounded. Piecewise polynomials take a few operations of their own.
    """
    if not isinstance(op, Elementwise):
        return None
    if op.activation in _ONLY_CHOSEN or (op.activation == "relu" and op.parameters[1:] == (0.0, 0.0)):
        return 0.0
    if op.activation in PIECEWISE:
        return 8.0
    return 4 * max(OTHERS, SLOPES[op.activation]) if op.activation in SLOPES else None
