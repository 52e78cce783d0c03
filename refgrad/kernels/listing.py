"""Lists of the units that are not switched off."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from refgrad.kernels.vectors import size_of, spread, vector_bytes
from refgrad.kernels.windows import window

_INT, _PLACE = ir.IntType(64), ir.IntType(32)

SPARE = 16
"""How many places after a list may be written to: a vector of them is stored, of which the first ones count."""


def nonzero(values: Any, start: int, count: int, active: Any, first: int) -> int:
    """List the places of what is not zero, NaN among them, in active[first:]; returns how many."""
    found = np.flatnonzero(values[start : start + count])
    active[first : first + len(found)] = found
    return len(found)


@intrinsic
def _compressed(typing, values, start, count, active, first):  # type: ignore[no-untyped-def]
    """`nonzero` with AVX-512, which moves the places that count to a vector's front."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = [context.make_array(signature.args[place])(context, builder, arguments[place]).data for place in (0, 3)]
        number = held[0].type.pointee
        size = size_of(number)
        lanes = vector_bytes() // size
        kind, places = ir.VectorType(number, lanes), ir.VectorType(_PLACE, lanes)
        mask = ir.VectorType(ir.IntType(1), lanes)
        compress = builder.module.declare_intrinsic(
            f"llvm.x86.avx512.mask.compress.v{lanes}i32", (), ir.FunctionType(places, [places, places, mask])
        )
        ones = builder.module.declare_intrinsic("llvm.ctpop", (ir.IntType(lanes),))
        order, zero = ir.Constant(places, list(range(lanes))), ir.Constant(_INT, 0)
        source, target = builder.gep(held[0], [arguments[1]]), builder.gep(held[1], [arguments[4]])

        begin, loop, done = builder.block, builder.append_basic_block("list"), builder.append_basic_block("listed")
        builder.cbranch(builder.icmp_signed(">", arguments[2], zero), loop, done)
        builder.position_at_end(loop)
        i, found = builder.phi(_INT), builder.phi(_INT)
        place = builder.add(order, spread(builder, builder.trunc(i, _PLACE), lanes))
        given = builder.load(builder.bitcast(builder.gep(source, [i]), kind.as_pointer()), align=size)
        there = builder.icmp_signed("<", place, spread(builder, builder.trunc(arguments[2], _PLACE), lanes))
        chosen = builder.and_(there, builder.fcmp_unordered("!=", given, ir.Constant(kind, [0.0] * lanes)))
        front = builder.call(compress, [place, place, chosen])
        builder.store(front, builder.bitcast(builder.gep(target, [found]), places.as_pointer()), align=4)
        more = builder.add(found, builder.zext(builder.call(ones, [builder.bitcast(chosen, ir.IntType(lanes))]), _INT))
        following = builder.add(i, ir.Constant(_INT, lanes))
        builder.cbranch(builder.icmp_signed("<", following, arguments[2]), loop, done)
        for phi, first_time, next_time in ((i, zero, following), (found, zero, more)):
            phi.add_incoming(first_time, begin)
            phi.add_incoming(next_time, loop)
        builder.position_at_end(done)
        listed = builder.phi(_INT)
        listed.add_incoming(zero, begin)
        listed.add_incoming(more, loop)
        return listed

    return types.intp(values, types.intp, types.intp, active, types.intp), code


def _counted(values: Any, start: Any, count: Any, active: Any, first: Any) -> Any:
    """`nonzero` one by one, without branches."""
    found, given, places = 0, window(values, start, count), window(active, first, count + 1)
    for k in range(count):
        places[found] = k
        found += given[k] != 0
    return found


@overload(nonzero, strict=False)
def _(values, start, count, active, first):  # type: ignore[no-untyped-def]
    if vector_bytes() < 64:
        return _counted
    return lambda values, start, count, active, first: _compressed(values, start, count, active, first)
