"""Parts of an array to loop along, without what slices cost: counting references, and asking if an index is negative.

A window does not keep its array alive: it is made and used in functions that are given the array, and goes no further.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload


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


def borrowed(array: Any) -> Any:
    """The array itself, whose references nobody counts; its owner is kept alive with `keep`, if it is no argument."""
    return array


@intrinsic
def _borrowed(typing, array):  # type: ignore[no-untyped-def]
    """`borrowed`, compiled."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(array)(context, builder, arguments[0])
        made.meminfo = cgutils.get_null_value(made.meminfo.type)
        made.parent = cgutils.get_null_value(made.parent.type)
        return made._getvalue()

    return array(array), code


@overload(borrowed, strict=False)
def _borrow(array):  # type: ignore[no-untyped-def]
    return lambda array: _borrowed(array)


def keep(*arrays: Any) -> None:
    """Use arrays once more, so that they live until here."""


@overload(keep, strict=False)
def _keep(*arrays):  # type: ignore[no-untyped-def]
    return lambda *arrays: None
