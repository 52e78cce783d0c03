"""Groups, attributes and plain arrays out of an HDF5 file, and nothing else HDF5 can do.

Only what Keras writes is read: hard links, and contiguous arrays of numbers stored in the file itself. A link
elsewhere, a virtual or external dataset, or a type that is no plain number is refused before anything is read from it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from refgrad.arrays import Array
from refgrad.errors import FormatError, LimitError, UnsupportedError

OPAQUE = np.dtype("V2")
"""How bfloat16, which HDF5 has no type for, is stored; a model's config says that it is that."""


@contextmanager
def opened(content: bytes) -> Iterator[h5py.File]:
    """The file, read-only; h5py's own complaints come out as one `FormatError`."""
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        msg = f"the HDF5 data is damaged or cut off ({error})"
        raise FormatError(msg) from None


def child(group: h5py.Group, name: str) -> Any:
    """A group or dataset one step below, or None; never one that lies elsewhere."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        msg = f"{group.name}/{name} is a {type(link).__name__}; links are not followed"
        raise UnsupportedError(msg)
    return group[name]


def descend(group: h5py.Group, path: str) -> Any:
    """What a slash-separated path below a group leads to, or None."""
    found: Any = group
    for step in path.split("/"):
        if not isinstance(found, h5py.Group):
            return None
        found = child(found, step)
    return found


@dataclass(frozen=True, eq=False)
class Folder:
    """A group as its writer meant it: on Windows, Keras put backslashes into a name for a group in a group.

    `parts` are the groups that together make it, each with what the names of its entries there begin with.
    """

    parts: tuple[tuple[h5py.Group, str], ...]

    @cached_property
    def _named(self) -> dict[str, list[tuple[h5py.Group, str]]]:
        found: dict[str, dict[tuple[h5py.Group, str], None]] = {}
        for group, start in self.parts:
            for key in group:
                if key.startswith(start):
                    name, deeper, _ = key[len(start) :].partition("\\")
                    found.setdefault(name, {})[group, start + name + deeper] = None
        return {name: list(places) for name, places in found.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def folder(self, name: str) -> Folder | None:
        """The folder of a name, if it is one."""
        parts: list[tuple[h5py.Group, str]] = []
        for group, place in self._named.get(name, []):
            inner = (group, place) if place.endswith("\\") else (child(group, place), "")
            parts += [inner] if isinstance(inner[0], h5py.Group) else []
        return Folder(tuple(parts)) if parts else None

    def arrays(self, budget: int) -> dict[str, Array]:
        """Everything in it as an array, by name: numbers in their order, 2 before 10."""
        found = {}
        for name in sorted(self, key=lambda name: (len(name), name)):
            (group, place), *others = self._named[name]
            if others:
                msg = f"{group.name}/{place} is there twice: in a group and with a backslash in its name"
                raise FormatError(msg)
            found[name] = array(child(group, place), budget)
        return found

    def text(self, name: str) -> str | None:
        """An attribute as text, if it has it."""
        attrs = self.parts[0][0].attrs
        return text(attrs[name]) if name in attrs else None


def text(value: Any) -> str:
    """An attribute or its element as text, be it stored as str or bytes, by itself or in an array of one."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def texts(holder: Any, name: str) -> list[str] | None:
    """An attribute that is a list of names, or None if there is none; Keras splits long ones into `name0`, `name1`."""
    if name in holder.attrs:
        return [text(value) for value in np.ravel(holder.attrs[name])]
    parts: list[str] = []
    count = 0
    while f"{name}{count}" in holder.attrs:
        parts += [text(value) for value in np.ravel(holder.attrs[f"{name}{count}"])]
        count += 1
    return parts if count else None


def array(dataset: Any, budget: int) -> Array:
    """The numbers of a dataset in native byte order; `budget` is the most bytes that it may declare."""
    where = getattr(dataset, "name", "an entry")
    if not isinstance(dataset, h5py.Dataset):
        msg = f"{where} is a group where an array is expected"
        raise FormatError(msg)
    if dataset.dtype == OPAQUE and text(dataset.attrs.get("dtype", "bfloat16")) == "bfloat16":
        pass
    elif dataset.dtype.kind not in "fiu":
        msg = f"{where} holds {dataset.dtype} values, which are no plain numbers"
        raise UnsupportedError(msg)
    if dataset.is_virtual or dataset.external or dataset.chunks is not None:
        msg = f"{where} is stored chunked, virtual or outside the file; Keras stores plain contiguous arrays"
        raise UnsupportedError(msg)
    if dataset.nbytes > budget:
        msg = f"{where} declares {dataset.nbytes:,} bytes, more than the whole file holds ({budget:,})"
        raise LimitError(msg)
    values: Array = dataset[()]
    return values if dataset.dtype == OPAQUE else values.astype(values.dtype.newbyteorder("="), copy=False)
