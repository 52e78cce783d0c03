"""From what a caller gives to the array a network takes: `(batch, *features)` of its dtype, or a refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, Shape
from refgrad.errors import InputError


def as_floats(given: npt.ArrayLike, dtype: np.dtype[Any], what: str) -> Array:
    """Real numbers of the network's dtype; the caller's array itself where it is that already."""
    if type(given) is np.ndarray and given.dtype == dtype and given.flags.carray:
        return given
    if isinstance(given, np.ma.MaskedArray):
        msg = f"{what} is a masked array: fill or drop the masked values first, they would be used as numbers"
        raise InputError(msg)
    try:
        array = np.asarray(given)
    except ValueError:
        msg = f"{what} is not an array of numbers: its rows differ in length"
        raise InputError(msg) from None
    if array.dtype.kind not in "fiub":
        msg = f"{what} holds {array.dtype.name} values; real numbers are expected"
        raise InputError(msg)
    with np.errstate(over="ignore", under="ignore"):
        return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"]).reshape(array.shape)


def as_batch(given: npt.ArrayLike, features: Shape, dtype: np.dtype[Any], name: str) -> tuple[Array, bool]:
    """The batch `(batch, *features)`, and whether one sample without a batch axis was given.

    For features `(1,)` a one-dimensional array is a batch of samples, and a number one sample.
    """
    what = f"input {name!r}"
    x = as_floats(given, dtype, what)
    if x.shape[1:] == features and x.ndim > 0:
        return x, False
    if x.shape == features and features != (1,):
        return x[None], True
    if features == (1,) and x.ndim < 2:
        return x.reshape(-1, 1), x.ndim == 0
    batch = ", ".join(["batch", *map(str, features)])
    msg = f"{what} has shape {x.shape}; expected ({batch}) or one sample of shape {features}"
    raise InputError(msg)


def as_dtype(given: npt.DTypeLike) -> np.dtype[Any]:
    """A dtype in native byte order, if it is one; NumPy would take None for float64."""
    try:
        dtype = np.dtype("O" if given is None else given)
    except TypeError:
        dtype = np.dtype("O")
    if dtype.kind != "f":
        msg = f"{given!r} is no floating dtype"
        raise InputError(msg)
    return dtype.newbyteorder("=")


def as_vectors(given: npt.ArrayLike, like: Shape, dtype: np.dtype[Any], what: str) -> tuple[Array, bool]:
    """Tangents or cotangents `(k, *like)`, and whether a single one, without the axis k, was given."""
    vectors = as_floats(given, dtype, what)
    if vectors.shape == like:
        return vectors[None], True
    if vectors.ndim == len(like) + 1 and vectors.shape[1:] == like:
        return vectors, False
    wanted = ", ".join(["k", *map(str, like)])
    msg = f"the {what} has shape {vectors.shape}; expected {like}, or ({wanted}) for k at once"
    raise InputError(msg)
