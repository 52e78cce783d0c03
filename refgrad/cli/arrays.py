"""Arrays in from files and pipes, and out to them."""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from refgrad.arrays import Array, Shape
from refgrad.errors import FormatError, InputError, naming
from refgrad.outfile import replacing

_CHUNK = 4096


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _from_csv(lines: Iterable[str]) -> Array:
    """Rows of numbers separated by commas; a first line without a single number is a header."""
    rows: list[list[float]] = []
    header_may_come = True
    for place, line in enumerate(lines, 1):
        text = line.strip().removeprefix("\ufeff")
        if not text:
            continue
        cells = [_number(cell) for cell in text.split(",")]
        row = [cell for cell in cells if cell is not None]
        if len(row) == len(cells) == len(rows[0] if rows else row):
            rows.append(row)
        elif row or not header_may_come:
            wanted = f"{len(rows[0])} numbers" if rows else "numbers"
            msg = f"line {place}: {text:.60} is not {wanted} separated by commas"
            raise FormatError(msg)
        header_may_come = False
    if not rows:
        msg = "there are no rows of numbers in it"
        raise FormatError(msg)
    return np.array(rows)


def _from_stdin() -> Array:
    if sys.stdin is None:
        msg = "it is closed"
        raise FormatError(msg)
    if sys.stdin.isatty():
        sys.stderr.write("reading rows of numbers separated by commas; Ctrl-D ends them\n")
    return _from_csv(sys.stdin)


def _from_file(path: Path) -> Array:
    try:
        found = path.is_file()
    except OSError as error:
        msg = f"cannot be read ({error.strerror})"
        raise FormatError(msg) from None
    if not found:
        msg = "there is no such file"
        raise FormatError(msg)
    if path.suffix not in {".npy", ".npz"}:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return _from_csv(file)
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            names = loaded.files
            chosen = "x" if "x" in names else "".join(names[:1])
            if len(names) == 1 or chosen == "x":
                array: Array = loaded[chosen]
                return array
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        msg = f"cannot be read as {path.suffix} ({error})"
        raise FormatError(msg) from None
    msg = f"holds the arrays {', '.join(names)}: name the inputs 'x'"
    raise FormatError(msg)


def read(source: str, features: Shape) -> Array:
    """Inputs from a file, or as CSV from standard input for '-'; rows of CSV take the features' shape."""
    with naming("standard input" if source == "-" else source):
        array = _from_stdin() if source == "-" else _from_file(Path(source))
    from_text = source == "-" or not source.endswith((".npy", ".npz"))
    if from_text and len(features) > 1 and array.shape[1] == np.prod(features):
        return array.reshape(-1, *features)
    return array


def _csv(array: Array) -> bytes:
    """One row a sample, with digits enough to read back the same numbers."""
    digits = 9 if array.dtype == np.float32 else 17
    rows = array.reshape(len(array), -1)
    return "".join(",".join(f"{value:.{digits}g}" for value in row) + "\n" for row in rows).encode()


def write(array: Array, name: str, target: str) -> None:
    """An array to a file by its ending (`name` is what it is called in an .npz), or as CSV to standard output."""
    if target == "-":
        sys.stdout.write(_csv(array).decode())
        return
    with replacing(target) as file:
        match Path(target).suffix:
            case ".npy":
                np.save(file, array)
            case ".npz":
                named: dict[str, Any] = {name: array}
                np.savez(file, **named)
            case ".csv":
                file.write(_csv(array))
            case other:
                msg = f"{target}: the ending {other!r} says no format; .npy, .npz, .csv or '-' (CSV) can be written"
                raise InputError(msg)


def in_chunks(compute: Callable[[Array], Array], x: Array, what: str, *, quiet: bool) -> Array:
    """Apply a function of a batch piece by piece, with a progress bar on a terminal once that takes over a second."""
    starts = range(0, max(len(x), 1), _CHUNK)
    hidden = quiet or not sys.stderr.isatty()
    bar = tqdm(starts, desc=what, unit=f" × {_CHUNK:,} samples", disable=hidden, delay=1, leave=False)
    return np.concatenate([compute(x[start : start + _CHUNK]) for start in bar])
