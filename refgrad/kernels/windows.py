"""Parts of an array to loop along, without what slices cost: counting references, and asking if an index is negative.

A window does not keep its array alive: it is made and used in functions that are given the array, and goes no further.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from refgrad.kernels.compiling import inline


def window(array: Any, start: int, count: int, step: int = 1) -> Any:
    """`count` numbers of a contiguous array, as if it were flat, from `start` on, each `step` after the last."""
    return array.reshape(-1)[start : start + (count - 1) * step + 1 : step][:count]


@intrinsic
def _window(typing, array, start, count, step):  # type: ignore[no-untyped-def]
    """`window`, compiled; with the step 1 as a constant, loops along it need no strides."""
    steps = not isinstance(step, types.Omitted)  # type: ignore[attr-defined]
    result = types.Array(array.dtype, 1, "A" if steps else "C")

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = context.make_array(array)(context, builder, arguments[0])
        size = context.get_abi_sizeof(context.get_data_type(array.dtype))
        itemsize = ir.Constant(ir.IntType(64), size)
        made = context.make_array(result)(context, builder)
        made.data = builder.gep(held.data, [arguments[1]])
        made.shape = cgutils.pack_array(builder, [arguments[2]])
        made.strides = cgutils.pack_array(builder, [builder.mul(arguments[3], itemsize) if steps else itemsize])
        made.itemsize, made.nitems = itemsize, arguments[2]
        made.meminfo = cgutils.get_null_value(made.meminfo.type)
        made.parent = cgutils.get_null_value(made.parent.type)
        return made._getvalue()

    return result(array, types.intp, types.intp, types.intp if steps else step), code


@overload(window, strict=False)
def _(array, start, count, step=1):  # type: ignore[no-untyped-def]
    return lambda array, start, count, step=1: _window(array, start, count, step)


@inline
def copy(source: Any, start: Any, count: Any, target: Any, to: Any) -> None:
    """target[to:] ← source[start:], so many numbers of contiguous arrays."""
    given, taken = window(source, start, count), window(target, to, count)
    for i in range(count):
        taken[i] = given[i]


WORD = np.zeros(0, np.int64)


def numbers_at(address: int, count: int, like: Any) -> Any:
    """The array (count,) of `like`'s dtype that starts at an address; someone else keeps it alive."""
    if count == 0:
        return like[:0]
    raw: Any = (ctypes.c_char * int(count * like.itemsize)).from_address(int(address))
    return np.frombuffer(raw, like.dtype)


def matrix_at(address: int, rows: int, columns: int, like: Any) -> Any:
    """The same, (rows, columns)."""
    return numbers_at(address, rows * columns, like).reshape(rows, columns)


@inline
def places_at(address: Any, rows: Any, columns: Any) -> Any:
    """The same of 64-bit integers."""
    return matrix_at(address, rows, columns, WORD)


def _array(context: Any, builder: Any, kind: Any, address: Any, shape: Any) -> Any:
    """An array at an address, whose references nobody counts."""
    made, size = context.make_array(kind)(context, builder), context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides = [ir.Constant(ir.IntType(64), size)]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(extent, strides[0]))
    made.data = builder.inttoptr(address, made.data.type)
    made.shape, made.strides = cgutils.pack_array(builder, shape), cgutils.pack_array(builder, strides)
    made.itemsize, made.nitems = strides[-1], builder.mul(shape[0], shape[-1]) if len(shape) > 1 else shape[0]
    made.meminfo = cgutils.get_null_value(made.meminfo.type)
    made.parent = cgutils.get_null_value(made.parent.type)
    return made._getvalue()


@intrinsic
def _numbers_at(typing, address, count, like):  # type: ignore[no-untyped-def]
    """`numbers_at`, compiled."""
    result = types.Array(like.dtype, 1, "C")

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _array(context, builder, result, arguments[0], [arguments[1]])

    return result(types.intp, types.intp, like), code


@overload(numbers_at, strict=False)
def _numbers(address, count, like):  # type: ignore[no-untyped-def]
    return lambda address, count, like: _numbers_at(address, count, like)


@intrinsic
def _matrix_at(typing, address, rows, columns, like):  # type: ignore[no-untyped-def]
    """`matrix_at`, compiled."""
    result = types.Array(like.dtype, 2, "C")

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _array(context, builder, result, arguments[0], list(arguments[1:3]))

    return result(types.intp, types.intp, types.intp, like), code


@overload(matrix_at, strict=False)
def _matrix(address, rows, columns, like):  # type: ignore[no-untyped-def]
    return lambda address, rows, columns, like: _matrix_at(address, rows, columns, like)
