"""The usual suspects of reading a right answer wrongly: what an answer then is, by what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from refgrad.agreement import Answer
from refgrad.arrays import Array

Misreading = Callable[[Answer], Answer | None]
"""A right answer → the wrong one; None where the shapes do not allow it."""


def _of_jacobians(change: Callable[[Array, Array], Array | None]) -> Misreading:
    """A change of every Jacobian `(batch, *out, *in)`, given its value; None where it can be nowhere."""

    def apply(answer: Answer) -> Answer | None:
        rows = [
            [(block, change(block, y)) for block in row] for y, row in zip(answer.values, answer.jacobians, strict=True)
        ]
        if all(changed is None for row in rows for _, changed in row):
            return None
        jacobians = tuple(tuple(block if changed is None else changed for block, changed in row) for row in rows)
        return replace(answer, jacobians=jacobians)

    return apply


def _transpose(jacobian: Array, y: Array) -> Array | None:
    axes = y.ndim - 1
    if jacobian.shape[1 : 1 + axes] != jacobian.shape[1 + axes :] or max(y.shape[1:], default=1) == 1:
        return None
    return jacobian.transpose(0, *range(1 + axes, 1 + 2 * axes), *range(1, 1 + axes))


def _reverse(axis: Callable[[int, int], int]) -> Callable[[Array, Array], Array | None]:
    def change(jacobian: Array, y: Array) -> Array | None:
        at = axis(y.ndim, jacobian.ndim)
        return np.flip(jacobian, at) if 1 <= at < jacobian.ndim and jacobian.shape[at] > 1 else None

    return change


MISREADINGS: Mapping[str, Misreading] = {
    "the Jacobian is transposed": _of_jacobians(_transpose),
    "the Jacobian's rows are reversed": _of_jacobians(_reverse(lambda out, every: out - 1)),
    "the Jacobian's columns are reversed": _of_jacobians(_reverse(lambda out, every: every - 1)),
    "the Jacobian has the other sign": _of_jacobians(lambda jacobian, y: -jacobian),
    "the Jacobian is zero": _of_jacobians(lambda jacobian, y: np.zeros_like(jacobian)),
    "the Jacobian is doubled": _of_jacobians(lambda jacobian, y: 2 * jacobian),
    "the Jacobian is halved": _of_jacobians(lambda jacobian, y: jacobian / 2),
}
"""By what is wrong, in a user's words."""
