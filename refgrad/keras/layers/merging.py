"""Layers that make one tensor of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras import values
from refgrad.keras.rewriting import rewritten
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


_MODES: Mapping[str, str] = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
    "dot": "Dot",
}
"""Mode of Keras 1's Merge → the class of Keras 2 that does the same."""


def _mode(value: Any) -> str:
    if not isinstance(value, str) or value not in _MODES:
        msg = f"{value!r:.60} is none of the modes that can be read: {', '.join(_MODES)}"
        raise UnsupportedError(msg)
    return value


def _keras_1(given: Given) -> Steps:
    config = {"axis": given.config["concat_axis"], "axes": given.config["dot_axes"], "normalize": False}
    rewritten(
        "layers of other versions",
        f"Merge of mode {given.config['mode']} is {_MODES[given.config['mode']]}",
        given.name,
    )
    return ROWS[_MODES[given.config["mode"]]].steps(replace(given, config=config))


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
    "Merge": Row(
        _keras_1,
        meaning={"mode": (_mode, "sum"), "concat_axis": (values.axis, -1), "dot_axes": (_pair, -1)},
        inert=frozenset({"output_shape", "output_shape_type", "output_mask_type"}),
        only={"mode_type": "raw", "output_mask": None, "arguments": {}},
        merges=True,
    ),
}
