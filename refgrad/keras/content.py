"""What a file is, by its content and not by its name: its bytes, its kind, its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refgrad.errors import FormatError, LimitError
from refgrad.keras.rewriting import rewritten

LARGEST_TEXT = 64 << 20
"""The most bytes of JSON that are read: the largest real config is a few megabytes."""

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


def parse(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object, be it encoded once or twice, or the reason why it is none."""
    if len(text) > LARGEST_TEXT:
        msg = f"{what} is {len(text):,} bytes long; {LARGEST_TEXT:,} are read at most"
        raise LimitError(msg)
    try:
        found = json.loads(text, object_hook=_plain)
        if isinstance(found, str):
            rewritten("containers", f"{what} is JSON encoded twice", "")
            found = json.loads(found, object_hook=_plain)
    except (ValueError, RecursionError) as error:
        msg = f"{what} is not JSON ({error})"
        raise FormatError(msg) from None
    if not isinstance(found, dict):
        msg = f"{what} is JSON, but {type(found).__name__} where an object is expected"
        raise FormatError(msg)
    return found


def read_bytes(path: Path | bytes) -> bytes:
    """A regular file's content, or why there is none."""
    if isinstance(path, bytes):
        return path
    try:
        if not path.exists():
            msg = "there is no such file"
            raise FormatError(msg)
        if not path.is_file():
            what = "a directory" if path.is_dir() else "no regular file"
            if (path / "saved_model.pb").exists():
                what = "a TensorFlow SavedModel, which holds no config; save the model as .keras or .h5"
            msg = f"this is {what}, not a model file"
            raise FormatError(msg)
        return path.read_bytes()
    except OSError as error:
        msg = f"cannot be read ({error.strerror})"
        raise FormatError(msg) from None


def kind(content: bytes) -> str:
    """What a file is by its first bytes: "zip", "hdf5" or "json"."""
    if content.startswith(b"PK\x03\x04"):
        return "zip"
    if content.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start[:1] in (b"{", b'"'):
        return "json"
    if not content:
        msg = "the file is empty"
        raise FormatError(msg)
    known = next((what for begin, what in _NOT_MODELS.items() if start.startswith(begin.lower())), None)
    msg = f"this is {known or 'no kind of file that holds a Keras model'}; expected .keras, .h5, .json or refgrad .npz"
    raise FormatError(msg)
