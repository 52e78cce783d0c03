"""HDF5 files that use what Keras does not, or that lie."""

from __future__ import annotations

import struct
import zlib

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from tests.hostile.table import KERNEL, SAME, golden_config, hdf5, hostile, text

NUMBERED = "mixed-keras3.weights.h5"


def instead(name, outcome, message, put, after=None):
    """A row in which something else is where the first kernel was."""

    @hdf5(f"hdf5: {name}", outcome, message, after=after)
    def edit(file):
        values = file[KERNEL][()]
        del file[KERNEL]
        put(file, values)


def dataset(name, outcome, message, **settings):
    instead(name, outcome, message, lambda file, values: file.create_dataset(KERNEL, **{"data": values, **settings}))


def link(name, message, made):
    instead(name, "UnsupportedError", message, lambda file, _: file.__setitem__(KERNEL, made))


link("an external link", "ExternalLink", h5py.ExternalLink("canary.h5", "x"))
link("an external link to a pipe", "ExternalLink", h5py.ExternalLink("canary.pipe", "x"))
link("a soft link", "SoftLink", h5py.SoftLink("/dense/mixed/dense/kernel"))
link("a soft link to itself", "SoftLink", h5py.SoftLink(f"/{KERNEL}"))
link("a soft link to nothing", "SoftLink", h5py.SoftLink("/nothing"))


@hdf5("hdf5: a group that is a link to all", SAME, "", source=NUMBERED)
def _(file):
    file["layers/dense/layers"] = file["/"]


@hdf5("hdf5: a group in itself", "RefgradError", "by links|with", source=NUMBERED)
def _(file):
    file["layers/dense/layers"] = file["layers"]


@hdf5("hdf5: a soft link for the layers", "UnsupportedError", "SoftLink", source=NUMBERED)
def _(file):
    file.move("layers", "elsewhere")
    file["layers"] = h5py.SoftLink("/elsewhere")


def _outside(target):
    def put(file, values):
        file.create_dataset(KERNEL, values.shape, "f4", external=[(target, 0, values.nbytes)])

    return put


def _virtual(file, values):
    layout = h5py.VirtualLayout(values.shape, "f4")
    layout[...] = h5py.VirtualSource("canary.h5", "x", values.shape)
    file.create_virtual_dataset(KERNEL, layout)


def _virtual_without_end(file, values):
    properties = h5p.create(h5p.DATASET_CREATE)
    space = h5s.create_simple((3, 8), (h5s.UNLIMITED, 8))
    space.select_hyperslab((0, 0), (h5s.UNLIMITED, 1), stride=(3, 8), block=(3, 8))
    source = h5s.create_simple((3, 8))
    properties.set_virtual(space, b"canary.%b", b"x", source)
    h5d.create(file["first/mixed/first"].id, b"kernel", h5t.IEEE_F32LE, space, properties)


instead("external storage", "UnsupportedError", "outside", _outside("canary.txt"))
instead("external storage in a pipe", "UnsupportedError", "outside", _outside("canary.pipe"))
instead("a virtual dataset", "UnsupportedError", "virtual", _virtual)
instead("a virtual dataset without end", "UnsupportedError", "virtual", _virtual_without_end)

for name, data in {
    "complex": np.ones((3, 8), complex),
    "texts": np.array([[b"x"] * 8] * 3),
    "booleans": np.ones((3, 8), bool),
    "opaque": np.zeros((3, 8), "V4"),
    "compound": np.zeros((3, 8), [("a", "f4"), ("b", "f4")]),
    "long floats": np.ones((3, 8), np.longdouble),
}.items():
    dataset(f"{name} for weights", "UnsupportedError", "no plain numbers", data=data)
for name, dtype in {
    "varying lengths": h5py.vlen_dtype(np.dtype("f4")),
    "texts of varying length": h5py.string_dtype(),
    "references": h5py.ref_dtype,
    "references to regions": h5py.regionref_dtype,
    "enumerated": h5py.enum_dtype({"a": 1}, "i4"),
    "arrays": np.dtype(("f4", (2,))),
}.items():
    dataset(f"{name} for weights", "UnsupportedError", "no plain numbers", data=None, shape=(3, 8), dtype=dtype)
