"""Which engine does the one job of a command."""

from __future__ import annotations

from argparse import Namespace

from refgrad.options import Engine

WORTH_NUMBA = 2e8
"""Multiply–adds that take NumPy as long as importing Numba takes, half a second: 1-64-32-32-1 in float32, two cores."""


def engine(multiply_adds: int, arguments: Namespace) -> Engine:
    """`--engine`, but for "auto" NumPy where the whole job is less work than importing Numba.

    A process that goes on may call a million times, and nobody knows: there "auto" is Numba from the first call on.
    """
    asked: Engine = arguments.engine
    return "numpy" if asked == "auto" and multiply_adds <= WORTH_NUMBA else asked
