"""The micro-kernel: a few rows of a product with one panel of columns, its sums held in vector registers.

    out[r, :] = Σ_i left[r, k_i] · panel[k_i, :]        r < rows ≤ ROWS, i < count, in this order of i

and then a bias is added, or slopes are multiplied, while the sums are still in registers. `panel` is (n, P), P being
two vectors of the machine, and k_i the places where `left` is not zero, so that what a ReLU switched off costs nothing;
or k_i = i. Each sum starts at 0 and takes one fused multiply–add after the other: an entry depends on its own row and
column only, and zeros that are left out do not change it. That is why results do not depend on the batch, on threads,
or on which of the forms ran.

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


def listed_plus(
    rows: int, left: Any, l0: int, row: int, step: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, width: int, out: Any, o0: int, out_row: int, ends: Any, e0: int, end_row: int,
) -> None:  # fmt: skip
    """out[o0 + r·out_row + j] = Σ_i left[l0 + r·row + k_i·step] · panel[p0 + k_i·P + j] + ends[e0 + r·end_row + j].

    k_i = active[a0 + i].
    """
    for r in range(rows):
        total = np.zeros(width, out.dtype)
        for k in active[a0 : a0 + count]:
            total += left[l0 + r * row + k * step] * panel[p0 + k * width : p0 + (k + 1) * width]
        start = e0 + r * end_row
        out[o0 + r * out_row : o0 + r * out_row + width] = total + ends[start : start + width]


def listed_times(
    rows: int, left: Any, l0: int, row: int, step: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, width: int, out: Any, o0: int, out_row: int, ends: Any, e0: int, end_row: int,
) -> None:  # fmt: skip
    """The same with factors in the place of summands, or with nothing if e0 < 0."""
    listed_plus(
        rows, left, l0, row, step, active, a0, count, panel, p0, width, out, o0, out_row,
        np.zeros(width, out.dtype), 0, 0,
    )  # fmt: skip
    for r in range(rows if e0 >= 0 else 0):
        start, factors = o0 + r * out_row, ends[e0 + r * end_row : e0 + r * end_row + width]
        out[start : start + width] = product(out[start : start + width], factors)


def dense_plus(
    rows: int, left: Any, l0: int, row: int, step: int, count: int,
    panel: Any, p0: int, width: int, out: Any, o0: int, out_row: int, ends: Any, e0: int, end_row: int,
) -> None:  # fmt: skip
    """`listed_plus` with k_i = i, and a summand ends[e0 + r·end_row] for all of a row."""
    for r in range(rows):
        spread = np.full(width, ends[e0 + r * end_row])
        listed_plus(
            1, left, l0 + r * row, row, step, np.arange(count), 0, count, panel, p0, width, out, o0 + r * out_row, 0,
            spread, 0, 0,
        )  # fmt: skip


def dense_times(
    rows: int, left: Any, l0: int, row: int, step: int, count: int,
    panel: Any, p0: int, width: int, out: Any, o0: int, out_row: int, ends: Any, e0: int, end_row: int,
) -> None:  # fmt: skip
    """`listed_times` with k_i = i."""
    listed_times(
        rows, left, l0, row, step, np.arange(count), 0, count, panel, p0, width, out, o0, out_row, ends, e0, end_row
    )


def product(values: Any, factors: Any) -> Any:
    """values ∘ factors, and 0 where a factor is: an inactive unit lets nothing through, not even an infinity."""
    return np.where(factors == 0, 0, values * factors)


def times_vector(builder: Any, values: Any, factors: Any) -> Any:
    """`product` of two of the machine's vectors."""
    nothing = ir.Constant(factors.type, [0.0] * factors.type.count)
    return builder.select(builder.fcmp_unordered("!=", factors, nothing), builder.fmul(values, factors), nothing)


