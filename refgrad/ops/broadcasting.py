"""How features of different shapes meet: aligned at the last axis, sizes of 1 stretched, as in NumPy and in Keras.

Keras's merge layers put the axes that an input lacks right after the batch axis, which is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refgrad.arrays import Array, Shape


def only(shapes: Sequence[Shape]) -> Shape:
    """The one shape, if there is one."""
    if len(shapes) != 1:
        msg = f"it takes one input, {len(shapes)} are given"
        raise ValueError(msg)
    return shapes[0]


def fits(inner: Shape, outer: Shape) -> bool:
    """Whether an array of shape `inner` stretches to `outer` and no further."""
    return len(inner) <= len(outer) and all(n in (1, m) for n, m in zip(reversed(inner), reversed(outer), strict=False))


def merged(shapes: Sequence[Shape]) -> Shape:
    """The shape that all stretch to."""
    if not shapes:
        msg = "it takes at least one input, none is given"
        raise ValueError(msg)
    if shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        msg = f"its inputs have shapes {', '.join(map(str, shapes))}; from the last axis on sizes must be equal or 1"
        raise ValueError(msg) from None


def lined(arrays: Sequence[Array], lead: int, rank: int | None = None) -> list[Array]:
    """Arrays with axes of 1 put after their first `lead` ones, until each has `rank` more (None: as many as any)."""
    most = max(array.ndim for array in arrays) if rank is None else lead + rank
    return [array.reshape(*array.shape[:lead], *(1,) * (most - array.ndim), *array.shape[lead:]) for array in arrays]


def stretched(tangent: Array, shape: Shape) -> Array:
    """A tangent `(k, batch, *inner)` repeated to `(k, batch, *shape)`."""
    (aligned,) = lined([tangent], 2, len(shape))
    return np.broadcast_to(aligned, (*tangent.shape[:2], *shape))


def gathered(cotangent: Array, shape: Shape) -> Array:
    """The adjoint of stretching: a cotangent `(k, batch, *outer)` summed to `(k, batch, *shape)`."""
    missing = cotangent.ndim - 2 - len(shape)
    kept = (1,) * missing + shape
    axes = tuple(axis for axis, size in enumerate(kept, 2) if size == 1 and cotangent.shape[axis] != 1)
    total: Array = cotangent.sum(axis=axes, keepdims=True) if axes else cotangent
    return total.reshape(*cotangent.shape[:2], *shape)
