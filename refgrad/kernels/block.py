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

import itertools
from collections.abc import Iterator
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
"""The most panels: one row with one of them would wait for each sum before it can go on, so there are others meanwhile."""


def most_panels(rows: int) -> int:
    """How many panels as many rows meet at once: the sums have the registers of `ROWS` rows and one panel."""
    return min(PANELS, ROWS // rows)


def listed_plus(
    rows: int, panels: int, left: Any, l0: int, jump: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, stride: int, out: Any, o0: int, out_row: int, out_panel: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """For each of some panels q, whole ones if there are several, and columns j < width ≤ P:

    out[o0 + r·out_row + q·out_panel + j]
        = Σ_i left[l0 + r·P + ⌊k_i / P⌋·jump + k_i mod P] · panel[p0 + q·stride + k_i·P + j] + ends[e0 + q·P + j]

    with k_i = active[a0 + i].
    """  # noqa: D400
    all_columns = panel_width(out.dtype)
    for r, q in itertools.product(range(rows), range(panels)):
        total, ending = np.zeros(width, out.dtype), e0 + q * all_columns
        for k in active[a0 : a0 + count].astype(np.intp):
            factor = left[l0 + r * all_columns + k // all_columns * jump + k % all_columns]
            start = p0 + q * stride + k * all_columns
            total += factor * panel[start : start + width]
        start = o0 + r * out_row + q * out_panel
        out[start : start + width] = total + ends[ending : ending + width]


def listed_times(
    rows: int, panels: int, left: Any, l0: int, jump: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, stride: int, out: Any, o0: int, out_row: int, out_panel: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """The same with factors in the place of summands, or with nothing if e0 < 0."""
    all_columns = panel_width(out.dtype)
    nothing = np.zeros(panels * all_columns, out.dtype)
    listed_plus(
        rows, panels, left, l0, jump, active, a0, count, panel, p0, stride, out, o0, out_row, out_panel, width,
        nothing, 0,
    )  # fmt: skip
    for r, q in itertools.product(range(rows), range(panels if e0 >= 0 else 0)):
        start, factors = o0 + r * out_row + q * out_panel, e0 + q * all_columns
        out[start : start + width] = product(out[start : start + width], ends[factors : factors + width])


def dense_plus(
    rows: int, left: Any, l0: int, step: int, count: int,
    panel: Any, p0: int, stride: int, out: Any, o0: int, out_row: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """out[o0 + r·out_row + j] = Σ_k left[l0 + k·step + r] · panel[p0 + k·stride + j] + ends[e0 + r] for j < width ≤ P."""
    for r in range(rows):
        total = np.zeros(width, out.dtype)
        for k in range(count):
            total += left[l0 + k * step + r] * panel[p0 + k * stride : p0 + k * stride + width]
        out[o0 + r * out_row : o0 + r * out_row + width] = total + (ends[e0 + r] if e0 >= 0 else 0)


def dense_times(
    rows: int, left: Any, l0: int, step: int, count: int,
    panel: Any, p0: int, stride: int, out: Any, o0: int, out_row: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """The same times ends[e0 + r·stride + j] in the place of the summands, or with nothing if e0 < 0."""
    dense_plus(rows, left, l0, step, count, panel, p0, stride, out, o0, out_row, width, ends, -1)
    for r in range(rows if e0 >= 0 else 0):
        start, factors = o0 + r * out_row, e0 + r * stride
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
    """LLVM's function of one dtype, form and ending; its body for each number of rows and panels is a loop over i."""

    def __init__(self, module: Any, dtype: Any, form: str, ending: str) -> None:
        self.number, self.form, self.ending = _TYPES[dtype], form, ending
        self.lanes = vector_bytes() // (dtype.bitwidth // 8)
        self.vector = ir.VectorType(self.number, self.lanes)
        self.align = dtype.bitwidth // 8
        pointer, places = self.number.as_pointer(), ir.IntType(32).as_pointer()
        arguments = {
            "rows": _INT, "panels": _INT, "left": pointer, "step": _INT, "active": places, "count": _INT,
            "panel": pointer, "stride": _INT, "out": pointer, "out_row": _INT, "out_panel": _INT, "width": _INT,
            "ends": pointer,
        }  # fmt: skip
        name = f"refgrad.{form}.{ending}.{dtype}.{self.lanes}"
        self.function = module.globals.get(name)
        if self.function is None:
            self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments.values()), name)
            self.function.linkage = "linkonce_odr"
            self.function.attributes.add("noinline")
            self.given = dict(zip(arguments, self.function.args, strict=True))
            kind = f"v{self.lanes}f{dtype.bitwidth}"
            self.fma = module.declare_intrinsic(
                f"llvm.fmuladd.{kind}", (), ir.FunctionType(self.vector, [self.vector] * 3)
            )
            mask = ir.VectorType(ir.IntType(1), self.lanes)
            stored = [self.vector, self.vector.as_pointer(), ir.IntType(32), mask]
            self.masked_store = module.declare_intrinsic(
                f"llvm.masked.store.{kind}.p0", (), ir.FunctionType(ir.VoidType(), stored)
            )
            self._define()

    def _define(self) -> None:
        """Choose the body by the number of panels, or of vectors of a narrow one, and by that of rows."""
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        leave = self.function.append_basic_block("leave")
        ir.IRBuilder(leave).ret_void()
        several = {panels: self.function.append_basic_block(f"panels{panels}") for panels in range(1, PANELS + 1)}
        by_panels = builder.switch(self.given["panels"], leave)
        for panels, block in several.items():
            by_panels.add_case(_const(panels), block)
        narrow, whole = (self.function.append_basic_block(name) for name in ("narrow", "whole"))
        one = ir.IRBuilder(several.pop(1))
        # A panel's second vector may hold nothing but zeros.
        one.cbranch(one.icmp_signed("<=", self.given["width"], self._half(1)), narrow, whole)
        for block, panels, vectors in ((narrow, 1, 1), (whole, 1, 2), *((each, q, 2) for q, each in several.items())):
            by_rows = ir.IRBuilder(block).switch(self.given["rows"], leave)
            for rows in range(1, ROWS + 1):
                if panels <= (most_panels(rows) if self.form == "listed" else 1):
                    body = self.function.append_basic_block(f"rows{rows}")
                    by_rows.add_case(_const(rows), body)
                    self._body(ir.IRBuilder(body), rows, panels, vectors)

    def _vector(self, builder: Any, base: Any, start: Any) -> Any:
        """Where the vector from base[start] on is."""
        return builder.bitcast(builder.gep(base, [start]), self.vector.as_pointer())

    def _half(self, number: int) -> Any:
        return _const(number * self.lanes)

    def _loaded(self, builder: Any, base: Any, vectors: int) -> list[Any]:
        return [
            builder.load(self._vector(builder, base, self._half(half)), align=self.align) for half in range(vectors)
        ]

    def _places(self, builder: Any, i: Any) -> tuple[Any, Any, int]:
        """Of term i: where it is in `left`, and in the panel; and how far apart the rows of `left` are."""
        if self.form == "dense":
            return builder.mul(i, self.given["step"]), builder.mul(i, self.given["stride"]), 1
        width = _const(2 * self.lanes)
        k = builder.sext(builder.load(builder.gep(self.given["active"], [i])), _INT)
        whole, column = builder.udiv(k, width), builder.urem(k, width)
        return builder.add(builder.mul(whole, self.given["step"]), column), builder.mul(k, width), 2 * self.lanes

    def _body(self, builder: Any, rows: int, panels: int, vectors: int) -> None:
        start, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        nothing, zero, count = ir.Constant(self.vector, [0.0] * self.lanes), _const(0), self.given["count"]
        builder.cbranch(builder.icmp_signed(">", count, zero), loop, done)

        builder.position_at_end(loop)
        i = builder.phi(_INT)
        sums = [[builder.phi(self.vector) for _ in range(panels * vectors)] for _ in range(rows)]
        place, column, row = self._places(builder, i)
        lefts, columns = builder.gep(self.given["left"], [place]), builder.gep(self.given["panel"], [column])
        parts = []
        for q in range(panels):
            parts += self._loaded(builder, self._moved(builder, columns, "stride", q), vectors)
        ended = []
        for r, totals in enumerate(sums):
            factor = spread(builder, builder.load(builder.gep(lefts, [_const(r * row)])), self.lanes)
            ended.append([builder.call(self.fma, [factor, part, s]) for part, s in zip(parts, totals, strict=True)])
        following = builder.add(i, _const(1))
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        i.add_incoming(zero, start)
        i.add_incoming(following, loop)

        builder.position_at_end(done)
        results = [[builder.phi(self.vector) for _ in totals] for totals in sums]
        for r in range(rows):
            for total, end, result in zip(sums[r], ended[r], results[r], strict=True):
                for phi in (total, result):
                    phi.add_incoming(nothing, start)
                    phi.add_incoming(end, loop)
        self._end(builder, results, vectors)

    def _moved(self, builder: Any, base: Any, by: str, times: int) -> Any:
        return builder.gep(base, [builder.mul(self.given[by], _const(times))]) if times else base

    def _end(self, builder: Any, results: Any, vectors: int) -> None:
        """Write the sums to `out`, each with its ending if there is one."""
        ends = self.given["ends"]
        with builder.if_else(builder.icmp_unsigned("==", ends, ir.Constant(ends.type, None))) as (bare, ended):
            with bare:
                self._store(builder, results, vectors)
            with ended:
                self._store(builder, self._ended(builder, results), vectors)
        builder.ret_void()

    def _ended(self, builder: Any, results: Any) -> Any:
        ends, ended = self.given["ends"], []
        for r, totals in enumerate(results):
            if self.form == "listed":
                others = self._loaded(builder, ends, len(totals))
            elif self.ending == "plus":
                others = [spread(builder, builder.load(builder.gep(ends, [_const(r)])), self.lanes)] * len(totals)
            else:
                others = self._loaded(builder, self._moved(builder, ends, "stride", r), len(totals))
            end = builder.fadd if self.ending == "plus" else partial(times_vector, builder)
            ended.append([end(total, other) for total, other in zip(totals, others, strict=True)])
        return ended

    def _store(self, builder: Any, results: Any, vectors: int) -> None:
        """Write whole vectors, or of the last one what is within the width."""
        width = self.given["width"]
        with builder.if_else(builder.icmp_signed("==", width, self._half(vectors))) as (whole, part):
            with whole:
                for vector, place, _ in self._targets(builder, results, vectors):
                    builder.store(vector, place, align=self.align)
            with part:
                order = ir.Constant(ir.VectorType(_INT, self.lanes), list(range(self.lanes)))
                masks = [
                    builder.icmp_signed("<", order, spread(builder, builder.sub(width, self._half(half)), self.lanes))
                    for half in range(vectors)
                ]
                for vector, place, half in self._targets(builder, results, vectors):
                    builder.call(self.masked_store, [vector, place, ir.IntType(32)(self.align), masks[half]])

    def _targets(self, builder: Any, results: Any, vectors: int) -> Iterator[tuple[Any, Any, int]]:
        """Each vector of the results, where it goes, and which of its panel's it is."""
        for r, totals in enumerate(results):
            row = self._moved(builder, self.given["out"], "out_row", r)
            for number, vector in enumerate(totals):
                q, half = divmod(number, vectors)
                yield vector, self._vector(builder, self._moved(builder, row, "out_panel", q), self._half(half)), half


def _const(number: int) -> Any:
    return ir.Constant(_INT, number)


_LISTED = (
    "rows", "panels", "left", "l0", "step", "active", "a0", "count", "panel", "p0", "stride", "out", "o0", "out_row",
    "out_panel", "width", "ends", "e0",
)  # fmt: skip
_DENSE = tuple(name for name in _LISTED if name not in ("panels", "active", "a0", "out_panel"))
_STARTS = {"left": "l0", "active": "a0", "panel": "p0", "out": "o0", "ends": "e0"}


def _call(form: str, ending: str, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    names = _LISTED if form == "listed" else _DENSE
    given = dict(zip(names, arguments, strict=True))
    kinds = dict(zip(names, signature.args, strict=True))
    loop = _Loop(builder.module, kinds["left"].dtype, form, ending)
    passed: dict[str, Any] = {"panels": _const(1), "out_panel": _const(0)}
    passed["active"] = ir.Constant(ir.IntType(32).as_pointer(), None)
    for name in names:
        if name in _STARTS:
            held = context.make_array(kinds[name])(context, builder, given[name])
            passed[name] = builder.gep(held.data, [given[_STARTS[name]]])
        else:
            passed[name] = given[name]
    nowhere = builder.icmp_signed("<", given["e0"], _const(0))
    passed["ends"] = builder.select(nowhere, ir.Constant(passed["ends"].type, None), passed["ends"])
    order = ("rows", "panels", "left", "step", "active", "count", "panel", "stride", "out", "out_row", "out_panel")
    builder.call(loop.function, [passed[name] for name in (*order, "width", "ends")])
    return context.get_dummy_value()


def _types(names: tuple[str, ...], given: tuple[Any, ...]) -> Any:
    return types.void(*(kind if name in _STARTS else types.intp for name, kind in zip(names, given, strict=True)))


def _listed(ending: str) -> Any:
    @intrinsic
    def loop(  # type: ignore[no-untyped-def]
        typing, rows, panels, left, l0, jump, active, a0, count, panel, p0, stride, out, o0, out_row, out_panel, width,
        ends, e0,
    ):  # fmt: skip
        given = (
            rows, panels, left, l0, jump, active, a0, count, panel, p0, stride, out, o0, out_row, out_panel, width,
            ends, e0,
        )  # fmt: skip
        return _types(_LISTED, given), partial(_call, "listed", ending)

    def typed(  # type: ignore[no-untyped-def]
        rows, panels, left, l0, jump, active, a0, count, panel, p0, stride, out, o0, out_row, out_panel, width, ends, e0
    ):  # fmt: skip
        def compiled(  # type: ignore[no-untyped-def]
            rows, panels, left, l0, jump, active, a0, count, panel, p0, stride, out, o0, out_row, out_panel, width,
            ends, e0,
        ):  # fmt: skip
            loop(
                rows, panels, left, l0, jump, active, a0, count, panel, p0, stride, out, o0, out_row, out_panel, width,
                ends, e0,
            )  # fmt: skip

        return compiled

    return typed


def _dense(ending: str) -> Any:
    @intrinsic
    def loop(  # type: ignore[no-untyped-def]
        typing, rows, left, l0, step, count, panel, p0, stride, out, o0, out_row, width, ends, e0
    ):  # fmt: skip
        given = (rows, left, l0, step, count, panel, p0, stride, out, o0, out_row, width, ends, e0)
        return _types(_DENSE, given), partial(_call, "dense", ending)

    def typed(  # type: ignore[no-untyped-def]
        rows, left, l0, step, count, panel, p0, stride, out, o0, out_row, width, ends, e0
    ):  # fmt: skip
        def compiled(  # type: ignore[no-untyped-def]
            rows, left, l0, step, count, panel, p0, stride, out, o0, out_row, width, ends, e0
        ):  # fmt: skip
            loop(rows, left, l0, step, count, panel, p0, stride, out, o0, out_row, width, ends, e0)

        return compiled

    return typed


overload(listed_plus, strict=False)(_listed("plus"))
overload(listed_times, strict=False)(_listed("times"))
overload(dense_plus, strict=False)(_dense("plus"))
overload(dense_times, strict=False)(_dense("times"))
