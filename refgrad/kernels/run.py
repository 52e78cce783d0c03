"""Running a program on a batch: is Numba there, and the arrays around the compiled calls."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from refgrad.activations import ACTIVATIONS
from refgrad.arrays import Array
from refgrad.breakpoints import Staircase
from refgrad.derivatives.order import Direction
from refgrad.helpers import with_help
from refgrad.kernels.cuts import Cut, cut
from refgrad.kernels.lower import POLICIES, UNCOMPILED
from refgrad.kernels.packing import FUNCTION, pack, padded
from refgrad.kernels.program import PRELU, SCALE, Layer, Program
from refgrad.ops.op import KinkPolicy

NOT_INSTALLED = "numba is not installed: pip install numba, or refgrad's extra 'jit'"

_SECOND_CACHE = 512
"""KiB of a core's second cache where the system does not say."""

_STATED = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
"""Where Linux says it, as 2048K."""


@cache
def near() -> int:
    """Bytes that stay in a core's second cache while others pass through it: half of what it holds."""
    try:
        stated = re.match(r"(\d+)K", _STATED.read_text())
    except OSError:
        stated = None
    return 512 * (int(stated[1]) if stated else _SECOND_CACHE)


Threads = Callable[[int], int]
"""How many threads are worth it for so many samples."""

WORTH_ASKING = 500_000
"""Multiply–adds that are worth asking which samples are next, some 5 µs."""

FEW_VECTORS = {True: 2, False: 8}
"""Up to so many unit vectors, samples lie side by side: with and without units that may be switched off, which rows of
single samples leave out. Measured with AVX-512 and hidden layers of 16 to 512 units: side by side is 0.9 to 3 times as
fast with 1 or 2 vectors, and without such units 0.8 to 2.3 times with up to 8."""


@cache
def _compiled(module: str) -> ModuleType:
    """A module of kernels; they import numba."""
    return import_module(f"refgrad.kernels.{module}")


@cache
def unavailable() -> str | None:
    """Why kernels cannot run, or None if they can; finding out imports Numba."""
    if not installed():
        return NOT_INSTALLED
    try:
        _compiled("units")
    except ImportError as error:  # an installed Numba may refuse the installed NumPy or Python
        return f"numba cannot be imported: {error}"
    return None


def installed() -> bool:
    """Whether there is a Numba; it is not imported to find out."""
    return find_spec("numba") is not None


def _plain(x: Array, lead: int = 1) -> Array:
    """`(batch, n)`, writeable: Numba compiles anew for read-only arrays, and a copy costs less than seconds.

    With `lead` leading axes it is that many and one.
    """
    rows = x if x.ndim == lead + 1 else x.reshape(*x.shape[:lead], math.prod(x.shape[lead:]))
    return rows if rows.flags.writeable else rows.copy()


def cache_folder() -> str | None:
    """Where Numba keeps compiled kernels, or None if it finds no folder that can be written."""
    kept = _compiled("values").value.stats.cache_path
    return str(kept) if kept else None


def warm_up(dtype: np.dtype[Any]) -> None:
    """Compile, or load, every kernel and every function of units."""
    for name in {*ACTIVATIONS, SCALE, PRELU} - {"linear", *UNCOMPILED}:  # which no program holds
        _compiled("units").address(name, dtype)
    layers = (Layer(1, None, None, ()), Layer(1, np.ones((1, 1), dtype), None, ()))
    runner, x = Runner(Program(layers, "none"), dtype), np.ones((1, 1), dtype)
    runner.value(x, x.copy())
    runner.value_and_jacobian(x, cut(runner.program, "auto"), "keras", x.copy(), x.copy())
    runner.products(x, x[None], 0, "forward", "keras", x.copy(), x[None])
    runner.brief(cut(runner.program, "auto"), 1, 1, lambda _: 1)(x)
    runner.brief_value(1, 1, lambda _: 1)(x)
    two = np.ones((2, 1), dtype)
    runner.value(two, two.copy(), 2)
    runner.value_and_jacobian(two, cut(runner.program, "auto"), "keras", two.copy(), two.copy(), 2)
    wide = np.ones((1, 1))
    look_up(Staircase(wide[0], wide[0], wide, wide), x[0], x.copy(), x.copy())


def look_up(table: Staircase, t: Array, y: Array, jacobian: Array) -> Any:
    """As `table.look_up`, compiled; y and jacobian are contiguous."""
    t = t if t.flags.writeable else t.copy()
    few = len(t) // 64 + 64  # as a rule; touching new memory for all of them takes half as long as the search
    for room in (few, len(t)):
        left = np.empty(room, np.int64)
        count = _compiled("stairs").look_up(table.starts, table.ends, table.slopes, table.offsets, t, y, jacobian, left)
        if count <= room:
            break
    return left[:count]


