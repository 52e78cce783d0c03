"""Running a graph on whole batches, in pieces: NumPy's products or the compiled kernels, into arrays that are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.breakpoints import Staircase
from refgrad.chunks import each, samples_within
from refgrad.derivatives import margins, products
from refgrad.derivatives.jacobian import Picked, fill
from refgrad.derivatives.kinks import Kinks, find_kinks, joined
from refgrad.derivatives.order import Block, Direction, Order
from refgrad.derivatives.spans import span
from refgrad.ends import Ends, Positions
from refgrad.errors import KinkError
from refgrad.graph import Graph
from refgrad.kernels.cuts import Cut
from refgrad.kernels.run import COST_OF_A_LOOK, Runner
from refgrad.options import MAX_BYTES, Kink, Options
from refgrad.planning import Plan, bytes_per_sample, crossing_at_once, shared_at_once


@dataclass(frozen=True, eq=False)
class Job:
    """Jacobians to be made: of which ends and features, in which order, by the kernels if the plan says so."""

    graph: Graph
    outputs: Ends
    inputs: Ends
    block: Block
    picked: Picked
    made: Order
    runner: Runner | None
    start: Cut | None
    plan: Plan
    options: Options
    table: Staircase | None = None

    @property
    def rows(self) -> list[Shape]:
        """The shape that the picked features of each output have."""
        return _shapes(self.graph, self.block.targets, self.picked.rows)

    @property
    def columns(self) -> list[Shape]:
        """The shape that the picked features of each input have."""
        return _shapes(self.graph, self.block.sources, self.picked.columns)


def _shapes(graph: Graph, ends: Sequence[int], picked: Sequence[Positions | None]) -> list[Shape]:
    return [graph.shapes[end] if places is None else places.shape for end, places in zip(ends, picked, strict=True)]


def linearize(graph: Graph, inputs: Sequence[Array], kink: Kink, first: int = 0) -> products.Linearization:
    """The graph at a point, with the slopes that `kink` chooses; `first` is the first sample's place in its batch."""
    point = products.linearize(graph, inputs, "keras" if kink == "raise" else kink)
    hit = margins.on_kink(point) if kink == "raise" else None
    if hit is not None:
        msg = f"sample {first + hit[0]}: unit {hit[1]} is exactly on a kink, and kink='raise' was asked for"
        raise KinkError(msg)
    return point


def _contiguous(target: Array, *shape: int) -> Array:
    """The target itself in another shape if its memory allows that, or else a place to compute in."""
    return target.view(np.ndarray).reshape(shape) if target.flags.carray else np.empty(shape, target.dtype)


def _give(block: Array, target: Array) -> None:
    if not np.shares_memory(block, target):
        target[...] = block.reshape(target.shape)


def values(
    graph: Graph,
    runner: Runner | None,
    inputs: Sequence[Array],
    into: Sequence[Array],
    threads: int,
    table: Staircase | None = None,
    start: Cut | None = None,
) -> None:
    """Write the value of every output, `(batch, *out)`; near a table's breakpoints, kernels start at `start`."""
    samples = len(inputs[0])

    def chain(at: Sequence[Array], targets: Sequence[Array]) -> None:
        if runner is not None:
            runner.value(at[0], targets[0], sharing)
            return
        found = products.values(graph, at)
        for target, index in zip(targets, graph.outputs, strict=True):
            target[...] = found[index]

    def work(piece: slice) -> None:
        at, targets = [x[piece] for x in inputs], [target[piece] for target in into]
        if table is None:
            chain(at, targets)
        elif runner is not None:
            assert start is not None
            runner.look_up(table, at[0], start, "keras", targets[0], None, sharing)
        else:
            rows = targets[0].reshape(len(at[0]), -1)
            left = table.look_up(at[0].reshape(-1), rows, np.empty_like(rows))
            if len(left):
                spare = np.empty((len(left), *targets[0].shape[1:]), targets[0].dtype)
                chain([at[0][left]], [spare])
                targets[0][left] = spare

    size, sharing = crossing_at_once(samples, graph, 0, 0, threads), 1
    if runner is not None:
        size, sharing, threads = shared_at_once(graph.parameters, threads), threads, 1
    each(work, samples, size, threads=threads)


def jacobians(job: Job, inputs: Sequence[Array], values: Sequence[Array], into: Sequence[Sequence[Array]]) -> None:
    """Write the value of every output and its Jacobian by every input, `(batch, *rows, *columns)`."""
    work = _by_kernels if job.runner is not None else _by_numpy if job.table is None else _by_table
    plan, options = job.plan, job.options

    def piecewise(piece: slice) -> None:
        here = [[block[piece] for block in row] for row in into]
        work(job, [x[piece] for x in inputs], [y[piece] for y in values], here, piece.start)

    size, threads = plan.at_once, plan.threads
    if job.runner is not None:  # the kernels share each piece out among threads themselves
        direct = all(part is None for part in job.picked.rows + job.picked.columns) and into[0][0].flags.carray
        cost = COST_OF_A_LOOK if job.table is not None else plan.multiply_adds
        size, threads = (shared_at_once(cost, threads) if direct else size * threads), 1
    each(piecewise, len(inputs[0]), size, threads=threads, progress=options.progress, what="jacobian")


