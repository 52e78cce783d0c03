"""Files made from good ones by hypothesis, which draws what becomes of a parsed JSON, zip, array or HDF5 file.

A zip's records are edited as well, and a refgrad file may be sealed again, so that edits lie behind a right digest.
"""

from __future__ import annotations

import copy
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from mutations import NUMBERS, VALUES, places
from seeds import Seed

from refgrad.artifact import HEADER, _content
from refgrad.keras.layers import LAYERS
from refgrad.keras.operations import OPERATIONS
from refgrad.ops import OPS

Draw = Callable[..., Any]
_CLASSES = (*LAYERS, *OPERATIONS[2], *OPERATIONS[3], *OPS, "Sequential", "Functional", "TimeDistributed", "Lambda")
_LEAF = st.one_of(
    st.sampled_from(VALUES),
    st.sampled_from(_CLASSES),
    st.integers(),
    st.integers(-4, 40),
    st.sampled_from(NUMBERS),
    st.floats(),
    st.text(max_size=20),
)
_VALUE = st.recursive(
    _LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
_NEAR: Sequence[Callable[[Any], Any]] = (
    lambda value: value + 1,
    lambda value: -value,
    lambda value: (value + 0) * 10**6,
    lambda value: value[::-1],
    lambda value: value * 50,
    lambda value: [value],
    lambda value: value[0],
    lambda value: {"class_name": value, "config": {}},
    float,
    str,
    bool,
    json.dumps,
)
"""What a value may become that is near to it, where it can."""


@st.composite
def json_edited(draw: Draw, content: bytes) -> bytes:
    """A few values replaced, moved, copied into or over each other, renamed or taken away."""
    try:
        config = json.loads(content)
    except ValueError:  # it was edited before, as something else
        return content
    for _ in range(draw(st.integers(1, 4))):
        found = places(config)
        if not found or len(found) > 20_000:
            break
        (holder, key), (second, other) = (found[draw(st.integers(0, len(found) - 1))] for _ in range(2))
        match draw(st.integers(0, 6)):
            case 0:
                holder[key] = copy.deepcopy(draw(_VALUE))
            case 1 | 2:
                with suppress(TypeError, ValueError, LookupError, OverflowError):
                    holder[key] = draw(st.sampled_from(_NEAR))(copy.deepcopy(holder[key]))
            case 3:
                del holder[key]
            case 4:
                holder[key] = copy.deepcopy(second[other])
            case 5:
                holder[key], second[other] = copy.deepcopy(second[other]), copy.deepcopy(holder[key])
            case _ if isinstance(holder, dict):
                names = sorted({name for inner, name in found if isinstance(inner, dict)})
                holder[draw(st.sampled_from(names) | st.text(max_size=8))] = holder.pop(key)
            case _:
                holder[key:key] = [copy.deepcopy(holder[key])] * draw(st.integers(1, 30))
    with suppress(ValueError, RecursionError):
        return json.dumps(config).encode()
    return content


_DTYPES = (
    *("f2", "<f4", ">f4", "f8", "i1", "i4", "u8", "?", "c8", "S3", "V2", "V4", "O"),
    *([("a", "f4")], h5py.string_dtype(), h5py.vlen_dtype(np.dtype("f4")), h5py.ref_dtype),
)
_STORED = st.fixed_dictionaries(
    {},
    optional={
        "chunks": st.sampled_from([True, (1, 1), (2, 5), (1,), (1000, 1000)]),
        "compression": st.sampled_from(["gzip", "lzf", 9]),
        "shuffle": st.booleans(),
        "fletcher32": st.booleans(),
        "scaleoffset": st.integers(0, 3),
        "fillvalue": st.floats(width=32),
        "maxshape": st.sampled_from([(None, None), (None,), (10**6, 10**6)]),
    },
)
_ATTRIBUTE = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=20),
    st.lists(st.binary(max_size=6), min_size=1, max_size=3),
    st.integers(-(2**31), 2**31),
    st.just(h5py.Empty("S3")),
    st.just(np.zeros((3, 2), "f4")),
)


