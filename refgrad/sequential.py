"""From arrays and the names of activations to the ops of Dense layers, and to a graph of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from refgrad.activations.names import NAMES, named
from refgrad.arrays import Array
from refgrad.errors import InputError, UnsupportedError, naming
from refgrad.graph import Graph, Provenance, chain, widest
from refgrad.ops import GLU, Affine, Elementwise, LogSoftmax, Op, Softmax, Sparsemax

Layer = tuple[npt.ArrayLike, npt.ArrayLike | None, str]
"""Kernel (n_in, n_out), bias (n_out,) or None, and the activation's name, as Keras calls it."""

Steps = list[tuple[str, Op]]
"""Ops one after the other, each with the name of the layer it belongs to."""

AXISWISE: Mapping[int, Mapping[str, Callable[[], Op]]] = {
    2: {"softmax": Softmax, "log_softmax": LogSoftmax},
    3: {"softmax": Softmax, "log_softmax": LogSoftmax, "sparsemax": Sparsemax, "glu": GLU},
}
"""What each generation of Keras calls activations that are no functions of one number: ops along the last axis."""


def _array(what: str, given: npt.ArrayLike, axes: int) -> Array:
    """A float array of so many axes, if it is one."""
    try:
        array = np.asarray(given)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind != "f" or array.ndim != axes:
        msg = f"{what} is {array.dtype} of shape {array.shape}; {axes}-dimensional floats are expected"
        raise InputError(msg)
    return array


def dense(name: str, kernel: Array, bias: Array | None, called: str, keras: int) -> Steps:
    """A Dense layer as ops: the affine map, and the activation after it unless that is linear."""
    return [(name, Affine(kernel, bias)), *activation(f"{name}/{called}", called, keras)]


def activation(name: str, called: str, keras: int) -> Steps:
    """What a generation of Keras calls by a name, with the parameters it then has, as an op; linear is none."""
    if called in AXISWISE[keras]:
        return [(name, AXISWISE[keras][called]())]
    row = named(called, keras)
    if row is None:
        msg = f"activation {called!r} is not one of Keras {keras}'s: {', '.join((*NAMES[keras], *AXISWISE[keras]))}"
        raise UnsupportedError(msg)
    return [] if row[0] == "linear" else [(name, Elementwise(*row))]


def graph(layers: Iterable[Layer], keras: int) -> Graph:
    """The graph of Dense layers one after the other, with the names and kink rules of a generation of Keras."""
    if keras not in (2, 3):
        msg = f"keras={keras!r} is no generation of Keras whose kink rules are known; 2 and 3 are"
        raise InputError(msg)
    steps: Steps = []
    for index, layer in enumerate(layers):
        name = f"dense_{index}"
        if not isinstance(layer, tuple | list) or len(layer) != 3 or not isinstance(layer[2], str):
            msg = f"{name}: a layer is three values, (kernel, bias or None, activation name)"
            raise InputError(msg)
        kernel, bias, called = layer
        with naming(name):
            weights = _array("kernel", kernel, 2)
            offsets = None if bias is None else _array("bias", bias, 1)
            steps += dense(name, weights, offsets, called, keras)
    if not steps:
        msg = "a network needs at least one layer"
        raise InputError(msg)
    arrays = [array for _, op in steps for array in op.arrays().values()]
    return chain(arrays[0].shape[:1], steps, widest(array.dtype for array in arrays), Provenance(keras=keras))
