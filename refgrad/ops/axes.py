"""Feature axes, counted from the end: -1 is the last, whatever the leading axes are."""

from __future__ import annotations

from typing import Any

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError

Axes = int | tuple[int, ...]


def check_axis(axis: Any) -> None:
    """Refuse what is no feature axis counted from the end."""
    if not isinstance(axis, int) or isinstance(axis, bool) or axis >= 0:
        msg = f"axis {axis!r} is no feature axis counted from the end, where -1 is the last"
        raise UnsupportedError(msg)


def check_axes(axes: Any) -> None:
    """Refuse what is no tuple of different feature axes."""
    if not isinstance(axes, tuple) or not axes or len(set(axes)) != len(axes):
        msg = f"axes {axes!r} are no tuple of different feature axes"
        raise UnsupportedError(msg)
    for axis in axes:
        check_axis(axis)


def as_axes(axis: Axes) -> tuple[int, ...]:
    """One axis or several as several."""
    return axis if isinstance(axis, tuple) else (axis,)


def size(shape: Shape, axis: int) -> int:
    """Length of a feature axis, if the shape has it."""
    if -axis > len(shape):
        msg = f"axis {axis} is asked for, the input has shape {shape}"
        raise ValueError(msg)
    return shape[axis]


def along(array: Array, axis: int) -> Array:
    """A vector as an array that broadcasts along a feature axis."""
    return array.reshape(*array.shape, *(1,) * (-axis - 1))


def part(axis: int, start: int, stop: int) -> tuple[Any, ...]:
    """The index of the entries from `start` to `stop` on a feature axis."""
    return (..., slice(start, stop), *(slice(None),) * (-axis - 1))
