"""Paths that are no files, and refgrad's own files, altered."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import zipfile

import numpy as np

import refgrad
from refgrad.artifact import _content
from tests.cases import GOLDEN
from tests.hostile.table import SAME, golden_config, hostile, text
from tests.hostile.zips import zipped


def path(name, outcome, message, make):
    def write(folder):
        made = folder / "model.keras"
        return (make(made) or made), {}

    hostile(f"path: {name}", outcome, message)(write)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(path))


path("nothing", "FormatError", "no such file", lambda path: None)
path("a pipe", "FormatError", "no regular file", os.mkfifo)
path("a link to a pipe", "FormatError", "no regular file", lambda path: path.symlink_to("canary.pipe"))
path("a folder", "FormatError", "a directory", lambda path: path.mkdir())
path("a socket", "FormatError", "no regular file", _socket)
path("a link to nothing", "FormatError", "no such file", lambda path: path.symlink_to("nowhere"))
path("a link to itself", "FormatError", "cannot be read", lambda path: path.symlink_to(path))
path("a device", "FormatError", "no regular file", lambda path: path.symlink_to("/dev/zero"))
path("an empty file", "FormatError", "is empty", lambda path: path.touch())


@hostile("path: a pipe for weights", "FormatError", "no regular file")
def _(folder):
    path, _ = text(folder, json.dumps(golden_config()))
    return path, {"weights": folder / "canary.pipe"}


@hostile("path: a folder with a pipe in it", "FormatError", "no regular file")
def _(folder):
    path = folder / "model"
    path.mkdir()
    for name in ("config.json", "metadata.json"):
        (path / name).write_bytes(zipfile.ZipFile(GOLDEN / "mixed-keras3.keras").read(name))
    os.mkfifo(path / "model.weights.h5")
    return path, {}


@hostile("path: a gigabyte of blanks", "LimitError", "json_bytes=")
def _(folder):
    path, others = text(folder, json.dumps(golden_config()))
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    return path, others


def saved():
    content = io.BytesIO()
    place = GOLDEN / "mixed-keras3.keras"
    from refgrad.artifact import _golden, _members_of, _write
    from refgrad.network import answer

    net = refgrad.load(place)
    inputs = _golden(net, 2)
    _write(content, net, _members_of(inputs, answer(net, inputs, engine="numpy")))
    with zipfile.ZipFile(content) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npz(name, outcome, message, method=zipfile.ZIP_STORED, after=None):
    """A row that is refgrad's own file: `change` edits its members."""

    def add(change):
        def write(folder):
            path, members = folder / "model.npz", saved()
            change(members)
            content = zipped(members.items(), method)
            path.write_bytes(after(content) if after else content)
            return path, {"verify": "unsealed" not in name}

        hostile(f"npz: {name}", outcome, message)(write)
        return change

    return add


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch ran",)


def header(name, outcome, message, **changes):
    @npz(f"{name}, unsealed", outcome, message)
    def change(members):
        members["refgrad.json"] = json.dumps({**json.loads(members["refgrad.json"]), **changes}).encode()


def member(name, outcome, message, content):
    npz(f"{name}, unsealed", outcome, message)(lambda members: members.update({"op1/kernel.npy": content(members)}))


npz("as it is", SAME, "")(lambda members: None)
npz("compressed", "FormatError", "compressed", zipfile.ZIP_DEFLATED)(lambda members: None)
npz("something behind it", "FormatError", "", after=lambda content: content + b"x")(lambda members: None)
npz("a weight that was altered", "VerificationError", "digest")(
    lambda members: members.update({"op1/kernel.npy": members["op1/kernel.npy"][:-1] + b"\x11"})
)
npz("a member that leads up", "FormatError", "leads out")(lambda members: members.update({"../canary.txt": b"x"}))
member("objects", "FormatError", "floats", lambda members: npy(np.array([_Bomb()], object)))
member("a pickle", "FormatError", "version", lambda members: pickle.dumps(_Bomb()))
member("a header that is code", "FormatError", "declares", lambda members: members["op1/kernel.npy"].replace(
    b"{'descr': '<f4'", b"{'descr': open('ran', 'w')"))  # fmt: skip