class Runner:
    """A program ready to run: its arrays, and the addresses of its compiled functions."""

    def __init__(self, program: Program, dtype: np.dtype[Any]) -> None:
        self.program, self.dtype = program, dtype
        _compiled("linking").link(dtype)
        self.panel = _compiled("vectors").panel_width(dtype)
        packed = pack(program, dtype, self.panel)
        steps = packed.steps.copy()
        addresses = [_compiled("units").address(name, dtype) for name in packed.names]
        steps[:, FUNCTION] = [addresses[name] for name in packed.steps[:, FUNCTION]]
        self.arguments = (packed.layers, steps, packed.numbers)
        self.widest = padded(max(program.widths), self.panel)
        self._value = _compiled("values").value
        self._rows = _compiled("rows").rows

    def group(self, vectors: int) -> int:
        """How many samples pass through a layer together: as many as stay in the cache, if the weights do not."""
        numbers = self.arguments[2]
        room = near() // (2 * max(1, vectors) * self.widest * numbers.itemsize)
        return 1 if numbers.nbytes // 2 <= near() else max(1, min(self.panel, room))

    def samples_together(self, cut: Cut) -> int:
        """`group` for a Jacobian, or 0: samples lie side by side in tiles."""
        at_end = cut.level in (0, len(self.program.layers) - 1)
        return 0 if at_end and cut.vectors <= FEW_VECTORS[self.program.switches] else self.group(cut.vectors)

    def value(self, x: Array, y: Array, threads: int = 1) -> None:
        """Write outputs (batch, n_out) at x (batch, n_in) into y, which is C-contiguous."""
        given = self.arguments, _plain(x), _plain(y)
        if threads == 1:
            self._value(*given)
        else:
            self._share("shared_value", given, len(x), self.program.multiply_adds, threads)

    def value_and_jacobian(
        self, x: Array, cut: Cut, kink: KinkPolicy, y: Array, jacobian: Array, threads: int = 1
    ) -> None:
        """Write outputs (batch, n_out) and Jacobians (batch, n_out, n_in) into C-contiguous arrays."""
        given = (
            self.arguments, POLICIES.index(kink), cut.level, self.samples_together(cut), _plain(x), _plain(y),
            jacobian.reshape(len(x), self.program.widths[-1], self.program.widths[0]),
        )  # fmt: skip
        if threads == 1:
            self._rows(*given)
        else:
            self._share("shared_rows", given, len(x), cut.cost + self.program.multiply_adds, threads)

    def _share(self, name: str, given: Any, samples: int, cost: int, threads: int) -> None:
        """A kernel in several threads, who take tiles that are worth asking for, or equal parts of few samples."""
        piece = min(padded(math.ceil(WORTH_ASKING / max(1, cost)), self.panel), -(-samples // threads))
        sharing = _compiled("sharing")
        run, shared = getattr(sharing, name), np.zeros(sharing.PLACES, np.int64)

        def mine() -> Any:
            done = run(*given, piece, shared, True)
            shared[sharing.LEFT] = 1
            return done

        with_help(mine, lambda: run(*given, piece, shared, False), min(threads, -(-samples // piece)) - 1)

    def fitting(self, most: float) -> Callable[[Any], bool]:
        """Whether something given can go to a kernel as it is: up to `most` samples (batch, n_in)."""
        dtype, width, kind = self.dtype, self.program.widths[0], np.ndarray

        def fits(x: Any) -> bool:
            if type(x) is not kind or x.dtype != dtype:
                return False
            shape = x.shape
            return len(shape) == 2 and shape[1] == width and shape[0] <= most and x.flags.carray

        return fits

    def brief_value(self, few: float, most: float, threads: Threads) -> Callable[[Any], Array | None]:
        """`value` in a new array for what fits, up to `most` samples, or None.

        Whatever does not depend on x is looked up once. More than a `few` samples are worth several threads.
        """
        fits, dtype, width, empty = self.fitting(most), self.dtype, self.program.widths[-1], np.empty
        told = self._header(0, 0)
        run, network = _compiled("plain").plain_value, told.ctypes.data

        def value(x: Any, _kept: Any = told) -> Array | None:
            if not fits(x):
                return None
            batch = len(x)
            y = empty((batch, width), dtype)
            if batch <= few:
                run(network, x, y)
            else:
                self.value(x, y, threads(batch))
            return y

        return value

    def brief(self, cut: Cut, few: float, most: float, threads: Threads) -> Callable[[Any], tuple[Array, Array] | None]:
        """`value_and_jacobian` in new arrays for what fits, or None, as `brief_value`.

        To look up what does not depend on x takes longer than one sample of a small network.
        """
        fits, dtype, n_in, n_out = self.fitting(most), self.dtype, self.program.widths[0], self.program.widths[-1]
        told, empty = self._header(cut.level, self.samples_together(cut)), np.empty
        run, network = _compiled("plain").plain_rows, told.ctypes.data

        def value_and_jacobian(x: Any, _kept: Any = told) -> tuple[Array, Array] | None:
            if not fits(x):
                return None
            batch = len(x)
            y, jacobian = empty((batch, n_out), dtype), empty((batch, n_out, n_in), dtype)
            if batch <= few:
                run(network, x, y, jacobian)
            else:
                self.value_and_jacobian(x, cut, "keras", y, jacobian, threads(batch))
            return y, jacobian

        return value_and_jacobian

    def _header(self, cut: int, group: int) -> Any:
        return _compiled("plain").header(self.arguments, POLICIES.index("keras"), cut, group)

    def products(
        self, x: Array, vectors: Array, first: int, direction: Direction, kink: KinkPolicy, y: Array, results: Array
    ) -> None:
        """Write outputs of some samples of a batch, the first being `first`, and their products with vectors.

        x (samples, n_in), y (samples, n_out); of the whole batch vectors (k, batch, m), results (k, batch, n). All are
        contiguous.
        """
        if len(vectors) == 0:
            self.value(x, y)
            return
        few = len(vectors) <= FEW_VECTORS[self.program.switches]
        _compiled("products").products(
            self.arguments, POLICIES.index(kink), direction == "forward", 0 if few else self.group(len(vectors)), first,
            _plain(x), _plain(vectors, 2), _plain(y), _plain(results, 2),
        )  # fmt: skip
