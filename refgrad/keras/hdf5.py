"""Groups, attributes and plain arrays out of an HDF5 file, and nothing else HDF5 can do.

Only what Keras writes is read, by what it is and before it is read: hard links, texts in attributes, and arrays of
plain numbers stored in the file itself.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import h5py
from h5py import h5, h5l, h5p

from refgrad.arrays import Array
from refgrad.errors import FormatError, RefgradError, UnsupportedError
from refgrad.keras import attributes, trees
from refgrad.keras.attributes import Attributes
from refgrad.keras.datasets import OPAQUE, array
from refgrad.keras.headers import NOWHERE, messages
from refgrad.limits import Budget, Limits
from refgrad.paths import size


@dataclass(frozen=True, eq=False)
class Content:
    """An HDF5 file that is open, and in how many bytes it is stored: fewer than it has where a zip compresses it."""

    stream: BinaryIO
    stored: int


def content(stream: BinaryIO) -> Content:
    """An HDF5 file by itself."""
    return Content(stream, size(stream))


def _check_start(stream: BinaryIO) -> list[int]:
    """The first bytes must say that the file is whole and by itself: no user block, no other files beside it.

    Gives the addresses of the headers that libhdf5 reads when it opens the file.
    """
    length = size(stream)
    stream.seek(0)
    start = stream.read(96)
    try:
        version = start[8]
        widths = start[13:15] if version < 2 else start[9:11]
        base, end = struct.unpack_from("<Q8xQ", start, {0: 24, 1: 28}.get(version, 12))
        (driver,) = struct.unpack_from("<Q", start, 48 + 4 * version) if version < 2 else (NOWHERE,)
        at_root, at_more = (64 + 4 * version, 0) if version < 2 else (36, 20)
        headers = [struct.unpack_from("<Q", start, at)[0] for at in (at_root, at_more) if at]
    except (IndexError, struct.error):
        msg = f"the HDF5 data is damaged or cut off ({length:,} bytes)"
        raise FormatError(msg) from None
    if not start.startswith(b"\x89HDF\r\n\x1a\n"):
        msg = "this is no HDF5 file"
        raise FormatError(msg)
    if version > 3 or widths != b"\x08\x08" or base or driver != NOWHERE:
        msg = "the HDF5 file begins with a user block, names other files, or is of a later version than 3"
        raise UnsupportedError(msg)
    if end > length:
        msg = f"the HDF5 data is damaged or cut off ({length:,} bytes of {end:,})"
        raise FormatError(msg)
    return [address for address in headers if address != NOWHERE]


_LINKS = {h5l.TYPE_SOFT: "SoftLink", h5l.TYPE_EXTERNAL: "ExternalLink"}


def _checked(stream: BinaryIO, address: int, budget: Budget) -> Attributes:
    """The attributes of an object whose header libhdf5 can follow to its end."""
    found = messages(stream, address, budget)
    trees.check(stream, found, budget)
    return attributes.attributes(found)


def _address(holder: Any) -> int:
    """Where in the file an object's header is."""
    return int(h5py.h5o.get_info(holder.id).addr)


