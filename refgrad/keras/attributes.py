"""The texts in the attributes of an HDF5 object, read from the bytes of the file.

libhdf5 believes what a damaged file says of the length of a text, and writes over memory that is not the text's; and a
small attribute can name one long text thousands of times. So attributes are read here from the messages of an object's
header, as the HDF5 File Format Specification 3.0 lays them out (IV.A.2.m attributes, III.E the heap of texts): name,
datatype, dataspace and data one after the other, and a text of no fixed length is (length u4, address of a heap u8,
index u4).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras.headers import NOWHERE, Message, piece
from refgrad.limits import Budget

_ATTRIBUTE, _MANY_ATTRIBUTES = 0x0C, 0x15


Parts = tuple[bytes, bytes, bytes]
"""The datatype, dataspace and data of an attribute."""


@dataclass(frozen=True, eq=False)
class Attributes:
    """The attributes of an object by name, up to the first that Keras would not write, and what is wrong with that."""

    named: dict[bytes, Parts]
    refusal: str | None


def attributes(messages: Iterable[Message]) -> Attributes:
    """What the messages of a header hold."""
    named: dict[bytes, Parts] = {}
    for kind, flags, data in messages:
        if kind == _MANY_ATTRIBUTES and struct.unpack_from("<Q", data, 4 if data[1] & 1 else 2)[0] != NOWHERE:
            return Attributes(named, "attributes are in a heap, where Keras puts none")
        if kind != _ATTRIBUTE:
            continue
        if flags & 2:
            return Attributes(named, "an attribute is shared between objects, which Keras's are not")
        version, more = data[:2]
        if version not in (1, 2, 3) or (version > 1 and more):
            return Attributes(
                named, f"an attribute is of version {version} with flags {more}, which Keras does not write"
            )
        name, datatype, space, values = _parts(data)
        named.setdefault(name, (datatype, space, values))
    return Attributes(named, None)


def _parts(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """The name, datatype, dataspace and data of an attribute; only its first version rounds up to eights."""
    version, _, *lengths = struct.unpack_from("<BBHHH", data)
    at, parts = 8 + (version == 3), []
    for length in lengths:
        parts.append(data[at : at + length])
        at += -(-length // 8) * 8 if version == 1 else length
    return parts[0].rstrip(b"\0"), parts[1], parts[2], data[at:]


def _count(space: bytes) -> int:
    """How many elements a dataspace has."""
    version, rank = space[0], space[1]
    if version == 2 and space[3] == 2:
        return 0
    return math.prod(struct.unpack_from(f"<{rank}Q", space, 8 if version == 1 else 4))


Heaps = dict[int, dict[int, tuple[int, int]]]
"""By the address of a heap and the index of a text: where the text is, and how long."""


def _heap(stream: BinaryIO, address: int, budget: Budget) -> dict[int, tuple[int, int]]:
    """What a heap holds."""
    signature, length = struct.unpack("<4s4xQ", piece(stream, address, 16, budget))
    heap = piece(stream, address, length, budget) if signature == b"GCOL" else b""
    found: dict[int, tuple[int, int]] = {}
    place = 16
    while place + 16 <= len(heap):
        index, count = struct.unpack_from("<H6xQ", heap, place)
        if not index or place + 16 + count > len(heap):
            break
        found[index] = (address + place + 16, count)
        place += 16 + -(-count // 8) * 8
    budget.see(len(found), "the texts of a heap")
    return found


def _from_heap(stream: BinaryIO, entry: bytes, heaps: Heaps, budget: Budget) -> bytes:
    """A text of a heap, if it is there and as long as the attribute says."""
    length, address, index = struct.unpack("<IQI", entry)
    if not length:
        return b""
    if address not in heaps:
        heaps[address] = _heap(stream, address, budget)
    at, count = heaps[address].get(index, (0, -1))
    if count != length:
        msg = f"an attribute names a text of {length:,} bytes in the heap at byte {address:,} that is not there"
        raise FormatError(msg)
    budget.spend(length, "the text of an attribute")
    return piece(stream, at, length, budget)


def _texts(stream: BinaryIO, name: bytes, datatype: bytes, space: bytes, data: bytes, budget: Budget) -> list[bytes]:
    count, (width,) = _count(space), struct.unpack_from("<I", datatype, 4)
    fixed, varying = datatype[0] & 15 == 3, datatype[0] & 15 == 9 and datatype[1] & 15 == 1
    if not count:
        return []
    if not fixed and not (varying and width == 16):
        msg = f"the attribute {name.decode()!r} is no text"
        raise UnsupportedError(msg)
    if count * width > len(data):
        msg = f"the attribute {name.decode()!r} holds {len(data):,} bytes, {count:,} texts need {count * width:,}"
        raise FormatError(msg)
    heaps: Heaps = {}
    entries = [data[at : at + width] for at in range(0, count * width, width)]
    found = entries if fixed else [_from_heap(stream, entry, heaps, budget) for entry in entries]
    return [entry.rstrip(b"\0") for entry in found]


def texts(stream: BinaryIO, held: Attributes, wanted: str, budget: Budget) -> list[str] | None:
    """The texts of an attribute; None if there is no such one."""
    name = wanted.encode()
    if name not in held.named:
        if held.refusal:
            raise UnsupportedError(held.refusal)
        return None
    return [text.decode("utf-8") for text in _texts(stream, name, *held.named[name], budget)]
