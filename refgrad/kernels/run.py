"""Running a program on a batch: is Numba there, and the arrays around the compiled call."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from types import ModuleType

from refgrad.arrays import Array
from refgrad.derivatives.order import Direction
from refgrad.kernels.program import Program

NOT_INSTALLED = "numba is not installed: pip install numba, or refgrad's extra 'jit'"


@cache
def _compiled() -> ModuleType:
    from refgrad.kernels import chain

    return chain


@cache
def unavailable() -> str | None:
    """Why kernels cannot run, or None if they can; finding out imports Numba."""
    if not installed():
        return NOT_INSTALLED
    try:
        _compiled()
    except ImportError as error:  # an installed Numba may refuse the installed NumPy or Python
        return f"numba cannot be imported: {error}"
    return None


def installed() -> bool:
    """Whether there is a Numba; it is not imported to find out."""
    return find_spec("numba") is not None


def _plain(x: Array) -> Array:
    """Numba compiles anew for read-only arrays: a copy costs less than seconds."""
    return x if x.flags.writeable else x.copy()


def value(program: Program, x: Array, y: Array) -> None:
    """Write outputs (batch, n_out) at x (batch, n_in) into y, which is C-contiguous."""
    _compiled().value(program.arguments, _plain(x), y)


def value_and_jacobian(program: Program, x: Array, direction: Direction, y: Array, jacobian: Array) -> None:
    """Write outputs (batch, n_out) and Jacobians (batch, n_out, n_in) into C-contiguous arrays."""
    _compiled().value_and_jacobian(program.arguments, _plain(x), direction == "forward", y, jacobian)
