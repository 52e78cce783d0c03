"""From what a caller gives to the array a network takes: `(batch, *features)` of its dtype, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    except Exception as error:  # what another library raises where its own arrays are none of NumPy's
        msg = f"{what} is a {type(given).__name__} that NumPy cannot read ({error})"
        raise InputError(msg) from error
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


def as_inputs(
    given: Any, names: Sequence[str], shapes: Sequence[Shape], dtype: np.dtype[Any]
) -> tuple[list[Array], bool]:
    """A batch for each input, and whether one sample was given; several inputs come by name or as a list in order."""
    if len(names) == 1 and not isinstance(given, Mapping):
        x, single = as_batch(given, shapes[0], dtype, names[0])
        return [x], single
    pairs = list(zip(names, shapes, strict=True))
    found = [
        as_batch(x, shape, dtype, name) for x, (name, shape) in zip(by_name(given, names, "x"), pairs, strict=True)
    ]
    counts = {name: "one sample" if single else len(x) for name, (x, single) in zip(names, found, strict=True)}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name!r}: {count}" for name, count in counts.items())
        msg = f"the inputs differ in how many samples they hold ({listed})"
        raise InputError(msg)
    return [x for x, _ in found], found[0][1]


def by_name(given: Any, names: Sequence[str], what: str, *, missing: bool = False) -> list[Any]:
    """What was given for each of several tensors, by name or in order; for one tensor, it may come as it is.

    With `missing`, a name that is left out of a dict stands for None.
    """
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        lacking = [] if missing else [name for name in names if name not in given]
        if not unknown and not lacking:
            return [given.get(name) for name in names]
        found = f"a dict with the keys {', '.join(map(repr, given)) or 'none'}"
    elif len(names) == 1:
        return [given]
    elif isinstance(given, list | tuple) and len(given) == len(names):
        return list(given)
    else:
        found = f"a {type(given).__name__}" + (f" of {len(given)}" if isinstance(given, list | tuple) else "")
    msg = f"{what} is {found}; expected is a dict, or a list in this order, for {', '.join(map(repr, names))}"
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


def as_distance(given: Any) -> float:
    """A number from 0 up."""
    if isinstance(given, bool) or not isinstance(given, int | float | np.integer | np.floating) or not given >= 0:
        msg = f"tol={given!r} is no distance: a number from 0 up is expected"
        raise InputError(msg)
    return float(given)


def as_vectors(
    given: Any, names: Sequence[str], likes: Sequence[Shape], dtype: np.dtype[Any], what: str
) -> tuple[list[Array | None], int | None]:
    """Tangents or cotangents `(k, *like)` of each tensor, and k, or None where there was no such axis.

    None, and what a dict leaves out, is zero.
    """
    found: list[Array | None] = []
    counts: set[int | None] = set()
    for vector, name, like in zip(by_name(given, names, f"the {what}", missing=True), names, likes, strict=True):
        called = what if len(names) == 1 else f"{what} of {name!r}"
        vectors = None if vector is None else as_floats(vector, dtype, f"the {called}")
        if vectors is None:
            found.append(None)
        elif vectors.shape == like:
            found.append(vectors[None])
            counts.add(None)
        elif vectors.ndim == len(like) + 1 and vectors.shape[1:] == like:
            found.append(vectors)
            counts.add(len(vectors))
        else:
            wanted = ", ".join(["k", *map(str, like)])
            msg = f"the {called} has shape {vectors.shape}; expected {like}, or ({wanted}) for k at once"
            raise InputError(msg)
    if len(counts) != 1:
        ks = " and ".join(sorted("no axis k" if k is None else f"k = {k}" for k in counts)) or "nothing"
        msg = f"the {what} holds {ks}; one number of vectors is needed"
        raise InputError(msg)
    return found, counts.pop()
