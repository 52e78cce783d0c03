"""What is computed of samples: values, Jacobians, products with vectors, or what a staircase has of them.

All are called alike, by their address: with that of a header, those of x, y and J, and how many samples there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.kernels import calling
from refgrad.kernels.compiling import inline
from refgrad.kernels.header import (
    CHAIN,
    COUNT,
    CUT,
    ENDS,
    FORWARD,
    GROUP,
    INTERVALS,
    KINK,
    LEVELS,
    NUMBERS,
    OFFSETS,
    OUTPUTS,
    PLACES,
    RESULTS,
    SLOPES,
    STARTS,
    STEPS,
    VECTORS,
    WHOLE,
)
from refgrad.kernels.packing import COLUMNS, STEP_COLUMNS, WIDTH
from refgrad.kernels.products import products
from refgrad.kernels.rows import rows
from refgrad.kernels.stairs import TABLE, look_up
from refgrad.kernels.values import value
from refgrad.kernels.windows import matrix_at, numbers_at, places_at

_LIKE: Any = None  # for each function its own: an empty array of its dtype


@inline
def packed_at(told: Any, like: Any) -> Any:
    """The arrays of a packed program whose numbers have the dtype of `like`."""
    return (
        places_at(told[LEVELS], told[LEVELS + 1], COLUMNS),
        places_at(told[STEPS], told[STEPS + 1], STEP_COLUMNS),
        numbers_at(told[NUMBERS], told[NUMBERS + 1], like),
    )


def values(network: Any, x: Any, y: Any, jacobian: Any, batch: Any) -> Any:
    """`value` of a network."""
    packed = packed_at(places_at(network, 1, PLACES).reshape(-1), _LIKE)
    n_in, n_out = packed[0][0, WIDTH], packed[0][-1, WIDTH]
    return value(packed, matrix_at(x, batch, n_in, _LIKE), matrix_at(y, batch, n_out, _LIKE))


def jacobians(network: Any, x: Any, y: Any, jacobian: Any, batch: Any) -> Any:
    """`rows` of a network."""
    told = places_at(network, 1, PLACES).reshape(-1)
    packed = packed_at(told, _LIKE)
    n_in, n_out = packed[0][0, WIDTH], packed[0][-1, WIDTH]
    return rows(
        packed, told[KINK], told[CUT], told[GROUP], matrix_at(x, batch, n_in, _LIKE), matrix_at(y, batch, n_out, _LIKE),
        numbers_at(jacobian, batch * n_out * n_in, _LIKE),
    )  # fmt: skip


def products_with(network: Any, x: Any, y: Any, first: Any, batch: Any) -> Any:
    """`products` of a network; sample `first` of the vectors belongs to the first of x."""
    told = places_at(network, 1, PLACES).reshape(-1)
    packed = packed_at(told, _LIKE)
    n_in, n_out = packed[0][0, WIDTH], packed[0][-1, WIDTH]
    entering, leaving = (n_in, n_out) if told[FORWARD] else (n_out, n_in)
    count = told[COUNT] * told[WHOLE]
    return products(
        packed, told[KINK], told[FORWARD], told[GROUP], told[COUNT], told[WHOLE], first,
        matrix_at(x, batch, n_in, _LIKE), numbers_at(told[VECTORS], count * entering, _LIKE),
        matrix_at(y, batch, n_out, _LIKE), numbers_at(told[RESULTS], count * leaving, _LIKE),
    )  # fmt: skip


def staircase(network: Any, x: Any, y: Any, jacobian: Any, batch: Any) -> Any:
    """`look_up` in a table; without an address for J, only y."""
    told = places_at(network, 1, PLACES).reshape(-1)
    intervals, n_out = told[INTERVALS], told[OUTPUTS]
    of_j = batch * n_out if jacobian != 0 else 0
    return look_up(
        told[CHAIN], numbers_at(told[STARTS], intervals, TABLE), numbers_at(told[ENDS], intervals, TABLE),
        matrix_at(told[SLOPES], intervals, n_out, TABLE), matrix_at(told[OFFSETS], intervals, n_out, TABLE),
        numbers_at(x, batch, _LIKE), numbers_at(y, batch * n_out, _LIKE), numbers_at(jacobian, of_j, _LIKE),
    )  # fmt: skip


def address(entry: Any, dtype: np.dtype[Any]) -> int:
    """Where one of these starts, for a dtype."""
    return calling.address(entry, 5, dtype)
