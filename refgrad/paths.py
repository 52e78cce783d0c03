"""What may be given for a file."""

from __future__ import annotations

import os
from pathlib import Path

from refgrad.errors import InputError

StrPath = str | os.PathLike[str]


def is_json_text(given: object) -> bool:
    """Whether what was given for a file is the text of a JSON object itself."""
    return isinstance(given, str) and given.lstrip().startswith("{")


def as_path(given: object, what: str) -> Path:
    """The path that was given, if it is one."""
    if not isinstance(given, str | os.PathLike) or isinstance(os.fspath(given), bytes):
        msg = f"{what} is the path of a file, not a {type(given).__name__}"
        raise InputError(msg)
    return Path(given)
