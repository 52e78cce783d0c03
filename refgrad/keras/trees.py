"""Lists and trees by which HDF5 finds a group's entries and an array's chunks, looked at before libhdf5 follows them.

libhdf5 does not ask whether a branch leads downwards: a tree that is its own branch takes the stack, and the process
with it; one whose branches meet again can take for ever, and a list that bites its tail takes all memory. As the HDF5
File Format Specification 3.0 lays them out: III.A.1 trees of version 1, III.A.2 of version 2, III.D the heap of a
group's names, III.G that of a large group's links, IV.A.2.c, i and r the messages that lead there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO

from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras.headers import NOWHERE, Message, piece
from refgrad.limits import Budget

_LINKS, _LAYOUT, _TABLE = 0x02, 0x08, 0x11
_NO_MORE = 1
"""The end of a list of what is free."""
_CHUNKED, _TREE_OF_CHUNKS = 2, 5
_NODE = 512
"""Bytes of a node of a large group's tree: all that libhdf5 makes are that long."""
_DEEPEST = 2
"""Levels of such a tree above its leaves: 26 000 links, and no way through it is longer."""


def check(stream: BinaryIO, messages: Iterable[Message], budget: Budget) -> None:
    """Refuse an object whose header leads to a tree that is none."""
    for kind, flags, data in messages:
        if kind in (_LINKS, _LAYOUT, _TABLE) and flags & 2:
            msg = f"a message of kind {kind} is shared between objects, where Keras shares none"
            raise UnsupportedError(msg)
        if kind == _TABLE:
            tree, names = struct.unpack_from("<2Q", data)
            _check_tree(stream, tree, 8, budget)
            _check_names(stream, names, budget)
        elif kind == _LINKS:
            _check_links(stream, data, budget)
        elif kind == _LAYOUT:
            _check_layout(stream, data, budget)


def _check_layout(stream: BinaryIO, data: bytes, budget: Budget) -> None:
    version = data[0]
    kind, rank, at = (data[2], data[1], 8) if version < 3 else (data[1], data[3 if version > 3 else 2], 3)
    if kind != _CHUNKED:
        return
    if version > 3:
        if data[5 + rank * data[4]] == _TREE_OF_CHUNKS:
            msg = "an array has its chunks in a tree of version 2, where Keras puts none"
            raise UnsupportedError(msg)
        return
    _check_tree(stream, struct.unpack_from("<Q", data, at)[0], 8 + 8 * rank, budget)


def _check_tree(stream: BinaryIO, root: int, key: int, budget: Budget) -> None:
    """Each node's branches must be of the level below its own, and none be met twice; keys are so many bytes."""
    nodes, seen = [(root, -1)] if root != NOWHERE else [], set[int]()
    for address, expected in nodes:  # which grow while they are read
        signature, level, count = struct.unpack("<4sxBH", piece(stream, address, 8, budget))
        if signature != b"TREE" or expected not in (-1, level) or address in seen:
            msg = f"the HDF5 data is damaged: the tree at byte {root:,} has no tree below it at byte {address:,}"
            raise FormatError(msg)
        seen.add(address)
        budget.see(1, "a tree")
        if level:
            entries = piece(stream, address + 24, count * (key + 8), budget)
            nodes += [(struct.unpack_from("<Q", entries, at)[0], level - 1) for at in range(key, len(entries), key + 8)]


def _check_names(stream: BinaryIO, address: int, budget: Budget) -> None:
    """The list of what is free between the names of a group must end."""
    signature, length, free, start = struct.unpack("<4s4xQQQ", piece(stream, address, 32, budget))
    seen: set[int] = set()
    while signature == b"HEAP" and free != _NO_MORE:
        if free in seen or free + 16 > length:
            msg = f"the HDF5 data is damaged: what is free among the names at byte {address:,} has no end"
            raise FormatError(msg)
        seen.add(free)
        budget.see(1, "what is free among names")
        (free,) = struct.unpack("<Q", piece(stream, start + free, 8, budget))


def _check_links(stream: BinaryIO, data: bytes, budget: Budget) -> None:
    """The trees, by name and by the order in which links were made, and the heap of a group with many links."""
    flags = data[1]
    heap, *trees = struct.unpack_from("<3Q" if flags & 2 else "<2Q", data, 10 if flags & 1 else 2)
    if heap != NOWHERE:
        signature, filters = struct.unpack("<4s3xH", piece(stream, heap, 9, budget))
        if signature != b"FRHP" or filters:
            msg = f"the HDF5 data is damaged, or compresses names: there is no heap of links at byte {heap:,}"
            raise FormatError(msg)
    for address in trees:
        if address == NOWHERE:
            continue
        signature, node, depth = struct.unpack("<4s2xI2xH", piece(stream, address, 14, budget))
        if signature != b"BTHD" or node != _NODE or depth > _DEEPEST:
            msg = f"the HDF5 data is damaged, or a group has too many entries: see the tree at byte {address:,}"
            raise FormatError(msg)
