"""Which algorithm runs, in pieces of what size, and why: decided from counted costs before any arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from refgrad.chunks import samples_within, threads_allowed
from refgrad.derivatives.order import Multiply, Order, Step
from refgrad.derivatives.spans import size
from refgrad.graph import Graph
from refgrad.kernels.cuts import Cut
from refgrad.kernels.run import COST_OF_A_LOOK, near
from refgrad.options import MAX_BYTES, Algorithm, Options

WORTH_A_THREAD = 4_000_000
"""Multiply–adds that are worth another thread: 0.02 to 0.14 ms, for on one core of an EPYC with AVX-512 (Zen 5) kernels
were measured to get through 28 (1-64-32-32-1) to 190 (10-256-256-256-10) of them in a nanosecond. A helper begins in
less than 1 µs if it has just helped, else in 2 to 5, on a virtual machine 31, of which 12 are the caller's."""

WORTH_A_WAIT = 2_000_000_000
"""Multiply–adds of each thread that are worth waiting for all of them, some 20 ms."""

FETCHED = 1.6
"""Multiply–adds that take as long as it takes to fetch a byte of weights from beyond a core's second cache: 50 bytes a
nanosecond, and 80 multiply–adds, on a Xeon (Emerald Rapids). With few samples there is nothing else to do meanwhile."""

AT_ONCE = 16 * 2**20
"""Bytes of NumPy's temporaries to have under way: more come page by page from the system, which takes as long as the
arithmetic. Measured with residual networks of 64 and 256 units: 1.2 to 1.9 times as fast as with 256 MiB."""

AT_LEAST = 2 * 2**20
"""Bytes of them for each of many threads: smaller pieces would be Python's work more than NumPy's."""

JOINING = 4
"""How many times more multiply–adds are worth a thread where NumPy joins chains: Python takes its time between them."""

JOINED_WEIGHTS, JOINED_WORK = 2**16, 4_000_000
"""Up to how many numbers in its ops, or multiply–adds altogether, kernels run a graph's chains for derivatives too, not
only for values. Measured with residual networks of 64 to 1024 units, reverse and forward, against BLAS on two threads:
with 64 they take 0.6 to 1.1 times as long as NumPy, from 256 on 1.0 to 1.6, but for few samples, where calls count."""

_TILE = 32
"""Samples: a whole number of the kernels' tiles, whatever the machine's vectors."""

KERNEL_PAYS = 4.0
"""How many times more multiply–adds the kernels may do than NumPy, which can leave out rows and columns or split: for
small layers NumPy spends that much on calls."""


@dataclass(frozen=True)
class Plan:
    """What would run for a number of samples: `print` it.

    `multiply_adds` is counted per sample; `at_once` how many samples are worked on at a time by each of `threads`, and
    `vectors` how many unit vectors. With the engine "mixed" kernels run the chains that are in a graph, and NumPy what
    joins them. `why` says why this engine and this mode. With the algorithm "staircase" they are those of the chain,
    which is asked near breakpoints only; samples at once and threads are the search's, where it is compiled.
    """

    samples: int
    engine: Literal["numba", "numpy", "mixed"]
    mode: Literal["forward", "reverse", "split"]
    multiply_adds: int
    at_once: int
    vectors: int
    threads: int
    why: str
    algorithm: Algorithm = "chain"

    def __str__(self) -> str:
        if self.algorithm == "staircase":
            threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
            return f"staircase on {self.engine}, {self.samples:,} samples on {threads}; {self.why}"
        return (
            f"{self.mode} mode on {self.engine}: {self.multiply_adds:,} multiply–adds a sample, {self.samples:,} in "
            f"pieces of {self.at_once:,} on {self.threads} thread{'s' * (self.threads > 1)}; {self.why}"
        )


def bytes_per_sample(graph: Graph, vectors: int, peak: int) -> int:
    """Temporaries of one sample on the NumPy path: every node's value and tape, and the vectors under way twice."""
    numbers = 3 * sum(size(graph, index) for index in range(len(graph.nodes)))
    return graph.dtype.itemsize * (numbers + 2 * vectors * peak)


def _peak(step: Step) -> int:
    """How many numbers of a vector, or of a whole matrix for `Multiply`, a step holds at once."""
    if isinstance(step, Multiply):
        return max(_peak(step.left), _peak(step.right)) + step.numbers
    return max(step.span.peak * step.vectors, _peak(step.after) if step.after else 0)


