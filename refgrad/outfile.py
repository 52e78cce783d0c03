"""Writing a file so that nobody ever sees half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from refgrad.errors import InputError
from refgrad.paths import StrPath, as_path


@contextmanager
def replacing(path: StrPath) -> Iterator[BinaryIO]:
    """A binary file to write to: it takes the name `path` when the block ends, and vanishes if the block fails.

    Links are followed. A pipe or a device cannot be replaced and is written to as it is.
    """
    target = as_path(path, "the output")
    try:
        target = target.resolve()
        if target.exists() and not target.is_file():
            draft, file = None, target.open("wb")
        else:
            handle, name = tempfile.mkstemp(prefix=f".{target.name[:64]}.", dir=target.parent)
            draft, file = Path(name), os.fdopen(handle, "wb")
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror})"
        raise InputError(msg) from None
    try:
        with file:
            yield file
        if draft is not None:
            draft.chmod(0o666 & ~_umask())
            draft.replace(target)
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask for new files: mkstemp makes them private, results are ordinary files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
