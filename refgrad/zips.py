"""A zip that says one thing only: its table of contents is checked as a whole before anything in it is unpacked."""

from __future__ import annotations

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from refgrad.errors import FormatError, RefgradError, UnsupportedError
from refgrad.limits import Budget, Limits
from refgrad.paths import size

DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, LookupError, ValueError, RuntimeError, struct.error)
"""What zipfile raises where a zip is damaged."""

_END = struct.Struct("<4s4H2LH")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def _check_end(stream: BinaryIO, limit: str, limits: Limits) -> None:
    """Where the table of contents is must be said once: at the very end, of one file from its first byte on.

    Readers differ in which table they take where there are several, or where something comes before or after.
    """
    length = size(stream)
    stream.seek(max(length - _END.size, 0))
    end = stream.read(_END.size)
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        msg = "the zip is cut off, or has a comment or other data after its end"
        raise FormatError(msg)
    _, disk, first, here, members, table, start, comment = _END.unpack(end)
    if 0xFFFF in (here, members) or 0xFFFFFFFF in (table, start):
        msg = "the zip has a zip64 end: over 65,534 members or 4 GiB are not read"
        raise UnsupportedError(msg)
    if disk or first or comment or here != members or start + table + _END.size != length:
        msg = "the zip has data before its beginning or after its end, or is one of several parts"
        raise FormatError(msg)
    limits.check(limit, members, "members of the zip")
    # 46 bytes each, and names, extra data and comments that may be as long as a table can say
    limits.check(limit, table >> 10, "members of the zip, by the size of its table in KiB")


def _check_name(name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0] or any(ord(letter) < 32 for letter in name):
        msg = f"the zip's member {name!r:.80} has a name that leads out of it"
        raise FormatError(msg)


def _check_members(archive: zipfile.ZipFile, budget: Budget) -> None:
    """Refuse names that lead elsewhere or can be mistaken, links, encryption, and more than may be unpacked."""
    seen: dict[str, str] = {}
    for entry in archive.infolist():
        name, mode = entry.filename, entry.external_attr >> 16
        _check_name(name)
        plain = unicodedata.normalize("NFC", name.replace("\\", "/").rstrip("/")).casefold()
        if plain in seen:
            msg = (
                f"the zip holds 2 members named {name!r:.80}"
                if seen[plain] == name
                else (f"the zip's members {seen[plain]!r:.80} and {name!r:.80} differ in case or separators only")
            )
            raise FormatError(msg)
        seen[plain] = name
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            msg = f"the zip's member {name!r:.80} is a link or a device"
            raise UnsupportedError(msg)
        if entry.flag_bits & 0x2041:
            msg = f"the zip's member {name!r:.80} is encrypted"
            raise UnsupportedError(msg)
        if entry.compress_type not in _METHODS:
            msg = f"the zip's member {name!r:.80} is compressed by method {entry.compress_type}; deflate is read"
            raise UnsupportedError(msg)
        budget.spend(entry.file_size, f"the zip's member {name!r:.80}")


_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = 24
"""The most bytes that a writer puts after a member whose length it did not know before."""


def _check_places(archive: zipfile.ZipFile, stream: BinaryIO) -> None:
    """Members must lie one after the other: none in another, and nothing between them that the table leaves out."""
    end = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        stream.seek(entry.header_offset)
        local = _LOCAL.unpack(stream.read(_LOCAL.size))
        if not end <= entry.header_offset <= end + (_DESCRIPTOR if end else 0):
            msg = f"the zip's member {entry.filename!r:.80} overlaps another, or follows data that is no member's"
            raise FormatError(msg)
        end = entry.header_offset + _LOCAL.size + local[-2] + local[-1] + entry.compress_size
    if not end <= archive.start_dir <= end + _DESCRIPTOR:
        msg = "the zip's last member reaches into its table, or there is data between them"
        raise FormatError(msg)


@contextmanager
def opened(stream: BinaryIO, limits: Limits, limit: str = "members") -> Iterator[zipfile.ZipFile]:
    """The zip, of as many members as a limit allows; what it raises while it is read comes out as one `FormatError`."""
    try:
        _check_end(stream, limit, limits)
        with zipfile.ZipFile(stream) as archive:
            _check_members(archive, limits.budget(size(stream)))
            _check_places(archive, stream)
            yield archive
    except RefgradError:
        raise
    except DAMAGE as error:
        msg = f"the zip is damaged or cut off ({error})"
        raise FormatError(msg) from None


def unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A member's bytes: as many as it declares, and of the checksum that it declares."""
    with archive.open(entry) as member:
        content = member.read(entry.file_size)
        if len(content) < entry.file_size or member.read(1):
            msg = f"the zip's member {entry.filename!r:.80} is not as long as it declares"
            raise FormatError(msg)
    return content
