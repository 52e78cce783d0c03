"""From a graph to a flat program, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refgrad.arrays import Array
from refgrad.graph import Graph
from refgrad.kernels.program import Index, Program
from refgrad.ops import Affine, Elementwise

CODES = {"linear": 0, "relu": 1, "sigmoid": 2, "tanh": 3}
"""The activations the kernels know, by the code that stands for each in a program."""


@dataclass(frozen=True)
class NotLowered:
    """Why a graph runs on NumPy."""

    reason: str


@dataclass
class _Layer:
    affine: Affine
    activation: Elementwise | None = None


def _layers(graph: Graph) -> list[_Layer] | NotLowered:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or len(graph.shapes[graph.inputs[0]]) != 1:
        return NotLowered("kernels take one input of one axis and give one output")
    if graph.outputs[0] != len(graph.nodes) - 1:
        return NotLowered("the output is not the last layer, and kernels run plain chains to their end")
    layers: list[_Layer] = []
    for index, node in enumerate(graph.nodes[1:]):
        if node.inputs != (index,):
            return NotLowered(f"{node.name!r} does not follow the layer before it: kernels run plain chains")
        if isinstance(node.op, Affine):
            layers.append(_Layer(node.op))
        elif not isinstance(node.op, Elementwise) or node.op.activation not in CODES:
            return NotLowered(f"no kernel has {node.name!r} ({node.op.name}: {node.op.config()})")
        elif not layers or layers[-1].activation is not None:
            return NotLowered(f"the activation {node.name!r} does not follow a Dense layer")
        else:
            layers[-1].activation = node.op
    return layers or NotLowered("there is no Dense layer in it")


def _flat(arrays: list[Array]) -> Array:
    flat: Array = np.concatenate([array.ravel() for array in arrays])
    flat.setflags(write=False)
    return flat


def _starts(sizes: list[int]) -> Index:
    """Where each of several arrays starts when they are joined, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def lower(graph: Graph) -> Program | NotLowered:
    """The program of a chain of affine maps, each with at most one activation of `CODES` after it.

    Weights that are not finite are left to NumPy: kernels skip products with zero, and 0 · ∞ is not zero.
    """
    layers = _layers(graph)
    if isinstance(layers, NotLowered):
        return layers
    kernels = [layer.affine.kernel for layer in layers]
    biases = [
        np.zeros(kernel.shape[1], graph.dtype) if layer.affine.bias is None else layer.affine.bias
        for layer, kernel in zip(layers, kernels, strict=True)
    ]
    if not all(np.isfinite(array).all() for array in (*kernels, *biases)):
        return NotLowered("not all weights are finite")
    codes = [CODES[layer.activation.activation if layer.activation else "linear"] for layer in layers]
    parameters = np.zeros((len(layers), 3), graph.dtype)
    for row, layer in zip(parameters, layers, strict=True):
        given = layer.activation.parameters if layer.activation else ()
        row[: len(given)] = given
    return Program(
        widths=np.array([kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)], np.int64),
        codes=np.array(codes, np.int64),
        parameters=parameters,
        weights=_flat(kernels),
        transposes=_flat([kernel.T for kernel in kernels]),
        biases=_flat(biases),
        matrices=_starts([kernel.size for kernel in kernels]),
        units=_starts([bias.size for bias in biases]),
    )
