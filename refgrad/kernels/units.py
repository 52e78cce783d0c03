"""Functions of every unit by itself: each row of the activation table compiled to a loop, and called by its address.

Only the rows that a network has are compiled, once for each dtype; kernels find them by an address in the packed
program, so they are the same machine code for all networks. A row's formulas are the table's own, with their constants
and NumPy's names replaced by those of one dtype and of `elementary`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from refgrad.activations import ACTIVATIONS, erfc, where
from refgrad.kernels import elementary
from refgrad.kernels.compiling import digest, jit, pointed
from refgrad.kernels.erfc import erfc as compiled_erfc
from refgrad.kernels.program import PRELU, SCALE
from refgrad.kernels.vectors import whole_vectors

SLOPE, VALUE, BOTH = 0, 1, 2
"""What is wanted: slope ← f′(z), or z ← f(z), or both, which share what they have in common, such as an exponential."""

_TYPES = {np.dtype(np.float32): types.float32, np.dtype(np.float64): types.float64}


@overload(where, strict=False)  # strict would compare annotations too
def _where(condition: Any, then: Any, otherwise: Any) -> Any:
    """A choice between two scalars; a constant takes the dtype of the float beside it, as in NumPy."""
    del condition
    floats = [kind for kind in (then, otherwise) if isinstance(kind, types.Float)]
    if len(floats) == 1:
        chosen = floats[0]
        return lambda condition, then, otherwise: chosen(then) if condition else chosen(otherwise)
    return lambda condition, then, otherwise: then if condition else otherwise


@overload(erfc, strict=False)
def _erfc(z: Any) -> Any:
    return lambda z: compiled_erfc(z)


def _in(dtype: np.dtype[Any], value: Any) -> Any:
    return dtype.type(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _named(function: Any, name: str) -> Any:
    """A function by a name that no other has in any process.

    The linker knows machine code by the function's name and a count of what a process has compiled; of two from the
    caches of different processes that agree in both, it would take one for the other.
    """
    function.__qualname__ = f"{name}-{digest()}"
    return function


def _scalar(function: Any, dtype: np.dtype[Any]) -> Any:
    """A row's formula for single numbers: beside a float32, Numba would take a constant for a float64."""
    code = function.__code__.replace(co_consts=tuple(_in(dtype, value) for value in function.__code__.co_consts))
    names = {name: _in(dtype, value) for name, value in function.__globals__.items() if not name.startswith("__")}
    made = _named(FunctionType(code, names | {"np": elementary}), f"{function.__name__}_{dtype.name}")
    return jit(made, forceinline=True)  # a call in the loop would keep it from being one of vectors


def _none(fixed: Any) -> Any:
    return ()


def _one(fixed: Any) -> Any:
    return (fixed[0],)


def _two(fixed: Any) -> Any:
    return fixed[0], fixed[1]


def _three(fixed: Any) -> Any:
    return fixed[0], fixed[1], fixed[2]


_PARAMETERS = (jit(_none), jit(_one), jit(_two), jit(_three))


def _row(name: str, dtype: np.dtype[Any]) -> Callable[..., None]:
    """The loop of a row of the table."""
    row = ACTIVATIONS[name]
    f, df, parameters = _scalar(row.f, dtype), _scalar(row.df, dtype), _PARAMETERS[len(row.parameters)]

    def loop(which: Any, kink: Any, fixed: Any, z: Any, slope: Any, units: Any, lanes: Any) -> None:
        whole_vectors()
        p = parameters(fixed)
        if which == SLOPE:
            for i in range(units * lanes):
                slope[i] = df(z[i], *p)
        elif which == VALUE:
            for i in range(units * lanes):
                z[i] = f(z[i], *p)
        else:
            for i in range(units * lanes):
                slope[i], z[i] = df(z[i], *p), f(z[i], *p)

    return loop


def _scale(which: Any, kink: Any, fixed: Any, z: Any, slope: Any, units: Any, lanes: Any) -> None:
    """(z − c) s + o with each unit's c, s and o in `fixed`; its slope is s."""
    for unit in range(units):
        centre, scale, offset = fixed[3 * unit], fixed[3 * unit + 1], fixed[3 * unit + 2]
        for i in range(unit * lanes, (unit + 1) * lanes):
            if which != VALUE:
                slope[i] = scale
            if which != SLOPE:
                z[i] = (z[i] - centre) * scale + offset


