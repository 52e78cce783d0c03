"""Jacobian matrices of a graph at a point: products with unit vectors, in the order that `order` found cheapest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.derivatives.order import Multiply, Order, Pull, Push, Step
from refgrad.derivatives.products import Linearization, pull, push
from refgrad.ends import Positions


@dataclass(frozen=True, eq=False)
class Picked:
    """Which features of each output are rows, and of each input columns; None is all of them in order."""

    rows: tuple[Positions | None, ...]
    columns: tuple[Positions | None, ...]


def _units(shape: Shape, places: Positions, like: Array) -> Array:
    """Unit vectors e_i of a feature shape for some places i, `(k, 1, *shape)`."""
    units = np.zeros((len(places), 1, math.prod(shape)), like.dtype)
    units[np.arange(len(places)), 0, places] = 1
    return units.reshape(len(places), 1, *shape)


def _places(shape: Shape, picked: Positions | None) -> Positions:
    return np.arange(math.prod(shape)) if picked is None else picked.ravel()


def _pieces(places: Positions, at_once: int) -> Iterator[tuple[slice, Positions]]:
    """So many places at once, and where among all of them they stand."""
    for start in range(0, len(places), at_once):
        piece = slice(start, min(start + at_once, len(places)))
        yield piece, places[piece]


def _flat(vectors: Array) -> Array:
    """`(k, batch, …)` as `(k, batch, entries)`."""
    return vectors.reshape(*vectors.shape[:2], math.prod(vectors.shape[2:]))


def _take(array: Array, places: Positions | None) -> Array:
    return array if places is None else array[..., places.ravel()]


def _forward(point: Linearization, step: Push, picked: Picked, j: int, at_once: int, into: Sequence[Array]) -> None:
    """Columns ∂y/∂x_i = J e_i of the Jacobians of all outputs by input j."""
    graph, (source,) = point.graph, step.span.sources
    for piece, places in _pieces(_places(graph.shapes[source], picked.columns[j]), at_once):
        found = push(point, step.span, {source: _units(graph.shapes[source], places, point.values[source])})
        for target, rows, block in zip(graph.outputs, picked.rows, into, strict=True):
            columns = found.get(target)
            block[:, :, piece] = 0 if columns is None else np.moveaxis(_take(_flat(columns), rows), 0, 2)


def _reverse(point: Linearization, step: Pull, picked: Picked, o: int, at_once: int, into: Sequence[Array]) -> None:
    """Rows ∂y_j/∂x = Jᵀ e_j of the Jacobians of output o by all inputs."""
    graph, (target,) = point.graph, step.span.targets
    for piece, places in _pieces(_places(graph.shapes[target], picked.rows[o]), at_once):
        found = pull(point, step.span, {target: _units(graph.shapes[target], places, point.values[target])})
        for source, columns, block in zip(step.span.sources, picked.columns, into, strict=True):
            rows = found.get(source)
            block[:, piece, :] = 0 if rows is None else np.moveaxis(_take(_flat(rows), columns), 0, 1)


def _matrix(point: Linearization, step: Step, rows: Positions | None, columns: Positions | None) -> Array:
    """∂target/∂source as a step makes it, `(batch or 1, rows, columns)`."""
    if isinstance(step, Multiply):
        product: Array = _matrix(point, step.left, rows, None) @ _matrix(point, step.right, None, columns)
        return product
    (source,), (target,) = step.span.sources, step.span.targets
    if isinstance(step, Push):
        tangents = _started(point, step, source, columns, 2, lambda after: _matrix(point, after, None, columns))
        found, chosen, axis = push(point, step.span, {source: tangents}).get(target), rows, 2
    else:
        cotangents = _started(point, step, target, rows, 1, lambda after: _matrix(point, after, rows, None))
        found, chosen, axis = pull(point, step.span, {target: cotangents}).get(source), columns, 1
    if found is None:  # no path leads from one to the other
        sizes = (_places(point.graph.shapes[end], of).size for end, of in ((target, rows), (source, columns)))
        return np.zeros((1, *sizes), point.graph.dtype)
    return np.moveaxis(_take(_flat(found), chosen), 0, axis)


def _started(
    point: Linearization,
    step: Push | Pull,
    end: int,
    picked: Positions | None,
    axis: int,
    made: Callable[[Step], Array],
) -> Array:
    """What a step starts from at a node, `(k, batch or 1, *shape)`: unit vectors, or a matrix by columns or rows."""
    shape = point.graph.shapes[end]
    if step.after is None:
        return _units(shape, _places(shape, picked), point.values[end])
    vectors = np.moveaxis(made(step.after), axis, 0)
    return vectors.reshape(*vectors.shape[:2], *shape)


def fill(point: Linearization, order: Order, picked: Picked, at_once: int, blocks: Sequence[Sequence[Array]]) -> None:
    """Write the Jacobian of every output by every input at every sample.

    J[b, j, i] = ∂y_j/∂x_i            blocks[output][input]: (batch, rows, columns)

    Forward: its columns are J e_i for the unit tangents e_i. Reverse: its rows are Jᵀ e_j for the unit cotangents e_j.
    Split: J = (∂y/∂c) (∂c/∂x) at a tensor c that all paths pass.
    Forward and reverse have at most `at_once` unit vectors under way.
    """
    for place, step in enumerate(order.steps):
        if order.mode == "forward" and isinstance(step, Push):
            _forward(point, step, picked, place, at_once, [row[place] for row in blocks])
        elif order.mode == "reverse" and isinstance(step, Pull):
            _reverse(point, step, picked, place, at_once, blocks[place])
        else:
            o, j = divmod(place, len(picked.columns))
            blocks[o][j][...] = _matrix(point, step, picked.rows[o], picked.columns[j])