def _allowed(options: Options, threads: int) -> int:
    """Bytes of temporaries that each of so many threads may have."""
    return max(1, (options.max_bytes or MAX_BYTES) // threads)


def _under_way(threads: int) -> int:
    """Bytes of NumPy's temporaries that are fastest for each of so many threads."""
    return max(AT_ONCE // threads, AT_LEAST)


def pieces(graph: Graph, made: Order, options: Options, threads: int) -> tuple[int, int]:
    """How many samples, and how many unit vectors, to have under way at once on the NumPy path."""
    allowed = min(_allowed(options, threads), _under_way(threads))
    widest = max((step.span.peak for step in made.steps if not isinstance(step, Multiply)), default=1)
    vectors = max((step.vectors for step in made.steps if not isinstance(step, Multiply)), default=1)
    if made.mode != "split":
        spare = allowed - bytes_per_sample(graph, 0, 0)
        vectors = max(1, min(vectors, spare // max(1, 2 * graph.dtype.itemsize * widest)))
        return samples_within(allowed, bytes_per_sample(graph, vectors, widest)), vectors
    peak = max(_peak(step) for step in made.steps)
    return samples_within(allowed, bytes_per_sample(graph, 1, peak)), vectors


def crossing_at_once(samples: int, graph: Graph, vectors: int, peak: int, threads: int) -> int:
    """How many samples NumPy takes at once for values, or products with so many vectors: some for each thread."""
    size = samples_within(_under_way(threads), bytes_per_sample(graph, vectors, peak))
    return min(size, math.ceil(samples / threads)) if threads > 1 and samples > 0 else size


def few(cost: int) -> float:
    """How many samples, each of so many multiply–adds, are done in less than it takes to think about threads."""
    return (WORTH_A_THREAD - 1) / max(1, cost)


def worth_threads(work: float, allowed: int | None) -> int:
    """How many threads so many multiply–adds are worth, of those allowed."""
    worth = 1 + int(work // WORTH_A_THREAD)
    return min(threads_allowed(allowed), worth) if worth > 1 else 1


def work_of_values(samples: int, parameters: int, itemsize: int) -> float:
    """Multiply–adds that take as long as the kernels take for values of so many samples."""
    fetched = FETCHED * itemsize * parameters if itemsize * parameters > 2 * near() else 0
    return max(samples * parameters, fetched) if samples else 0


def few_values(parameters: int, itemsize: int) -> float:
    """`few` samples, for values: not even one where its weights must be fetched."""
    return 0 if work_of_values(1, parameters, itemsize) >= WORTH_A_THREAD else few(parameters)


def _shares(samples: int, threads: int) -> int:
    """Equal shares of a batch for some threads, in whole tiles."""
    return -(-max(1, samples) // (threads * _TILE)) * _TILE if threads > 1 else max(1, samples)


def joining_pays(parameters: int, samples: int, cost: int) -> bool:
    """Whether derivatives of a graph with so many parameters, at so much a sample, are for the kernels and NumPy."""
    return parameters <= JOINED_WEIGHTS or samples * cost <= JOINED_WORK


def shared_at_once(cost: int, threads: int) -> int:
    """Of how many samples, each of so many multiply–adds, a piece is that kernels do before Ctrl-C is heard."""
    return -(-threads * WORTH_A_WAIT // max(1, cost))


def searched(planned: Plan, intervals: int, allowed: int | None) -> Plan:
    """The plan where a staircase of so many intervals is asked first: looking up is all the work there is."""
    why = f"a search among {intervals:,} intervals; near a breakpoint, {planned.why}"
    threads, at_once = planned.threads, planned.at_once
    if planned.engine == "numba":
        threads = worth_threads(planned.samples * COST_OF_A_LOOK, allowed)
        at_once = _shares(planned.samples, threads)
    return replace(planned, algorithm="staircase", threads=threads, at_once=at_once, why=why)


def plan(samples: int, options: Options, graph: Graph, made: Order, kernels: Cut | str, *, joins: bool) -> Plan:
    """The plan for Jacobians of a graph whose cheapest order is `made`.

    `kernels` is where the kernels would start, for they make whole Jacobians only, or why they cannot; `joins` says
    that they run the graph's chains.
    """
    counted = f"{made.mode} is the least counted" if options.mode == "auto" else f"mode={options.mode!r} was asked for"
    if isinstance(kernels, Cut) and (options.engine == "numba" or kernels.cost <= KERNEL_PAYS * made.cost):
        threads = worth_threads(samples * kernels.cost, options.threads)
        # The kernels write whole Jacobians: a place for them, and what is picked from there, rows before columns.
        whole = size(graph, graph.outputs[0]) * size(graph, graph.inputs[0])
        most = samples_within(_allowed(options, threads), 3 * graph.dtype.itemsize * whole)
        at_once = min(_shares(samples, threads), most)
        why = f"{kernels.mode} is what the kernels do with least" if options.mode == "auto" else counted
        return Plan(samples, "numba", kernels.mode, kernels.cost, at_once, kernels.vectors, threads, why)
    kept = kernels if isinstance(kernels, str) else f"the kernels would do {kernels.cost:,} multiply–adds"
    threads = worth_threads(samples * made.cost / JOINING, options.threads) if joins else options.threads or 1
    at_once, vectors = pieces(graph, made, options, threads)
    if not joins:
        why = f"{counted}; not numba: {kept}"
        return Plan(samples, "numpy", made.mode, made.cost, at_once, vectors, threads, why)
    at_once = min(at_once, _shares(samples, threads))
    why = f"{counted}; numba for chains only: {kept}"
    return Plan(samples, "mixed", made.mode, made.cost, at_once, vectors, threads, why)
