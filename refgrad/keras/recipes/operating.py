"""How ops are written that Keras 3 has no layers for: as its own bare operations, spelled as it saves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.keras.arguments import Slot
from refgrad.keras.recipes.step import Recipe, Step, operation, reshape, scaled
from refgrad.ops import Divide, LogSumExp, Max, Min, Partial, Power, Sum, Take
from refgrad.ops.broadcasting import fits

_LARGEST = float(np.finfo(np.float32).max)

_FACTORS: Mapping[tuple[str, int], Callable[[Array], tuple[Any, Any]]] = {
    ("add", 0): lambda c: (1.0, c),
    ("add", 1): lambda c: (1.0, c),
    ("subtract", 0): lambda c: (-1.0, c),
    ("subtract", 1): lambda c: (1.0, -c),
    ("multiply", 0): lambda c: (c, 0.0),
    ("multiply", 1): lambda c: (c, 0.0),
}
"""With a constant c in a place: s and o of s x + o."""


def _constant(array: Array) -> Any:
    """A constant among the arguments of a call."""
    if not (np.abs(array) <= _LARGEST).all():
        msg = "a constant that is NaN or beyond the range of float32 is no argument of Keras 3's operations"
        raise UnsupportedError(msg)
    if array.ndim == 0:
        return float(array)
    return {"class_name": "__numpy__", "config": {"value": array.tolist(), "dtype": array.dtype.name}}


def _partial(op: Partial, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    """A scaling where it is one and leaves the shape as it is; then every format can hold it."""
    (shape,) = shapes
    if shape and (op.of, op.place) in _FACTORS and fits(op.constant.shape, shape):
        return scaled(*_FACTORS[op.of, op.place](op.constant), shape, dtype)
    lacking = (1,) * (op.constant.ndim - len(shape))
    both = [Slot(0), _constant(op.constant.astype(dtype))]
    step = operation(op.of.capitalize(), *(both if op.place else both[::-1]))
    return [*([reshape((*lacking, *shape))] if lacking else []), step]


def _pair(op: Divide | Power, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    """Two tensors of as many axes."""
    del dtype
    rank = max(map(len, shapes))
    steps, taken = [], []
    for place, shape in enumerate(shapes, 1):
        if len(shape) < rank:
            steps.append(replace(reshape((*(1,) * (rank - len(shape)), *shape)), takes=(-place,)))
        taken.append(-place if len(shape) == rank else len(steps) - 1)
    return [*steps, operation(op.name.capitalize(), Slot(0), Slot(1), takes=taken)]


def _reduction(home: str, **others: Any) -> Recipe:
    def recipe(op: Sum | Max | Min | LogSumExp, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
        del shapes, dtype
        class_name = op.name.replace("_", "").capitalize()
        return [operation(class_name, home=home, axis=list(op.axes), keepdims=op.keepdims, **others)]

    return recipe


def _take(op: Take, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del shapes, dtype
    return [operation("Take", Slot(0), list(op.indices), axis=op.axis)]


RECIPES: Mapping[str, Recipe] = {
    "partial": _partial,
    "divide": _pair,
    "power": _pair,
    "sum": _reduction("numpy"),
    "max": _reduction("numpy", initial=None),
    "min": _reduction("numpy", initial=None),
    "log_sum_exp": _reduction("math"),
    "take": _take,
}
