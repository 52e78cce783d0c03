"""What is asked of a network most, with as little as can be said: where it is, and the arrays.

Numba takes 0.1 µs for each array that Python gives to a kernel, and 0.03 for each number: a network of three arrays
and how to run it would cost as much as one sample of a small one takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.kernels.compiling import inline, kernel
from refgrad.kernels.packing import COLUMNS, STEP_COLUMNS, Index
from refgrad.kernels.rows import rows
from refgrad.kernels.values import value
from refgrad.kernels.windows import numbers_at, places_at

LEVELS, STEPS, NUMBERS, KINK, CUT, GROUP, PLACES = 0, 2, 4, 6, 7, 8, 9
"""In a header: address and length of each array, then how `rows` is to run."""


def header(packed: tuple[Index, Index, Array], kink: int, cut: int, group: int) -> Index:
    """What stands at the address that kernels are given; it and the arrays are to be kept alive."""
    made = np.zeros(PLACES, np.int64)
    for place, array in zip((LEVELS, STEPS, NUMBERS), packed, strict=True):
        made[place : place + 2] = array.ctypes.data, len(array)
    made[KINK], made[CUT], made[GROUP] = kink, cut, group
    return made


@inline
def packed_at(told: Any, like: Any) -> Any:
    """The arrays of a packed program whose numbers have the dtype of `like`."""
    return (
        places_at(told[0, LEVELS], told[0, LEVELS + 1], COLUMNS),
        places_at(told[0, STEPS], told[0, STEPS + 1], STEP_COLUMNS),
        numbers_at(told[0, NUMBERS], told[0, NUMBERS + 1], like),
    )


@kernel
def plain_value(network: Any, x: Any, y: Any) -> None:
    """`value` of the network whose header is at an address."""
    value(packed_at(places_at(network, 1, PLACES), x), x, y)


@kernel
def plain_rows(network: Any, x: Any, y: Any, jacobian: Any) -> None:
    """`rows` of the network whose header is at an address."""
    told = places_at(network, 1, PLACES)
    rows(packed_at(told, x), told[0, KINK], told[0, CUT], told[0, GROUP], x, y, jacobian)
