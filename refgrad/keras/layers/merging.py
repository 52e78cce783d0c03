"""Layers that make one tensor of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from refgrad.errors import FormatError
from refgrad.keras import values
from refgrad.keras.rows import REQUIRED, Given, Row
from refgrad.ops import Add, Average, Concatenate, Dot, Maximum, Minimum, Multiply, Op, Subtract
from refgrad.sequential import Steps

_LEAST_NORM = {2: 1e-6, 3: 1e-7}
"""What a generation of Keras divides by where a vector to be normalised is shorter."""


def _merge(op: Callable[[], Op]) -> Row:
    return Row(lambda given: [(given.name, op())], merges=True)


def _concatenate(given: Given) -> Steps:
    return [(given.name, Concatenate(values.feature_axis(given.config["axis"], given.shapes[0])))]


def _pair(value: Any) -> tuple[int, int]:
    """One axis for both inputs, or one for each."""
    found = values.axes(value)
    if len(found) not in (1, 2) or (len(found) == 1 and isinstance(value, list)):
        msg = f"{value!r:.40} is neither an axis nor a pair of axes"
        raise FormatError(msg)
    return found[0], found[-1]


def _dot(given: Given) -> Steps:
    if len(given.shapes) != 2:
        msg = f"it takes two tensors, {len(given.shapes)} are given"
        raise FormatError(msg)
    first, second = map(values.feature_axis, given.config["axes"], given.shapes)
    return [(given.name, Dot((first, second), given.config["normalize"], _LEAST_NORM[given.generation]))]


ROWS: Mapping[str, Row] = {
    "Add": _merge(Add),
    "Subtract": _merge(Subtract),
    "Multiply": _merge(Multiply),
    "Average": _merge(Average),
    "Maximum": _merge(Maximum),
    "Minimum": _merge(Minimum),
    "Concatenate": Row(_concatenate, meaning={"axis": (values.axis, -1)}, merges=True),
    "Dot": Row(
        _dot,
        meaning={"axes": (_pair, REQUIRED), "normalize": (values.flag, False)},
        merges=True,
    ),
}
