"""Operations that move numbers: other shapes, other orders, parts, several in one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from refgrad.arrays import Shape
from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras import values
from refgrad.keras.operations.rows import Drawing, Operation, Traced, tensor, tensors
from refgrad.keras.rows import REQUIRED
from refgrad.ops import Concatenate, Permute, Reshape, Take

_BATCH = "the batch axis can only be taken as a whole: samples would depend on each other, or on their number"


def _some(value: Any) -> list[int]:
    """One whole number or several."""
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(n, int) and not isinstance(n, bool) and abs(n) < values.LARGEST_TENSOR for n in found):
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
        raise UnsupportedError(_BATCH)
    if order == tuple(range(rank + 1)):
        return x
    return drawing.add(Permute(tuple(axis - rank - 1 for axis in order[1:])), x)


def taken(drawing: Drawing, x: Traced, axis: int, indices: list[int]) -> Traced:
    """The entries of a feature axis, counted from the end, at indices that may be negative."""
    n = x.shape[axis]
    if not indices:
        msg = f"it takes nothing of axis {axis} of features of shape {x.shape}"
        raise UnsupportedError(msg)
    if not all(-n <= index < n for index in indices):
        msg = f"index {next(i for i in indices if not -n <= i < n)} is none of an axis of {n} entries"
        raise FormatError(msg)
    found = tuple(index % n for index in indices)
    return x if found == tuple(range(n)) else drawing.add(Take(found, axis), x)


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
        raise UnsupportedError(_BATCH)
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
        raise UnsupportedError(_BATCH)
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


def _flip(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    x: Traced = given["x"]
    if not given["axis"]:
        raise UnsupportedError(_BATCH)
    for axis in values.feature_axes(given["axis"], x.shape):
        x = taken(drawing, x, axis, list(range(x.shape[axis]))[::-1])
    return x


def _roll(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    x: Traced = given["x"]
    shifts = given["shift"]
    axes = [values.feature_axis(axis, x.shape) for axis in given["axis"]]
    if not axes:
        raise UnsupportedError(_BATCH)
    if len(shifts) != len(axes):
        msg = f"shift {list(shifts)} and axis {list(given['axis'])} are not pairs"
        raise FormatError(msg)
    for shift, axis in zip(shifts, axes, strict=True):
        n = x.shape[axis]
        x = taken(drawing, x, axis, [(i - shift) % n for i in range(n)])
    return x


def _repeat(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """Every entry of an axis several times, one number for all or one for each."""
    x = given["x"]
    if given["axis"] is None:
        raise UnsupportedError(_BATCH)
    axis = values.feature_axis(given["axis"], x.shape)
    counts = given["repeats"] * x.shape[axis] if len(given["repeats"]) == 1 else given["repeats"]
    if len(counts) != x.shape[axis] or any(count < 0 for count in counts):
        msg = f"repeats={list(given['repeats'])} are not the numbers of copies of {x.shape[axis]} entries"
        raise FormatError(msg)
    values.bounded((sum(counts),))
    return taken(drawing, x, axis, [i for i, count in enumerate(counts) for _ in range(count)])


def _tile(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """The whole tensor several times along its axes, the last of them if there are fewer numbers."""
    x: Traced = given["x"]
    counts = list(given["repeats"])
    rank = len(x.shape)
    counts = [1] * (rank + 1 - len(counts)) + counts
    if len(counts) > rank + 1 or counts[0] != 1:
        raise UnsupportedError(_BATCH)
    for axis, count in zip(range(-rank, 0), counts[1:], strict=True):
        values.bounded((x.shape[axis], max(count, 0)))
        x = taken(drawing, x, axis, list(range(x.shape[axis])) * count)
    return x


def _take(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """Entries at constant indices, whose shape takes the axis's place."""
    x, given_indices = given["x"], given["indices"]
    if given["axis"] is None:
        raise UnsupportedError(_BATCH)
    axis = values.feature_axis(given["axis"], x.shape)
    indices = values.numbers(given_indices)
    if not np.array_equal(indices, np.trunc(indices)) or np.abs(indices).max() >= values.LARGEST_TENSOR:
        msg = f"{given_indices!r:.40} are no indices"
        raise FormatError(msg)
    found = taken(drawing, x, axis, [int(index) for index in indices.ravel()])
    place = len(x.shape) + axis
    return reshaped(drawing, found, (*x.shape[:place], *indices.shape, *x.shape[place + 1 :]))


def _parts(drawing: Drawing, x: Traced, axis: int, stops: list[int]) -> list[Traced]:
    """An axis cut before each of some places."""
    n = x.shape[axis]
    return [taken(drawing, x, axis, list(range(n))[start:stop]) for start, stop in pairwise([0, *stops, n])]


