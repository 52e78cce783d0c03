"""One array as `.npy`: NumPy's format 1.0, of which only plain floats row by row are read back.

The header is matched as text. NumPy takes it for a Python expression, which needs a parser to be bounded.
"""

from __future__ import annotations

import io
import math
import re
import struct

import numpy as np

from refgrad.arrays import Array
from refgrad.errors import FormatError

_START = struct.Struct("<6s2BH")
_HEADER = re.compile(r"\{'descr': '([<>]f[248])', 'fortran_order': False, 'shape': \(([0-9, ]{0,200})\), \} *\n?")


def packed(array: Array) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def unpacked(content: bytes, name: str) -> Array:
    """The numbers of a file, if it holds just as many as its header declares."""
    magic, *version, length = _START.unpack(content[: _START.size].ljust(_START.size, b"\0"))
    if magic != b"\x93NUMPY" or version != [1, 0]:
        msg = f"member {name!r:.80} is of .npy version {tuple(version)}; refgrad writes (1, 0)"
        raise FormatError(msg)
    begin = _START.size + length
    header = content[_START.size : begin].decode("latin-1")
    found = _HEADER.fullmatch(header)
    shape = tuple(int(size) for size in re.findall("[0-9]+", found[2])) if found else ()
    if found is None or math.prod(shape) * int(found[1][2]) != len(content) - begin:
        msg = f"member {name!r:.80} declares {header.strip():.80}; it must hold that many floats, row by row"
        raise FormatError(msg)
    return np.frombuffer(content, np.dtype(found[1]), offset=begin).reshape(shape)
