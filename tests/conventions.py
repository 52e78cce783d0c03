"""What slope each framework takes on the kinks of the activation table and of maximum, and below the normal numbers."""

from __future__ import annotations

import importlib
from functools import partial

import numpy as np

from refgrad.activations import ACTIVATIONS
from refgrad.graph import Graph, Node, Provenance
from refgrad.ops import Concatenate, Elementwise, Partial, PReLU, Source, Take
from tests.accuracy import ROWS

FRAMEWORKS = {
    "tensorflow": ("tensorflow", {}),
    "tensorflow-function": ("tensorflow", {"mode": "function"}),
    "xla": ("tensorflow", {"mode": "xla"}),
    "jax": ("jax", {}),
    "torch": ("torch", {}),
}
"""Name → its module, also that of `refgrad.auditing.frameworks`, and how it is asked."""

SUBNORMAL = 1e-39
OTHERS = {
    "maximum(x, 0)": (Partial("maximum", np.zeros(1, "float32"), 1), 0.0),
    "minimum(x, 0)": (Partial("minimum", np.zeros(1, "float32"), 1), 0.0),
    "prelu(0.25)": (PReLU(np.full(1, 0.25, "float32")), 0.0),
    "relu of a subnormal number": (Elementwise("relu", (np.inf, 0.0, 0.0)), SUBNORMAL),
}


def answering(name):
    """(graph, inputs) → what a framework says of the graph in its own ops."""
    module, options = FRAMEWORKS[name]
    return partial(importlib.import_module(f"refgrad.auditing.frameworks.{module}").answer, **options)


def places():
    """(row, parameters as text, z) → the op whose slope at z is asked for: all kinks, which float32 holds."""
    found = {
        (row, tuple(map(str, parameters)), kink.where): Elementwise(row, parameters)
        for row, parameters in [*ROWS, ("relu", (np.inf, float(np.float32(0.2)), 0.0))]
        for kink in ACTIVATIONS[row].kinks(*parameters)
    }
    return found | {(label, (), z): op for label, (op, z) in OTHERS.items()}


def measured(name):
    """The slope at every place: one graph takes a number for each to its op, so that compilers are called once."""
    found = places()
    nodes = [Node(Source((len(found),)), (), "x")]
    for index, op in enumerate(found.values()):
        nodes.append(Node(Take((index,)), (0,), f"x{index}"))
        nodes.append(Node(op.astype(np.dtype("float32")), (len(nodes) - 1,), f"y{index}"))
    last = len(nodes)
    nodes.append(Node(Concatenate(), tuple(range(2, last, 2)), "y"))
    graph = Graph(tuple(nodes), (0,), (last,), ("x",), ("y",), np.dtype("float32"), Provenance())
    z = np.array([[z for _, _, z in found]], "float32")
    slopes = np.diagonal(answering(name)(graph, [z]).jacobians[0][0][0])
    return {key: float(f"{slope:.6g}") for key, slope in zip(found, slopes, strict=True)}
