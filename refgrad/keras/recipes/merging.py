"""How ops on several tensors, and those that only move numbers, are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refgrad.arrays import Shape
from refgrad.keras.recipes.step import Recipe, Step, permute, recipe_of, reshape, scaled
from refgrad.ops import Concatenate, Dot, Op, Permute, Reshape

_LEAST_NORM = 1e-7
"""What Keras 3 divides a vector to be normalised by at least."""


def _merge(class_name: str) -> Recipe:
    """A merge layer; of one tensor it is nothing."""

    def recipe(op: Op, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
        del op, dtype
        return [Step(class_name)] if len(shapes) > 1 else []

    return recipe


def _concatenate(op: Concatenate, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del dtype
    return [Step("Concatenate", {"axis": op.axis})] if len(shapes) > 1 else []


def _dot(op: Dot, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    """x / max(‖x‖, ε) = c x / max(‖c x‖, c ε): a factor on both tensors makes Keras 3's least norm any other."""
    axes = [axis + len(shape) + 1 for axis, shape in zip(op.axes, shapes, strict=True)]
    dot = {"axes": axes, "normalize": op.normalize}
    if not op.normalize or op.epsilon == _LEAST_NORM:
        return [Step("Dot", dot)]
    factor = _LEAST_NORM / op.epsilon
    steps: list[Step] = []
    ends = []
    for place, shape in enumerate(shapes, 1):
        first, *rest = scaled(factor, 0.0, shape, dtype)
        steps += [Step(first.class_name, first.config, first.arrays, takes=(-place,)), *rest]
        ends.append(len(steps) - 1)
    return [*steps, Step("Dot", dot, takes=tuple(ends))]


def _reshape(op: Reshape, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del dtype
    return [reshape(op.target)] if shapes[0] != op.target else []


def _permute(op: Permute, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del shapes, dtype
    return [permute(op.order)]


RECIPES: Mapping[str, Recipe] = {
    **{name.lower(): _merge(name) for name in ("Add", "Subtract", "Average", "Multiply", "Maximum", "Minimum")},
    "concatenate": _concatenate,
    "dot": _dot,
    "reshape": _reshape,
    "permute": _permute,
    "repeat": recipe_of("RepeatVector", lambda op, _: {"n": op.count}),
}