@st.composite
def _dataset(draw: Draw, file: h5py.File, name: str, values: Any) -> None:
    """An array in another type, shape or storage."""
    shape = draw(st.sampled_from([values.shape, values.shape[::-1], (*values.shape, 1), (), (0,), (10**9, 10**9)]))
    dtype, stored = draw(st.sampled_from([values.dtype, *_DTYPES])), draw(_STORED)
    kept = draw(st.booleans()) and values.size == np.prod(shape, dtype=float)
    del file[name]
    if kept:
        file.create_dataset(name, data=values.reshape(shape), **stored)
    else:
        file.create_dataset(name, shape, dtype, **stored)


@st.composite
def _attribute(draw: Draw, held: Any, names: Sequence[str]) -> None:
    """An attribute with another value, or under another name, or a config in it edited."""
    keys = list(held.attrs) or ["name"]
    key = draw(st.sampled_from(keys))
    value = held.attrs.get(key, b"")
    if key == "model_config":
        held.attrs[key] = draw(json_edited(value.encode() if isinstance(value, str) else bytes(value)))
    elif isinstance(value, np.ndarray) and value.size and draw(st.booleans()):
        listed = [*value.ravel().tolist(), draw(st.sampled_from(names)).rsplit("/", 1)[-1].encode()]
        held.attrs[key] = draw(st.permutations(listed))[: draw(st.integers(1, len(listed)))]
    else:
        held.attrs[draw(st.sampled_from([key, "name", "weight_names", "layer_names"]))] = draw(_ATTRIBUTE)


def _copied(file: h5py.File, **settings: Any) -> bytes:
    """All of a file in one of another version or layout."""
    stream = io.BytesIO()
    with h5py.File(stream, "w", **settings) as other:
        for name in file:
            file.copy(name, other)
        for key, value in file.attrs.items():
            other.attrs[key] = value
    return stream.getvalue()


@st.composite
def hdf5_edited(draw: Draw, content: bytes) -> bytes:
    """Links, arrays and attributes exchanged, and perhaps all written anew in another version."""
    stream = io.BytesIO(content)
    settings = draw(
        st.fixed_dictionaries(
            {"libver": st.sampled_from(["earliest", "v110", "latest"])},
            optional={"track_order": st.just(True), "userblock_size": st.sampled_from([512, 4096])},
        )
    )
    try:
        opened = h5py.File(stream, "r+")
    except OSError:  # what an earlier edit of the same zip has broken
        return content
    with opened as file:
        for _ in range(draw(st.integers(1, 3))):
            names: list[str] = []
            file.visit(names.append)
            if not names:
                break
            name, second = (draw(st.sampled_from(names)) for _ in range(2))
            called = draw(st.sampled_from([second, f"{second}/x", f"{second}x", "layers", "x"]) | st.text(max_size=6))
            with suppress(LookupError, ValueError, OSError, TypeError, RuntimeError, AttributeError, MemoryError):
                match draw(st.integers(0, 6)):
                    case 0:
                        file.move(name, called)
                    case 1:
                        file[called] = file[name]
                    case 2:
                        del file[name]
                        links = (h5py.SoftLink(second), h5py.SoftLink("."), h5py.ExternalLink("canary.h5", "x"))
                        file[name] = draw(st.sampled_from(links))
                    case 3 | 4 if isinstance(file[name], h5py.Dataset):
                        draw(_dataset(file, name, file[name][()]))
                    case _:
                        draw(_attribute(draw(st.sampled_from([file, file[name]])), names))
        if draw(st.booleans()):
            with suppress(LookupError, ValueError, OSError, TypeError, RuntimeError):
                return _copied(file, **settings)
    return stream.getvalue()


