"""Operations that take some entries of a tensor: indices, slices, parts, flips and copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras import values
from refgrad.keras.operations.rows import Drawing, Traced
from refgrad.keras.operations.shaping import BATCH, as_given, of, reshaped, some, taken
from refgrad.keras.rows import REQUIRED


def _flip(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    x: Traced = given["x"]
    if not given["axis"]:
        raise UnsupportedError(BATCH)
    for axis in values.feature_axes(given["axis"], x.shape):
        x = taken(drawing, x, axis, range(x.shape[axis])[::-1])
    return x


def _roll(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    x: Traced = given["x"]
    shifts = given["shift"]
    axes = [values.feature_axis(axis, x.shape) for axis in given["axis"]]
    if not axes:
        raise UnsupportedError(BATCH)
    if len(shifts) != len(axes):
        msg = f"shift {list(shifts)} and axis {list(given['axis'])} are not pairs"
        raise FormatError(msg)
    for shift, axis in zip(shifts, axes, strict=True):
        n = x.shape[axis]
        drawing.listable(n, x, axis)
        x = taken(drawing, x, axis, [(i - shift) % n for i in range(n)])
    return x


def _repeat(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """Every entry of an axis several times, one number for all or one for each."""
    x = given["x"]
    if given["axis"] is None:
        raise UnsupportedError(BATCH)
    axis = values.feature_axis(given["axis"], x.shape)
    drawing.listable(x.shape[axis], x, axis)
    counts = given["repeats"] * x.shape[axis] if len(given["repeats"]) == 1 else given["repeats"]
    if len(counts) != x.shape[axis] or any(count < 0 for count in counts):
        msg = f"repeats={list(given['repeats'])} are not the numbers of copies of {x.shape[axis]} entries"
        raise FormatError(msg)
    drawing.listable(sum(counts), x, axis)
    return taken(drawing, x, axis, [i for i, count in enumerate(counts) for _ in range(count)])


def _tile(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """The whole tensor several times along its axes, the last of them if there are fewer numbers."""
    x: Traced = given["x"]
    counts = list(given["repeats"])
    rank = len(x.shape)
    counts = [1] * (rank + 1 - len(counts)) + counts
    if len(counts) > rank + 1 or counts[0] != 1:
        raise UnsupportedError(BATCH)
    for axis, count in zip(range(-rank, 0), counts[1:], strict=True):
        if count == 1:
            continue
        drawing.listable(x.shape[axis] * count, x, axis)
        x = taken(drawing, x, axis, list(range(x.shape[axis])) * count)
    return x


def _take(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """Entries at constant indices, whose shape takes the axis's place."""
    x, given_indices = given["x"], given["indices"]
    if given["axis"] is None:
        raise UnsupportedError(BATCH)
    axis = values.feature_axis(given["axis"], x.shape)
    indices = values.numbers(given_indices)
    if not np.array_equal(indices, np.trunc(indices)) or np.abs(indices).max() >= 2**53:
        msg = f"{given_indices!r:.40} are no indices"
        raise FormatError(msg)
    found = taken(drawing, x, axis, [int(index) for index in indices.ravel()])
    place = len(x.shape) + axis
    return reshaped(drawing, found, (*x.shape[:place], *indices.shape, *x.shape[place + 1 :]))


def _parts(drawing: Drawing, x: Traced, axis: int, stops: Sequence[int]) -> list[Traced]:
    """An axis cut before each of some places."""
    n = x.shape[axis]
    return [taken(drawing, x, axis, range(n)[start:stop]) for start, stop in pairwise([0, *stops, n])]


def _split(drawing: Drawing, given: Mapping[str, Any]) -> list[Traced]:
    """So many equal parts, or cut before each of some places."""
    x, where = given["x"], given["indices_or_sections"]
    axis = values.feature_axis(given["axis"], x.shape)
    n = x.shape[axis]
    if isinstance(where, int) and not isinstance(where, bool):
        if where < 1 or n % where:
            msg = f"an axis of {n} entries has no {where} equal parts"
            raise FormatError(msg)
        return _parts(drawing, x, axis, range(n)[n // where :: n // where])
    return _parts(drawing, x, axis, some(where))


def _split_sizes(drawing: Drawing, given: Mapping[str, Any]) -> list[Traced]:
    """TensorFlow's: so many equal parts, or parts of some sizes, one of which may be −1 for what is left."""
    where = given["num_or_size_splits"]
    if isinstance(where, list):
        sizes = some(where)
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
        raise UnsupportedError(BATCH)
    axis, shape = 1 - rank, []
    for item in items[1:]:
        if item is None:
            shape.append(1)
            continue
        if isinstance(item, slice):
            if item.step == 0:
                msg = "a slice has the step 0"
                raise FormatError(msg)
            x = taken(drawing, x, axis, range(x.shape[axis])[item])
            shape.append(x.shape[axis])
        else:
            x = taken(drawing, x, axis, [item])
        axis += 1
    return reshaped(drawing, x, tuple(shape))


def _axis_or_none(value: Any) -> int | None:
    return None if value is None else values.axis(value)


FLIP = of(_flip, axis=(values.axes, None))
ROLL = of(_roll, shift=(some, REQUIRED), axis=(values.axes, None))
REPEAT = of(_repeat, repeats=(some, REQUIRED), axis=(_axis_or_none, None))
TILE = of(_tile, repeats=(some, REQUIRED))
TAKE = of(_take, indices=(as_given, REQUIRED), axis=(_axis_or_none, None))
GET_ITEM = of(_get_item, key=(_key, REQUIRED))
SPLIT = of(_split, indices_or_sections=(as_given, REQUIRED), axis=(values.axis, 0))
SPLIT_SIZES = of(_split_sizes, num_or_size_splits=(as_given, REQUIRED), axis=(values.axis, 0))
UNSTACK = of(_unstack, num=(as_given, None), axis=(values.axis, 0))
