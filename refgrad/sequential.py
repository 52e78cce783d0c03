"""From arrays given by hand to a graph."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from refgrad.activations import ACTIVATIONS
from refgrad.arrays import Array
from refgrad.errors import InputError, UnsupportedError
from refgrad.graph import Graph, Provenance, chain, widest
from refgrad.ops import Affine, Elementwise, Op

Layer = tuple[npt.ArrayLike, npt.ArrayLike | None, str]
"""Kernel (n_in, n_out), bias (n_out,) or None, and the activation's name."""


def _array(name: str, what: str, given: npt.ArrayLike, axes: int) -> Array:
    """A float array of so many axes, if it is one."""
    try:
        array = np.asarray(given)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind != "f" or array.ndim != axes:
        msg = f"{name}: {what} is {array.dtype} of shape {array.shape}; {axes}-dimensional floats are expected"
        raise InputError(msg)
    return array


def _affine(name: str, kernel: npt.ArrayLike, bias: npt.ArrayLike | None) -> Affine:
    """The affine map of two given arrays, if they are that."""
    weights = _array(name, "kernel", kernel, 2)
    if bias is None:
        return Affine(weights)
    offsets = _array(name, "bias", bias, 1)
    if offsets.shape != weights.shape[1:]:
        msg = f"{name}: bias has shape {offsets.shape}; the kernel {weights.shape} needs {weights.shape[1:]}"
        raise InputError(msg)
    return Affine(weights, offsets)


def graph(layers: Iterable[Layer], keras: int) -> Graph:
    """The graph of Dense layers one after the other, with the kink rules of a generation of Keras."""
    steps: list[tuple[str, Op]] = []
    for index, layer in enumerate(layers):
        name = f"dense_{index}"
        if not isinstance(layer, tuple | list) or len(layer) != 3:
            msg = f"{name}: a layer is three values, (kernel, bias or None, activation name)"
            raise InputError(msg)
        kernel, bias, activation = layer
        steps.append((name, _affine(name, kernel, bias)))
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            msg = f"{name}: activation {activation!r} is not one of {', '.join(ACTIVATIONS)}"
            raise UnsupportedError(msg)
        if activation != "linear":
            steps.append((f"{name}/{activation}", Elementwise(activation, ACTIVATIONS[activation].defaults)))
    first = steps[0][1] if steps else None
    if not isinstance(first, Affine):
        msg = "a network needs at least one layer"
        raise InputError(msg)
    if keras not in (2, 3):
        msg = f"keras={keras!r} is no generation of Keras whose kink rules are known; 2 and 3 are"
        raise InputError(msg)
    dtype = widest(array.dtype for _, op in steps for array in op.arrays().values())
    return chain(first.kernel.shape[:1], steps, dtype, Provenance(keras=keras))
