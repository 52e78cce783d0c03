"""Running a program on a batch: is Numba there, and the arrays around the compiled call."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.derivatives.order import Direction
from refgrad.kernels.program import Program


@cache
def available() -> bool:
    """Whether Numba is installed; it is not imported to find out."""
    return find_spec("numba") is not None


@cache
def _chain() -> Any:
    return import_module("refgrad.kernels.chain")


def value(program: Program, x: Array) -> Array:
    """Outputs (batch, n_out) at x (batch, n_in)."""
    y = np.empty((len(x), program.widths[-1]), x.dtype)
    _chain().value(x, *program.arguments, y)
    return y


def value_and_jacobian(program: Program, x: Array, direction: Direction) -> tuple[Array, Array]:
    """Outputs (batch, n_out) and Jacobians (batch, n_out, n_in) at x (batch, n_in)."""
    n_in, n_out = program.widths[0], program.widths[-1]
    y, jacobian = np.empty((len(x), n_out), x.dtype), np.empty((len(x), n_out, n_in), x.dtype)
    _chain().value_and_jacobian(x, *program.arguments, direction == "forward", y, jacobian)
    return y, jacobian
