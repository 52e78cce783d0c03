"""A program as a few flat arrays, so that one compilation serves every network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array
from refgrad.kernels.program import TAILS, Layer, Program, Step

Index = npt.NDArray[np.int64]

LINE = 64
"""Bytes of a cache line."""

# The columns of `layers`. Offsets are places in `numbers`, but for UNITS.
WIDTH, PADDED, PUSH, PULL, BIAS, UNITS, FIRST, END = range(8)
PANEL, TAIL, WIDEST = 2, 3, 4
"""What the input's row, which has no matrices and no bias, holds in their place: P, the tail, the largest PADDED."""

# The columns of `steps`. At FIXED are the parameters or, for each unit, EACH numbers of its own; at PLACES each kink's
# place, then its slopes.
FUNCTION, FIXED, KINKS, PLACES, EACH = range(5)

COLUMNS, STEP_COLUMNS = 8, 5


@dataclass(frozen=True, eq=False)
class Packed:
    """What a kernel takes.

    `layers` has a row for the input and one for each layer: its WIDTH n, that PADDED to whole panels, where W for
    pushing forward, Wᵀ for pulling back and the BIAS start, where its units start among all units, and its steps,
    FIRST up to END. A matrix (K, N) is in panels of P columns, (⌈N/P⌉, K, P), the last one filled up with zeros.
    `steps` has a row for each function of units; FUNCTION is its place in `names`, or its address once it is compiled.
    """

    layers: Index
    steps: Index
    numbers: Array
    names: tuple[str, ...]


class _Numbers:
    """Arrays joined one after the other."""

    def __init__(self, dtype: np.dtype[Any], panel: int) -> None:
        self.dtype, self.panel, self.parts, self.size = dtype, panel, [np.zeros(0, dtype)], 0

    def add(self, values: Any) -> int:
        """Where the values start: at a whole number of panels' rows."""
        start, part = self.size, np.asarray(values, self.dtype).ravel()
        filled = np.zeros(padded(len(part), self.panel), self.dtype)
        filled[: len(part)] = part
        self.parts.append(filled)
        self.size += len(filled)
        return start

    def joined(self) -> Array:
        """All of them from a cache line's start on: a vector across two lines is read at half the speed."""
        raw = np.zeros(self.size * self.dtype.itemsize + LINE, np.uint8)
        start = -raw.ctypes.data % LINE
        numbers = raw[start : start + self.size * self.dtype.itemsize].view(self.dtype)
        numbers[:] = np.concatenate(self.parts)
        return numbers


def padded(width: int, panel: int) -> int:
    """A width filled up to whole panels."""
    return -(-width // panel) * panel


def panels(matrix: Array, panel: int) -> Array:
    """(K, N) as (⌈N/P⌉, K, P)."""
    rows, columns = matrix.shape
    filled = np.zeros((rows, padded(columns, panel)), matrix.dtype)
    filled[:, :columns] = matrix
    return filled.reshape(rows, -1, panel).transpose(1, 0, 2)


def _row(layer: Layer, panel: int, numbers: _Numbers) -> list[int]:
    if layer.kernel is None:
        return [0, 0, 0]
    bias = np.zeros(layer.width) if layer.bias is None else layer.bias
    return [
        numbers.add(panels(layer.kernel, panel)),
        numbers.add(panels(layer.kernel.T, panel)),
        numbers.add(bias),
    ]


def _step_row(step: Step, names: tuple[str, ...], numbers: _Numbers) -> list[int]:
    fixed = numbers.add(np.stack(step.arrays, axis=-1) if step.arrays else step.parameters)
    at_kinks = [(kink.where, kink.left, kink.right, (kink.left + kink.right) / 2) for kink in step.kinks]
    return [names.index(step.name), fixed, len(at_kinks), numbers.add(at_kinks), len(step.arrays)]


def pack(program: Program, dtype: np.dtype[Any], panel: int) -> Packed:
    """The arrays for panels of so many columns."""
    numbers, names = _Numbers(dtype, panel), tuple(sorted(program.names))
    rows: list[list[int]] = []
    steps: list[list[int]] = []
    units = 0
    for layer in program.layers:
        wide = padded(layer.width, panel)
        first = len(steps)
        places = _row(layer, panel, numbers)
        steps += [_step_row(step, names, numbers) for step in layer.steps]
        rows.append([layer.width, wide, *places, units, first, len(steps)])
        units += wide
    rows[0][PANEL], rows[0][TAIL] = panel, TAILS.index(program.tail)
    rows[0][WIDEST] = max(row[PADDED] for row in rows)
    numbers.add(np.zeros(2 * panel))  # so that nothing is empty, and no vector is read beyond the end
    return Packed(
        np.array(rows, np.int64),
        np.array(steps, np.int64).reshape(len(steps), STEP_COLUMNS),
        numbers.joined(),
        names,
    )
