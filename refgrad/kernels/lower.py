"""From a graph to a program, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refgrad.activations import mathematical
from refgrad.arrays import Array, Shape
from refgrad.graph import Graph, Node
from refgrad.kernels.program import PRELU, SCALE, Layer, Program, Step
from refgrad.ops import Affine, Elementwise, LogSoftmax, Normalization, PReLU, Reshape, Softmax
from refgrad.ops.axes import as_axes
from refgrad.ops.diagonal import Diagonal
from refgrad.ops.op import KinkPolicy

POLICIES: tuple[KinkPolicy, ...] = ("keras", "left", "right", "mean")
"""Slopes at kinks, by the number that stands for each in a call."""


UNCOMPILED = frozenset(row.name for row in mathematical.ROWS)
"""Functions of the functional API that seldom stand in a chain: their formulas call what kernels have no names for."""


@dataclass(frozen=True)
class NotLowered:
    """Why a graph runs on NumPy."""

    reason: str


def _spread(array: Array, shape: Shape) -> Array:
    """A number for each unit."""
    return np.broadcast_to(array, shape).ravel()


def _scale(op: Diagonal, shape: Shape, dtype: np.dtype[Any]) -> Step:
    """(x − c) s + o, with as few roundings as the op itself has: o is its value at 0, unless it subtracts first."""
    with np.errstate(all="ignore"):
        offset, slope = op.linearize(np.zeros((1, *shape), dtype), kink="keras")
    centre = np.zeros(shape, dtype)
    if isinstance(op, Normalization) and not op.invert:
        centre, offset = op.mean, centre
    else:
        offset = offset.reshape(shape)
    return Step(SCALE, arrays=tuple(_spread(array.astype(dtype), shape) for array in (centre, slope[...], offset)))


def _prelu(op: PReLU, shape: Shape) -> Step:
    at_zero = (op.linearize(np.zeros((1, *shape), op.alpha.dtype), kink=kink)[1].reshape(shape) for kink in POLICIES)
    return Step(PRELU, arrays=tuple(_spread(array, shape) for array in (op.alpha, *at_zero)))


def _step(node: Node, shape: Shape, dtype: np.dtype[Any]) -> Step | None:
    """What a node does to every unit by itself, if that is all it does."""
    op = node.op
    if isinstance(op, Elementwise) and op.activation not in UNCOMPILED:
        return Step(op.activation, op.parameters, kinks=op.kinks)
    if isinstance(op, PReLU):
        return _prelu(op, shape)
    return _scale(op, shape, dtype) if isinstance(op, Diagonal) and op.linear else None


def _finite(layer: Layer) -> bool:
    arrays = [layer.kernel, layer.bias, *(array for step in layer.steps for array in step.arrays)]
    return all(array is None or bool(np.isfinite(array).all()) for array in arrays)


def _is_row(shape: Shape, axis: int | tuple[int, ...] = -1) -> bool:
    """Whether the last axis holds all numbers."""
    return as_axes(axis) == (-1,) and math.prod(shape[:-1]) == 1


def stands_in_chain(node: Node, shape: Shape) -> bool:
    """Whether a node that is given numbers of a shape may be a part of a program, before its end."""
    op = node.op
    if isinstance(op, Affine):
        return _is_row(shape)
    if isinstance(op, Elementwise):
        return op.activation not in UNCOMPILED
    return isinstance(op, Reshape | PReLU) or (isinstance(op, Diagonal) and op.linear)


def ends_chain(node: Node, shape: Shape) -> bool:
    """Whether a node is one of `TAILS`."""
    return isinstance(node.op, Softmax | LogSoftmax) and _is_row(shape, node.op.axis)


def lower(graph: Graph) -> Program | NotLowered:
    """The program of a chain of affine maps with functions of single units between them, and perhaps a softmax after.

    Weights that are not finite are left to NumPy: kernels skip products with zero, and 0 · ∞ is not zero.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return NotLowered("kernels take one input and give one output")
    if graph.outputs[0] != len(graph.nodes) - 1:
        return NotLowered("the output is not the last layer, and kernels run plain chains to their end")
    layers, tail, most = [Layer(math.prod(graph.shapes[0]), None, None, ())], "none", graph.parameters
    for index, node in enumerate(graph.nodes[1:]):
        op, shape = node.op, graph.shapes[index]
        if node.inputs != (index,):
            return NotLowered(f"{node.name!r} does not follow the layer before it: kernels run plain chains")
        if isinstance(op, Reshape):
            continue
        if tail != "none":
            return NotLowered(f"{node.name!r} follows a {tail}, which kernels have at the end of a chain only")
        if isinstance(op, Diagonal | PReLU) and math.prod(shape) > most:
            return NotLowered(f"{node.name!r} takes more numbers than there are weights: it is in no chain of Dense")
        step = _step(node, shape, graph.dtype)
        if isinstance(op, Affine) and _is_row(shape):
            layers.append(Layer(op.kernel.shape[1], op.kernel, op.bias, ()))
        elif ends_chain(node, shape):
            tail = op.name
        elif step is not None:
            # A linear activation is none, and its slope is 1 even where NaN is what it is given.
            steps = layers[-1].steps if step.name == "linear" else (*layers[-1].steps, step)
            layers[-1] = replace(layers[-1], steps=steps)
        else:
            return NotLowered(f"no kernel has {node.name!r} ({op.label} of an input of shape {shape})")
    if len(layers) == 1:
        return NotLowered("there is no Dense layer in it")
    return Program(tuple(layers), tail) if all(map(_finite, layers)) else NotLowered("not all weights are finite")
