"""Writing a file so that nobody ever sees half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from refgrad.errors import InputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write to: it takes the name `path` when the block ends, and vanishes if the block fails."""
    target = Path(path)
    if target.is_dir():
        msg = f"{target}: this is a directory, not a file to write"
        raise InputError(msg)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        msg = f"{target}: cannot be written ({error.strerror})"
        raise InputError(msg) from None
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        draft.chmod(0o666 & ~_umask())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask for new files: mkstemp makes them private, results are ordinary files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
