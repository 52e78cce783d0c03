"""The loops of `block`, compiled once and by themselves: whoever calls one finds it by its name.

As a part of each kernel they would be compiled with every function on the way to it: two thirds of all the work.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from refgrad.kernels.compiling import digest, pointed
from refgrad.kernels.loops import Loop, arguments, declared

FORMS, ENDINGS = ("listed", "dense"), ("plus", "times")


def name(form: str, ending: str, dtype: Any) -> str:
    """What the linker knows a loop by."""
    return f"refgrad.{form}.{ending}.{dtype}.{digest()}"


_BODY: Any = None  # for each function its own


def _loop(
    rows: Any, panels: Any, left: Any, step: Any, active: Any, count: Any, panel: Any, stride: Any, out: Any,
    out_row: Any, out_panel: Any, width: Any, ends: Any,
) -> None:  # fmt: skip
    _BODY(rows, panels, left, step, active, count, panel, stride, out, out_row, out_panel, width, ends)


def _body(form: str, ending: str, dtype: Any) -> Any:
    """The loop as something that Numba can call."""

    @intrinsic
    def body(  # type: ignore[no-untyped-def]
        typing, rows, panels, left, step, active, count, panel, stride, out, out_row, out_panel, width, ends
    ):  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            function = declared(builder.module, name(form, ending, dtype), dtype)
            Loop(function, dtype, form, ending)
            builder.call(function, given)
            return context.get_dummy_value()

        return _signature(dtype), code

    return body


def _signature(dtype: Any) -> Any:
    pointer: Any = types.CPointer  # type: ignore[attr-defined]
    kinds = {ir.IntType(64): types.intp, ir.IntType(32).as_pointer(): pointer(types.int32)}
    return types.void(*(kinds.get(kind, pointer(dtype)) for kind in arguments(dtype).values()))


@cache
def link(dtype: np.dtype[Any]) -> None:
    """Compile a dtype's loops, or load them, and let the linker know: before any kernel that calls one is there."""
    if numba.config.DISABLE_JIT:
        return
    kind = numba.from_dtype(dtype)
    for form in FORMS:
        for ending in ENDINGS:
            body = FunctionType(
                _loop.__code__, globals() | {"_BODY": _body(form, ending, kind)}, f"{form}_{ending}_{dtype.name}"
            )
            compiled = pointed(body, _signature(kind))
            _KEPT.append(compiled)
            # Not the address of what Numba has around it, which would take as long as a short loop.
            found = compiled._library.get_pointer_to_function(name(form, ending, kind))
            llvmlite.binding.add_symbol(name(form, ending, kind), found)


_KEPT: list[Any] = []  # what is compiled lives as long as the process