def _split(drawing: Drawing, given: Mapping[str, Any]) -> list[Traced]:
    """So many equal parts, or cut before each of some places."""
    x, where = given["x"], given["indices_or_sections"]
    axis = values.feature_axis(given["axis"], x.shape)
    n = x.shape[axis]
    if isinstance(where, int) and not isinstance(where, bool):
        if where < 1 or n % where:
            msg = f"an axis of {n} entries has no {where} equal parts"
            raise FormatError(msg)
        return _parts(drawing, x, axis, list(range(n // where, n, n // where)))
    return _parts(drawing, x, axis, _some(where))


def _split_sizes(drawing: Drawing, given: Mapping[str, Any]) -> list[Traced]:
    """TensorFlow's: so many equal parts, or parts of some sizes, one of which may be −1 for what is left."""
    where = given["num_or_size_splits"]
    if isinstance(where, list):
        sizes = _some(where)
        n = given["x"].shape[values.feature_axis(given["axis"], given["x"].shape)]
        sizes = [n - sum(size for size in sizes if size != -1) if size == -1 else size for size in sizes]
        if sum(sizes) != n or min(sizes) < 1:
            msg = f"parts of sizes {where} are not those of an axis of {n} entries"
            raise FormatError(msg)
        where = np.cumsum(sizes)[:-1].tolist()
    return _split(drawing, {**given, "indices_or_sections": where})


def _unstack(drawing: Drawing, given: Mapping[str, Any]) -> list[Traced]:
    x = given["x"]
    axis = values.feature_axis(given["axis"], x.shape)
    if given["num"] not in (None, x.shape[axis]):
        msg = f"num={given['num']!r:.40}, and the axis has {x.shape[axis]} entries"
        raise FormatError(msg)
    place = len(x.shape) + axis
    rest = (*x.shape[:place], *x.shape[place + 1 :])
    return [reshaped(drawing, taken(drawing, x, axis, [index]), rest) for index in range(x.shape[axis])]


def _concatenate(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    xs = given["xs"]
    return drawing.add(Concatenate(values.feature_axis(given["axis"], xs[0].shape)), *xs)


def _stack(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    xs = given["xs"]
    raised = [_expand_dims(drawing, {"x": x, "axis": (given["axis"],)}) for x in xs]
    rank = len(raised[0].shape) + 1
    return drawing.add(Concatenate(given["axis"] % rank - rank), *raised)


def _key(value: Any) -> list[Any]:
    """What stands between the brackets, as a list."""
    found = value if isinstance(value, list) else [value]
    for item in found:
        whole = isinstance(item, int) and not isinstance(item, bool)
        if not (whole or item is None or item is ... or isinstance(item, slice)):
            msg = f"{item!r:.40} is no index, slice, ellipsis or new axis"
            raise UnsupportedError(msg)
    if found.count(...) > 1:
        msg = "an index has more than one ellipsis"
        raise FormatError(msg)
    return found


def _get_item(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """x[:, 1:3, None, ..., 0]: each axis by a number, which takes it away, or by a slice."""
    x, key = given["x"], given["key"]
    rank = len(x.shape) + 1
    named = sum(item is not None and item is not ... for item in key)
    if named > rank:
        msg = f"it names {named} axes of a tensor that has {rank}"
        raise FormatError(msg)
    here = key.index(...) if ... in key else len(key)
    items = [*key[:here], *[slice(None)] * (rank - named), *key[here + 1 :]]
    if items[0] not in (slice(None), slice(0, None), slice(None, None, 1), slice(0, None, 1)):
        raise UnsupportedError(_BATCH)
    axis, shape = 1 - rank, []
    for item in items[1:]:
        if item is None:
            shape.append(1)
            continue
        if isinstance(item, slice):
            if item.step == 0:
                msg = "a slice has the step 0"
                raise FormatError(msg)
            x = taken(drawing, x, axis, list(range(x.shape[axis]))[item])
            shape.append(x.shape[axis])
        else:
            x = taken(drawing, x, axis, [item])
        axis += 1
    return reshaped(drawing, x, tuple(shape))


def _axis_or_none(value: Any) -> int | None:
    return None if value is None else values.axis(value)


def _as_given(value: Any) -> Any:
    return value


def _of(
    draw: Callable[[Drawing, Mapping[str, Any]], Any], only: Mapping[str, Any] | None = None, **meaning: Any
) -> Operation:
    return Operation(draw, meaning={"x": (tensor, REQUIRED), **meaning}, only=only or {})


RESHAPE = _of(_reshape, newshape=(_sizes, REQUIRED))
EXPAND_DIMS = _of(_expand_dims, axis=(values.axes, REQUIRED))
SQUEEZE = _of(_squeeze, axis=(values.axes, None))
TRANSPOSE = _of(_transpose, axes=(values.axes, None))
SWAPAXES = _of(_swapaxes, axis1=(values.axis, REQUIRED), axis2=(values.axis, REQUIRED))
MOVEAXIS = _of(_moveaxis, source=(values.axes, REQUIRED), destination=(values.axes, REQUIRED))
FLIP = _of(_flip, axis=(values.axes, None))
ROLL = _of(_roll, shift=(_some, REQUIRED), axis=(values.axes, None))
REPEAT = _of(_repeat, repeats=(_some, REQUIRED), axis=(_axis_or_none, None))
TILE = _of(_tile, repeats=(_some, REQUIRED))
TAKE = _of(_take, indices=(_as_given, REQUIRED), axis=(_axis_or_none, None))
GET_ITEM = _of(_get_item, key=(_key, REQUIRED))
SPLIT = _of(_split, indices_or_sections=(_as_given, REQUIRED), axis=(values.axis, 0))
SPLIT_SIZES = _of(_split_sizes, num_or_size_splits=(_as_given, REQUIRED), axis=(values.axis, 0))
UNSTACK = _of(_unstack, num=(_as_given, None), axis=(values.axis, 0))
CONCATENATE = Operation(_concatenate, meaning={"xs": (tensors, REQUIRED), "axis": (values.axis, 0)})
STACK = Operation(_stack, meaning={"xs": (tensors, REQUIRED), "axis": (values.axis, 0)})
