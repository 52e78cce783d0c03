"""The arrays that results are written into: new ones, or those that a caller gave as `out`."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import InputError
from refgrad.evaluation import Job


def room(given: Any, shape: Shape, dtype: np.dtype[Any], what: str) -> Array:
    """A new array, or the given one if it is of that shape and dtype and can be written to."""
    if given is None:
        return np.empty(shape, dtype)
    if not isinstance(given, np.ndarray):
        msg = f"out for {what} is a {type(given).__name__}; an array {dtype.name} {shape} is needed"
        raise InputError(msg)
    if given.shape != shape or given.dtype != dtype:
        msg = f"out for {what} is {given.dtype} {given.shape}; {dtype.name} {shape} is needed"
        raise InputError(msg)
    if not given.flags.writeable:
        msg = f"out for {what} is read-only"
        raise InputError(msg)
    return given


def rooms(job: Job, batch: Shape, outs: tuple[Any, Any]) -> tuple[list[Array], list[list[Array]]]:
    """Arrays for the values and Jacobians of a job, `batch` being (samples,) or (): new ones, or those in `outs`."""
    graph, outputs, inputs = job.graph, job.outputs, job.inputs
    values = [
        room(out, batch + graph.shapes[index], graph.dtype, f"value {name!r}")
        for out, index, name in zip(outputs.unpack(outs[0], "out for y"), graph.outputs, outputs.names, strict=True)
    ]
    blocks = [
        [
            room(out, batch + row + column, graph.dtype, f"Jacobian of {name!r} by {source!r}")
            for out, column, source in zip(inputs.unpack(part, "out for J"), job.columns, inputs.names, strict=True)
        ]
        for part, row, name in zip(outputs.unpack(outs[1], "out for J"), job.rows, outputs.names, strict=True)
    ]
    return values, blocks


def unbatched(array: Array) -> Array:
    """The one sample of a batch of one; an array even where that is a single number."""
    return array.reshape(array.shape[1:])


def pair(given: Any) -> tuple[Any, Any]:
    """`out` of a function that gives a value and a Jacobian."""
    if given is None:
        return None, None
    if not isinstance(given, tuple | list) or len(given) != 2:
        msg = f"out is a {type(given).__name__}; a pair (y, J) of arrays is needed"
        raise InputError(msg)
    return given[0], given[1]