dataset("integers for weights", "UnsupportedError", "int32", data=np.ones((3, 8), "i4"))
dataset("halves for weights", "MismatchError", "float16", data=np.ones((3, 8), "f2"))
dataset("a kernel that is turned", "MismatchError", r"\(8, 3\); units=8", data=np.ones((8, 3), "f4"))
dataset("a kernel for other inputs", "MismatchError", r"4 features.*\(3,\)|\(4, 8\)", data=np.ones((4, 8), "f4"))
dataset("a kernel without numbers", "MismatchError", r"\(0, 8\)", data=np.ones((0, 8), "f4"))
dataset("no kernel at all", "UnsupportedError", "no shape", data=h5py.Empty("f4"))
dataset("a kernel of 30 axes", "MismatchError", "kernel has shape", data=np.ones((1,) * 30, "f4"))
instead("big-endian weights", SAME, "", lambda file, values: file.__setitem__(KERNEL, values.astype(">f4")))

dataset("10**12 numbers", "LimitError", r"memory=", data=None, shape=(10**6, 10**6), dtype="f4")
dataset("10**12 numbers in chunks", "LimitError", r"memory=", data=None, shape=(10**6,) * 2, dtype="f4", chunks=(1, 1))
dataset("a small array in a chunk of 1.2 GB", "LimitError", r"chunk=", data=None, shape=(3, 8), dtype="f4",
        chunks=(3, 10**8), maxshape=(3, None))  # fmt: skip
dataset("chunks that are not there", "FormatError", "not there", data=None, shape=(3, 8), dtype="f4", chunks=(3, 8))
dataset("numbers that are not there", "FormatError", "stores 0", data=None, shape=(3, 8), dtype="f4")
dataset("lzf", "UnsupportedError", "filter 32000", compression="lzf")
dataset("scaled offsets", "UnsupportedError", "filter 6", scaleoffset=3)
dataset("gzip", SAME, "", compression="gzip", shuffle=True, fletcher32=True)
dataset("chunks that do not fit", SAME, "", chunks=(2, 5))


def _filtered(*filters):
    """A chunk that went through filters, written as its bytes are given."""

    def make(raw):
        def put(file, values):
            properties = h5p.create(h5p.DATASET_CREATE)
            properties.set_chunk(values.shape)
            for code in filters:
                properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (1,))
            space = h5s.create_simple(values.shape)
            made = h5d.create(file["first/mixed/first"].id, b"kernel", h5t.IEEE_F32LE, space, properties)
            made.write_direct_chunk((0, 0), raw(values))

        return put

    return make


instead("a filter of a plug-in", "UnsupportedError", "filter 32015", _filtered(32015)(lambda values: values.tobytes()))
instead("gzip twice", "UnsupportedError", "each once", _filtered(1, 1)(lambda values: zlib.compress(values.tobytes())))
instead("a chunk that unpacks to 16 MB", "FormatError", "stored in|does not unpack", _filtered(1)(
    lambda values: zlib.compress(bytes(1 << 24), 9)))  # fmt: skip
instead("a chunk that unpacks to 256 KB", "FormatError", "does not unpack", _filtered(1)(
    lambda values: zlib.compress(bytes(1 << 18), 9)))  # fmt: skip
instead("a chunk that is cut off", "FormatError", "does not unpack", _filtered(1)(
    lambda values: zlib.compress(values.tobytes())[:-30]))  # fmt: skip
instead("a chunk that is no gzip", "FormatError", "damaged", _filtered(1)(lambda values: b"\0" * 60))
instead(
    "a chunk of another checksum", "FormatError", "checksum", _filtered(3)(lambda values: values.tobytes() + b"abcd")
)
instead("a chunk shorter than its checksum", "FormatError", "", _filtered(3)(lambda values: b"ab"))


def _committed(file, values):
    file["type"] = np.dtype("f4")
    file.create_dataset(KERNEL, data=values, dtype=file["type"])


instead("a type with a name", "UnsupportedError", "named values", _committed)


@hdf5("hdf5: a group for an array", "FormatError", "is a group")
def _(file):
    del file[KERNEL]
    file.create_group(KERNEL)


@hdf5("hdf5: an array for a group", "FormatError", "no group with 'weight_names'")
def _(file):
    del file["first"]
    file["first"] = [1.0]


@hdf5("hdf5: a named type for a group", "FormatError", "no group with 'weight_names'")
def _(file):
    del file["first"]
    file["first"] = np.dtype("f4")


