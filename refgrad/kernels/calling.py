"""C functions that kernels call by their address: compiled once, whoever calls them, and for all networks.

They raise nothing, for Numba would print that and go on.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from refgrad.kernels.compiling import pointed

_KEPT: dict[int, Any] = {}  # what is compiled lives as long as the process; else an "address" is a function's name here


@cache
def address(function: Any, words: int, dtype: np.dtype[Any] | None = None) -> int:
    """Where a function of so many words starts; for a dtype, an empty array of which it finds as `_LIKE`."""
    if dtype is not None:
        known = function.__globals__ | {"_LIKE": np.zeros(0, dtype)}
        function = FunctionType(function.__code__, known, f"{function.__name__}_{dtype.name}")
    if numba.config.DISABLE_JIT:
        return _kept(id(function), function)
    compiled = pointed(function, types.intp(*(types.intp,) * words))
    return _kept(compiled.address, compiled)


def _kept(place: int, function: Any) -> int:
    _KEPT[place] = function
    return place


def enter(entry: int, network: int, x: int, y: int, jacobian: int, batch: int) -> int:
    """Call an entry, which computes something of samples that are at addresses; returns whether there was memory."""
    return int(_KEPT[entry](network, x, y, jacobian, batch))


def _called(builder: Any, arguments: Any) -> Any:
    kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)] * (len(arguments) - 1))
    return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])


@intrinsic
def _enter(typing, entry, network, x, y, jacobian, batch):  # type: ignore[no-untyped-def]
    """`enter`, compiled."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _called(builder, arguments)

    return types.intp(*(types.intp,) * 6), code


@overload(enter, strict=False)
def _(entry, network, x, y, jacobian, batch):  # type: ignore[no-untyped-def]
    return lambda entry, network, x, y, jacobian, batch: _enter(entry, network, x, y, jacobian, batch)


@intrinsic
def do(typing, function, job, place):  # type: ignore[no-untyped-def]
    """Call what does a job, in a place of the team: 0 is who asks."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _called(builder, arguments)

    return types.intp(*(types.intp,) * 3), code
