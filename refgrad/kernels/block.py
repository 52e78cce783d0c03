"""The micro-kernel: a few rows of a product with one panel of columns, its sums held in vector registers.

    out[r, :] = Σ_i left[r, k_i] · panel[k_i, :]        r < rows ≤ ROWS, i < count, in this order of i

and then a bias is added, or slopes are multiplied, while the sums are still in registers. `panel` is (n, P), P being
two vectors of the machine, and k_i the places where `left` is not zero, so that what a ReLU switched off costs nothing;
or k_i = i. Each sum starts at 0 and takes one fused multiply–add after the other: an entry depends on its own row and
column only, and zeros that are left out do not change it. That is why results do not depend on the batch, on threads,
or on which of the forms ran.

Arrays are flat, and every operand starts at an offset of its own. Rows of `left` are a fixed way apart, P numbers or 1,
so that one register knows where all of them are. Compiled, this is LLVM's intermediate language with a vector for each
sum; LLVM's own vectoriser would load and store `out` for every k.
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

_INT = ir.IntType(64)
_TYPES = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def vector_bytes() -> int:
    """Bytes of a vector register of this machine: 64 with AVX-512, else 32."""
    return 64 if {"+avx512f", "+avx512vl"} <= set(features().split(",")) else 32


def panel_width(dtype: np.dtype[Any]) -> int:
    """P: how many numbers two vectors hold."""
    return 2 * vector_bytes() // dtype.itemsize


ROWS = 12 if vector_bytes() == 64 else 6
"""The most rows: each takes two registers, beside two of the panel and one of `left`, of the 32 or 16 there are."""

PANELS = 4
"""The most panels that one row meets at once: eight sums, as many as are under way while one addition takes its time."""


def listed_plus(
    rows: int, left: Any, l0: int, jump: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, out: Any, o0: int, out_row: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """out[o0 + r·out_row + j] = Σ_i left[l0 + r·P + ⌊k_i / P⌋·jump + k_i mod P] · panel[p0 + k_i·P + j] + ends[e0 + j].

    k_i = active[a0 + i] and j < width ≤ P.
    """
    all_columns = panel_width(out.dtype)
    for r in range(rows):
        total = np.zeros(width, out.dtype)
        for k in active[a0 : a0 + count].astype(np.intp):
            factor = left[l0 + r * all_columns + k // all_columns * jump + k % all_columns]
            total += factor * panel[p0 + k * all_columns : p0 + k * all_columns + width]
        out[o0 + r * out_row : o0 + r * out_row + width] = total + ends[e0 : e0 + width]


def listed_times(
    rows: int, left: Any, l0: int, jump: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, out: Any, o0: int, out_row: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """The same with factors in the place of summands, or with nothing if e0 < 0."""
    nothing = np.zeros(width, out.dtype)
    listed_plus(rows, left, l0, jump, active, a0, count, panel, p0, out, o0, out_row, width, nothing, 0)
    for r in range(rows if e0 >= 0 else 0):
        start = o0 + r * out_row
        out[start : start + width] = product(out[start : start + width], ends[e0 : e0 + width])


def row_plus(
    panels: int, left: Any, l0: int, stride: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, out: Any, o0: int, out_row: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """`listed_plus` of one row with several whole panels, `stride` apart, their results `out_row`; width is P.

    A row with one panel would wait for each sum before it can go on: so there are others to see to meanwhile.
    """
    for place in range(panels):
        j = place * width
        listed_plus(
            1, left, l0, width, active, a0, count, panel, p0 + place * stride, out, o0 + place * out_row, 0, width,
            ends, e0 + j,
        )  # fmt: skip


def row_times(
    panels: int, left: Any, l0: int, stride: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, out: Any, o0: int, out_row: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """The same with factors in the place of summands, or with nothing if e0 < 0."""
    for place in range(panels):
        j = place * width
        listed_times(
            1, left, l0, width, active, a0, count, panel, p0 + place * stride, out, o0 + place * out_row, 0, width,
            ends, e0 + j if e0 >= 0 else -1,
        )  # fmt: skip


def dense_plus(
    rows: int, left: Any, l0: int, step: int, count: int,
    panel: Any, p0: int, out: Any, o0: int, out_row: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """out[o0 + r·out_row + j] = Σ_k left[l0 + k·step + r] · panel[p0 + k·P + j] + ends[e0 + r] for j < width ≤ P."""
    all_columns = panel_width(out.dtype)
    for r in range(rows):
        total = np.zeros(width, out.dtype)
        for k in range(count):
            total += left[l0 + k * step + r] * panel[p0 + k * all_columns : p0 + k * all_columns + width]
        out[o0 + r * out_row : o0 + r * out_row + width] = total + (ends[e0 + r] if e0 >= 0 else 0)


def dense_times(
    rows: int, left: Any, l0: int, step: int, count: int,
    panel: Any, p0: int, out: Any, o0: int, out_row: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """The same times ends[e0 + r·P + j] in the place of the summands, or with nothing if e0 < 0."""
    dense_plus(rows, left, l0, step, count, panel, p0, out, o0, out_row, width, ends, -1)
    for r in range(rows if e0 >= 0 else 0):
        start, factors = o0 + r * out_row, e0 + r * panel_width(out.dtype)
        out[start : start + width] = product(out[start : start + width], ends[factors : factors + width])


def product(values: Any, factors: Any) -> Any:
    """values ∘ factors, and 0 where a factor is: an inactive unit lets nothing through, not even an infinity."""
    return np.where(factors == 0, 0, values * factors)


def times_vector(builder: Any, values: Any, factors: Any) -> Any:
    """`product` of two of the machine's vectors."""
    nothing = ir.Constant(factors.type, [0.0] * factors.type.count)
    return builder.select(builder.fcmp_unordered("!=", factors, nothing), builder.fmul(values, factors), nothing)