def attribute(name, outcome, message, value, **settings):
    @hdf5(f"hdf5: {name}", outcome, message)
    def edit(file):
        holder = file["first"]
        del holder.attrs["weight_names"]
        holder.attrs.create("weight_names", value, **settings)


attribute("names that are numbers", "UnsupportedError", "no text", [1.0, 2.0])
attribute("names that are nothing", "MismatchError", "none for it", h5py.Empty("f4"))
attribute(
    "names that lead up", "FormatError", "listed but missing", ["../dense/mixed/dense/kernel", "mixed/first/bias"]
)
attribute("names from the root", "FormatError", "", ["/dense/mixed/dense/kernel", "mixed/first/bias"])
attribute(
    "names of one thing a thousand times",
    "FormatError",
    "is listed twice",
    ["mixed/first/kernel", "mixed/first/bias"] * 1000,
)
attribute("names that are no UTF-8", "FormatError", "", np.array([b"\xff\xfe", b"b"]))
attribute("a name of 60 KB", "FormatError", "listed but missing", ["x/" * 30_000])


def _descriptors(content):
    """Where texts of varying length are named: (length, heap, index) each."""
    for at in range(0, len(content) - 16, 8):
        length, address, index = struct.unpack_from("<IQI", content, at)
        if content[address : address + 4] == b"GCOL" and 0 < index < 5000:
            yield length, at


def _one_text_for_all(content):
    """Every name of a long list is the longest text of the file."""
    entries = list(_descriptors(content))
    changed, (_, longest) = bytearray(content), max(entries)
    places = {at for _, at in entries}
    for at in places:
        if {at - 160, at + 160} <= places:
            changed[at : at + 16] = content[longest : longest + 16]
    return bytes(changed)


@hdf5("hdf5: 4000 names that are one long text", "LimitError", "memory=", after=_one_text_for_all)
def _(file):
    file.attrs["long"] = "x" * 60_000
    file["first"].attrs["weight_names"] = [f"a{k}" for k in range(4000)]


def _longer(content):
    """The first text of the file says that it is longer than it is."""
    at = content.index(b"layer_names\0") + 12
    while True:
        length, address, index = struct.unpack_from("<IQI", content, at)
        if content[address : address + 4] == b"GCOL" and 0 < index < 5000:
            return content[:at] + struct.pack("<I", length + 5000) + content[at + 4 :]
        at += 4


@hdf5("hdf5: a text that is shorter than it says", "FormatError", "not there", after=_longer)
def _(file):
    file.attrs["layer_names"] = [str(name) for name in file.attrs["layer_names"]]


@hdf5("hdf5: 101 000 links", "LimitError", "objects=", source=NUMBERED)
def _(file):
    group = file["layers"]
    for k in range(101_000):
        group.id.links.create_soft(b"%d" % k, b"x")


@hdf5("hdf5: a name of control characters", "RefgradError", r"\\x1b", source=NUMBERED)
def _(file):
    file["layers/\x1b[2Jfine\n"] = [1.0]
    file["layers/\x1b[2Jfake\n/vars/0"] = [1.0]


@hdf5("hdf5: a weight of control characters", "MismatchError", r"\\x1b", source=NUMBERED)
def _(file):
    file["layers/dense/vars/\x1b[2Jfine"] = [1.0]


def at(place, content):
    return lambda whole: whole[:place] + content + whole[place + len(content) :]


def damaged(name, outcome, message, after):
    hdf5(f"hdf5: {name}", outcome, message, after=after)(lambda file: None)


