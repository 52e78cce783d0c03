"""What may be given for a file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

from refgrad.errors import InputError

StrPath = str | os.PathLike[str]

Given = StrPath | bytes | bytearray | memoryview | BinaryIO
"""A file: its path, its content, or an open one that gives its content when it is read."""


def is_json_text(given: object) -> bool:
    """Whether what was given for a file is the text of a JSON object itself, encoded once or twice."""
    return isinstance(given, str) and given.lstrip().startswith(("{", '"{'))


def as_path(given: object, what: str) -> Path:
    """The path that was given, if it is one."""
    if not isinstance(given, str | os.PathLike) or isinstance(os.fspath(given), bytes) or not os.fspath(given):
        found = f"a {type(given).__name__}" if given != "" else "an empty text"
        msg = f"{what} is the path of a file, not {found}"
        raise InputError(msg)
    return Path(given)


def as_file(given: Any, what: str) -> Path | bytes:
    """The path that was given, or the content."""
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    if isinstance(given, str | os.PathLike) or not hasattr(given, "read"):
        return as_path(given, what)
    content = given.read()
    if not isinstance(content, bytes):
        msg = f"{what} is a file opened as text; open it as binary"
        raise InputError(msg)
    return content


def called(file: Path | bytes) -> str:
    """What messages call a file."""
    return str(file) if isinstance(file, Path) else "the bytes given"


def opened(file: Path | bytes) -> Path | io.BytesIO:
    """What zipfile and its like take."""
    return file if isinstance(file, Path) else io.BytesIO(file)