def _prelu(which: Any, kink: Any, fixed: Any, z: Any, slope: Any, units: Any, lanes: Any) -> None:
    """z above zero, α z below, which is 0 at −∞ too where α is 0.

    In `fixed` are each unit's α, and its slope at 0 by policy.
    """
    for unit in range(units):
        alpha, at_zero = fixed[5 * unit], fixed[5 * unit + 1 + kink]
        for i in range(unit * lanes, (unit + 1) * lanes):
            if which != VALUE:
                slope[i] = (
                    at_zero if z[i] == 0 else alpha if z[i] < 0 else z[i] if z[i] != z[i] else fixed.dtype.type(1)
                )
            if which != SLOPE and z[i] <= 0:
                z[i] = alpha * (fixed.dtype.type(0) if alpha == 0 else z[i])


def _loop(name: str, dtype: np.dtype[Any]) -> Callable[..., None]:
    return {SCALE: _scale, PRELU: _prelu}.get(name) or _row(name, dtype)


_LOOP: Any = None  # for each function its own


def _from_pointers(which: Any, kink: Any, fixed: Any, z: Any, slope: Any, units: Any, lanes: Any) -> None:
    """`_LOOP` as a C function: where the arrays start is all that is known of them."""
    count = units * lanes
    _LOOP(
        which,
        kink,
        numba.carray(fixed, 5 * units + 4),
        numba.carray(z, count),
        numba.carray(slope, count),
        units,
        lanes,
    )


@cache
def address(name: str, dtype: np.dtype[Any]) -> int:
    """Where the machine code of a function starts."""
    loop = jit(_named(_loop(name, dtype), f"loop_{name}_{dtype.name}"))
    if numba.config.DISABLE_JIT:
        _TWINS.append(loop)
        return len(_TWINS) - 1
    number = types.CPointer(_TYPES[dtype])  # type: ignore[attr-defined]
    signature = types.void(types.intp, types.intp, number, number, number, types.intp, types.intp)

    # Numba's cache tells functions apart by what they close over, which for a compiled one is new in each process.
    compiled = pointed(
        FunctionType(_from_pointers.__code__, globals() | {"_LOOP": loop}, f"{name}_{dtype.name}"), signature
    )
    _KEPT.append(compiled)
    return int(compiled.address)


_KEPT: list[Any] = []  # what is compiled lives as long as the process
_TWINS: list[Any] = []  # what an "address" is a place in where nothing is compiled


def call(
    function: int, which: int, kink: int, fixed: Any, f0: int, z: Any, z0: int, slope: Any, s0: int, units: int,
    lanes: int,
) -> None:  # fmt: skip
    """Run a function on z[z0:], with its parameters and arrays at fixed[f0:] and slopes, if wanted, to slope[s0:]."""
    places = z[z0 : z0 + units * lanes], slope[s0 : s0 + units * lanes]
    _TWINS[function](which, kink, fixed[f0:], *places, units, lanes)


@intrinsic
def _call(typing, function, which, kink, fixed, f0, z, z0, slope, s0, units, lanes):  # type: ignore[no-untyped-def]
    """`call`, compiled: through a pointer."""
    given = (*(types.intp,) * 3, fixed, types.intp, z, types.intp, slope, types.intp, types.intp, types.intp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)

        def start(array: int) -> Any:
            held = context.make_array(signature.args[array])(context, builder, arguments[array])
            return builder.gep(held.data, [arguments[array + 1]])

        pointers = [start(array) for array in (3, 5, 7)]
        number = pointers[0].type
        kind = ir.FunctionType(ir.VoidType(), [word, word, number, number, number, word, word])
        pointer = builder.inttoptr(arguments[0], kind.as_pointer())
        builder.call(pointer, [*arguments[1:3], *pointers, *arguments[9:11]])
        return cgutils.get_null_value(context.get_value_type(types.void))

    return types.void(*given), code


@overload(call, strict=False)
def _(function, which, kink, fixed, f0, z, z0, slope, s0, units, lanes):  # type: ignore[no-untyped-def]
    return lambda function, which, kink, fixed, f0, z, z0, slope, s0, units, lanes: _call(
        function, which, kink, fixed, f0, z, z0, slope, s0, units, lanes
    )
