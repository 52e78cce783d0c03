"""Numbers that several threads read and write: what the machine does in one step, in the order that is written."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


def _at(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    held = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(held.data, [arguments[1]])


@intrinsic
def add(typing, array, place, amount):  # type: ignore[no-untyped-def]
    """array[place] += amount; returns what it was."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _at(context, builder, signature, arguments), arguments[2], "seq_cst")

    return types.intp(array, types.intp, types.intp), code


@intrinsic
def read(typing, array, place):  # type: ignore[no-untyped-def]
    """array[place], whoever wrote it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_at(context, builder, signature, arguments), "seq_cst", 8)

    return types.intp(array, types.intp), code


@intrinsic
def exchange(typing, array, place, expected, wanted):  # type: ignore[no-untyped-def]
    """array[place] ← wanted if it is what is expected; returns whether it was."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _at(context, builder, signature, arguments)
        return builder.extract_value(builder.cmpxchg(place, *arguments[2:], "seq_cst", "seq_cst"), 1)

    return types.boolean(array, types.intp, types.intp, types.intp), code


@intrinsic
def pause(typing):  # type: ignore[no-untyped-def]
    """Tell the machine that this thread waits, and another may have the core's units."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if llvmlite.binding.get_process_triple().startswith(("x86", "i386", "i686", "amd64")):
            waiting = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), waiting), [])
        return context.get_dummy_value()

    return types.void(), code
