"""The Jacobian matrix of a graph: products with all unit vectors, from whichever end costs less."""

from __future__ import annotations

import math

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.derivatives.order import Direction
from refgrad.derivatives.products import Linearization, jvp, vjp


def _unit_vectors(shape: Shape, like: Array) -> Array:
    """All unit vectors of a feature shape, `(k, 1, *shape)` with k = the number of features."""
    k = math.prod(shape)
    return np.eye(k, dtype=like.dtype).reshape(k, 1, *shape)


def jacobian(point: Linearization, direction: Direction) -> Array:
    """Jacobian of the output with respect to the input at every sample.

    J[b, j, i] = ∂y_j/∂x_i            shape: (batch, *out, *in)

    Forward: its columns are J e_i for the unit tangents e_i. Reverse: its rows are Jᵀ e_j for the unit cotangents e_j.
    """
    graph = point.graph
    source, target = graph.inputs[0], graph.outputs[0]
    x, y = point.values[source], point.values[target]
    n_in, n_out = math.prod(graph.shapes[source]), math.prod(graph.shapes[target])
    block = np.empty((len(x), n_out, n_in), dtype=y.dtype)
    if direction == "forward":
        (columns,) = jvp(point, [_unit_vectors(graph.shapes[source], x)])
        block[...] = 0 if columns is None else np.moveaxis(columns.reshape(n_in, columns.shape[1], n_out), 0, 2)
    else:
        (rows,) = vjp(point, [_unit_vectors(graph.shapes[target], y)])
        block[...] = 0 if rows is None else np.moveaxis(rows.reshape(n_out, rows.shape[1], n_in), 0, 1)
    return block.reshape(len(x), *graph.shapes[target], *graph.shapes[source])
