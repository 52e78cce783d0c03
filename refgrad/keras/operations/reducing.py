"""Operations that make one number of all along feature axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refgrad.errors import UnsupportedError
from refgrad.keras import values
from refgrad.keras.operations.rows import Drawing, Operation, Traced, tensor
from refgrad.keras.rows import REQUIRED
from refgrad.ops import (
    Elementwise,
    LogSumExp,
    Max,
    Maximum,
    Min,
    Minimum,
    Multiply,
    Partial,
    Subtract,
    Sum,
    Take,
)

ABS, SQUARE, SQRT, RSQRT = (Elementwise(name) for name in ("abs", "square", "sqrt", "rsqrt"))
_EPSILON = 1e-7
"""Keras's epsilon, where a file gives none."""


def axes_of(given: Mapping[str, Any]) -> tuple[int, ...]:
    """The feature axes of a reduction; none named are all, the batch among them."""
    if given["axis"] == ():
        msg = "no axis is named, so it takes all samples together; name feature axes"
        raise UnsupportedError(msg)
    return values.feature_axes(given["axis"], given["x"].shape)


def _reduced(op: Callable[[tuple[int, ...], bool], Any]) -> Operation:
    return reduction(lambda drawing, given: drawing.add(op(axes_of(given), given["keepdims"]), given["x"]))


def _keepdims(value: Any) -> bool:
    """Null is false, in older TensorFlow."""
    return value is not None and values.flag(value)


def reduction(draw: Callable[[Drawing, Mapping[str, Any]], Traced], **meaning: Any) -> Operation:
    """An operation along axes."""
    reads = {"x": (tensor, REQUIRED), "axis": (values.axes, None), "keepdims": (_keepdims, False), **meaning}
    return Operation(draw, meaning=reads)


def mean(drawing: Drawing, x: Traced, axes: tuple[int, ...], keepdims: bool) -> Traced:
    """Sum and quotient."""
    count = math.prod(x.shape[axis] for axis in axes)
    return drawing.add(Partial("divide", np.array(float(count))), drawing.add(Sum(axes, keepdims), x))


def _mean(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    return mean(drawing, given["x"], axes_of(given), given["keepdims"])


def _variance(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """The mean square of what the mean leaves."""
    x, axes = given["x"], axes_of(given)
    centred = drawing.add(Subtract(), x, mean(drawing, x, axes, True))
    return mean(drawing, drawing.add(SQUARE, centred), axes, given["keepdims"])


def _deviation(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    return drawing.add(SQRT, _variance(drawing, given))


def _product(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """Along one axis after the other: the product of its entries."""
    x = given["x"]
    for axis in axes_of(given):
        parts = [drawing.add(Take((index,), axis), x) for index in range(x.shape[axis])]
        x = drawing.add(Multiply(), *parts)
    return x if given["keepdims"] else drawing.add(Sum(axes_of(given)), x)


def _norm(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """√Σx² by default, over several axes too; along one axis Σ|x| and max |x| as well."""
    x, axes, order, keepdims = given["x"], axes_of(given), given["ord"], given["keepdims"]
    if order in (None, "euclidean") or (order == 2 and len(axes) == 1) or order == "fro":
        return drawing.add(SQRT, drawing.add(Sum(axes, keepdims), drawing.add(SQUARE, x)))
    if len(axes) == 1 and order in (1, float("inf"), "inf"):
        op = Sum(axes, keepdims) if order == 1 else Max(axes, keepdims)
        return drawing.add(op, drawing.add(ABS, x))
    msg = f"the norm ord={order!r:.40} along {len(axes)} axes is not supported; 2 is, and 1 and inf along one axis"
    raise UnsupportedError(msg)


def _lengths(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    return drawing.add(Sum(axes_of(given), True), drawing.add(SQUARE, given["x"]))


def _normalize(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """x min(1/√Σx², 1/ε)."""
    if given["order"] != 2:
        msg = f"order={given['order']!r:.40} is not supported; 2 is"
        raise UnsupportedError(msg)
    inverse = drawing.add(RSQRT, _lengths(drawing, given))
    bound = drawing.add(Partial(Minimum.name, np.array(1 / given["epsilon"])), inverse)
    return drawing.add(Multiply(), given["x"], bound)


def _l2_normalize(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """x / √max(Σx², ε), of TensorFlow."""
    raised = drawing.add(Partial(Maximum.name, np.array(given["epsilon"])), _lengths(drawing, given))
    return drawing.add(Multiply(), given["x"], drawing.add(RSQRT, raised))


def _epsilon(value: Any) -> float:
    return _EPSILON if value is None else values.not_negative(value)


def _any(value: Any) -> Any:
    return value


SUM, MAX, MIN, LOG_SUM_EXP = (_reduced(op) for op in (Sum, Max, Min, LogSumExp))
MEAN, VARIANCE, DEVIATION, PRODUCT = map(reduction, (_mean, _variance, _deviation, _product))
NORM = reduction(_norm, ord=(_any, None))
NORMALIZE = reduction(_normalize, order=(_any, 2), epsilon=(_epsilon, None))
L2_NORMALIZE = reduction(_l2_normalize, epsilon=(values.number, 1e-12))
