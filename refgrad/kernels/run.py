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


Header = tuple[Any, int]
"""What a kernel is told of a program, and where that is."""

Threads = Callable[[int], int]
"""How many threads are worth it for so many samples."""

WORTH_ASKING = 500_000
"""Multiply–adds that are worth asking which samples are next, some 5 µs."""

COST_OF_A_LOOK = 1_000
"""Multiply–adds that take as long as a search in a staircase, some 10 ns."""

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


def _plain(x: Array) -> Array:
    """`(batch, n)`, in order and writeable: for others Numba compiles anew, and a copy costs less than seconds."""
    rows = x if x.ndim == 2 else x.reshape(len(x), math.prod(x.shape[1:]))
    return rows if rows.flags.carray else rows.copy()


def _written(array: Array, axes: int = 2) -> Array:
    """`(batch, n)`, or `(batch, n, m)`, of the same memory: of a copy nobody would see what is written there."""
    assert array.flags.carray
    if array.ndim == axes:
        return array
    return array.reshape(len(array), math.prod(array.shape[1:]), *(1,) * (axes - 2))


def _address(array: Array) -> int:
    """Where an array starts that has no gaps."""
    assert array.flags.carray
    return array.ctypes.data


def cache_folder() -> str | None:
    """Where Numba keeps compiled kernels, or None if it finds no folder that can be written."""
    kept = _compiled("plain").plain.stats.cache_path
    return str(kept) if kept else None


