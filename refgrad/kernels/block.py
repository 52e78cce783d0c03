"""The micro-kernel: a few rows of a product with one panel of columns, its sums held in vector registers.

    out[r, :] = Σ_i left[r, k_i] · panel[k_i, :]        r < rows ≤ ROWS, i < count, in this order of i

`panel` is (n, P), P being two vectors of the machine, and k_i the places where `left` is not zero, so that what a ReLU
switched off costs nothing; or k_i = i. Each sum starts at 0 and takes one fused multiply–add after the other: an entry
depends on its own row and column only, and zeros that are left out do not change it. That is why results do not depend
on the batch, on threads, or on which of the two forms ran.

Arrays are flat, and every operand starts at an offset of its own. Compiled, this is LLVM's intermediate language with a
vector for each sum; LLVM's own vectoriser would load and store `out` for every k.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from refgrad.kernels.compiling import features

ROWS = 6
"""The most rows: with 8, x86 has too few registers for where each row is; they ran at 191 instead of 266 Gflop/s."""

_INT = ir.IntType(64)
_TYPES = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def vector_bytes() -> int:
    """Bytes of a vector register of this machine: 64 with AVX-512, else 32."""
    return 64 if "+avx512f" in features().split(",") else 32


def panel_width(dtype: np.dtype[Any]) -> int:
    """P: how many numbers two vectors hold."""
    return 2 * vector_bytes() // dtype.itemsize


def listed(
    rows: int, left: Any, l0: int, row: int, step: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, width: int, out: Any, o0: int, out_row: int,
) -> None:  # fmt: skip
    """out[o0 + r·out_row + j] = Σ_i left[l0 + r·row + k_i·step] · panel[p0 + k_i·P + j], k_i = active[a0 + i]."""
    for r in range(rows):
        total = np.zeros(width, out.dtype)
        for k in active[a0 : a0 + count]:
            total += left[l0 + r * row + k * step] * panel[p0 + k * width : p0 + (k + 1) * width]
        out[o0 + r * out_row : o0 + r * out_row + width] = total


def dense(
    rows: int, left: Any, l0: int, row: int, step: int, count: int,
    panel: Any, p0: int, width: int, out: Any, o0: int, out_row: int,
) -> None:  # fmt: skip
    """The same with k_i = i."""
    listed(rows, left, l0, row, step, np.arange(count), 0, count, panel, p0, width, out, o0, out_row)


class _Loop:
    """LLVM's function of one dtype and form; its body for each number of rows is a loop over i."""

    def __init__(self, module: Any, dtype: Any, form: str) -> None:
        self.number, self.form = _TYPES[dtype], form
        self.lanes = vector_bytes() // (dtype.bitwidth // 8)
        self.vector = ir.VectorType(self.number, self.lanes)
        pointer = self.number.as_pointer()
        arguments = [_INT, pointer, _INT, _INT, _INT.as_pointer(), _INT, pointer, pointer, _INT]
        name = f"refgrad.{form}.{dtype}.{self.lanes}"
        self.function = module.globals.get(name)
        if self.function is None:
            self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
            self.function.linkage = "linkonce_odr"
            self.function.attributes.add("noinline")
            self.fma = module.declare_intrinsic(
                f"llvm.fmuladd.v{self.lanes}f{dtype.bitwidth}", (), ir.FunctionType(self.vector, [self.vector] * 3)
            )
            self._define()

    def _define(self) -> None:
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        leave = self.function.append_basic_block("leave")
        switch = builder.switch(self.function.args[0], leave)
        for rows in range(1, ROWS + 1):
            body = self.function.append_basic_block(f"rows{rows}")
            switch.add_case(ir.Constant(_INT, rows), body)
            self._body(ir.IRBuilder(body), rows)
        ir.IRBuilder(leave).ret_void()

    def _vectors(self, builder: Any, base: Any, start: Any) -> list[Any]:
        """Pointers to the two vectors from base[start] on."""
        ends = (start, builder.add(start, ir.Constant(_INT, self.lanes)))
        return [builder.bitcast(builder.gep(base, [end]), self.vector.as_pointer()) for end in ends]

    def _body(self, builder: Any, rows: int) -> None:
        _, left, row, step, active, count, panel, out, out_row = self.function.args
        size = self.number.get_abi_size(llvmlite.binding.create_target_data(""))
        start, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        nothing, zero = ir.Constant(self.vector, [0.0] * self.lanes), ir.Constant(_INT, 0)
        lefts = [builder.gep(left, [builder.mul(row, ir.Constant(_INT, r))]) for r in range(rows)]
        builder.cbranch(builder.icmp_signed(">", count, zero), loop, done)

        builder.position_at_end(loop)
        i = builder.phi(_INT)
        sums = [[builder.phi(self.vector) for _ in range(2)] for _ in range(rows)]
        k = i if self.form == "dense" else builder.load(builder.gep(active, [i]))
        two = self._vectors(builder, panel, builder.mul(k, ir.Constant(_INT, 2 * self.lanes)))
        halves = [builder.load(half, align=size) for half in two]
        place = builder.mul(k, step)
        ended = []
        for pointer, pair in zip(lefts, sums, strict=True):
            single = builder.load(builder.gep(pointer, [place]))
            lane = builder.insert_element(ir.Constant(self.vector, ir.Undefined), single, ir.Constant(_INT, 0))
            mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
            spread = builder.shuffle_vector(lane, ir.Constant(self.vector, ir.Undefined), mask)
            ended.append([builder.call(self.fma, [spread, h, s]) for h, s in zip(halves, pair, strict=True)])
        following = builder.add(i, ir.Constant(_INT, 1))
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        i.add_incoming(zero, start)
        i.add_incoming(following, loop)

        builder.position_at_end(done)
        results = [[builder.phi(self.vector) for _ in range(2)] for _ in range(rows)]
        for r in range(rows):
            places = self._vectors(builder, out, builder.mul(out_row, ir.Constant(_INT, r)))
            for total, end, result, target in zip(sums[r], ended[r], results[r], places, strict=True):
                for phi in (total, result):
                    phi.add_incoming(nothing, start)
                    phi.add_incoming(end, loop)
                builder.store(result, target, align=size)
        builder.ret_void()