@dataclass(frozen=True, eq=False)
class Opened:
    """An HDF5 file that is being read: its root, and what reading it may still cost."""

    file: h5py.File
    stream: BinaryIO
    budget: Budget
    headers: dict[int, Attributes]

    def child(self, group: h5py.Group, name: str) -> Any:
        """A group or dataset one step below, or None; never one that lies elsewhere."""
        links, key = group.id.links, name.encode()
        if not name or not links.exists(key):
            return None
        link = links.get_info(key)
        if link.type != h5l.TYPE_HARD:
            msg = f"{group.name}/{name} is a {_LINKS.get(link.type, 'link of a later kind')}; links are not followed"
            raise UnsupportedError(msg)
        self._header(int(link.u))
        return group[name]

    def _header(self, address: int) -> Attributes:
        """What a header says, which libhdf5 may read from now on."""
        if address not in self.headers:
            self.headers[address] = _checked(self.stream, address, self.budget)
        return self.headers[address]

    def descend(self, group: h5py.Group, path: str) -> Any:
        """What a slash-separated path below a group leads to, or None."""
        found: Any = group
        for step in path.split("/"):
            if not isinstance(found, h5py.Group):
                return None
            found = self.child(found, step)
        return found

    def names(self, group: h5py.Group) -> list[str]:
        """What a group lists, in the order in which they were made where it says, else of their names.

        As it is stored: for any other order libhdf5 makes a table first, and crashes where that fails half-way.
        """
        self.budget.see(group.id.get_num_objs(), f"the entries of {group.name}")
        found: list[bytes] = []
        in_order = bool(group.id.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_INDEXED)
        index = h5.INDEX_CRT_ORDER if in_order else h5.INDEX_NAME
        group.id.links.iterate(found.append, idx_type=index, order=h5.ITER_NATIVE)
        return [name.decode() for name in (found if in_order else sorted(found))]

    def _attribute(self, holder: Any, name: str) -> list[str] | None:
        return attributes.texts(self.stream, self._header(_address(holder)), name, self.budget)

    def text(self, holder: Any, name: str) -> str | None:
        """An attribute that is one text, or None if there is none."""
        found = self._attribute(holder, name)
        if found is not None and len(found) != 1:
            msg = f"the attribute {name!r} is {len(found)} texts where one is expected"
            raise FormatError(msg)
        return found[0] if found else None

    def texts(self, holder: Any, name: str) -> list[str] | None:
        """An attribute that is a list of names, or None; Keras splits long ones into `name0`, `name1`."""
        found = self._attribute(holder, name)
        if found is not None:
            return found
        parts: list[str] = []
        count = 0
        while (found := self._attribute(holder, f"{name}{count}")) is not None:
            parts += found
            count += 1
        return parts if count else None

    def array(self, dataset: Any) -> Array:
        """The numbers of a dataset."""
        values = array(dataset, self.budget)
        if values.dtype == OPAQUE and self.text(dataset, "dtype") not in (None, "bfloat16"):
            msg = f"{dataset.name} holds {self.text(dataset, 'dtype')!r:.40} values, which are no plain numbers"
            raise UnsupportedError(msg)
        return values


_DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    MemoryError,
    zlib.error,
    struct.error,
)
"""What h5py raises, and what is raised here over numbers that make no sense."""


@contextmanager
def opened(content: Content, limits: Limits) -> Iterator[Opened]:
    """The file, read-only; h5py's own complaints come out as one `FormatError`."""
    try:
        budget = limits.budget(content.stored)
        headers = {address: _checked(content.stream, address, budget) for address in _check_start(content.stream)}
        with h5py.File(content.stream, "r") as file:
            yield Opened(file, content.stream, budget, headers)
    except RefgradError:
        raise
    except _DAMAGE as error:
        msg = f"the HDF5 data is damaged or cut off ({error})"
        raise FormatError(msg) from None


@dataclass(frozen=True, eq=False)
class Folder:
    """A group as its writer meant it: on Windows, Keras put backslashes into a name for a group in a group.

    `parts` are the groups that together make it, each with what the names of its entries there begin with.
    """

    parts: tuple[tuple[h5py.Group, str], ...]
    source: Opened

    @cached_property
    def _named(self) -> dict[str, list[tuple[h5py.Group, str]]]:
        found: dict[str, dict[tuple[h5py.Group, str], None]] = {}
        for group, start in self.parts:
            for key in self.source.names(group):
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
            inner = (group, place) if place.endswith("\\") else (self.source.child(group, place), "")
            parts += [inner] if isinstance(inner[0], h5py.Group) else []
        return Folder(tuple(parts), self.source) if parts else None

    def arrays(self) -> dict[str, Array]:
        """Everything in it as an array, by name: numbers in their order, 2 before 10."""
        found = {}
        for name in sorted(self, key=lambda name: (len(name), name)):
            (group, place), *others = self._named[name]
            if others:
                msg = f"{group.name}/{place} is there twice: in a group and with a backslash in its name"
                raise FormatError(msg)
            found[name] = self.source.array(self.source.child(group, place))
        return found

    def text(self, name: str) -> str | None:
        """An attribute as text, if it has it."""
        return self.source.text(self.parts[0][0], name)
