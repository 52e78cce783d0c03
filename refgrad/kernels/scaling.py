"""Rows of panels, scaled: loops over whole vectors, as LLVM makes them only where it knows that nothing overlaps."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from refgrad.kernels.vectors import panel_width, product, size_of, spread, times_vector, vector_bytes

_INT = ir.IntType(64)


def times(out: Any, o0: int, left: Any, l0: int, factor: Any, factors: Any, f0: int, count: int) -> None:
    """out[o0 + i] = left[l0 + i] · factor · factors[f0 + i] for i < count, whole vectors; without factors if f0 < 0.

    Where a factor of `factors` is 0, so is the result.
    """
    scaled = left[l0 : l0 + count] * factor
    out[o0 : o0 + count] = scaled if f0 < 0 else product(scaled, factors[f0 : f0 + count])


def _loop(sloped: bool, context: Any, builder: Any, arrays: Any, starts: Any, factor: Any, count: Any) -> None:
    number = factor.type
    lanes = vector_bytes() // size_of(number)
    vector, step = ir.VectorType(number, lanes), ir.Constant(_INT, lanes)
    factor = spread(builder, factor, lanes)
    begin, loop, done = (
        builder.block, builder.append_basic_block("times"), builder.append_basic_block("timed")
    )  # fmt: skip
    builder.cbranch(builder.icmp_signed(">", count, ir.Constant(_INT, 0)), loop, done)
    builder.position_at_end(loop)
    i = builder.phi(_INT)
    places = [
        builder.bitcast(builder.gep(array, [builder.add(start, i)]), vector.as_pointer())
        for array, start in zip(arrays, starts, strict=True)
    ]
    align = size_of(number)
    scaled = builder.fmul(builder.load(places[1], align=align), factor)
    if sloped:
        scaled = times_vector(builder, scaled, builder.load(places[2], align=align))
    builder.store(scaled, places[0], align=align)
    following = builder.add(i, step)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
    i.add_incoming(ir.Constant(_INT, 0), begin)
    i.add_incoming(following, loop)
    builder.position_at_end(done)


@intrinsic
def _times(typing, out, o0, left, l0, factor, factors, f0, count):  # type: ignore[no-untyped-def]
    """`times`, compiled."""
    given = (out, types.intp, left, types.intp, left.dtype, factors, types.intp, types.intp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = (signature.args[0], signature.args[2], signature.args[5])
        arrays = [
            context.make_array(kind)(context, builder, arguments[place]).data
            for kind, place in zip(kinds, (0, 2, 5), strict=True)
        ]
        starts, rest = (arguments[1], arguments[3], arguments[6]), (arguments[4], arguments[7])
        with builder.if_else(builder.icmp_signed("<", arguments[6], ir.Constant(_INT, 0))) as (plain, sloped):
            with plain:
                _loop(False, context, builder, arrays, starts, *rest)
            with sloped:
                _loop(True, context, builder, arrays, starts, *rest)
        return context.get_dummy_value()

    return types.void(*given), code


@overload(times, strict=False)
def _(out, o0, left, l0, factor, factors, f0, count):  # type: ignore[no-untyped-def]
    return lambda out, o0, left, l0, factor, factors, f0, count: _times(out, o0, left, l0, factor, factors, f0, count)


def times_columns(out: Any, o0: int, left: Any, l0: int, rows: int, factors: Any, f0: int) -> None:
    """out[r, j] = left[r, j] · factors[j] for r < rows and j < P, all contiguous; without factors if f0 < 0."""
    panel = panel_width(out.dtype)
    for place in range(0, rows * panel, panel):
        times(out, o0 + place, left, l0 + place, out.dtype.type(1), factors, f0, panel)


@intrinsic
def _times_columns(typing, out, o0, left, l0, rows, factors, f0):  # type: ignore[no-untyped-def]
    """`times_columns`, compiled: a panel's factors stay in registers."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = (signature.args[0], signature.args[2], signature.args[5])
        out, left, factors = (
            builder.gep(context.make_array(kind)(context, builder, arguments[place]).data, [arguments[place + 1]])
            for kind, place in zip(kinds, (0, 2, 5), strict=True)
        )
        number = out.type.pointee
        align = size_of(number)
        lanes = vector_bytes() // align

        def vector(base: Any, row: Any, half: int) -> Any:
            place = builder.add(builder.mul(row, ir.Constant(_INT, 2 * lanes)), ir.Constant(_INT, half * lanes))
            return builder.bitcast(builder.gep(base, [place]), ir.VectorType(number, lanes).as_pointer())

        sloped = builder.icmp_signed(">=", arguments[6], ir.Constant(_INT, 0))
        for wanted in (True, False):
            with builder.if_then(sloped if wanted else builder.not_(sloped)):
                zero = ir.Constant(_INT, 0)
                held = [builder.load(vector(factors, zero, half), align=align) for half in range(2 * wanted)]
                with cgutils.for_range(builder, arguments[4]) as loop:
                    for half in range(2):
                        found = builder.load(vector(left, loop.index, half), align=align)
                        found = times_vector(builder, found, held[half]) if wanted else found
                        builder.store(found, vector(out, loop.index, half), align=align)
        return context.get_dummy_value()

    return types.void(out, types.intp, left, types.intp, types.intp, factors, types.intp), code


@overload(times_columns, strict=False)
def _columns(out, o0, left, l0, rows, factors, f0):  # type: ignore[no-untyped-def]
    return lambda out, o0, left, l0, rows, factors, f0: _times_columns(out, o0, left, l0, rows, factors, f0)
