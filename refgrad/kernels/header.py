"""What a kernel is told of a network, at one address: where its arrays are, and what is to run.

Numba takes 0.1 µs for each array that Python gives to a kernel, and 0.03 for each number: a network of three arrays
and how to run it would cost as much as one sample of a small one takes.
"""

from __future__ import annotations

import numpy as np

from refgrad.arrays import Array
from refgrad.breakpoints import Staircase
from refgrad.kernels.packing import WIDTH, Index

ENTRY, X_BYTES, Y_BYTES, J_BYTES = range(4)
"""Every header begins with where the entry is that runs, and how many bytes of x, y and J each sample is further on."""

LEVELS, STEPS, NUMBERS, KINK, CUT, GROUP = 4, 6, 8, 10, 11, 12
"""Of a network: address and length of each array, and how Jacobians are made."""

FORWARD, VECTORS, RESULTS, COUNT, WHOLE = range(13, 18)
"""Of products: whether tangents are pushed forward, addresses, and how many vectors of how many samples there are."""

STARTS, ENDS, SLOPES, OFFSETS, INTERVALS, OUTPUTS, CHAIN = range(4, 11)
"""Of a staircase: addresses of its arrays, their sizes, and the header of the chain that is asked near breakpoints."""

PLACES = 18


def header(packed: tuple[Index, Index, Array], entry: int, kink: int = 0, cut: int = 0, group: int = 0) -> Index:
    """What stands at the address that kernels are given; it and the arrays are to be kept alive."""
    made = np.zeros(PLACES, np.int64)
    layers, _, numbers = packed
    for place, array in zip((LEVELS, STEPS, NUMBERS), packed, strict=True):
        made[place : place + 2] = array.ctypes.data, len(array)
    n_in, n_out, size = layers[0, WIDTH], layers[-1, WIDTH], numbers.itemsize
    made[[KINK, CUT, GROUP, ENTRY]] = kink, cut, group, entry
    made[[X_BYTES, Y_BYTES, J_BYTES]] = n_in * size, n_out * size, n_in * n_out * size
    return made


def products_header(
    plain: Index, entry: int, forward: bool, vectors: int, results: int, count: int, whole: int
) -> Index:  # fmt: skip
    """The same for products with so many vectors (count, whole, m) at an address, written to (count, whole, n).

    In the place of J an entry is told which of the whole batch's samples its first one is.
    """
    made = plain.copy()
    made[[ENTRY, J_BYTES, FORWARD, VECTORS, RESULTS, COUNT, WHOLE]] = entry, 1, forward, vectors, results, count, whole
    return made


def staircase_header(plain: Index, entry: int, table: Staircase, sloped: bool) -> Index:
    """The same for a table's values, and slopes if they are wanted; `plain` is the chain's, with Jacobians."""
    made = np.zeros(PLACES, np.int64)
    made[[ENTRY, X_BYTES, Y_BYTES, J_BYTES]] = entry, *plain[[X_BYTES, Y_BYTES]], plain[J_BYTES] if sloped else 0
    for place, array in ((STARTS, table.starts), (ENDS, table.ends), (SLOPES, table.slopes), (OFFSETS, table.offsets)):
        assert array.flags.c_contiguous
        made[place] = array.ctypes.data
    made[[INTERVALS, OUTPUTS, CHAIN]] = *table.slopes.shape, plain.ctypes.data
    return made
