"""JSON from files: bounded before it is parsed, and each thing said once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from refgrad.errors import FormatError
from refgrad.limits import Limits
from refgrad.paths import size

_LONGEST = 4000
"""The most digits of a whole number: Python takes long over more."""

_STRING = re.compile(rb'"[^"]*+"')
_NO_MARKS = bytes(set(range(256)) - set(b"{}[],"))

Object = dict[str, Any]


def _once(found: list[tuple[str, Any]]) -> Object:
    """An object, if it says each thing once."""
    entries = dict(found)
    if len(entries) < len(found):
        seen: set[str] = set()
        twice = next(key for key, _ in found if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        msg = f"the key {twice!r:.60} is there twice in one object"
        raise ValueError(msg)
    return entries


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


def parse(text: bytes, what: str, limits: Limits, plain: Callable[[Object], Any] = dict) -> Object:
    """A JSON object, be it encoded once or twice, or the reason why it is none; `plain`: what each one stands for."""

    def made(found: list[tuple[str, Any]]) -> Any:
        return plain(_once(found))

    found: Any = text
    try:
        for _ in range(2):
            if isinstance(found, str | bytes):
                given = found if isinstance(found, bytes) else found.encode()
                _check_text(given, what, limits)
                found = json.loads(given.decode("utf-8-sig"), object_pairs_hook=made, parse_int=_integer)
                if b"\\ud" in given or b"\\uD" in given:
                    # half a character, which a name cannot be written with
                    json.dumps(found, ensure_ascii=False).encode()
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
