"""How single values of a config are read: each function gives a plain value or says what is wrong with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refgrad.arrays import MOST_AXES, Array, Shape
from refgrad.errors import FormatError, UnsupportedError
from refgrad.limits import Limits

OpenShape = tuple[int | None, ...]
"""A feature shape whose axes may be left open, as a nested model's may."""

_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_RANK = 32


def whole_number(value: Any) -> int:
    """A whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"{value!r:.40} is not a whole number above 0"
        raise FormatError(msg)
    return value


def flag(value: Any) -> bool:
    """True or false, and nothing that passes for it."""
    if not isinstance(value, bool):
        msg = f"{value!r:.40} is neither true nor false"
        raise FormatError(msg)
    return value


def _unwrapped(value: Any) -> Any:
    """A NumPy array, or a parameter that Keras 2.12 keeps as a NumPy scalar, as .keras files write them."""
    wrapped = value.get("config") if isinstance(value, dict) and value.get("class_name") == "__numpy__" else None
    return wrapped.get("value") if isinstance(wrapped, dict) else value


def number(value: Any) -> float:
    """A finite number."""
    value = _unwrapped(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST <= value <= _LARGEST:
        msg = f"{value!r:.40} is not a number within float32's range"
        raise FormatError(msg)
    return float(value)


def not_negative(value: Any) -> float:
    """A finite number from 0 on."""
    value = _unwrapped(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        msg = f"{value!r:.40} is not a number from 0 to float32's largest"
        raise FormatError(msg)
    return float(value)


def limit(value: Any) -> float:
    """An upper limit, which null says there is none of."""
    return float("inf") if value is None else not_negative(value)


def _is_of_numbers(value: Any) -> bool:
    """Whether nothing but numbers lies in a list, however deep."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, bool) or not isinstance(found, int | float):
            return False
    return True


def numbers(value: Any) -> Array:
    """A number or a (nested) list of numbers, plain or as Keras writes a NumPy array."""
    try:
        # NumPy would give every entry as much room as the longest text among them.
        array = np.asarray(_unwrapped(value) if _is_of_numbers(_unwrapped(value)) else None)
    except ValueError:
        array = np.asarray(None)
    found = array.astype(np.float64) if array.dtype.kind in "fiu" else np.asarray(np.nan)
    if not array.size or not np.isfinite(found).all() or np.abs(found).max() > _LARGEST:
        msg = f"{value!r:.40} is not a number within float32's range, nor a list of such"
        raise FormatError(msg)
    return found


def numbers_or_none(value: Any) -> Array | None:
    """As `numbers`, or null."""
    return None if value is None else numbers(value)


def axis(value: Any) -> int:
    """An axis as Keras counts it, with the batch as 0."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST_RANK:
        msg = f"{value!r:.40} is not the number of an axis"
        raise FormatError(msg)
    return value


def axes(value: Any) -> tuple[int, ...]:
    """One axis or a list of axes; null is none."""
    given = [] if value is None else value if isinstance(value, list) else [value]
    return tuple(axis(entry) for entry in given)


def axis_or_axes(value: Any) -> int | tuple[int, ...]:
    """One axis, or several where it matters which."""
    return axes(value) if isinstance(value, list) else axis(value)


def target_shape(value: Any) -> tuple[int, ...]:
    """A feature shape, in which −1 may stand once for what is left."""
    given = list(value) if isinstance(value, list) and len(value) <= _LARGEST_RANK else [None]
    if given.count(-1) > 1:
        msg = f"{value!r:.40} leaves more than one axis open"
        raise FormatError(msg)
    return tuple(-1 if size == -1 and not isinstance(size, bool) else whole_number(size) for size in given)


def open_shape(value: Any) -> OpenShape:
    """A shape without its batch axis."""
    if not isinstance(value, list) or not 2 <= len(value) <= _LARGEST_RANK:
        msg = f"input shape {value!r:.80} is not [batch, features, …]"
        raise FormatError(msg)
    return tuple(None if size is None else whole_number(size) for size in value[1:])


def feature_axis(given: int, shape: Shape) -> int:
    """A feature axis counted from the end, of an axis that Keras counts with the batch as 0."""
    rank = len(shape)
    found = given if given < 0 else given - rank - 1
    if found == -rank - 1:
        msg = f"axis {given} is the batch: samples would depend on each other"
        raise UnsupportedError(msg)
    if not -rank <= found < 0:
        msg = f"axis {given} is none of an input with features of shape {shape}"
        raise FormatError(msg)
    return found


def feature_axes(given: tuple[int, ...], shape: Shape) -> tuple[int, ...]:
    """As `feature_axis` for several, each once and in ascending order."""
    found = tuple(sorted(feature_axis(entry, shape) for entry in given))
    if len(set(found)) < len(found):
        msg = f"axes {given} name one axis twice"
        raise FormatError(msg)
    return found


def bounded(shape: Shape, limits: Limits) -> Shape:
    """A feature shape that is not absurdly large: a config's few digits must not ask for all memory."""
    if len(shape) > MOST_AXES:
        msg = f"an array of {len(shape):,} axes a sample; {MOST_AXES} at most are supported"
        raise UnsupportedError(msg)
    limits.check("tensor", math.prod(shape), f"an array of shape {shape!s:.60}, in numbers a sample")
    return shape