def spread(builder: Any, number: Any, lanes: int) -> Any:
    """A vector of one number."""
    nowhere = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    lane = builder.insert_element(nowhere, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(lane, nowhere, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


class _Loop:
    """LLVM's function of one dtype, form and ending; its body for each number of rows is a loop over i."""

    def __init__(self, module: Any, dtype: Any, form: str, ending: str) -> None:
        self.number, self.form, self.ending = _TYPES[dtype], form, ending
        self.lanes = vector_bytes() // (dtype.bitwidth // 8)
        self.vector = ir.VectorType(self.number, self.lanes)
        self.align = dtype.bitwidth // 8
        pointer = self.number.as_pointer()
        arguments = [_INT, pointer, _INT, ir.IntType(32).as_pointer(), _INT, pointer, pointer, _INT, _INT, pointer]
        name = f"refgrad.{form}.{ending}.{dtype}.{self.lanes}"
        self.function = module.globals.get(name)
        if self.function is None:
            self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
            self.function.linkage = "linkonce_odr"
            self.function.attributes.add("noinline")
            kind = f"v{self.lanes}f{dtype.bitwidth}"
            self.fma = module.declare_intrinsic(
                f"llvm.fmuladd.{kind}", (), ir.FunctionType(self.vector, [self.vector] * 3)
            )
            mask = ir.VectorType(ir.IntType(1), self.lanes)
            given = [self.vector, self.vector.as_pointer(), ir.IntType(32), mask]
            self.masked_store = module.declare_intrinsic(
                f"llvm.masked.store.{kind}.p0", (), ir.FunctionType(ir.VoidType(), given)
            )
            self._define()

    def _define(self) -> None:
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        width = self.function.args[8]
        leave = self.function.append_basic_block("leave")
        ir.IRBuilder(leave).ret_void()
        one, two = (self.function.append_basic_block(name) for name in ("one", "two"))
        # A panel's second vector may hold nothing but zeros.
        builder.cbranch(builder.icmp_signed("<=", width, ir.Constant(_INT, self.lanes)), one, two)
        for block, vectors in ((one, 1), (two, 2)):
            switch = ir.IRBuilder(block).switch(self.function.args[0], leave)
            for rows in range(1, (PANELS if self.form == "row" else ROWS) + 1):
                body = self.function.append_basic_block(f"rows{rows}")
                switch.add_case(ir.Constant(_INT, rows), body)
                self._body(ir.IRBuilder(body), rows, vectors)

    def _vector(self, builder: Any, base: Any, start: Any) -> Any:
        """Where the vector from base[start] on is."""
        return builder.bitcast(builder.gep(base, [start]), self.vector.as_pointer())

    def _half(self, number: int) -> Any:
        return ir.Constant(_INT, number * self.lanes)

    def _parts(self, builder: Any, columns: Any, vectors: int) -> list[Any]:
        return [builder.load(self._vector(builder, columns, self._half(half)), align=self.align) for half in range(vectors)]

    def _body(self, builder: Any, rows: int, vectors: int) -> None:
        _, left, step, active, count, panel, *_ = self.function.args
        start, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        nothing, zero = ir.Constant(self.vector, [0.0] * self.lanes), ir.Constant(_INT, 0)
        builder.cbranch(builder.icmp_signed(">", count, zero), loop, done)

        builder.position_at_end(loop)
        i = builder.phi(_INT)
        sums = [[builder.phi(self.vector) for _ in range(vectors)] for _ in range(rows)]
        if self.form == "dense":
            k, place, row = i, builder.mul(i, step), 1
        else:
            k, row = builder.sext(builder.load(builder.gep(active, [i])), _INT), 2 * self.lanes
            whole, column = builder.udiv(k, ir.Constant(_INT, row)), builder.urem(k, ir.Constant(_INT, row))
            place = k if self.form == "row" else builder.add(builder.mul(whole, step), column)
        columns, lefts = builder.gep(panel, [builder.mul(k, self._half(2))]), builder.gep(left, [place])
        parts = self._parts(builder, columns, vectors)
        ended = []
        for r, pair in enumerate(sums):
            if self.form == "row":
                parts = self._parts(builder, builder.gep(columns, [builder.mul(step, ir.Constant(_INT, r))]), vectors)
            if self.form != "row" or r == 0:
                number = builder.load(builder.gep(lefts, [ir.Constant(_INT, r * row)]))
                factor = spread(builder, number, self.lanes)
            ended.append([builder.call(self.fma, [factor, part, s]) for part, s in zip(parts, pair, strict=True)])
        following = builder.add(i, ir.Constant(_INT, 1))
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        i.add_incoming(zero, start)
        i.add_incoming(following, loop)

        builder.position_at_end(done)
        results = [[builder.phi(self.vector) for _ in range(vectors)] for _ in range(rows)]
        for r in range(rows):
            for total, end, result in zip(sums[r], ended[r], results[r], strict=True):
                for phi in (total, result):
                    phi.add_incoming(nothing, start)
                    phi.add_incoming(end, loop)
        self._end(builder, results)

    def _end(self, builder: Any, results: Any) -> None:
        """Write the sums to `out`, each with its ending if there is one."""
        ends = self.function.args[9]
        with builder.if_else(builder.icmp_unsigned("==", ends, ir.Constant(ends.type, None))) as (bare, ended):
            with bare:
                self._store(builder, results)
            with ended:
                self._store(builder, self._ended(builder, results))
        builder.ret_void()

    def _ended(self, builder: Any, results: Any) -> Any:
        ends, ended = self.function.args[9], []
        for r, pair in enumerate(results):
            if self.form == "dense" and self.ending == "plus":
                number = builder.load(builder.gep(ends, [ir.Constant(_INT, r)]))
                others = [spread(builder, number, self.lanes)] * len(pair)
            else:
                row = self._half(0 if self.form == "listed" else 2 * r)
                places = (builder.add(row, self._half(half)) for half in range(len(pair)))
                others = [builder.load(self._vector(builder, ends, place), align=self.align) for place in places]
            end = builder.fadd if self.ending == "plus" else partial(times_vector, builder)
            ended.append([end(total, other) for total, other in zip(pair, others, strict=True)])
        return ended

    def _store(self, builder: Any, results: Any) -> None:
        """Write whole vectors, or of the last one what is within the width."""
        *_, out, out_row, width, _ = self.function.args
        vectors = len(results[0])
        with builder.if_else(builder.icmp_signed("==", width, self._half(vectors))) as (whole, part):
            with whole:
                for r, pair in enumerate(results):
                    row = builder.gep(out, [builder.mul(out_row, ir.Constant(_INT, r))])
                    for half, result in enumerate(pair):
                        builder.store(result, self._vector(builder, row, self._half(half)), align=self.align)
            with part:
                places = ir.Constant(ir.VectorType(_INT, self.lanes), list(range(self.lanes)))
                masks = [
                    builder.icmp_signed("<", places, spread(builder, builder.sub(width, self._half(half)), self.lanes))
                    for half in range(vectors)
                ]
                for r, pair in enumerate(results):
                    row = builder.gep(out, [builder.mul(out_row, ir.Constant(_INT, r))])
                    for half, result in enumerate(pair):
                        place, align = self._vector(builder, row, self._half(half)), ir.IntType(32)(self.align)
                        builder.call(self.masked_store, [result, place, align, masks[half]])


def _call(form: str, ending: str, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    def start(array: int) -> Any:
        held = context.make_array(signature.args[array])(context, builder, arguments[array])
        return builder.gep(held.data, [arguments[array + 1]])

    loop = _Loop(builder.module, signature.args[1].dtype, form, ending)
    listed = 2 * (form != "dense")
    active = start(4) if listed else ir.Constant(ir.IntType(32).as_pointer(), None)
    count, panel, out, ends = arguments[4 + listed], start(5 + listed), start(7 + listed), start(11 + listed)
    nowhere = builder.icmp_signed("<", arguments[12 + listed], ir.Constant(_INT, 0))
    ends = builder.select(nowhere, ir.Constant(ends.type, None), ends)
    sizes = arguments[9 + listed], arguments[10 + listed]
    builder.call(loop.function, [arguments[0], start(1), arguments[3], active, count, panel, out, *sizes, ends])
    return context.get_dummy_value()


def _listed(form: str, ending: str) -> Any:
    @intrinsic
    def loop(  # type: ignore[no-untyped-def]
        typing, rows, left, l0, jump, active, a0, count, panel, p0, out, o0, out_row, width, ends, e0
    ):  # fmt: skip
        one = types.intp
        given = (one, left, one, one, active, one, one, panel, one, out, one, one, one, ends, one)
        return types.void(*given), partial(_call, form, ending)

    def typed(  # type: ignore[no-untyped-def]
        rows, left, l0, jump, active, a0, count, panel, p0, out, o0, out_row, width, ends, e0
    ):  # fmt: skip
        def compiled(  # type: ignore[no-untyped-def]
            rows, left, l0, jump, active, a0, count, panel, p0, out, o0, out_row, width, ends, e0
        ):  # fmt: skip
            loop(rows, left, l0, jump, active, a0, count, panel, p0, out, o0, out_row, width, ends, e0)

        return compiled

    return typed


def _dense(ending: str) -> Any:
    @intrinsic
    def loop(  # type: ignore[no-untyped-def]
        typing, rows, left, l0, step, count, panel, p0, out, o0, out_row, width, ends, e0
    ):  # fmt: skip
        one = types.intp
        given = (one, left, one, one, one, panel, one, out, one, one, one, ends, one)
        return types.void(*given), partial(_call, "dense", ending)

    def typed(  # type: ignore[no-untyped-def]
        rows, left, l0, step, count, panel, p0, out, o0, out_row, width, ends, e0
    ):  # fmt: skip
        def compiled(  # type: ignore[no-untyped-def]
            rows, left, l0, step, count, panel, p0, out, o0, out_row, width, ends, e0
        ):  # fmt: skip
            loop(rows, left, l0, step, count, panel, p0, out, o0, out_row, width, ends, e0)

        return compiled

    return typed


overload(listed_plus, strict=False)(_listed("listed", "plus"))
overload(listed_times, strict=False)(_listed("listed", "times"))
overload(row_plus, strict=False)(_listed("row", "plus"))
overload(row_times, strict=False)(_listed("row", "times"))
overload(dense_plus, strict=False)(_dense("plus"))
overload(dense_times, strict=False)(_dense("times"))
