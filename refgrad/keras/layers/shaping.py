"""Layers that move numbers and change none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from refgrad.errors import FormatError
from refgrad.keras import values
from refgrad.keras.rows import REQUIRED, Given, Row
from refgrad.ops import Permute, Repeat, Reshape
from refgrad.sequential import Steps


def _data_format(value: Any) -> str:
    """Where the channels are; null is last."""
    if value not in (None, "channels_last", "channels_first"):
        msg = f"{value!r:.40} is neither 'channels_last' nor 'channels_first'"
        raise FormatError(msg)
    return str(value or "channels_last")


def _flatten(given: Given) -> Steps:
    """Row by row, with the channels last wherever they were."""
    rank = len(given.shape)
    if rank == 1:
        return []
    steps: Steps = []
    if given.config["data_format"] == "channels_first":
        steps.append((given.name, Permute((*range(1 - rank, 0), -rank))))
    return [*steps, (given.name, Reshape((math.prod(given.shape),)))]


def _reshape(given: Given) -> Steps:
    """−1 stands for what the other sizes leave."""
    target, size = given.config["target_shape"], math.prod(given.shape)
    known = math.prod(length for length in target if length != -1)
    if not target or (size % known if -1 in target else size != known):
        msg = f"target_shape={list(target)} holds other than the {size} numbers of an input of shape {given.shape}"
        raise FormatError(msg)
    return [(given.name, Reshape(tuple(size // known if length == -1 else length for length in target)))]


def _permute(given: Given) -> Steps:
    dims, rank = given.config["dims"], len(given.shape)
    if sorted(dims) != list(range(1, rank + 1)):
        msg = f"dims={list(dims)} does not name each of the axes 1 to {rank} of an input of shape {given.shape} once"
        raise FormatError(msg)
    return [(given.name, Permute(tuple(axis - rank - 1 for axis in dims)))]


def _up_sampling(given: Given) -> Steps:
    """Every row `size` times, one after the other: all rows so many times, and these beside each other."""
    if len(given.shape) != 2:
        msg = f"it takes series, (length, features), the input has shape {given.shape}"
        raise FormatError(msg)
    (length, features), size = given.shape, given.config["size"]
    numbers = Reshape((length * features,))
    ops = [
        numbers,
        Repeat(size),
        Reshape((size, *given.shape)),
        Permute((-2, -3, -1)),
        Reshape((length * size, features)),
    ]
    return [(given.name, op) for op in ops]


ROWS: Mapping[str, Row] = {
    "Flatten": Row(_flatten, meaning={"data_format": (_data_format, None)}),
    "Reshape": Row(_reshape, meaning={"target_shape": (values.target_shape, REQUIRED)}),
    "Permute": Row(_permute, meaning={"dims": (values.axes, REQUIRED)}),
    "RepeatVector": Row(
        lambda given: [(given.name, Repeat(given.config["n"]))],
        meaning={"n": (values.whole_number, REQUIRED)},
    ),
    "UpSampling1D": Row(
        _up_sampling,
        meaning={"size": (values.whole_number, 2)},
        renamed={"length": "size"},
    ),
}
