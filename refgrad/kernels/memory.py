"""Memory for as long as a kernel runs.

That there is none left is an answer here, not an error: C functions, which call each other by address, raise none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from refgrad.kernels.compiling import inline
from refgrad.kernels.packing import LINE
from refgrad.kernels.windows import numbers_at

_BORROWED: dict[int, Any] = {}  # where nothing is compiled

PLACE = np.zeros(0, np.int32)


def borrow(size: int) -> int:
    """The address of so many bytes, or 0."""
    held = np.empty(size + 1, np.uint8)
    _BORROWED[held.ctypes.data] = held
    return int(held.ctypes.data)


def give_back(address: int) -> None:
    """End of a loan."""
    del _BORROWED[address]


@intrinsic
def _borrow(typing, size):  # type: ignore[no-untyped-def]
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(context.nrt.allocate_unchecked(builder, arguments[0]), ir.IntType(64))

    return types.intp(types.intp), code


@intrinsic
def _give_back(typing, address):  # type: ignore[no-untyped-def]
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        context.nrt.free(builder, builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp), code


@overload(borrow, strict=False)
def _(size):  # type: ignore[no-untyped-def]
    return lambda size: _borrow(size)


@overload(give_back, strict=False)
def _(address):  # type: ignore[no-untyped-def]
    return lambda address: _give_back(address)


@inline
def room(size: Any, places: Any, like: Any) -> Any:
    """The address to give back, or 0; a workspace that starts with a cache line; and a list, of 32 bits a place."""
    itemsize = like.itemsize
    address = borrow(size * itemsize + 4 * places + LINE)
    start = address + -address % LINE
    return address, numbers_at(start, size, like), numbers_at(start + size * itemsize, places, PLACE)
