"""What may be given for a file."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from refgrad.errors import FormatError, InputError

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
    try:
        content = given.read()
    except UnicodeDecodeError:
        content = ""
    if not isinstance(content, bytes):
        msg = f"{what} is a file opened as text; open it as binary"
        raise InputError(msg)
    return content


def called(file: Path | bytes) -> str:
    """What messages call a file."""
    return str(file) if isinstance(file, Path) else "the bytes given"


def size(stream: BinaryIO) -> int:
    """How many bytes an open file has."""
    return stream.seek(0, os.SEEK_END)


def _why_not(path: Path, mode: int) -> str:
    """Why something that is no regular file is no model."""
    if (path / "saved_model.pb").exists():
        return "a TensorFlow SavedModel, which holds no config; save the model as .keras or .h5"
    return "a directory" if stat.S_ISDIR(mode) else "no regular file"


@contextmanager
def opened(file: Path | bytes) -> Iterator[BinaryIO]:
    """A regular file, open for reading: what is not read of it costs nothing. Pipes are never waited for."""
    if isinstance(file, bytes):
        yield io.BytesIO(file)
        return
    try:
        # looked at before it is opened, which for a device may do something, and after, when nobody can exchange it
        mode = file.stat().st_mode
        if stat.S_ISREG(mode):
            descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            stream = os.fdopen(descriptor, "rb")
            mode = os.fstat(descriptor).st_mode
    except FileNotFoundError:
        msg = "there is no such file"
        raise FormatError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise FormatError(msg) from None
    if not stat.S_ISREG(mode):
        msg = f"this is {_why_not(file, mode)}, not a model file"
        raise FormatError(msg)
    with stream:
        yield stream