member("a header of version 3", "FormatError", "version", lambda members: b"\x93NUMPY\x03\x00" + bytes(60))
member("a header of 64 KB", "FormatError", "declares", lambda members: b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535)
member("10**12 numbers", "FormatError", "declares", lambda members: members["op1/kernel.npy"].replace(
    b"'shape': (3, 8), }               ", b"'shape': (1000000, 1000000), }   "))  # fmt: skip
member("whole numbers", "FormatError", "floats", lambda members: npy(np.ones((3, 8), "i4")))
header("an op of another name", "UnsupportedError", "not known", ops=[{"op": "os.system", "config": {}, "arrays": []}])
header("another version", "UnsupportedError", "version 2", version=2)
header("nodes that are no list", "FormatError", "damaged", nodes=7)
header("a node before itself", "RefgradError", "", nodes=[{"op": 0, "inputs": [1], "name": "a"}] * 2)
header("a dtype of objects", "RefgradError", "", dtype="object")
header("a dtype of much", "RefgradError", "", dtype="f4," * 10**5)


@npz("100 000 levels", "LimitError", "json_levels")
def _(members):
    members["refgrad.json"] = b'{"a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}"


@npz("no JSON", "FormatError", "not JSON")
def _(members):
    members["refgrad.json"] = b"\xff"


def _resealed(name, outcome, message, features, ops, records, more=0):
    """A row whose digest is right: a chain of ops, with some records of one sample or more."""

    @npz(name, outcome, message)
    def change(members):
        header = {**json.loads(members.pop("refgrad.json")), "input_names": ["x"], "output_names": ["y"]}
        members.clear()
        ops_ = [{"op": "source", "config": {"features": features}}, *({"op": op, "config": of} for op, of in ops)]
        header["ops"] = [{**op, "arrays": []} for op in ops_]
        header["nodes"] = [{"op": k, "inputs": [k - 1] if k else [], "name": f"n{k}"} for k in range(len(ops_))]
        header["nodes"] += [{"op": len(ops_) - 1, "inputs": [0], "name": "more"}] * more
        header |= {"inputs": [0], "outputs": [len(ops_) - 1]}
        for where, shape in zip(("x/0", "y/0", "jacobian/0/0"), records, strict=True):
            members[f"golden/{where}.npy"] = npy(np.zeros(shape, "f4"))
        header["content"] = _content(header, members)
        members["refgrad.json"] = json.dumps(header).encode()


_resealed("a Jacobian of 1.3 GB that is not recorded", "VerificationError", "do not fit", [4000],
          [("softmax", {"axis": -1})], [(20, 4000), (20, 4000), (1, 1)])  # fmt: skip
_resealed("300 samples of 4 million numbers each", "LimitError", "verifying=", [1],
          [("repeat", {"count": 4 * 10**6}), ("sum", {"axes": [-1, -2], "keepdims": False})],
          [(300, 1), (300,), (300, 1)])  # fmt: skip
_resealed("features below 0", "MismatchError", "sizes above 0", [-3], [("softmax", {"axis": -1})],
          [(1, 3), (1, 3), (1, 3, 3)])  # fmt: skip
_resealed("a sample of 40 axes", "MismatchError", "30 at most", [1] * 40, [("softmax", {"axis": -1})],
          [(1, 1), (1, 1), (1, 1)])  # fmt: skip
_resealed("10 000 nodes that share an op", "LimitError", "crossed=", [1], [("softmax", {"axis": -1})],
          [(1, 1), (1, 1), (1, 1, 1)], more=10_000)  # fmt: skip
_resealed("100 001 nodes", "LimitError", "calls=", [1], [("softmax", {"axis": -1})],
          [(1, 1), (1, 1), (1, 1, 1)], more=100_000)  # fmt: skip
