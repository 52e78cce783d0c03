"""What a file is, by its content and not by its name: its kind, its JSON."""

from __future__ import annotations

import json
import re
from typing import Any, BinaryIO

import numpy as np

from refgrad.errors import FormatError
from refgrad.limits import Limits
from refgrad.paths import size

_LONGEST = 4000
"""The most digits of a whole number: Python takes long over more."""

_STRING = re.compile(rb'"[^"]*+"')
_NO_MARKS = bytes(set(range(256)) - set(b"{}[],"))

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


def _pairs(found: list[tuple[str, Any]]) -> Any:
    """An object, if it says each thing once."""
    entries = dict(found)
    if len(entries) < len(found):
        seen: set[str] = set()
        twice = next(key for key, _ in found if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        msg = f"the key {twice!r:.60} is there twice in one object"
        raise ValueError(msg)
    return _plain(entries)


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST:
        msg = f"a number has {len(digits):,} digits"
        raise ValueError(msg)
    return int(digits)


def _check_text(text: bytes, what: str, limits: Limits) -> None:
    """Refuse what would cost much to parse, by its brackets and commas, those in strings left out."""
    limits.check("json_bytes", len(text), f"{what}, in bytes")
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = _STRING.sub(b"", plain).translate(None, _NO_MARKS)
    limits.check("json_values", len(marks), f"{what}, in values of its JSON")
    opening = np.frombuffer(marks, np.uint8)
    levels = np.cumsum(np.isin(opening, list(b"{[")).astype(np.int32) - np.isin(opening, list(b"}]")))
    limits.check("json_levels", int(levels.max(initial=0)), f"{what}, in levels of its JSON")


def parse(text: bytes, what: str, limits: Limits) -> dict[str, Any]:
    """A JSON object, be it encoded once or twice, or the reason why it is none."""
    found: Any = text
    try:
        for _ in range(2):
            if isinstance(found, str | bytes):
                given = found if isinstance(found, bytes) else found.encode()
                _check_text(given, what, limits)
                found = json.loads(given.decode("utf-8-sig"), object_pairs_hook=_pairs, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        msg = f"{what} is not JSON ({error})"
        raise FormatError(msg) from None
    if not isinstance(found, dict):
        msg = f"{what} is JSON, but {type(found).__name__} where an object is expected"
        raise FormatError(msg)
    return found


def whole(stream: BinaryIO, limit: str, what: str, limits: Limits) -> bytes:
    """All of an open file, if it is not longer than the limit of this name."""
    limits.check(limit, size(stream), f"{what}, in bytes")
    stream.seek(0)
    return stream.read()


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
