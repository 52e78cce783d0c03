"""Working through a batch piece by piece: how large the pieces, which threads, and how far it has come."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from refgrad.errors import InputError
from refgrad.helpers import with_help

Work = Callable[[slice], None]

DELAY = 1.0
"""Seconds before a progress bar appears: short work needs none."""


def threads_allowed(threads: int | None) -> int:
    """The number asked for, or `REFGRAD_NUM_THREADS`, or the CPUs this process may use."""
    if threads is not None:
        return int(threads)
    stated = os.environ.get("REFGRAD_NUM_THREADS")
    if stated is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not stated.isdecimal() or int(stated) < 1:
        msg = f"the environment says REFGRAD_NUM_THREADS={stated!r}, which is not a whole number above 0"
        raise InputError(msg)
    return int(stated)


def samples_within(max_bytes: int, bytes_per_sample: int) -> int:
    """How many samples at once take at most `max_bytes`: at least one."""
    return max(1, max_bytes // max(1, bytes_per_sample))


def _pieces(samples: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, samples)) for start in range(0, max(samples, 1), size)]


def _silently(work: Work, piece: slice) -> int:
    """NumPy's error state is each thread's own: infinities and NaN are results here, not events."""
    with np.errstate(all="ignore"):
        work(piece)
    return int(piece.stop - piece.start)


def each(work: Work, samples: int, size: int, *, threads: int = 1, progress: bool = False, what: str = "") -> None:
    """Do `work` for every piece of at most `size` samples; one empty piece where there are no samples.

    Pieces write to places of their own, so neither their order nor the number of threads changes a result. If one
    fails, the error is that of the first to do so in order, and nothing is written any more once it is raised. The
    calling thread works as well: a sleeping one may take as long to wake as all the work takes.
    """
    pieces = _pieces(samples, size)
    if len(pieces) == 1 and not progress:
        _silently(work, pieces[0])
        return
    left, done, errors = deque(enumerate(pieces)), deque[int](), dict[int, Exception]()

    def take(bar: Any) -> None:
        while left:
            try:
                place, piece = left.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                done.append(_silently(work, piece))
            except Exception as error:  # what is before it in order has begun, and may fail as well
                errors[place] = error
                left.clear()
            while bar and done:
                bar.update(done.popleft())

    with _bar(samples, what, shown=progress) as bar:
        with_help(partial(take, bar), partial(take, None), min(threads, len(pieces)) - 1, left.clear)
        bar.update(sum(done))
    if errors:
        raise errors[min(errors)]


class _NoBar:
    """Takes the place of a progress bar that nobody asked for."""

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def update(self, _: int) -> None:
        """Nothing to show."""


def _bar(samples: int, what: str, *, shown: bool) -> Any:
    if not shown:
        return _NoBar()
    from tqdm import tqdm  # only where a bar is asked for: importing refgrad loads NumPy alone

    return tqdm(total=samples, desc=what, unit=" samples", unit_scale=True, leave=False, delay=DELAY)