class _Loop:
    """LLVM's function of one dtype, form and ending; its body for each number of rows is a loop over i."""

    def __init__(self, module: Any, dtype: Any, form: str, ending: str) -> None:
        self.number, self.form, self.ending = _TYPES[dtype], form, ending
        self.lanes = vector_bytes() // (dtype.bitwidth // 8)
        self.vector = ir.VectorType(self.number, self.lanes)
        pointer = self.number.as_pointer()
        arguments = [_INT, pointer, _INT, _INT, _INT.as_pointer(), _INT, pointer, pointer, _INT, pointer, _INT]
        name = f"refgrad.{form}.{ending}.{dtype}.{self.lanes}"
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

    def _spread(self, builder: Any, pointer: Any) -> Any:
        """A vector of one number."""
        nowhere = ir.Constant(self.vector, ir.Undefined)
        lane = builder.insert_element(nowhere, builder.load(pointer), ir.Constant(_INT, 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return builder.shuffle_vector(lane, nowhere, mask)

    def _vectors(self, builder: Any, base: Any, start: Any) -> list[Any]:
        """Pointers to the two vectors from base[start] on."""
        ends = (start, builder.add(start, ir.Constant(_INT, self.lanes)))
        return [builder.bitcast(builder.gep(base, [end]), self.vector.as_pointer()) for end in ends]

    def _body(self, builder: Any, rows: int) -> None:
        _, left, row, step, active, count, panel, *_ = self.function.args
        start, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        nothing, zero = ir.Constant(self.vector, [0.0] * self.lanes), ir.Constant(_INT, 0)
        lefts = [builder.gep(left, [builder.mul(row, ir.Constant(_INT, r))]) for r in range(rows)]
        builder.cbranch(builder.icmp_signed(">", count, zero), loop, done)

        builder.position_at_end(loop)
        i = builder.phi(_INT)
        sums = [[builder.phi(self.vector) for _ in range(2)] for _ in range(rows)]
        k = i if self.form == "dense" else builder.load(builder.gep(active, [i]))
        two = self._vectors(builder, panel, builder.mul(k, ir.Constant(_INT, 2 * self.lanes)))
        halves = [builder.load(half, align=self._size) for half in two]
        place = builder.mul(k, step)
        ended = []
        for pointer, pair in zip(lefts, sums, strict=True):
            spread = self._spread(builder, builder.gep(pointer, [place]))
            ended.append([builder.call(self.fma, [spread, h, s]) for h, s in zip(halves, pair, strict=True)])
        following = builder.add(i, ir.Constant(_INT, 1))
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        i.add_incoming(zero, start)
        i.add_incoming(following, loop)

        builder.position_at_end(done)
        results = [[builder.phi(self.vector) for _ in range(2)] for _ in range(rows)]
        for r in range(rows):
            for total, end, result in zip(sums[r], ended[r], results[r], strict=True):
                for phi in (total, result):
                    phi.add_incoming(nothing, start)
                    phi.add_incoming(end, loop)
        self._store(builder, results)

    @property
    def _size(self) -> int:
        return int(self.number.get_abi_size(llvmlite.binding.create_target_data("")))

    def _store(self, builder: Any, results: Any) -> None:
        """Write the sums to `out`, each with its ending."""
        *_, out, out_row, ends, end_row = self.function.args
        if self.ending == "plus":
            self._store_rows(builder, results, out, out_row, ends, end_row)
            builder.ret_void()
            return
        with builder.if_else(builder.icmp_unsigned("==", ends, ir.Constant(ends.type, None))) as (bare, ended):
            with bare:
                self._store_rows(builder, results, out, out_row, None, end_row)
            with ended:
                self._store_rows(builder, results, out, out_row, ends, end_row)
        builder.ret_void()

    def _store_rows(self, builder: Any, results: Any, out: Any, out_row: Any, ends: Any, end_row: Any) -> None:
        for r, pair in enumerate(results):
            number = ir.Constant(_INT, r)
            targets, start = self._vectors(builder, out, builder.mul(out_row, number)), builder.mul(end_row, number)
            if ends is not None and self.form == "dense" and self.ending == "plus":
                others = [self._spread(builder, builder.gep(ends, [start]))] * 2
            elif ends is not None:
                others = [builder.load(place, align=self._size) for place in self._vectors(builder, ends, start)]
            for half in range(2):
                result = pair[half]
                if ends is not None and self.ending == "plus":
                    result = builder.fadd(result, others[half])
                elif ends is not None:
                    result = times_vector(builder, result, others[half])
                builder.store(result, targets[half], align=self._size)


def _call(form: str, ending: str, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    def start(array: int, offset: int) -> Any:
        held = context.make_array(signature.args[array])(context, builder, arguments[array])
        return builder.gep(held.data, [arguments[offset]])

    loop = _Loop(builder.module, signature.args[1].dtype, form, ending)
    rows, row, step = arguments[0], arguments[3], arguments[4]
    if form == "listed":
        active, (count, panel, p0, _, out, o0, out_row, ends, e0, end_row) = start(5, 6), range(7, 17)
    else:
        active, (count, panel, p0, _, out, o0, out_row, ends, e0, end_row) = (
            ir.Constant(_INT.as_pointer(), None), range(5, 15)
        )  # fmt: skip
    end = start(ends, e0)
    nowhere = builder.icmp_signed("<", arguments[e0], ir.Constant(_INT, 0))
    end = builder.select(nowhere, ir.Constant(end.type, None), end)
    given = (rows, start(1, 2), row, step, active, arguments[count], start(panel, p0), start(out, o0))
    builder.call(loop.function, [*given, arguments[out_row], end, arguments[end_row]])
    return context.get_dummy_value()


def _listed(ending: str) -> Any:
    @intrinsic
    def loop(  # type: ignore[no-untyped-def]
        typing, rows, left, l0, row, step, active, a0, count, panel, p0, width, out, o0, out_row, ends, e0, end_row
    ):  # fmt: skip
        given = (types.intp, left, *(types.intp,) * 3, active, *(types.intp,) * 2, panel, types.intp, types.intp)
        signature = types.void(*given, out, types.intp, types.intp, ends, types.intp, types.intp)
        return signature, partial(_call, "listed", ending)

    def typed(  # type: ignore[no-untyped-def]
        rows, left, l0, row, step, active, a0, count, panel, p0, width, out, o0, out_row, ends, e0, end_row
    ):  # fmt: skip
        def compiled(  # type: ignore[no-untyped-def]
            rows, left, l0, row, step, active, a0, count, panel, p0, width, out, o0, out_row, ends, e0, end_row
        ):  # fmt: skip
            loop(rows, left, l0, row, step, active, a0, count, panel, p0, width, out, o0, out_row, ends, e0, end_row)

        return compiled

    return typed


def _dense(ending: str) -> Any:
    @intrinsic
    def loop(  # type: ignore[no-untyped-def]
        typing, rows, left, l0, row, step, count, panel, p0, width, out, o0, out_row, ends, e0, end_row
    ):  # fmt: skip
        given = (types.intp, left, *(types.intp,) * 4, panel, types.intp, types.intp)
        signature = types.void(*given, out, types.intp, types.intp, ends, types.intp, types.intp)
        return signature, partial(_call, "dense", ending)

    def typed(  # type: ignore[no-untyped-def]
        rows, left, l0, row, step, count, panel, p0, width, out, o0, out_row, ends, e0, end_row
    ):  # fmt: skip
        def compiled(  # type: ignore[no-untyped-def]
            rows, left, l0, row, step, count, panel, p0, width, out, o0, out_row, ends, e0, end_row
        ):  # fmt: skip
            loop(rows, left, l0, row, step, count, panel, p0, width, out, o0, out_row, ends, e0, end_row)

        return compiled

    return typed


overload(listed_plus, strict=False)(_listed("plus"))
overload(listed_times, strict=False)(_listed("times"))
overload(dense_plus, strict=False)(_dense("plus"))
overload(dense_times, strict=False)(_dense("times"))
