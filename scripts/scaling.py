"""How refgrad's time grows with samples, width, depth and threads, with fitted exponents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import peers
from timing import exponent, interleaved

import refgrad

LARGEST = 64 * 2**20
"""Bytes of temporaries that a call of the sweep over samples may take; its results go to arrays given to it."""


def _net(widths: tuple[int, ...]) -> refgrad.Network:
    from bench import layers

    return refgrad.Network.sequential(layers(widths, "relu", "float32"))


def _samples(count: int, threads: int | None = None) -> Callable[[], Any]:
    net = _net((1, 64, 32, 32, 1))
    x = np.random.default_rng(1).standard_normal((count, 1)).astype("float32")
    room = (np.empty((count, 1), "float32"), np.empty((count, 1, 1), "float32"))
    return lambda: net.value_and_jacobian(x, out=room, max_bytes=LARGEST, threads=threads)


def _chain(widths: tuple[int, ...], threads: int | None = None) -> Callable[[], Any]:
    net = _net(widths)
    x = np.random.default_rng(1).standard_normal((1_000, widths[0])).astype("float32")
    return lambda: net.value_and_jacobian(x, threads=threads)


SWEEPS: dict[str, tuple[Callable[[int], Callable[[], Any]], tuple[int, ...]]] = {
    "samples": (_samples, tuple(10**power for power in range(8))),
    "samples on one thread": (lambda count: _samples(count, 1), tuple(10**power for power in range(8))),
    "width": (lambda width: _chain((8, width, width, 8)), (16, 32, 64, 128, 256, 512)),
    "depth": (lambda depth: _chain((8, *[64] * depth, 8)), (1, 2, 4, 8, 16, 32)),
    "threads": (lambda threads: _chain((16, 256, 256, 16), threads), tuple(range(1, peers.threads() + 1))),
}
"""What grows → how a call of that size is made, and the sizes."""


def rows() -> Iterator[dict[str, Any]]:
    """Median times of each sweep, and the exponent over its upper half."""
    for name, (make, sizes) in SWEEPS.items():
        times = [interleaved({"it": make(size)}, 0.5, least=3)["it"] for size in sizes]
        upper = [(size, time) for size, time in zip(sizes, times, strict=True) if size >= sizes[-1] ** 0.5]
        fitted = exponent(*zip(*upper, strict=True)) if len(upper) > 1 else None
        yield {"sweep": name, "sizes": list(sizes), "seconds": times, "exponent": fitted}


def shown(row: dict[str, Any]) -> str:
    """A sweep as a line."""
    points = ", ".join(
        f"{size:,}: {time * 1e3:,.3g} ms" for size, time in zip(row["sizes"], row["seconds"], strict=True)
    )
    fitted = "" if row["exponent"] is None else f"exponent {row['exponent']:.2f}: "
    return f"{row['sweep']:<22} {fitted}{points}"
