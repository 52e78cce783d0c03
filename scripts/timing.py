"""Times of several ways to do one thing: blocks of calls, interleaved, so that all meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

BLOCK = 1e-2
"""Seconds of calls in a row: single calls that take turns would measure cold caches."""

WARM = 0.25
"""Seconds of calls before a block, which do not count. Threads of the way before still spin, ONNX Runtime's and
OpenBLAS's for 30 to 100 ms, on cores that this one counts on; and after a rest a virtual machine may put two threads on
one core for as long, whoever's they are, so that it is no help to sleep instead."""


def _block(run: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def interleaved(ways: Mapping[str, Callable[[], Any]], seconds: float, least: int = 5) -> dict[str, float]:
    """Median seconds a call of each way: blocks in turn until the time is spent, at least so many of each."""
    calls = {}
    for name, run in ways.items():
        run()
        once = min(_block(run, 1) for _ in range(3))
        calls[name] = max(1, round(BLOCK / once))
    found: dict[str, list[float]] = {name: [] for name in ways}
    start = time.perf_counter()
    turns = 0
    while turns < least or time.perf_counter() - start < seconds:
        turns += 1
        for name, run in ways.items():
            warm = time.perf_counter() + min(WARM, seconds)
            run()
            while time.perf_counter() < warm:
                run()
            found[name].append(_block(run, calls[name]))
    return {name: statistics.median(times) for name, times in found.items()}


def gemm_rate(dtype: str, size: int = 1024) -> float:
    """Multiply–adds a second of the machine's own matrix product, on all the threads that NumPy's BLAS uses."""
    a, b = (np.random.default_rng(seed).standard_normal((size, size)).astype(dtype) for seed in range(2))
    out = np.empty_like(a)
    np.matmul(a, b, out=out)
    return float(size**3 / statistics.median(_block(lambda: np.matmul(a, b, out=out), 3) for _ in range(7)))


def exponent(sizes: Any, times: Any) -> float:
    """The slope of log time over log size, fitted to all points."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
