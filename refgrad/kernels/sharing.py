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

TAKEN, DONE, PLACES = 0, 8, 16
"""Where a shared array counts samples: on two cache lines."""

_PATIENCE = 10_000
"""How often a thread looks if the others are done before it leaves that to Python: some 0.1 ms."""

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
def all_done(shared: Any, samples: Any) -> Any:
    """Whether the others have done what they took, or do so soon."""
    for _ in range(_PATIENCE):  # noqa: SIM110 — a generator would not compile
        if add(shared, DONE, 0) >= samples:
            return True
    return False


@kernel
def shared_value(packed: Any, x: Any, y: Any, piece: Any, shared: Any) -> Any:
    """`value` of samples that no other thread has taken; returns whether all are done."""
    start = add(shared, TAKEN, piece)
    while start < len(x):
        end = min(start + piece, len(x))
        value(packed, x[start:end], y[start:end])
        add(shared, DONE, end - start)
        start = add(shared, TAKEN, piece)
    return all_done(shared, len(x))


@kernel
def shared_rows(
    packed: Any, kink: Any, cut: Any, group: Any, x: Any, y: Any, jacobian: Any, piece: Any, shared: Any
) -> Any:
    """`rows` of samples that no other thread has taken; returns whether all are done."""
    start = add(shared, TAKEN, piece)
    while start < len(x):
        end = min(start + piece, len(x))
        rows(packed, kink, cut, group, x[start:end], y[start:end], jacobian[start:end])
        add(shared, DONE, end - start)
        start = add(shared, TAKEN, piece)
    return all_done(shared, len(x))