damaged("a user block", "FormatError|UnsupportedError", "", lambda whole: bytes(512) + whole)
damaged("a base that is not 0", "UnsupportedError", "user block", at(24, struct.pack("<Q", 512)))
damaged("a driver for many files", "UnsupportedError", "other files", at(48, struct.pack("<Q", 96)))
damaged("offsets of 4 bytes", "UnsupportedError", "", at(13, b"\x04"))
damaged("a version to come", "UnsupportedError", "later version", at(8, b"\x09"))
damaged("an end beyond the end", "FormatError", "cut off", at(40, struct.pack("<Q", 10**12)))
damaged("half of it", "FormatError", "cut off", lambda whole: whole[: len(whole) // 2])
damaged("only a beginning", "FormatError", "cut off", lambda whole: whole[:20])
damaged("a megabyte behind it", SAME, "", lambda whole: whole + bytes(1 << 20))


@hostile("hdf5: a gigabyte of nothing behind it", SAME)
def _(folder):
    import json

    path, others = text(folder, json.dumps(golden_config()))
    with others["weights"].open("r+b") as file:
        file.truncate(1 << 30)
    return path, others


def _numbers(name, outcome, message, change):
    instead(name, outcome, message, lambda file, values: file.__setitem__(KERNEL, change(values)))


_numbers("weights that are NaN", 9, "holds NaN or infinity", lambda values: values * np.nan)
_numbers(
    "a weight that is infinite",
    9,
    "holds NaN or infinity",
    lambda values: np.where(values > 0.5, np.inf, values).astype("f4"),
)
_numbers("weights that are subnormal", 9, "", lambda values: values * np.float32(1e-40))


def _many_links(file):
    group = file.create_group("layers2", track_order=True)
    for k in range(40):
        group[f"a layer with a name {k}"] = h5py.SoftLink("/x")
    del file["layers"]
    file.move("layers2", "layers")


def _without_names(content):
    at = content.index(b"FHDB")
    return content[: at + 30] + bytes([content[at + 30] ^ 1]) + content[at + 31 :]


@hdf5("hdf5: links whose heap has another checksum", "FormatError", "damaged", source=NUMBERED, after=_without_names)
def _(file):
    _many_links(file)


def _in_table(signature, offset, value):
    """A number in the first table of a group is another one."""

    def after(content):
        at = content.index(signature) + offset
        return content[:at] + struct.pack("<Q", value) + content[at + 8 :]

    return after


damaged("a group whose names are elsewhere", "FormatError", "damaged", _in_table(b"HEAP", 24, 10**9))
damaged("a group whose free names are elsewhere", "FormatError", "damaged", _in_table(b"HEAP", 16, 10**9))
damaged("a group whose names go in a circle", "FormatError", "damaged", _in_table(b"HEAP", 16, 0))
damaged("an entry without a name", "FormatError", "damaged", _in_table(b"SNOD", 8, 10**6))
damaged("a tree that is no tree", "FormatError", "", _in_table(b"TREE", 0, 0))
damaged("a tree of itself", "FormatError", "damaged", lambda whole: whole.replace(b"TREE\0\0", b"TREE\0\1", 1))


def _u8(content, at):
    return struct.unpack_from("<Q", content, at)[0]


def _put(content, at, part):
    return content[:at] + part + content[at + len(part) :]


def _own_branch(start, key):
    """The first tree that starts so is its own first branch; keys are so many bytes."""

    def after(content):
        at = content.index(start)
        return _put(_put(content, at + 5, b"\1"), at + 24 + key, struct.pack("<Q", at))

    return after


def _free_circle(content):
    at = content.index(b"HEAP")
    free, names = _u8(content, at + 8) - 16, _u8(content, at + 24)
    return _put(_put(content, at + 16, struct.pack("<Q", free)), names + free, struct.pack("<2Q", free, 16))


def _header_circle(content):
    """The root's first attribute, or where its header goes on, becomes the news that it goes on where it began."""
    header = _u8(content, 64)
    at, length = header + 16, struct.unpack_from("<I", content, header + 8)[0]
    first = at
    while content[first] not in (0x0C, 0x10):
        first += 8 + struct.unpack_from("<H", content, first + 2)[0]
    return _put(_put(content, first, b"\x10"), first + 8, struct.pack("<2Q", at, length))


damaged("a tree that is its own branch", "FormatError", "no tree below", _own_branch(b"TREE\0", 8))
damaged("free names in a circle", "FormatError", "has no end", _free_circle)
damaged("a header in a circle", "FormatError", "goes on and on", _header_circle)


@hdf5("hdf5: a tree of chunks that is its own branch", "FormatError", "no tree below", after=_own_branch(b"TREE\1", 32))
def _(file):
    values = file[KERNEL][()]
    del file[KERNEL]
    file.create_dataset(KERNEL, data=values, chunks=(1, 2))


def _deeper(content):
    return _put(content, content.index(b"BTHD") + 12, b"\x40")


@hdf5("hdf5: links in a tree of 64 levels", "FormatError", "too many entries", source=NUMBERED, after=_deeper)
def _(file):
    _many_links(file)


def _compressed(content):
    return _put(content, content.index(b"FRHP") + 7, b"\x40")


@hdf5("hdf5: links in a compressed heap", "FormatError", "no heap of links", source=NUMBERED, after=_compressed)
def _(file):
    _many_links(file)
