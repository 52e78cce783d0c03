"""Operations on shapes: other shapes, other orders of axes, several tensors in one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from refgrad.arrays import Shape
from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras import values
from refgrad.keras.operations.rows import Drawing, Operation, Traced, tensor, tensors
from refgrad.keras.rows import REQUIRED
from refgrad.ops import Concatenate, Permute, Reshape, Take

BATCH = "the batch axis can only be taken as a whole: samples would depend on each other, or on their number"
"""Why what touches the batch axis is refused."""


def some(value: Any) -> list[int]:
    """One whole number or several."""
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(n, int) and not isinstance(n, bool) and abs(n) < 2**53 for n in found):
        msg = f"{value!r:.40} is neither a whole number nor a list of such"
        raise FormatError(msg)
    return found


def reshaped(drawing: Drawing, x: Traced, shape: Shape) -> Traced:
    """The same numbers in another feature shape."""
    return x if shape == x.shape else drawing.add(Reshape(shape), x)


def permuted(drawing: Drawing, x: Traced, order: tuple[int, ...]) -> Traced:
    """Axis i becomes what axis `order[i]` was, with the batch as 0."""
    rank = len(x.shape)
    if sorted(order) != list(range(rank + 1)):
        msg = f"axes {list(order)} are not each of the {rank + 1} axes once"
        raise FormatError(msg)
    if order[0] != 0:
        raise UnsupportedError(BATCH)
    if order == tuple(range(rank + 1)):
        return x
    return drawing.add(Permute(tuple(axis - rank - 1 for axis in order[1:])), x)


def taken(drawing: Drawing, x: Traced, axis: int, indices: Sequence[int]) -> Traced:
    """The entries of a feature axis, counted from the end, at indices that may be negative."""
    n = x.shape[axis]
    if indices == range(n):
        return x
    drawing.budget.count("picked", len(indices), f"entries of axis {axis} and those picked before, by all operations")
    if not indices:
        msg = f"it takes nothing of axis {axis} of features of shape {x.shape}"
        raise UnsupportedError(msg)
    if not all(-n <= index < n for index in indices):
        msg = f"index {next(i for i in indices if not -n <= i < n)} is none of an axis of {n} entries"
        raise FormatError(msg)
    found = tuple(index % n for index in indices)
    return x if len(found) == n and found == tuple(range(n)) else drawing.add(Take(found, axis), x)


def _reshape(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """The first entry is the batch: null, or −1 where the others say how many features there are."""
    x, shape = given["x"], given["newshape"]
    size = math.prod(x.shape)
    first, rest = shape[0] if shape else 0, list(shape[1:])
    known = math.prod(length for length in rest if length != -1)
    if first not in (None, -1) or (first == -1 and -1 in rest) or rest.count(-1) > 1:
        msg = f"newshape={shape} fixes the batch; −1 or null first, then the features, is supported"
        raise UnsupportedError(msg)
    if any(length is None or isinstance(length, bool) or length < -1 or length == 0 for length in rest):
        msg = f"newshape={shape} is no shape"
        raise FormatError(msg)
    if size % known if -1 in rest else size != known:
        msg = f"newshape={shape} takes the {size} numbers of a sample apart, or several samples together"
        raise UnsupportedError(msg)
    return reshaped(drawing, x, tuple(size // known if length == -1 else length for length in rest))


def _sizes(value: Any) -> list[int | None]:
    if not isinstance(value, list) or not all(n is None or (isinstance(n, int)) for n in value):
        msg = f"{value!r:.60} is no shape of fixed numbers"
        raise UnsupportedError(msg)
    return value


def _expand_dims(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    x, axes = given["x"], given["axis"]
    rank = len(x.shape) + 1 + len(axes)
    places = sorted(axis % rank for axis in axes if -rank <= axis < rank)
    if len(set(places)) < len(axes):
        msg = f"axis {list(axes)} does not name new axes among {rank}"
        raise FormatError(msg)
    if 0 in places:
        raise UnsupportedError(BATCH)
    shape = list(x.shape)
    for place in places:
        shape.insert(place - 1, 1)
    return reshaped(drawing, x, tuple(shape))


def _squeeze(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """With no axis named, all feature axes of 1 leave."""
    x = given["x"]
    rank = len(x.shape)
    named = values.feature_axes(given["axis"], x.shape)
    axes = named or tuple(axis for axis in range(-rank, 0) if x.shape[axis] == 1)
    if any(x.shape[axis] != 1 for axis in axes):
        msg = f"axis {list(given['axis'])} of features of shape {x.shape} is not of length 1"
        raise FormatError(msg)
    return reshaped(drawing, x, tuple(n for place, n in enumerate(x.shape) if place - rank not in axes))


def _transpose(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    x = given["x"]
    rank = len(x.shape) + 1
    if not given["axes"]:
        raise UnsupportedError(BATCH)
    return permuted(drawing, x, tuple(axis % rank if -rank <= axis else axis for axis in given["axes"]))


def _swapaxes(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    x = given["x"]
    one, other = (values.feature_axis(given[key], x.shape) for key in ("axis1", "axis2"))
    order = list(range(len(x.shape) + 1))
    order[one], order[other] = order[other], order[one]
    return permuted(drawing, x, tuple(order))


def _moveaxis(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    x = given["x"]
    rank = len(x.shape) + 1
    sources, targets = (
        [values.feature_axis(axis, x.shape) % rank for axis in given[key]] for key in ("source", "destination")
    )
    if len(sources) != len(targets) or len(set(sources)) < len(sources) or len(set(targets)) < len(targets):
        msg = f"source {list(given['source'])} and destination {list(given['destination'])} are not pairs of axes"
        raise FormatError(msg)
    order = [axis for axis in range(rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    return permuted(drawing, x, tuple(order))


def _concatenate(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    xs = given["xs"]
    return drawing.add(Concatenate(values.feature_axis(given["axis"], xs[0].shape)), *xs)


def _stack(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    xs = given["xs"]
    raised = [_expand_dims(drawing, {"x": x, "axis": (given["axis"],)}) for x in xs]
    rank = len(raised[0].shape) + 1
    return drawing.add(Concatenate(given["axis"] % rank - rank), *raised)


def as_given(value: Any) -> Any:
    """A parameter that the operation reads itself."""
    return value


def of(draw: Callable[[Drawing, Mapping[str, Any]], Any], **meaning: Any) -> Operation:
    """An operation of one tensor and these parameters."""
    return Operation(draw, meaning={"x": (tensor, REQUIRED), **meaning})


RESHAPE = of(_reshape, newshape=(_sizes, REQUIRED))
EXPAND_DIMS = of(_expand_dims, axis=(values.axes, REQUIRED))
SQUEEZE = of(_squeeze, axis=(values.axes, None))
TRANSPOSE = of(_transpose, axes=(values.axes, None))
SWAPAXES = of(_swapaxes, axis1=(values.axis, REQUIRED), axis2=(values.axis, REQUIRED))
MOVEAXIS = of(_moveaxis, source=(values.axes, REQUIRED), destination=(values.axes, REQUIRED))
CONCATENATE = Operation(_concatenate, meaning={"xs": (tensors, REQUIRED), "axis": (values.axis, 0)})
STACK = Operation(_stack, meaning={"xs": (tensors, REQUIRED), "axis": (values.axis, 0)})