def _by_table(job: Job, inputs: list[Array], values: list[Array], into: list[list[Array]], first: int) -> None:
    assert job.table is not None
    (x,), (y,), ((target,),) = inputs, values, into
    value, block = (_contiguous(part, len(x), job.table.slopes.shape[1]) for part in (y, target))
    left = job.table.look_up(x.reshape(-1), value, block)
    _give(value, y)
    _give(block, target)
    if len(left):
        spare = [np.empty((len(left), *part.shape[1:]), part.dtype) for part in (y, target)]
        _by_numpy(job, [x[left]], spare[:1], [spare[1:]], first)
        y[left], target[left] = spare


def _by_numpy(job: Job, inputs: list[Array], values: list[Array], into: list[list[Array]], first: int) -> None:
    point = linearize(job.graph, inputs, job.options.kink, first)
    for target, value in zip(values, point.outputs, strict=True):
        target[...] = value
    entries = [
        [_contiguous(target, len(target), n, m) for m, target in zip(job.block.columns, row, strict=True)]
        for n, row in zip(job.block.rows, into, strict=True)
    ]
    fill(point, job.made, job.picked, job.plan.vectors, entries)
    for row, blocks in zip(into, entries, strict=True):
        for target, block in zip(row, blocks, strict=True):
            _give(block, target)


def _by_kernels(job: Job, inputs: list[Array], values: list[Array], into: list[list[Array]], first: int) -> None:
    del first
    assert job.runner is not None
    assert job.start is not None
    (x,), (y,), ((target,),) = inputs, values, into
    (rows,), (columns,) = job.picked.rows, job.picked.columns
    value = _contiguous(y, *y.shape)
    whole = (len(x), math.prod(y.shape[1:]), math.prod(x.shape[1:]))
    block = _contiguous(target, *whole) if rows is None and columns is None else np.empty(whole, x.dtype)
    kink, threads = job.options.kink, job.plan.threads
    assert kink != "raise"
    if job.table is not None:
        job.runner.look_up(job.table, x, job.start, kink, value, block, threads)
    else:
        job.runner.value_and_jacobian(x, job.start, kink, value, block, threads)
    _give(value, y)
    if rows is not None:
        block = block[:, rows.ravel()]
    if columns is not None:
        block = block[:, :, columns.ravel()]
    _give(block, target)


def product(
    graph: Graph,
    runner: Runner | None,
    inputs: Sequence[Array],
    vectors: Sequence[Array | None],
    direction: Direction,
    kink: Kink,
    threads: int,
) -> tuple[list[Array], list[Array]]:
    """Values of the outputs, and the products with some vectors, `(k, batch, *shape)`.

    Forward: tangents of the inputs give those of the outputs. Reverse: cotangents of the outputs give the inputs'.
    """
    samples = len(inputs[0])
    k = next(len(vector) for vector in vectors if vector is not None)
    values = [np.empty((samples, *graph.shapes[index]), graph.dtype) for index in graph.outputs]
    ends = graph.outputs if direction == "forward" else graph.inputs
    results = [np.zeros((k, samples, *graph.shapes[index]), graph.dtype) for index in ends]
    given = vectors[0] if runner is not None else None
    plain = None if given is None else np.require(given, requirements=["C", "W", "A"])
    take = products.jvp if direction == "forward" else products.vjp

    def work(piece: slice) -> None:
        if runner is not None and kink != "raise":
            assert plain is not None
            x, y = inputs[0][piece], values[0][piece]
            runner.products(x, plain, piece.start, direction, kink, y, results[0], sharing)
            return
        point = linearize(graph, [x[piece] for x in inputs], kink, piece.start)
        for target, value in zip(values, point.outputs, strict=True):
            target[piece] = value
        found = take(point, [None if vector is None else vector[:, piece] for vector in vectors])
        for result, part in zip(results, found, strict=True):
            if part is not None:
                result[:, piece] = part

    peak = span(graph, graph.inputs, graph.outputs).peak
    size, sharing = crossing_at_once(samples, graph, k, peak, threads), 1
    if runner is not None:
        size, sharing, threads = shared_at_once((k + 1) * graph.parameters, threads), threads, 1
    each(work, samples, size, threads=threads)
    return values, results


def kinks(graph: Graph, inputs: Sequence[Array], tol: float) -> Kinks:
    """The units within `tol` of a kink at each sample, and the nearest of all."""
    samples = len(inputs[0])
    found: list[Kinks] = []

    def work(piece: slice) -> None:
        found.append(find_kinks(products.linearize(graph, [x[piece] for x in inputs], "keras"), tol, piece.start))

    # Distances, and what moves, are as many numbers again.
    each(work, samples, samples_within(MAX_BYTES, 2 * bytes_per_sample(graph, 0, 0)))
    return joined(found)
