"""Values and slopes looked up in a staircase, by halves for each sample; near a breakpoint the chain is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from refgrad.kernels.calling import enter
from refgrad.kernels.compiling import inline
from refgrad.kernels.elementary import bits
from refgrad.kernels.header import ENTRY, PLACES
from refgrad.kernels.memory import borrow, give_back
from refgrad.kernels.windows import WORD, copy, numbers_at, places_at

BESIDE = 16
"""Samples that are looked for side by side: each waits for one number after the other."""

TOGETHER = 32
"""Samples near breakpoints that the chain is asked about at once."""

TABLE = np.zeros(0, np.float64)


def beside(like: Any) -> Any:
    """Room for a number of each sample that is looked for."""
    return np.empty(BESIDE, like.dtype)


@intrinsic
def _beside(typing, like):  # type: ignore[no-untyped-def]
    """`beside`, on the stack: LLVM knows that nothing else is there."""
    kind = types.Array(like.dtype, 1, "C")

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(kind)(context, builder)
        count = context.get_constant(types.intp, BESIDE)
        number = context.get_data_type(kind.dtype)
        size = context.get_constant(types.intp, context.get_abi_sizeof(number))
        made.data = cgutils.alloca_once(builder, number, size=BESIDE)
        made.shape, made.strides = cgutils.pack_array(builder, [count]), cgutils.pack_array(builder, [size])
        made.itemsize, made.nitems = size, count
        made.meminfo = cgutils.get_null_value(made.meminfo.type)
        made.parent = cgutils.get_null_value(made.parent.type)
        return made._getvalue()

    return kind(like), code


@overload(beside, strict=False)
def _room(like):  # type: ignore[no-untyped-def]
    return lambda like: _beside(like)


@inline
def ask(chain: Any, n_out: Any, kept: Any, places: Any, own: Any, start: Any, y: Any, jacobian: Any) -> Any:
    """Ask the chain about so many samples that `own`, at `start`, holds: x before y before J; returns if it could."""
    of_y, of_j = TOGETHER, TOGETHER * (1 + n_out)
    size = own.itemsize
    entry = places_at(chain, 1, PLACES)[0, ENTRY]
    if not enter(entry, chain, start, start + of_y * size, start + of_j * size, kept):
        return False
    for i in range(kept):
        copy(own, of_y + i * n_out, n_out, y, places[i] * n_out)
        if len(jacobian) > 0:
            copy(own, of_j + i * n_out, n_out, jacobian, places[i] * n_out)
    return True


@inline
def search(starts: Any, t: Any, first: Any, wide: Any, places: Any) -> Any:
    """The places of samples first, … among intervals, and the samples; returns how many they are.

    The search has no branches, nor comparisons, which LLVM would make branches of: samples in no order would mispredict
    each of them.
    """
    samples = min(BESIDE, len(t) - first)
    for i in range(BESIDE):
        places[i], wide[i] = 0, t[first + min(i, samples - 1)]
    among = len(starts)
    while among > 1:
        half = among >> 1
        for i in range(BESIDE):
            places[i] += half & (bits(starts[places[i] + half] - wide[i]) >> 63)
        among -= half
    return samples


@inline
def look_up(chain: Any, starts: Any, ends: Any, slopes: Any, offsets: Any, t: Any, y: Any, jacobian: Any) -> Any:
    """y and jacobian, flat (batch, n_out), for t (batch,), or y alone; returns whether there was memory.

    What is in no interval the chain is asked about, whose header is at an address.
    """
    kept, batch, n_out, there, sloped = 0, len(t), slopes.shape[1], True, len(jacobian) > 0
    words = 8 * TOGETHER
    lent = borrow(words + TOGETHER * (1 + 2 * n_out) * t.itemsize)
    if lent == 0:
        return False
    wide, places, which = beside(TABLE), beside(WORD), numbers_at(lent, TOGETHER, WORD)
    own = numbers_at(lent + words, TOGETHER * (1 + 2 * n_out), t)
    for first in range(0, batch, BESIDE):
        samples = search(starts, t, first, wide, places)
        for i in range(samples):
            place, sample = places[i], first + i
            if len(starts) > 0 and starts[place] < wide[i] < ends[place]:
                for out in range(n_out):
                    y[sample * n_out + out] = offsets[place, out] + slopes[place, out] * wide[i]
                for out in range(n_out if sloped else 0):
                    jacobian[sample * n_out + out] = slopes[place, out]
            else:
                own[kept], which[kept] = t[sample], sample
                kept += 1
                if kept == TOGETHER:
                    there = ask(chain, n_out, kept, which, own, lent + words, y, jacobian) and there
                    kept = 0
    if kept > 0:
        there = ask(chain, n_out, kept, which, own, lent + words, y, jacobian) and there
    give_back(lent)
    return there
