"""Files made from good ones by changing bytes, or by changing what a parsed JSON, zip or HDF5 file holds."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
VALUES = (
    None, True, False, 0, 1, -1, 3, 8.0, 1e308, float("nan"), float("inf"), 10**30, "", "x", "relu", "float16", "keras",
    "os", "Dense", "Lambda", "Functional", "canary.h5", [], {}, [None], [[0]], ["x", 0, 0], {"class_name": "Dense"},
    {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}, [[["x", 0, 0, {}]]],
)  # fmt: skip


def bytes_changed(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, numbers put in, a piece cut out, doubled, moved, or taken from another file."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not changed:
            break
        at, length = rng.randrange(len(changed)), rng.choice((1, 4, 8, 64, 512, 4096))
        match rng.randrange(8):
            case 0 | 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                changed[at] = rng.randrange(256)
            case 3:
                width = rng.choice("HIQ")
                piece = struct.pack(f"<{width}", rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(width)))
                changed[at : at + len(piece)] = piece
            case 4:
                changed[at : at + length] = b""
            case 5:
                changed[at:at] = changed[at : at + length]
            case 6:
                start = rng.randrange(len(other))
                changed[at : at + length] = other[start : start + length]
            case _:
                if rng.random() < 0.2:
                    del changed[at:]
    return bytes(changed)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) of a parsed JSON."""
    found, waiting = [], [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


def json_changed(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Values exchanged, taken away, doubled, renamed, or taken from another config."""
    config, lender = json.loads(content), json.loads(other)
    for _ in range(rng.choice((1, 1, 2, 3))):
        held = places(config)
        if not held:
            break
        holder, key = rng.choice(held)
        second, place = rng.choice(places(lender) if rng.random() < 0.5 else held)
        match rng.randrange(6):
            case 0 | 1:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
            case 2:
                del holder[key]
            case 3 | 4:
                holder[key] = json.loads(json.dumps(second[place]))
            case _:
                if isinstance(holder, list):
                    holder.insert(rng.randrange(len(holder) + 1), json.loads(json.dumps(holder[key])))
                else:
                    holder[rng.choice(("name", "units", "dtype", "class_name", "x", "axis", "module"))] = holder.pop(
                        key
                    )
    return json.dumps(config).encode()


def hdf5_changed(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Objects moved, linked, taken away, or stored in another way; attributes changed; then perhaps bytes."""
    stream, names = io.BytesIO(content), []
    with h5py.File(stream, "r+") as file:
        file.visit(names.append)
        for _ in range(rng.choice((1, 1, 2, 3))):
            name, second = rng.choice(names), rng.choice(names)
            with suppress(LookupError, ValueError, OSError, TypeError, RuntimeError):
                _object_changed(file, name, second, rng)
    found = stream.getvalue()
    return bytes_changed(found, other, rng) if rng.random() < 0.3 else found


def _object_changed(file: h5py.File, name: str, second: str, rng: random.Random) -> None:
    holder = file[name]
    match rng.randrange(9):
        case 0:
            del file[name]
        case 1:
            file.move(name, second + rng.choice(("", "x", "/x", "\\x")))
        case 2:
            del file[name]
            file[name] = rng.choice((h5py.SoftLink(f"/{second}"), h5py.ExternalLink("canary.h5", "x"), file[second]))
        case 3 | 4 | 5 if isinstance(holder, h5py.Dataset):
            values, settings = holder[()], rng.choice(STORED)
            values = rng.choice(
                (
                    values,
                    values.T,
                    values.ravel(),
                    values[:1],
                    values.astype(rng.choice(("f2", "f8", ">f4", "i4", "V2", "S3"))),
                )
            )
            del file[name]
            file.create_dataset(name, data=values, **settings)
        case 6:
            del file[name]
            file.create_dataset(name, (rng.choice(NUMBERS), 3), "f4", chunks=rng.choice((None, (1, 1))))
        case _:
            keys = list(holder.attrs) or list(file.attrs)
            target = holder if list(holder.attrs) else file
            key = rng.choice(keys)
            value = rng.choice(
                (target.attrs[key], b"x", "x", 3, np.arange(5), [b"a", b"b"], "x" * 300, h5py.Empty("f4"))
            )
            del target.attrs[key]
            target.attrs[rng.choice((key, "name", "weight_names", "layer_names"))] = value


STORED = (
    {},
    {"compression": "gzip"},
    {"chunks": True},
    {"fletcher32": True},
    {"shuffle": True},
    {"compression": "lzf"},
)
STRUCTURE: dict[str, Callable[[bytes, bytes, random.Random], bytes]] = {
    "json": json_changed,
    "h5": hdf5_changed,
    "bytes": bytes_changed,
}


def zip_changed(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Members changed after their kind, left out, renamed or added; stored or compressed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(io.BytesIO(other)) as lender:
        members = {name: archive.read(name) for name in archive.namelist()}
        others = {name: lender.read(name) for name in lender.namelist()}
    name = rng.choice(list(members))
    kind = name.rsplit(".", 1)[1] if rng.random() < 0.8 else "bytes"
    lent = others.get(name, members[name])
    match rng.randrange(10):
        case 0:
            del members[name]
        case 1:
            members[rng.choice(("../x", "x", name.upper(), name.replace("/", "\\"), "a/" + name))] = members.pop(name)
        case 2:
            members[name] = lent
        case _:
            members[name] = STRUCTURE.get(kind, bytes_changed)(members[name], lent, rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as made:
        for member, held in members.items():
            made.writestr(member, held)
    return stream.getvalue()
