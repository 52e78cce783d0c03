"""A graph in a framework's own ops: one rule for each op, in names that every framework gives the rules.

What is differentiated is what the framework computes, by its own rules: no derivative of refgrad's is used here. Its
tensors know `+ - * /`, comparisons, indices and `shape`, and broadcast as NumPy's do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from refgrad import ops
from refgrad.auditing.frameworks.functions import function
from refgrad.errors import UnsupportedError
from refgrad.graph import Graph
from refgrad.ops.axes import along, as_axes, part

Function = Callable[..., list[Any]]
"""Tensors of the inputs → those of the outputs."""


def _lined(f: Any, tensors: Sequence[Any]) -> list[Any]:
    """Tensors with axes of 1 put after the batch axis, until all have as many axes."""
    most = max(len(tensor.shape) for tensor in tensors)
    shapes = [tuple(tensor.shape) for tensor in tensors]
    return [
        f.reshape(tensor, (shape[0], *(1,) * (most - len(shape)), *shape[1:]))
        for tensor, shape in zip(tensors, shapes, strict=True)
    ]


def _affine(f: Any, op: Any, x: Any) -> Any:
    product = f.matmul(x, f.array(op.kernel))
    return product if op.bias is None else product + f.array(op.bias)


def _prelu(f: Any, op: Any, z: Any) -> Any:
    return f.relu(z) - f.array(op.alpha) * f.relu(-z)


def _glu(f: Any, op: Any, x: Any) -> Any:
    n = x.shape[op.axis] // 2
    return x[part(op.axis, 0, n)] * f.sigmoid(x[part(op.axis, n, 2 * n)])


def _along_axes(name: str) -> Callable[[Any, Any, Any], Any]:
    """A function of one axis over several at once: they are put last, and made one."""

    def rule(f: Any, op: Any, z: Any) -> Any:
        axes = [len(z.shape) + axis for axis in as_axes(op.axis)]
        others = [axis for axis in range(len(z.shape)) if axis not in axes]
        moved = f.transpose(z, [*others, *axes])
        shape = tuple(moved.shape)
        rows = f.reshape(moved, (*shape[: len(others)], math.prod(shape[len(others) :])))
        back = [int(place) for place in np.argsort([*others, *axes])]
        return f.transpose(f.reshape(getattr(f, name)(rows), shape), back)

    return rule


def _sparsemax(f: Any, op: Any, z: Any) -> Any:
    # Keras's, which adds up the sums.
    ranked = f.descending(z, op.axis)
    sums = f.cumsum(ranked, op.axis)
    rank = f.array(along(np.arange(1, z.shape[op.axis] + 1, dtype=f.dtype), op.axis))
    inside = ranked - (sums - 1) / rank > 0
    count = f.sum(f.where(inside, f.ones_like(z), f.zeros_like(z)), (op.axis,), True)
    tau = (f.sum(f.where(inside, sums, f.zeros_like(z)), (op.axis,), True) - 1) / count
    return f.maximum(z - tau, f.zeros_like(z))


def _add(f: Any, op: Any, *x: Any) -> Any:
    return reduce(lambda a, b: a + b, _lined(f, x))


def _subtract(f: Any, op: Any, *x: Any) -> Any:
    a, b = _lined(f, x)
    return a - b


def _average(f: Any, op: Any, *x: Any) -> Any:
    return _add(f, op, *x) / len(x)


def _multiply(f: Any, op: Any, *x: Any) -> Any:
    return reduce(lambda a, b: a * b, _lined(f, x))


def _divide(f: Any, op: Any, *x: Any) -> Any:
    a, b = _lined(f, x)
    return a / b


def _pairwise(name: str) -> Callable[..., Any]:
    return lambda f, op, *x: reduce(getattr(f, name), _lined(f, x))


def _partial(f: Any, op: Any, x: Any) -> Any:
    constant = f.array(op.constant[None])
    both = (constant, x) if op.place == 0 else (x, constant)
    return RULES[op.of](f, op.whole, *both)


def _dot(f: Any, op: Any, *x: Any) -> Any:
    rows: list[Any] = []
    kept: list[int] = []
    for tensor, axis in zip(x, op.axes, strict=True):
        shape = tuple(tensor.shape)
        last = [*(place for place in range(len(shape)) if place != len(shape) + axis), len(shape) + axis]
        moved = f.transpose(tensor, last)
        flat = f.reshape(moved, (shape[0], math.prod(tuple(moved.shape)[1:-1]), shape[axis]))
        rows.append(_unit(f, flat, (-1,), op.epsilon) if op.normalize else flat)
        kept += tuple(moved.shape)[1:-1]
    product = f.matmul(rows[0], f.transpose(rows[1], [0, 2, 1]))
    return f.reshape(product, (x[0].shape[0], *(kept or (1,))))


def _reduction(name: str) -> Callable[[Any, Any, Any], Any]:
    return lambda f, op, x: getattr(f, name)(x, op.axes, op.keepdims)


def _reshape(f: Any, op: Any, x: Any) -> Any:
    return f.reshape(x, (x.shape[0], *op.target))


def _permute(f: Any, op: Any, x: Any) -> Any:
    return f.transpose(x, [0, *(len(x.shape) + axis for axis in op.order)])


def _repeat(f: Any, op: Any, x: Any) -> Any:
    return f.concatenate([x[:, None, :]] * op.count, 1)


def _take(f: Any, op: Any, x: Any) -> Any:
    return f.take(x, list(op.indices), len(x.shape) + op.axis)


def _batch_normalization(f: Any, op: Any, x: Any) -> Any:
    mean, variance = (f.array(along(array, op.axis)) for array in (op.moving_mean, op.moving_variance))
    gamma, beta = (None if array is None else f.array(along(array, op.axis)) for array in (op.gamma, op.beta))
    inverse = f.rsqrt(variance + op.epsilon)
    inverse = inverse if gamma is None else inverse * gamma
    offset = -mean * inverse
    return x * inverse + (offset if beta is None else offset + beta)


def _laid(f: Any, op: Any, name: str) -> Any:
    """γ or β of normalised axes, as it broadcasts against the features."""
    array = op.arrays().get(name)
    if array is None:
        return None
    if isinstance(op, ops.LayerNormalization):
        sizes = dict(zip(op.axes, array.shape, strict=True))
        array = array.reshape([sizes.get(axis, 1) for axis in range(op.axes[0], 0)])
    return f.array(array)


def _normalised(f: Any, op: Any, x: Any) -> Any:
    """Layer or root mean square normalisation: the second does not centre."""
    if isinstance(op, ops.LayerNormalization):
        x = x - f.mean(x, op.axes, True)
    e = x * f.rsqrt(f.mean(f.square(x), op.axes, True) + op.epsilon)
    gamma, beta = _laid(f, op, "gamma"), _laid(f, op, "beta")
    e = e if gamma is None else e * gamma
    return e if beta is None else e + beta


def _unit(f: Any, x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    square = f.sum(f.square(x), axes, True)
    return x * f.rsqrt(f.maximum(square, f.zeros_like(square) + epsilon**2))


def _unit_normalization(f: Any, op: Any, x: Any) -> Any:
    return _unit(f, x, op.axes, op.epsilon)


def _normalization(f: Any, op: Any, x: Any) -> Any:
    deviation = f.array(np.maximum(np.sqrt(op.variances), op.variances.dtype.type(1e-7)))
    mean = f.array(op.mean)
    return mean + x * deviation if op.invert else (x - mean) / deviation


def _rescaling(f: Any, op: Any, x: Any) -> Any:
    return x * f.array(op.scale) + f.array(op.offset)


def _elementwise(f: Any, op: Any, z: Any) -> Any:
    return function(f, op.activation)(z, *op.parameters)


RULES: Mapping[str, Callable[..., Any]] = {
    "source": lambda f, op, x: x,
    "affine": _affine,
    "elementwise": _elementwise,
    "prelu": _prelu,
    "glu": _glu,
    "softmax": _along_axes("softmax"),
    "log_softmax": _along_axes("log_softmax"),
    "sparsemax": _sparsemax,
    "add": _add,
    "subtract": _subtract,
    "average": _average,
    "multiply": _multiply,
    "divide": _divide,
    "power": _pairwise("power"),
    "maximum": _pairwise("maximum"),
    "minimum": _pairwise("minimum"),
    "partial": _partial,
    "concatenate": lambda f, op, *x: f.concatenate(x, len(x[0].shape) + op.axis),
    "dot": _dot,
    "sum": _reduction("sum"),
    "max": _reduction("max"),
    "min": _reduction("min"),
    "log_sum_exp": _reduction("log_sum_exp"),
    "reshape": _reshape,
    "permute": _permute,
    "repeat": _repeat,
    "take": _take,
    "batch_normalization": _batch_normalization,
    "layer_normalization": _normalised,
    "rms_normalization": _normalised,
    "unit_normalization": _unit_normalization,
    "normalization": _normalization,
    "rescaling": _rescaling,
}
"""Each op by its name: (framework, op, *tensors) → tensor."""


def rebuilt(graph: Graph, f: Any) -> Function:
    """The graph as a function of a framework's tensors; what has no counterpart there is refused by name."""
    for node in graph.nodes:
        if node.op.name not in RULES:
            msg = f"layer {node.name!r}: {node.op.label} has no counterpart in {f.title}'s ops: audit against another"
            raise UnsupportedError(msg)

    def run(*inputs: Any) -> list[Any]:
        given = dict(zip(graph.inputs, inputs, strict=True))
        found: list[Any] = []
        for index, node in enumerate(graph.nodes):
            taken = [given[index]] if index in given else [found[source] for source in node.inputs]
            found.append(RULES[node.op.name](f, node.op, *taken))
        return [found[index] for index in graph.outputs]

    return run
