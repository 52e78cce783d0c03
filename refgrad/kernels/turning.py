"""A matrix turned over while it is copied, in squares that fit registers: number by number takes four times as long."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from refgrad.kernels.compiling import called
from refgrad.kernels.vectors import size_of
from refgrad.kernels.windows import window

_INT = ir.IntType(64)


def _side(itemsize: int) -> int:
    """Of a square: numbers in 32 bytes, a vector that every machine since AVX has."""
    return 32 // itemsize


def square(source: Any, s0: int, s_row: int, target: Any, t0: int, t_row: int) -> None:
    """target[t0 + c·t_row + r] = source[s0 + r·s_row + c] for r, c < side."""
    side = _side(source.itemsize)
    for c in range(side):
        for r in range(side):
            target[t0 + c * t_row + r] = source[s0 + r * s_row + c]


def _swapped(builder: Any, rows: list[Any], distance: int) -> list[Any]:
    """Rows and columns whose places differ in one binary digit, swapped: with each digit once, it is the transpose."""
    side, done = len(rows), list(rows)
    for i in range(side):
        if not i & distance:
            for place, shift in ((i, 0), (i + distance, distance)):
                # Of the two rows one after the other: an entry of the first, or of the second.
                picks = [k + shift if not k & distance else side + k - distance + shift for k in range(side)]
                mask = ir.Constant(ir.VectorType(ir.IntType(32), side), picks)
                done[place] = builder.shuffle_vector(rows[i], rows[i + distance], mask)
    return done


@intrinsic
def _square(typing, source, s0, s_row, target, t0, t_row):  # type: ignore[no-untyped-def]
    """`square`, compiled."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = [context.make_array(signature.args[place])(context, builder, arguments[place]).data for place in (0, 3)]
        size = size_of(held[0].type.pointee)
        side = _side(size)
        vector = ir.VectorType(held[0].type.pointee, side)

        def row(array: int, r: int) -> Any:
            start = builder.add(arguments[3 * array + 1], builder.mul(arguments[3 * array + 2], ir.Constant(_INT, r)))
            return builder.bitcast(builder.gep(held[array], [start]), vector.as_pointer())

        rows = [builder.load(row(0, r), align=size) for r in range(side)]
        for digit in range(side.bit_length() - 1):
            rows = _swapped(builder, rows, 1 << digit)
        for c in range(side):
            builder.store(rows[c], row(1, c), align=size)
        return context.get_dummy_value()

    given = (types.intp, types.intp)
    return types.void(source, *given, target, *given), code


@overload(square, strict=False)
def _(source, s0, s_row, target, t0, t_row):  # type: ignore[no-untyped-def]
    return lambda source, s0, s_row, target, t0, t_row: _square(source, s0, s_row, target, t0, t_row)


@called
def turn(source: Any, s0: Any, rows: Any, columns: Any, s_row: Any, target: Any, t0: Any, t_row: Any) -> None:
    """target[t0 + c·t_row + r] = source[s0 + r·s_row + c] for r < rows and c < columns."""
    side = 32 // source.itemsize
    whole_rows, whole_columns = rows // side * side, columns // side * side
    for r in range(0, whole_rows, side):
        for c in range(0, whole_columns, side):
            square(source, s0 + r * s_row + c, s_row, target, t0 + c * t_row + r, t_row)
    for r in range(rows):
        start = whole_columns if r < whole_rows else 0
        to, found = (
            window(target, t0 + start * t_row + r, columns - start, t_row),
            window(source, s0 + r * s_row + start, columns - start),
        )
        for c in range(columns - start):
            to[c] = found[c]
