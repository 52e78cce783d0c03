"""CSV: rows of numbers, one a sample, perhaps under a line that names the columns; and those names."""

from __future__ import annotations

import csv
import io
import re
from array import array as growing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, Shape, flat
from refgrad.errors import FormatError

_ROWS = 1000
_TITLE = re.compile(r'\s*"?[^\W\d]')
"""How a title begins. A number that is misspelt is no title: its row would be lost without a word."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of numbers, the line the first of them is in, and the cells of the line above it, with its number."""

    numbers: Array
    first: int
    titles: list[str]
    line: int


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def read(lines: Iterable[str]) -> Table:
    """Rows of numbers separated by commas; a first line of names, each beginning with a letter, holds titles."""
    numbers = growing("d")
    titles: list[str] = []
    width = first = above = 0
    for place, line in enumerate(lines, 1):
        text = line.strip().removeprefix("\ufeff")
        if not text:
            continue
        cells = [_number(cell) for cell in text.split(",")]
        row = [cell for cell in cells if cell is not None]
        if len(row) == len(cells) == (width or len(row)):
            numbers.extend(row)
            width, first = len(row), first or place
        elif row or titles or width or not all(_TITLE.match(cell) for cell in text.split(",")):
            wanted = f"{width} numbers" if width else "numbers"
            msg = f"line {place}: {text:.60} is not {wanted} separated by commas"
            raise FormatError(msg)
        else:
            titles, above = [title.strip() for title in next(csv.reader([text]))], place
    if not width:
        msg = "there are no rows of numbers in it"
        raise FormatError(msg)
    return Table(np.array(numbers).reshape(-1, width), first, titles, above)


def labels(name: str, features: Shape) -> npt.NDArray[Any]:
    """What each feature's column is called: `x[0]`, `x[1]`, …; plainly `x` where there is but one."""
    if features == (1,):
        return np.array([name])
    return np.array([f"{name}{''.join(f'[{place}]' for place in index)}" for index in np.ndindex(features)]).reshape(
        features
    )


def split(table: Table, names: Sequence[str], shapes: Sequence[Shape]) -> list[Array]:
    """The columns of each input, `(batch, *features)`: by their titles if those name them, else in order."""
    called = [str(label) for name, shape in zip(names, shapes, strict=True) for label in labels(name, shape).flat]
    titles, rows = table.titles, table.numbers
    if rows.shape[1] != len(called):
        expected = ", ".join(f"{name!r}: {np.prod(shape)}" for name, shape in zip(names, shapes, strict=True))
        msg = f"line {table.first} has {rows.shape[1]} numbers; expected are {len(called)} ({expected})"
        raise FormatError(msg)
    # The features of one input may be called anything; of several, only names tell which column is whose.
    if set(titles) & set(called) or (titles and len(names) > 1):
        if sorted(titles) != sorted(called):
            odd = next((title for title in titles if title not in called or titles.count(title) > 1), "")
            msg = f"line {table.line}: title {odd!r} is not, or not alone, one of this network's: {', '.join(called)}"
            raise FormatError(msg)
        rows = rows[:, [titles.index(label) for label in called]]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    parts = zip(np.split(rows, ends, axis=1), shapes, strict=True)
    return [part.reshape(-1, *shape) for part, shape in parts]


def text(arrays: Sequence[Array], titles: Sequence[str]) -> Iterator[str]:
    """One row a sample under the titles, if any, with digits enough to read back the same numbers; in pieces."""
    if titles:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(titles)
        yield line.getvalue()
    digits = 9 if arrays[0].dtype == np.float32 else 17
    for start in range(0, len(arrays[0]), _ROWS):
        rows = np.concatenate([flat(array[start : start + _ROWS]) for array in arrays], axis=1)
        yield "".join(",".join(f"{value:.{digits}g}" for value in row) + "\n" for row in rows.tolist())
