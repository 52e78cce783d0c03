"""Zips that say two things, lead elsewhere, or unpack to too much."""

from __future__ import annotations

import io
import stat
import struct
import zipfile

from tests.hostile.table import SAME, archive, zipped

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def beside(name, outcome, message, *others, method=STORED):
    """A row whose zip has more members than it needs."""
    archive(f"zip: {name}", outcome, message)(lambda members: zipped([*members.items(), *others], method))


def info(name, **settings):
    found = zipfile.ZipInfo(name)
    for key, value in settings.items():
        setattr(found, key, value)
    return found


beside("compressed", SAME, "", method=DEFLATED)
beside("an asset", SAME, "", ("assets/vocabulary.txt", "a"))
beside("a name that leads up", "FormatError", "leads out", ("../canary.txt", "x"))
beside("a name that leads up inside", "FormatError", "leads out", ("assets/../../canary.txt", "x"))
beside("a name that leads up on Windows", "FormatError", "leads out", ("a\\..\\..\\canary.txt", "x"))
beside("an absolute name", "FormatError", "leads out", ("/canary.txt", "x"))
beside("a name with a drive", "FormatError", "leads out", ("C:/canary.txt", "x"))
beside("a name of control characters", "FormatError", "leads out", ("a\x1b[2J\n", "x"))
beside("a name with a NUL", "FormatError|RefgradError", "", (info("config.json", filename="config.json\0x"), "x"))
beside(
    "a link",
    "UnsupportedError",
    "link or a device",
    (info("a", external_attr=(stat.S_IFLNK | 0o777) << 16), "canary.txt"),
)
beside("a pipe", "UnsupportedError", "link or a device", (info("a", external_attr=(stat.S_IFIFO | 0o777) << 16), ""))
beside("a name in capitals", "FormatError", "case or separators", ("CONFIG.JSON", "{}"))
beside("a name with another separator", "FormatError", "case or separators", ("a/b", ""), ("a\\b", ""))
beside("a name in other letters", "FormatError", "case or separators", ("\u00e9", ""), ("e\u0301", ""))
beside("two thousand members", "LimitError", "members=", *((f"a{k}", "") for k in range(2000)))
beside("a bomb beside", "LimitError", "memory=", ("a", bytes(80 << 20)), method=DEFLATED)
beside("many small bombs", "LimitError", "memory=", *((f"a{k}", bytes(1 << 20)) for k in range(80)), method=DEFLATED)


@archive("zip: a bomb for a config", "LimitError", "memory=|json_bytes=")
def _(members):
    return zipped([*{**members, "config.json": b"{" + b" " * (20 << 20) + b"}"}.items()], DEFLATED)


@archive("zip: a bomb for weights", "LimitError", "memory=")
def _(members):
    return zipped([*{**members, "model.weights.h5": members["model.weights.h5"] + bytes(80 << 20)}.items()], DEFLATED)


@archive("zip: a member twice", "FormatError", "2 members named")
def _(members):
    found = bytearray(zipped([*members.items(), ("cOnfig.json", b"{}")]))
    return bytes(found.replace(b"cOnfig.json", b"config.json"))


def _patched(members, change):
    found = bytearray(zipped(members.items()))
    places = {}
    at = found.index(b"PK\1\2")
    while found[at : at + 4] == b"PK\1\2":
        sizes = struct.unpack_from("<3H", found, at + 28)
        places[bytes(found[at + 46 : at + 46 + sizes[0]]).decode()] = at
        at += 46 + sum(sizes)
    change(found, places, at)
    return bytes(found)


def patched(name, outcome, message):
    def add(change):
        archive(f"zip: {name}", outcome, message)(lambda members: _patched(members, change))
        return change

    return add


@patched("encrypted", "UnsupportedError", "encrypted")
def _(found, places, end):
    found[places["config.json"] + 8] |= 1


@patched("a method that is not read", "UnsupportedError", "method 12")
def _(found, places, end):
    found[places["config.json"] + 10] = 12


@patched("another name before the content", "FormatError", "differ")
def _(found, places, end):
    at = found.index(b"config.json")
    found[at : at + 6] = b"CONFIG"


@patched("another checksum", "FormatError", "CRC")
def _(found, places, end):
    found[places["model.weights.h5"] + 16] ^= 1


@patched("a size that is too large", "FormatError|LimitError", "memory")
def _(found, places, end):
    struct.pack_into("<L", found, places["model.weights.h5"] + 24, 1 << 31)


@patched("a size that is one too large", "FormatError", "not as long")
def _(found, places, end):
    at = places["model.weights.h5"] + 24
    struct.pack_into("<L", found, at, struct.unpack_from("<L", found, at)[0] + 1)


@patched("both sizes too large", "FormatError|LimitError", "overlaps|reaches into|memory")
def _(found, places, end):
    struct.pack_into("<2L", found, places["model.weights.h5"] + 20, 1 << 25, 1 << 25)


@patched("one member in another", "FormatError", "overlaps|differ")
def _(found, places, end):
    at = places["metadata.json"] + 42
    found[at : at + 4] = found[places["config.json"] + 42 : places["config.json"] + 46]


@patched("a zip64 end", "UnsupportedError", "zip64")
def _(found, places, end):
    struct.pack_into("<L", found, end + 16, 0xFFFFFFFF)


@patched("one of several parts", "FormatError", "several parts")
def _(found, places, end):
    found[end + 4] = 1


@patched("a member that is not listed", "FormatError", "no member's|data before")
def _(found, places, end):
    at, following = (
        places["metadata.json"],
        min(place for place in [*places.values(), end] if place > places["metadata.json"]),
    )
    size = following - at
    del found[at:following]
    end -= size
    struct.pack_into("<2H2L", found, end + 8, 2, 2, struct.unpack_from("<L", found, end + 12)[0] - size,
                     struct.unpack_from("<L", found, end + 16)[0])  # fmt: skip


archive("zip: a kilobyte behind it", "FormatError", "after its end")(
    lambda members: zipped(members.items()) + bytes(1024)
)
archive("zip: a comment", "FormatError", "comment")(lambda members: zipped(members.items())[:-2] + b"\x03\x00abc")
archive("zip: data before it", "FormatError", "")(lambda members: b"#!/bin/sh\n" + zipped(members.items()))
archive("zip: another zip before it", "FormatError", "before its beginning")(
    lambda members: zipped([("config.json", "{}")]) + zipped(members.items())
)
archive("zip: cut off", "FormatError", "cut off")(lambda members: zipped(members.items())[:-1000])
archive("zip: nothing in it", "FormatError", "")(lambda members: zipped([]))
archive("zip: only a zip in it", "FormatError", "0 members")(
    lambda members: zipped([("a.keras", zipped(members.items()))])
)
archive("zip: a zip for weights", "FormatError", "HDF5")(
    lambda members: zipped({**members, "model.weights.h5": zipped(members.items())}.items())
)


@archive("zip: zipped again as a folder", SAME)
def _(members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.mkdir("model")
        for name, held in members.items():
            made.writestr(f"model/{name}", held)
    return content.getvalue()
