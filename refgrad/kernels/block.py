"""The micro-kernel: a few rows of a product with a panel of columns, or several, its sums held in vector registers.

    out[r, :] = Σ_i left[r, k_i] · panel[k_i, :]        r < rows ≤ ROWS, i < count, in this order of i

and then a bias is added, or slopes are multiplied, while the sums are still in registers. `panel` is (n, P), P being
two vectors of the machine, and k_i the places where `left` is not zero, so that what a ReLU switched off costs nothing;
or k_i = i. Each sum starts at 0 and takes one fused multiply–add after the other: an entry depends on its own row and
column only, and zeros that are left out do not change it. That is why results do not depend on the batch, on threads,
or on which of the forms ran.

Arrays are flat, and every operand starts at an offset of its own. Rows of `left` are a fixed way apart, P numbers or 1,
so that one register knows where all of them are. What follows says it in Python; what runs is in `loops`.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from refgrad.kernels.linking import name as linked_name
from refgrad.kernels.loops import arguments as order_of
from refgrad.kernels.loops import declared
from refgrad.kernels.vectors import panel_width, product


def listed_plus(
    rows: int, panels: int, left: Any, l0: int, jump: int, active: Any, a0: int, count: int,
    panel: Any, p0: int, stride: int, out: Any, o0: int, out_row: int, out_panel: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """For each of some panels q and columns j < width, which is P or, of one panel, P / 2:

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
    """The same with factors in the place of summands, or with nothing if e0 < 0; of one panel, any width ≤ P."""
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
    """out[o0 + r·out_row + j] = Σ_k left[l0 + k·step + r] · panel[p0 + k·stride + j] + ends[e0 + r], j < P or P / 2."""
    for r in range(rows):
        total = np.zeros(width, out.dtype)
        for k in range(count):
            total += left[l0 + k * step + r] * panel[p0 + k * stride : p0 + k * stride + width]
        out[o0 + r * out_row : o0 + r * out_row + width] = total + (ends[e0 + r] if e0 >= 0 else 0)


def dense_times(
    rows: int, left: Any, l0: int, step: int, count: int,
    panel: Any, p0: int, stride: int, out: Any, o0: int, out_row: int, width: int, ends: Any, e0: int,
) -> None:  # fmt: skip
    """The same times ends[e0 + r·stride + j] in the place of summands, or with nothing if e0 < 0; any width ≤ P."""
    dense_plus(rows, left, l0, step, count, panel, p0, stride, out, o0, out_row, width, ends, -1)
    for r in range(rows if e0 >= 0 else 0):
        start, factors = o0 + r * out_row, e0 + r * stride
        out[start : start + width] = product(out[start : start + width], ends[factors : factors + width])


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
    dtype = kinds["left"].dtype
    loop = declared(builder.module, linked_name(form, ending, dtype), dtype)
    passed: dict[str, Any] = {"panels": ir.Constant(ir.IntType(64), 1), "out_panel": ir.Constant(ir.IntType(64), 0)}
    passed["active"] = ir.Constant(ir.IntType(32).as_pointer(), None)
    for name in names:
        if name in _STARTS:
            held = context.make_array(kinds[name])(context, builder, given[name])
            passed[name] = builder.gep(held.data, [given[_STARTS[name]]])
        else:
            passed[name] = given[name]
    nowhere = builder.icmp_signed("<", given["e0"], ir.Constant(ir.IntType(64), 0))
    passed["ends"] = builder.select(nowhere, ir.Constant(passed["ends"].type, None), passed["ends"])
    builder.call(loop, [passed[name] for name in order_of(dtype)])
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