def warm_up(dtype: np.dtype[Any]) -> None:
    """Compile, or load, every kernel and every function of units."""
    for name in {*ACTIVATIONS, SCALE, PRELU} - {"linear", *UNCOMPILED}:  # which no program holds
        _compiled("units").address(name, dtype)
    layers = (Layer(1, None, None, ()), Layer(1, np.ones((1, 1), dtype), None, ()))
    runner, wide = Runner(Program(layers, "none"), dtype), np.ones((1, 1))
    start, table = cut(runner.program, "auto"), Staircase(wide[0], wide[0], wide, wide)
    for samples, threads in ((1, 1), (2, 2), (2 * runner.panel, 2)):
        x, vectors = np.ones((samples, 1), dtype), np.ones((1, samples, 1), dtype)
        runner.value(x, x.copy(), threads)
        runner.value_and_jacobian(x, start, "keras", x.copy(), x.copy(), threads)
        runner.products(x, vectors, 0, "forward", "keras", x.copy(), vectors.copy(), threads)
        runner.look_up(table, x, start, "keras", x.copy(), x.copy(), threads)
    runner.brief(start, 1, 1, lambda _: 1)(x[:1])


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
        self._headers: dict[Any, Header] = {}

    def group(self, vectors: int) -> int:
        """How many samples pass through a layer together: as many as stay in the cache, if the weights do not."""
        numbers = self.arguments[2]
        room = near() // (2 * max(1, vectors) * self.widest * numbers.itemsize)
        return 1 if numbers.nbytes // 2 <= near() else max(1, min(self.panel, room))

    def samples_together(self, cut: Cut) -> int:
        """`group` for a Jacobian, or 0: samples lie side by side in tiles."""
        at_end = cut.level in (0, len(self.program.layers) - 1)
        return 0 if at_end and cut.vectors <= FEW_VECTORS[self.program.switches] else self.group(cut.vectors)

    def values_header(self, group: int = 0, kink: KinkPolicy = "keras") -> Header:
        """What kernels are told of the program: for values or, of a group, to be copied for products."""
        return self._kept(("values", group, kink), lambda: self._header("values", POLICIES.index(kink), 0, group))

    def jacobians_header(self, cut: Cut, kink: KinkPolicy) -> Header:
        """What they are told for Jacobians."""
        key, policy = ("jacobians", cut.level, kink), POLICIES.index(kink)
        return self._kept(key, lambda: self._header("jacobians", policy, cut.level, self.samples_together(cut)))

    def _kept(self, key: Any, made: Callable[[], Any]) -> Header:
        """A `Header`, whose place takes Python as long to find out as a small network's sample."""
        if key not in self._headers:
            told = made()
            self._headers.setdefault(key, (told, told.ctypes.data))  # another thread's may be in use
        return self._headers[key]

    def _header(self, entry: str, *asked: int) -> Any:
        return _compiled("header").header(self.arguments, self._entry(entry), *asked)

    def _entry(self, name: str) -> int:
        entries = _compiled("entries")
        return int(entries.address(getattr(entries, name), self.dtype))

    def value(self, x: Array, y: Array, threads: int = 1) -> None:
        """Write outputs (batch, n_out) at x (batch, n_in) into y, which is C-contiguous."""
        told = self.values_header()
        if threads > 1 and len(x) <= self.panel:
            self._by_layers(told, x, y, threads)
        else:
            self._run(told, x, y, 0, self.program.multiply_adds, threads)

    def value_and_jacobian(
        self, x: Array, cut: Cut, kink: KinkPolicy, y: Array, jacobian: Array, threads: int = 1
    ) -> None:
        """Write outputs (batch, n_out) and Jacobians (batch, n_out, n_in) into C-contiguous arrays."""
        cost = cut.cost + self.program.multiply_adds
        self._run(self.jacobians_header(cut, kink), x, y, jacobian, cost, threads)

    def look_up(
        self, table: Staircase, x: Array, cut: Cut, kink: KinkPolicy, y: Array, jacobian: Array | None, threads: int = 1
    ) -> None:
        """The same from the program's table, or values alone; near a breakpoint the program itself is asked."""

        def made() -> Any:
            chain, entry = self.jacobians_header(cut, kink)[0], self._entry("staircase")
            return _compiled("header").staircase_header(chain, entry, table, jacobian is not None)

        told = self._kept((table, cut.level, kink, jacobian is None), made)
        self._run(told, x, y, 0 if jacobian is None else jacobian, COST_OF_A_LOOK, threads)

    def products(
        self, x: Array, vectors: Array, first: int, direction: Direction, kink: KinkPolicy, y: Array, results: Array,
        threads: int = 1,
    ) -> None:  # fmt: skip
        """Write outputs of some samples of a batch, the first being `first`, and their products with vectors.

        x (samples, n_in), y (samples, n_out); of the whole batch vectors (k, batch, m), results (k, batch, n). All are
        contiguous.
        """
        k = len(vectors)
        if k == 0:
            self.value(x, y, threads)
            return
        group = 0 if k <= FEW_VECTORS[self.program.switches] else self.group(k)
        told = _compiled("header").products_header(
            self.values_header(group, kink)[0], self._entry("products_with"),
            direction == "forward", _address(vectors), _address(results), *vectors.shape[:2],
        )  # fmt: skip
        self._run((told, told.ctypes.data), x, y, first, (k + 1) * self.program.multiply_adds, threads)

    def _run(self, told: Header, x: Array, y: Array, to: Array | int, cost: int, threads: int) -> None:
        """Run what a header says, of so much a sample, in several threads if there are such.

        They take tiles that are worth asking for, or equal parts of few samples.
        """
        x, y = _plain(x), _written(y)
        if threads > 1 and len(x) > 1:
            samples = len(x)
            piece = min(padded(math.ceil(WORTH_ASKING / max(1, cost)), self.panel), -(-samples // threads))
            team, helpers = _compiled("team").helped(min(threads, -(-samples // piece)) - 1)
            if helpers > 0:
                sharing, start = _compiled("sharing"), to if isinstance(to, int) else _address(to)
                sharing.share(told[1], x, y, start, piece, sharing.address(), team, helpers)
                return
        if isinstance(to, int):
            _compiled("plain").plain(told[1], x, y, to)
        else:
            _compiled("plain").plain_rows(told[1], x, y, _written(to, 3))

    def _by_layers(self, told: Header, x: Array, y: Array, threads: int) -> None:
        """Values of one tile, whose threads take units of a layer."""
        team, helpers = _compiled("team").helped(threads - 1)
        if helpers == 0 or len(x) == 0:
            _compiled("plain").plain(told[1], _plain(x), _written(y), 0)
        else:
            together = _compiled("together")
            together.share_layers(told[1], _plain(x), _written(y), together.address(self.dtype), team, helpers)

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
        run, network = _compiled("plain").plain, self.values_header()[1]

        def value(x: Any) -> Array | None:
            if not fits(x):
                return None
            batch = len(x)
            y = empty((batch, width), dtype)
            if batch <= few:
                run(network, x, y, 0)
            else:
                self.value(x, y, threads(batch))
            return y

        return value

    def brief(self, cut: Cut, few: float, most: float, threads: Threads) -> Callable[[Any], tuple[Array, Array] | None]:
        """`value_and_jacobian` in new arrays for what fits, or None, as `brief_value`.

        To look up what does not depend on x takes longer than one sample of a small network.
        """
        fits, dtype, n_in, n_out = self.fitting(most), self.dtype, self.program.widths[0], self.program.widths[-1]
        run, network, empty = _compiled("plain").plain_rows, self.jacobians_header(cut, "keras")[1], np.empty

        def value_and_jacobian(x: Any) -> tuple[Array, Array] | None:
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
