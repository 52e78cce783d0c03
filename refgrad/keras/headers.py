"""The messages in the header of an HDF5 object, read from the bytes of the file before libhdf5 reads them.

As the HDF5 File Format Specification 3.0 lays them out (IV.A.1). libhdf5 follows a header from block to block without
asking whether it was there before: one that leads to itself takes all memory there is.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from refgrad.errors import FormatError
from refgrad.limits import Budget
from refgrad.paths import size

NOWHERE = 2**64 - 1

_CONTINUED = 0x10
_MOST_BLOCKS = 1000
_COST = 160
"""Bytes that a message takes in this process, beside its data."""


class Message(NamedTuple):
    """What a header says of one thing."""

    kind: int
    flags: int
    data: bytes


def piece(stream: BinaryIO, address: int, count: int, budget: Budget) -> bytes:
    """So many bytes, all of which must be there."""
    if address + count > size(stream):
        msg = f"the HDF5 data is damaged: it leads to byte {address + count:,} of {size(stream):,}"
        raise FormatError(msg)
    budget.limits.check("attribute", count, "a part of the HDF5 file that is not an array, in bytes")
    stream.seek(address)
    return stream.read(count)


def messages(stream: BinaryIO, address: int, budget: Budget) -> list[Message]:
    """The messages of the header at an address, in the order of its blocks."""
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
    found: list[Message] = []
    seen: set[int] = set()
    for place, count in blocks:  # which grow while they are read
        block = piece(stream, place, count, budget)
        if place in seen or len(seen) > _MOST_BLOCKS:
            msg = f"the HDF5 data is damaged: the header at byte {address:,} goes on and on"
            raise FormatError(msg)
        if seen and later:
            block = block[4:-4]  # between a signature and a checksum
        seen.add(place)
        here = _in_block(block, head)
        budget.spend(len(block) + _COST * len(here), f"the header at byte {address:,}")
        blocks += [struct.unpack("<QQ", data[:16]) for kind, _, data in here if kind == _CONTINUED]
        found += here
    return found


def _in_block(block: bytes, head: struct.Struct) -> list[Message]:
    found, at = [], 0
    while at + head.size <= len(block):
        kind, length, flags = head.unpack_from(block, at)
        found.append(Message(kind, flags, block[at + head.size : at + head.size + length]))
        at += head.size + length
    return found