def _call(form: str, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    def start(array: int, offset: int) -> Any:
        held = context.make_array(signature.args[array])(context, builder, arguments[array])
        return builder.gep(held.data, [arguments[offset]])

    loop = _Loop(builder.module, signature.args[1].dtype, form)
    rows, row, step = arguments[0], arguments[3], arguments[4]
    if form == "listed":
        active, (count, panel, p0, _, out, o0, out_row) = start(5, 6), range(7, 14)
    else:
        active, (count, panel, p0, _, out, o0, out_row) = ir.Constant(_INT.as_pointer(), None), range(5, 12)
    given = (rows, start(1, 2), row, step, active, arguments[count], start(panel, p0), start(out, o0))
    builder.call(loop.function, [*given, arguments[out_row]])
    return context.get_dummy_value()


@intrinsic
def _listed(typing, rows, left, l0, row, step, active, a0, count, panel, p0, width, out, o0, out_row):  # type: ignore[no-untyped-def]
    """`listed`, compiled."""
    given = (types.intp, left, *(types.intp,) * 3, active, *(types.intp,) * 2)
    signature = types.void(*given, panel, types.intp, types.intp, out, types.intp, types.intp)
    return signature, partial(_call, "listed")


@intrinsic
def _dense(typing, rows, left, l0, row, step, count, panel, p0, width, out, o0, out_row):  # type: ignore[no-untyped-def]
    """`dense`, compiled."""
    given = (types.intp, left, *(types.intp,) * 4)
    signature = types.void(*given, panel, types.intp, types.intp, out, types.intp, types.intp)
    return signature, partial(_call, "dense")


@overload(listed, strict=False)
def _(rows, left, l0, row, step, active, a0, count, panel, p0, width, out, o0, out_row):  # type: ignore[no-untyped-def]
    return lambda rows, left, l0, row, step, active, a0, count, panel, p0, width, out, o0, out_row: _listed(
        rows, left, l0, row, step, active, a0, count, panel, p0, width, out, o0, out_row
    )


@overload(dense, strict=False)
def _(rows, left, l0, row, step, count, panel, p0, width, out, o0, out_row):  # type: ignore[no-untyped-def]
    return lambda rows, left, l0, row, step, count, panel, p0, width, out, o0, out_row: _dense(
        rows, left, l0, row, step, count, panel, p0, width, out, o0, out_row
    )
