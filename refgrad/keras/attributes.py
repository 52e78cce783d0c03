"""The texts in the attributes of an HDF5 object, read from the bytes of the file.

libhdf5 believes what a damaged file says of the length of a text, and writes over memory that is not the text's; and a
small attribute can name one long text thousands of times. So the messages of an object's header are read here, as the
HDF5 File Format Specification 3.0 lays them out (IV.A.1 headers, IV.A.2.m attributes, III.E the heap of texts): each
message is (kind, flags, data), an attribute is name, datatype, dataspace and data one after the other, and a text of
no fixed length is (length u4, address of a heap u8, index u4).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import BinaryIO

from refgrad.errors import FormatError, UnsupportedError
from refgrad.limits import Budget
from refgrad.paths import size

_ATTRIBUTE, _CONTINUED, _MANY_ATTRIBUTES = 0x0C, 0x10, 0x15
_MOST_BLOCKS = 1000
_NOWHERE = 2**64 - 1


def piece(stream: BinaryIO, address: int, count: int, budget: Budget) -> bytes:
    """So many bytes, all of which must be there."""
    if address + count > size(stream):
        msg = f"the HDF5 data is damaged: it leads to byte {address + count:,} of {size(stream):,}"
        raise FormatError(msg)
    budget.limits.check("attribute", count, "a part of the HDF5 file that is not an array, in bytes")
    stream.seek(address)
    return stream.read(count)


def messages(stream: BinaryIO, address: int, budget: Budget) -> Iterator[tuple[int, int, bytes]]:
    """The messages of an object's header: kind, flags, data."""
    start = piece(stream, address, 16, budget)
    later = start.startswith(b"OHDR")
    if later:
        flags = start[5]
        at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        start = piece(stream, address, at + width, budget)
        blocks = [(address + at + width, int.from_bytes(start[at:], "little"))]
        head = struct.Struct("<BHB2x" if flags & 4 else "<BHB")
    elif start[0] == 1:
        blocks, head = [(address + 16, struct.unpack_from("<I", start, 8)[0])], struct.Struct("<HHB3x")
    else:
        msg = f"the object at byte {address:,} has no header that can be read"
        raise FormatError(msg)
    count = 0
    while blocks:
        count += 1
        block = piece(stream, *blocks.pop(0), budget)
        if count > 1 and later:
            block = block[4:-4]  # between a signature and a checksum
        at = 0
        while at + head.size <= len(block):
            kind, length, flags = head.unpack_from(block, at)
            data = block[at + head.size : at + head.size + length]
            at += head.size + length
            if kind == _CONTINUED:
                blocks.append(struct.unpack("<QQ", data[:16]))
            else:
                yield kind, flags, data
        if count > _MOST_BLOCKS:
            msg = f"the header at byte {address:,} goes on and on"
            raise FormatError(msg)


def _parts(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """The name, datatype, dataspace and data of an attribute; only its first version rounds up to eights."""
    version, flags, *lengths = struct.unpack_from("<BBHHH", data)
    if version not in (1, 2, 3) or (version > 1 and flags):
        msg = f"an attribute is of version {version} with flags {flags}, which Keras does not write"
        raise UnsupportedError(msg)
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


def read(stream: BinaryIO, address: int, wanted: str, budget: Budget) -> list[str] | None:
    """The texts of an attribute of the object at an address; None if it has no such attribute."""
    for kind, flags, data in messages(stream, address, budget):
        if kind == _MANY_ATTRIBUTES and struct.unpack_from("<Q", data, 4 if data[1] & 1 else 2)[0] != _NOWHERE:
            msg = f"the object at byte {address:,} has its attributes in a heap, where Keras puts none"
            raise UnsupportedError(msg)
        if kind != _ATTRIBUTE:
            continue
        if flags & 2:
            msg = "an attribute is shared between objects, which Keras's are not"
            raise UnsupportedError(msg)
        name, datatype, space, data = _parts(data)
        if name == wanted.encode():
            return [text.decode("utf-8") for text in _texts(stream, name, datatype, space, data, budget)]
    return None
