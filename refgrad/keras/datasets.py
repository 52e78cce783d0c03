"""Arrays of plain numbers out of HDF5 datasets: what one is made of must be on the list of what Keras writes.

Layout and filters are looked at before anything else, as even the shape of a virtual dataset is read from other files.
Chunks are unpacked here, each to no more than it declares: libhdf5 unpacks whatever there is, and loads plug-ins for
filters that it does not know.
"""

from __future__ import annotations

import math
import zlib
from itertools import product
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5t, h5z

from refgrad.arrays import Array, Shape
from refgrad.errors import FormatError, UnsupportedError
from refgrad.limits import Budget

OPAQUE = np.dtype("V2")
"""How bfloat16, which HDF5 has no type for, is stored; a model's config says that it is that."""

_NUMBERS = {
    getattr(h5t, f"{name}{order}"): f"{'<' if order == 'LE' else '>'}{code}"
    for order in ("LE", "BE")
    for name, code in {
        **{f"IEEE_F{8 * size}": f"f{size}" for size in (2, 4, 8)},
        **{f"STD_{sign}{8 * size}": f"{sign.lower()}{size}" for sign in "IU" for size in (1, 2, 4, 8)},
    }.items()
}
"""HDF5's types of numbers → NumPy's; whole ones are a seed's or a count's, which no layer computes with."""

_KINDS = {
    h5t.TypeStringID: "text",
    h5t.TypeOpaqueID: "opaque",
    h5t.TypeCompoundID: "compound",
    h5t.TypeReferenceID: "reference",
    h5t.TypeEnumID: "enumerated",
    h5t.TypeVlenID: "varying",
    h5t.TypeArrayID: "array",
    h5t.TypeBitfieldID: "bit",
}

_LAYOUTS = (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED)
_FILTERS = {h5z.FILTER_DEFLATE: "gzip", h5z.FILTER_SHUFFLE: "shuffle", h5z.FILTER_FLETCHER32: "fletcher32"}
_HIGHEST_RANK = 32


def _dtype(kind: Any, where: str) -> np.dtype[Any]:
    """The NumPy type of a type on the list."""
    if isinstance(kind, h5t.TypeOpaqueID) and kind.get_size() == OPAQUE.itemsize and not kind.committed():
        return OPAQUE
    found = next((code for known, code in _NUMBERS.items() if kind.equal(known)), None)
    if found is None or kind.committed():
        msg = f"{where} holds {_KINDS.get(type(kind), 'other') if found is None else 'named'} values, "
        msg += "which are no plain numbers"
        raise UnsupportedError(msg)
    return np.dtype(found)


def _filters(properties: Any, where: str) -> list[int]:
    """The filters that chunks went through."""
    found = [properties.get_filter(place)[0] for place in range(properties.get_nfilters())]
    for code in found:
        if code not in _FILTERS or found.count(code) > 1:
            msg = f"{where} is compressed by filter {code}; these are read, each once: {', '.join(_FILTERS.values())}"
            raise UnsupportedError(msg)
    return found


def _fletcher32(raw: bytes) -> list[int]:
    """Fletcher's checksum of 16-bit words, high byte first: Σ w and Σ Σ w, modulo 2¹⁶ − 1."""
    words = np.frombuffer(raw + b"\0" * (len(raw) % 2), ">u2").astype(np.uint64)
    weights = np.arange(len(words), 0, -1).astype(np.uint64) % 65535
    return [int(words.sum()) % 65535, int((words * weights % 65535).sum()) % 65535]


def _unfiltered(raw: bytes, filters: list[int], skipped: int, dtype: np.dtype[Any], count: int, where: str) -> bytes:
    """A chunk's bytes as they were before any filter, just as many as it holds."""
    checked = sum(4 for code in filters if code == h5z.FILTER_FLETCHER32)
    for place, code in reversed(list(enumerate(filters))):
        if skipped >> place & 1:
            continue
        if code == h5z.FILTER_DEFLATE:
            unpacking = zlib.decompressobj()
            raw = unpacking.decompress(raw, count + checked + 1)
        elif code == h5z.FILTER_FLETCHER32:
            raw, sums = raw[:-4], np.frombuffer(raw[-4:], "<u2")
            if not np.array_equal(_fletcher32(raw), sums % 65535):
                msg = f"a chunk of {where} does not have the checksum that it states"
                raise FormatError(msg)
        else:
            raw = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1).T.tobytes()
    if len(raw) != count:
        msg = f"a chunk of {where} does not unpack to the {count:,} bytes that it declares"
        raise FormatError(msg)
    return raw


def _chunked(dataset: Any, dtype: np.dtype[Any], shape: Shape, budget: Budget, where: str) -> Array:
    """An array out of its chunks, every one of which must be there."""
    properties = dataset.get_create_plist()
    chunk, filters = properties.get_chunk(), _filters(properties, where)
    count = math.prod(chunk) * dtype.itemsize
    budget.limits.check("chunk", count, f"a chunk of {where}, in bytes")
    grid = [range(0, length, step) for length, step in zip(shape, chunk, strict=True)]
    budget.see(math.prod(map(len, grid)), f"the chunks of {where}")
    found = np.empty(shape, dtype)
    for corner in product(*grid):
        stored = dataset.get_chunk_info_by_coord(corner)
        if stored.byte_offset is None or not 0 < stored.size <= count + count // 8 + 1024:
            msg = f"a chunk of {where} is not there, or stored in {stored.size:,} bytes where {count:,} are declared"
            raise FormatError(msg)
        skipped, raw = dataset.read_direct_chunk(corner)
        values = np.frombuffer(_unfiltered(raw, filters, skipped, dtype, count, where), dtype).reshape(chunk)
        place = tuple(slice(start, start + step) for start, step in zip(corner, chunk, strict=True))
        part = found[place]
        part[...] = values[tuple(map(slice, part.shape))]
    return found


def array(dataset: Any, budget: Budget) -> Array:
    """The numbers of a dataset in native byte order, if it is of a kind that Keras writes and as large as it says."""
    where = getattr(dataset, "name", "an entry")
    if not isinstance(dataset, h5py.Dataset):
        msg = f"{where} is a group where an array is expected"
        raise FormatError(msg)
    properties = dataset.id.get_create_plist()
    layout = properties.get_layout()
    if layout not in _LAYOUTS or properties.get_external_count():
        msg = f"{where} is virtual or stored outside the file; Keras stores plain arrays in it"
        raise UnsupportedError(msg)
    dtype, shape = _dtype(dataset.id.get_type(), where), dataset.id.shape
    if shape is None or len(shape) > _HIGHEST_RANK:
        msg = f"{where} has no shape that an array can have"
        raise UnsupportedError(msg)
    declared = math.prod(shape) * dtype.itemsize
    budget.spend(declared, f"{where} with shape {shape}")
    if layout == h5d.CHUNKED:
        values = _chunked(dataset.id, dtype, shape, budget, where)
    elif _filters(properties, where) or dataset.id.get_storage_size() != declared:
        msg = f"{where} with shape {shape} needs {declared:,} bytes and stores {dataset.id.get_storage_size():,}"
        raise FormatError(msg)
    else:
        values = np.empty(shape, dtype)
        if values.size:
            dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, values, dataset.id.get_type())
    return values if dtype == OPAQUE else values.astype(dtype.newbyteorder("="), copy=False)
