"""What a file is, by its content and not by its name: its kind, its JSON."""

from __future__ import annotations

from typing import Any, BinaryIO

from refgrad import texts
from refgrad.errors import FormatError
from refgrad.keras.rewriting import rewritten
from refgrad.limits import Limits

_NOT_MODELS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself (git lfs pull)",
    b"\x80": "a Python pickle; refgrad never unpickles",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "gzip-compressed; unpack it first",
    b"<!doctype html": "a web page: the download went wrong",
    b"<html": "a web page: the download went wrong",
    b"backend: ": "a YAML config; write it as JSON (model.to_json()) and pass that",
    b"class_name: ": "a YAML config; write it as JSON (model.to_json()) and pass that",
}


def _plain(found: dict[str, Any]) -> Any:
    """What an object stands for: Keras 2 wrote tuples and shapes, and NumPy arrays, as objects of two keys."""
    if found.keys() == {"class_name", "items"} and found["class_name"] in ("__tuple__", "TensorShape"):
        return found["items"]
    if found.keys() == {"type", "value"} and found["type"] == "ndarray":
        return found["value"]
    return found


def parse(text: bytes, what: str, limits: Limits) -> dict[str, Any]:
    """A JSON object that any Keras wrote."""
    if text.lstrip()[:1] == b'"':
        rewritten("containers", f"{what} is JSON encoded twice", "")
    return texts.parse(text, what, limits, _plain)


def kind(stream: BinaryIO) -> str:
    """What a file is by its first bytes: "zip", "hdf5" or "json"."""
    stream.seek(0)
    content = stream.read(1024)
    if content.startswith(b"PK\x03\x04"):
        return "zip"
    if content.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    start = content.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start[:1] in (b"{", b'"'):
        return "json"
    if not content:
        msg = "the file is empty"
        raise FormatError(msg)
    known = next((what for begin, what in _NOT_MODELS.items() if start.startswith(begin.lower())), None)
    msg = f"this is {known or 'no kind of file that holds a Keras model'}; expected .keras, .h5, .json or refgrad .npz"
    raise FormatError(msg)
