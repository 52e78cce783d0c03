"""The machine code of `block`: a loop for each number of rows and panels, its sums in registers.

This is LLVM's intermediate language with a vector for each sum; LLVM's own vectoriser would load and store the results
for every k.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from refgrad.kernels.vectors import spread, times_vector, vector_bytes

_INT = ir.IntType(64)
_TYPES = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}

ROWS = 12 if vector_bytes() == 64 else 6
"""The most rows: each takes two registers, beside two of the panel and one of `left`, of the 32 or 16 there are."""

PANELS = 4
"""The most panels: one row with one of them would wait for each sum before it went on; others fill the time."""


def most_panels(rows: int) -> int:
    """How many panels as many rows meet at once: the sums have the registers of `ROWS` rows and one panel."""
    return min(PANELS, ROWS // rows)


def _const(number: int) -> Any:
    return ir.Constant(_INT, number)


def arguments(dtype: Any) -> dict[str, Any]:
    """What a loop is given, by name."""
    pointer, places = _TYPES[dtype].as_pointer(), ir.IntType(32).as_pointer()
    return {
        "rows": _INT, "panels": _INT, "left": pointer, "step": _INT, "active": places, "count": _INT,
        "panel": pointer, "stride": _INT, "out": pointer, "out_row": _INT, "out_panel": _INT, "width": _INT,
        "ends": pointer,
    }  # fmt: skip


def declared(module: Any, name: str, dtype: Any) -> Any:
    """A loop as LLVM's function of a module."""
    kind = ir.FunctionType(ir.VoidType(), arguments(dtype).values())
    function = cgutils.get_or_insert_function(module, kind, name)
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function


class Loop:
    """The code of one dtype, form and ending: its body for each number of rows and panels is a loop over i."""

    def __init__(self, function: Any, dtype: Any, form: str, ending: str) -> None:
        self.function, self.number, self.form, self.ending = function, _TYPES[dtype], form, ending
        self.lanes = vector_bytes() // (dtype.bitwidth // 8)
        self.vector = ir.VectorType(self.number, self.lanes)
        self.align = dtype.bitwidth // 8
        self.given = dict(zip(arguments(dtype), function.args, strict=True))
        module, kind = function.module, f"v{self.lanes}f{dtype.bitwidth}"
        self.fma = module.declare_intrinsic(f"llvm.fmuladd.{kind}", (), ir.FunctionType(self.vector, [self.vector] * 3))
        mask = ir.VectorType(ir.IntType(1), self.lanes)
        stored = [self.vector, self.vector.as_pointer(), ir.IntType(32), mask]
        self.masked_store = module.declare_intrinsic(
            f"llvm.masked.store.{kind}.p0", (), ir.FunctionType(ir.VoidType(), stored)
        )
        self._define()

    def _define(self) -> None:
        """Choose the body by the number of panels, or of vectors of a narrow one, and by that of rows."""
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        leave = self.function.append_basic_block("none")  # loud, where nothing would be written
        stop = ir.IRBuilder(leave)
        stop.call(stop.module.declare_intrinsic("llvm.trap", (), ir.FunctionType(ir.VoidType(), ())), ())
        stop.unreachable()
        most = PANELS if self.form == "listed" else 1
        several = {panels: self.function.append_basic_block(f"panels{panels}") for panels in range(1, most + 1)}
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
                if panels <= most_panels(rows):
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
        """Write the sums to `out`, each with its ending; a factor may be missing, and columns may be cut off there."""
        ends = self.given["ends"]
        if self.ending == "plus":
            self._store_whole(builder, self._ended(builder, results), vectors)
            builder.ret_void()
            return
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
        if len(results[0]) > vectors:
            self._store_whole(builder, results, vectors)
            return
        with builder.if_else(builder.icmp_signed("==", width, self._half(vectors))) as (whole, part):
            with whole:
                self._store_whole(builder, results, vectors)
            with part:
                order = ir.Constant(ir.VectorType(_INT, self.lanes), list(range(self.lanes)))
                masks = [
                    builder.icmp_signed("<", order, spread(builder, builder.sub(width, self._half(half)), self.lanes))
                    for half in range(vectors)
                ]
                for vector, place, half in self._targets(builder, results, vectors):
                    builder.call(self.masked_store, [vector, place, ir.IntType(32)(self.align), masks[half]])

    def _store_whole(self, builder: Any, results: Any, vectors: int) -> None:
        for vector, place, _ in self._targets(builder, results, vectors):
            builder.store(vector, place, align=self.align)

    def _targets(self, builder: Any, results: Any, vectors: int) -> Iterator[tuple[Any, Any, int]]:
        """Each vector of the results, where it goes, and which of its panel's it is."""
        for r, totals in enumerate(results):
            row = self._moved(builder, self.given["out"], "out_row", r)
            for number, vector in enumerate(totals):
                q, half = divmod(number, vectors)
                yield vector, self._vector(builder, self._moved(builder, row, "out_panel", q), self._half(half)), half
