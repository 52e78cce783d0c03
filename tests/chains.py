"""Every chain that kernels can run: shared by the tests of kernels and of the threads that help them."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core.config import DISABLE_JIT

import refgrad
from refgrad.activations import ACTIVATIONS
from refgrad.graph import Provenance, chain
from refgrad.kernels.lower import UNCOMPILED
from refgrad.ops import (
    Affine,
    BatchNormalization,
    Elementwise,
    LogSoftmax,
    Normalization,
    PReLU,
    Rescaling,
    Reshape,
    Softmax,
)

SAMPLES = 20 if DISABLE_JIT else 200  # a Python loop, run for the coverage of the kernels' lines

ROWS = {name: row for name, row in ACTIVATIONS.items() if name not in UNCOMPILED}


def network(*steps, shape=(2,), dtype="float64"):
    return chain(shape, [(f"step_{k}", op) for k, op in enumerate(steps)], np.dtype(dtype), Provenance())


def _chains():
    """Every activation of the table between two layers, and everything else that a chain may hold, by name."""
    rng = np.random.default_rng(11)

    def affine(n_in, n_out, bias=True):
        return Affine(rng.normal(size=(n_in, n_out)), rng.normal(size=n_out) if bias else None)

    def positive(*shape):
        return rng.uniform(0.3, 2, size=shape)

    for name, row in ROWS.items():
        yield name, (4,), [affine(4, 7), Elementwise(name, row.defaults), affine(7, 3)]
    batch = BatchNormalization(rng.normal(size=7), positive(7), positive(7), rng.normal(size=7))
    bare = BatchNormalization(rng.normal(size=7), positive(7))
    far = Normalization(1e3 + positive(4), positive(4))
    relu, tanh = Elementwise("relu", (np.inf, 0.0, 0.0)), Elementwise("tanh")
    yield "batch normalisation after", (4,), [affine(4, 7), relu, batch, affine(7, 3)]
    yield "batch normalisation between", (4,), [affine(4, 7, bias=False), bare, tanh, affine(7, 3)]
    yield "normalised inputs", (4,), [Normalization(rng.normal(size=4), positive(4)), affine(4, 5), tanh]
    yield "inputs far from 0", (4,), [Rescaling(np.array(1.0), np.full(4, 1e3)), far, affine(4, 5), relu, affine(5, 2)]
    undone = Normalization(rng.normal(size=3), positive(3), invert=True)
    yield "normalisation undone", (4,), [affine(4, 7), relu, affine(7, 3), undone]
    yield "rescaled by numbers", (4,), [Rescaling(np.array(0.5), np.array(-0.1)), affine(4, 3), tanh]
    yield "prelu", (4,), [affine(4, 7), PReLU(rng.normal(size=7)), affine(7, 3)]
    yield "prelu of one slope", (4,), [affine(4, 7), PReLU(np.array([0.3])), affine(7, 3)]
    yield "softmax", (4,), [affine(4, 7), relu, affine(7, 5), Softmax()]
    yield "softmax of one layer", (4,), [affine(4, 5), Softmax()]
    yield "log softmax", (4,), [affine(4, 7), tanh, affine(7, 5), LogSoftmax()]
    yield "flattened", (3, 2), [Reshape((6,)), affine(6, 7), relu, affine(7, 4), Reshape((2, 2))]
    yield "flattened after a PReLU", (3, 2), [PReLU(rng.normal(size=2)), Reshape((6,)), affine(6, 3)]
    yield "a row of features", (1, 1, 4), [affine(4, 7), relu, affine(7, 3), Softmax()]
    yield "activations in a row", (4,), [affine(4, 7), tanh, relu, tanh, affine(7, 3), Elementwise("softplus")]
    yield "an activation first", (4,), [tanh, affine(4, 3)]
    yield "wider than a panel", (40,), [affine(40, 70), relu, affine(70, 34), tanh, affine(34, 37)]
    narrow = [affine(50, 40), relu, affine(40, 3), tanh, affine(3, 36), relu, affine(36, 45)]
    yield "narrow in the middle", (50,), narrow
    yield "several panels at once", (5,), [affine(5, 150), relu, affine(150, 135), relu, affine(135, 13)]


CHAINS = {name: (shape, steps) for name, shape, steps in _chains()}
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
every_chain = pytest.mark.parametrize("name", CHAINS)


def chained(name, dtype):
    """A network of `CHAINS`, and inputs."""
    shape, steps = CHAINS[name]
    net = refgrad.Network(network(*steps, shape=shape, dtype=dtype))
    return net, np.random.default_rng(12).normal(size=(SAMPLES, *shape)).astype(dtype)
