"""One batch shared out among threads, each in one compiled call: who is next takes the next samples.

Between pieces no thread goes back to Python, where it would wait for the others: a piece is some ten microseconds of
work, and waking a thread that waits takes as long. A thread that comes late, or never, is only missed by as much as it
would have done.
"""

from __future__ import annotations

import threading
from typing import Any

from numba.core import types
from numba.extending import intrinsic, overload

from refgrad.kernels.compiling import inline, kernel
from refgrad.kernels.rows import rows
from refgrad.kernels.values import value

TAKEN, DONE, LEFT, PLACES = 0, 8, 16, 24
"""Where a shared array counts samples, and whether the caller has left, each on a cache line of its own."""

_PATIENCE = 10_000
"""How often a thread looks at what it waits for before it leaves that to Python: some 0.1 ms."""

_lock = threading.Lock()


def add(shared: Any, place: int, amount: int) -> Any:
    """Add to a number that several threads count with; returns what it was."""
    with _lock:
        before = shared[place]
        shared[place] += amount
    return before


@intrinsic
def _add(typing, shared, place, amount):  # type: ignore[no-untyped-def]
    """`add`, compiled: the machine's own."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", builder.gep(held.data, [arguments[1]]), arguments[2], "seq_cst")

    return types.intp(shared, types.intp, types.intp), code


@overload(add, strict=False)
def _(shared, place, amount):  # type: ignore[no-untyped-def]
    return lambda shared, place, amount: _add(shared, place, amount)


@inline
def comes_to(shared: Any, place: Any, amount: Any) -> Any:
    """Whether a number is as large as that, or is so soon."""
    for _ in range(_PATIENCE):  # noqa: SIM110 — a generator would not compile
        if add(shared, place, 0) >= amount:
            return True
    return False


@inline
def ended(shared: Any, samples: Any, calls: Any) -> Any:
    """Whether all samples are done, for who has called; others let that one leave first.

    Else they may have Python to themselves just when the caller needs it, who then falls asleep for as long as it takes
    to wake up.
    """
    return comes_to(shared, DONE, samples) if calls else comes_to(shared, LEFT, 1)


@kernel
def shared_value(packed: Any, x: Any, y: Any, piece: Any, shared: Any, calls: Any) -> Any:
    """`value` of samples that no other thread has taken; returns whether all are done, if this one `calls`."""
    start = add(shared, TAKEN, piece)
    while start < len(x):
        end = min(start + piece, len(x))
        value(packed, x[start:end], y[start:end])
        add(shared, DONE, end - start)
        start = add(shared, TAKEN, piece)
    return ended(shared, len(x), calls)


@kernel
def shared_rows(
    packed: Any, kink: Any, cut: Any, group: Any, x: Any, y: Any, jacobian: Any, piece: Any, shared: Any, calls: Any
) -> Any:
    """`rows` of samples that no other thread has taken; returns whether all are done, if this one `calls`."""
    start = add(shared, TAKEN, piece)
    while start < len(x):
        end = min(start + piece, len(x))
        rows(packed, kink, cut, group, x[start:end], y[start:end], jacobian[start:end])
        add(shared, DONE, end - start)
        start = add(shared, TAKEN, piece)
    return ended(shared, len(x), calls)