@st.composite
def npy_edited(draw: Draw, content: bytes) -> bytes:
    """An array whose header says something else, as long as before or not."""
    size = 10 + int.from_bytes(content[8:10], "little")
    shape = draw(st.lists(st.integers(-1, 9) | st.sampled_from(NUMBERS), max_size=4).map(tuple))
    said = draw(
        st.fixed_dictionaries(
            {
                "descr": st.sampled_from(["<f4", ">f4", "<f8", "|O", "<c8", "<U3", "|V2"]),
                "fortran_order": st.booleans() | st.just("f()"),
                "shape": st.just(shape),
            }
        )
    )
    text = f"{said!r}, ".ljust(size - 11).encode() + b"\n"
    return (
        draw(st.sampled_from([content[:10] + text, content[:8] + struct.pack("<H", len(text)) + text]))
        + content[size : draw(st.sampled_from([size + 4, len(content), None]))]
    )


_KINDS = {"json": json_edited, "h5": hdf5_edited, "npy": npy_edited}
_RECORDS = {b"PK\x03\x04": 30, b"PK\x01\x02": 46, b"PK\x05\x06": 22}
"""The records of a zip, and how long each is at least."""


@st.composite
def zip_edited(draw: Draw, content: bytes) -> bytes:
    """Members edited after their kind, renamed, doubled, left out or moved, and fields of the zip's records."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(members) - 1))
        name, held = members[at]
        kind = _KINDS.get(name.rsplit(".", 1)[-1])
        match draw(st.integers(0, 20)):
            case 0:
                members[at] = (draw(st.text(max_size=12) | st.sampled_from([name.upper(), f"a/{name}"])), held)
            case 1:
                members.insert(draw(st.integers(0, len(members))), (name, held))
            case 2 if len(members) > 1:
                del members[at]
            case 3:
                members = draw(st.permutations(members))
            case _ if kind is not None:
                members[at] = (name, draw(kind(held)))
    if HEADER in dict(members) and draw(st.booleans()):
        with suppress(ValueError, TypeError, AttributeError):
            arrays = dict(members)
            header = json.loads(arrays.pop(HEADER))
            header["content"] = _content(header, arrays)
            members = [*arrays.items(), (HEADER, json.dumps(header).encode())]
    stream = io.BytesIO()
    method = draw(st.sampled_from([0, 0, 0, 0, 0, 8, 12, 14]))
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(stream, "w", method) as made:
        for name, held in members:
            with suppress(ValueError):
                made.writestr(zipfile.ZipInfo(name or "x"), held, draw(st.sampled_from([None, None, None, None, 0, 8])))
    return draw(_records_edited(stream.getvalue())) if draw(st.integers(0, 4)) == 3 else stream.getvalue()


@st.composite
def _records_edited(draw: Draw, content: bytes) -> bytes:
    """Numbers in the records of a zip: sizes, offsets, flags, methods, attributes."""
    edited = bytearray(content)
    mark = draw(st.sampled_from(sorted(_RECORDS)))
    starts = [at for at in range(len(content)) if content.startswith(mark, at)]
    for _ in range(draw(st.integers(1, 3)) if starts else 0):
        at = draw(st.sampled_from(starts)) + 2 * draw(st.integers(2, _RECORDS[mark] // 2 - 2))
        width = draw(st.sampled_from("HL"))
        value = draw(st.sampled_from(NUMBERS) | st.integers(0, len(content))) % (1 << 8 * struct.calcsize(f"<{width}"))
        struct.pack_into(f"<{width}", edited, at, value)
    return bytes(edited)


_EDITED = {"json": json_edited, "h5": hdf5_edited, "zip": zip_edited}


@st.composite
def edited(draw: Draw, good: Callable[[], Sequence[Seed]]) -> tuple[bytes, dict[str, bytes], str | None]:
    """One of the good files, edited after its kind; or what is given beside it is."""
    kind = draw(st.sampled_from(sorted(_EDITED)))
    seed = draw(st.sampled_from([seed for seed in good() if seed.kind == kind]))
    if seed.others and draw(st.integers(0, 4)) == 0:
        ((key, other),) = seed.others.items()
        edit = hdf5_edited if key == "weights" else json_edited
        return seed.content, {key: draw(edit(other))}, None
    return draw(_EDITED[kind](seed.content)), seed.others, None
