"""What `to_keras` writes: read back it is the same network, and current Keras opens it with the same values."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import refgrad
from refgrad.activations import ACTIVATIONS
from refgrad.agreement import compare
from refgrad.errors import UnsupportedError
from refgrad.graph import Provenance, chain
from refgrad.keras.recipes import RECIPES
from refgrad.keras.write import encoded
from refgrad.network import Network, answer
from refgrad.ops import OPS, Affine, Elementwise
from tests import accuracy
from tests.cases import CASES, GOLDEN, WRITERS
from tests.graphs import examples

SUFFIXES = (".keras", ".h5")
STEMS = [f"{name}-{writer}" for name in ("branches", "layers", "mixed", "twelve") for writer in WRITERS]

REFUSED = {
    ("relu", (6.0, -0.1, 0.0)),
    ("relu", (np.inf, 0.0, -0.5)),
    ("celu", (-1.0,)),
    ("soft_shrink", (-1.0,)),
    ("threshold", (-1.0, 0.0)),
    ("threshold", (0.5, -1.0)),
    ("threshold", (1.0, 20.0)),
}
"""Activations with parameters that no layer of Keras 3 computes with."""


def again(net, suffix):
    return refgrad.load(encoded(net, suffix))


def inputs_of(net, samples=5):
    rng = np.random.default_rng(3)
    return [rng.normal(size=(samples, *shape)).astype(net.dtype) for shape in net.input_shapes]


def check_same(net, other, xs):
    """The same values and Jacobians, but near kinks, and the same ends."""
    assert other.input_names == net.input_names
    assert other.output_names == net.output_names or ("/" in net.output_names[0] and len(net.output_names) == 1)
    assert (other.dtype, other.input_shapes, other.output_shapes) == (net.dtype, net.input_shapes, net.output_shapes)
    found = compare(net.graph, xs, answer(net, xs, "numpy"), answer(other, xs, "numpy"))
    assert found.agrees.all()


def in_keras(net, xs, suffix, path):
    """What current Keras computes from the file, by output."""
    keras = pytest.importorskip("keras")
    refgrad.to_keras(net, path / f"net{suffix}")
    keras.backend.clear_session()
    model = keras.models.load_model(path / f"net{suffix}", compile=False)
    assert [tensor.name for tensor in model.inputs] == list(net.input_names)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using a softmax over axis")
        found = model(xs if len(xs) > 1 else xs[0], training=False)
    return [np.asarray(y) for y in (found if isinstance(found, list | tuple) else [found])]


def check_in_keras(net, xs, suffix, path, relative=None):
    relative = relative or {"float32": 1e-5, "float64": 1e-12}[net.dtype.name]
    ours = answer(net, xs, "numpy").values
    for mine, theirs in zip(ours, in_keras(net, xs, suffix, path), strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        assert np.abs(mine - theirs).max() <= relative * max(np.abs(mine).max(), 1e-3)


def test_every_op_has_a_recipe():
    assert set(RECIPES) | {"source"} == set(OPS)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_comes_back(case, suffix):
    other = again(case.net, suffix)
    check_same(case.net, other, [case.x])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stem", STEMS)
def test_a_golden_network_comes_back(stem, suffix):
    net = refgrad.load(GOLDEN / f"{stem}.keras")
    for dtype in ("float32", "float64"):
        check_same(net.astype(dtype), again(net.astype(dtype), suffix), inputs_of(net.astype(dtype)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stem", ["question-keras3", "twelve-keras3"])
def test_what_keras_3_wrote_comes_back_to_the_last_bit(stem, suffix):
    net = refgrad.load(GOLDEN / f"{stem}.keras")
    assert again(net, suffix).digest == net.digest


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stem", STEMS)
def test_keras_opens_a_golden_network(stem, suffix, tmp_path):
    net = refgrad.load(GOLDEN / f"{stem}.keras")
    for dtype in ("float32", "float64"):
        check_in_keras(net.astype(dtype), inputs_of(net.astype(dtype)), suffix, tmp_path)


def elementwise_net(name, parameters, dtype):
    ops = [("first", Affine(np.array([[1.5, -0.5, 0.7], [0.3, 1.1, -2.0]]), np.array([0.1, -0.2, 0.3])))]
    ops += [("f", Elementwise(name, parameters)), ("last", Affine(np.array([[1.0], [0.5], [-0.25]])))]
    return Network(chain((2,), ops, np.dtype(dtype), Provenance()))


ROWS = [(name, parameters) for name in ACTIVATIONS for row, parameters in accuracy.ROWS if row == name]
ROWS += [
    ("relu", (np.inf, 0.1, 0.0)),
    ("relu", (0.1, 0.3, 0.05)),
    ("relu", (np.inf, -0.1, 0.0)),
    ("celu", (0.3,)),
    ("squareplus", (0.7,)),
    ("hard_shrink", (0.3,)),
    ("soft_shrink", (0.3,)),
    ("soft_shrink", (0.0,)),
    ("threshold", (0.3, 0.0)),
    *sorted(REFUSED),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "parameters"), ROWS)
def test_every_activation_comes_back_or_is_refused(name, parameters, dtype):
    net = elementwise_net(name, parameters, dtype)
    for suffix in SUFFIXES:
        if (name, parameters) in REFUSED:
            with pytest.raises(UnsupportedError, match=f"layer 'f': the activation {name}"):
                again(net, suffix)
        else:
            check_same(net, again(net, suffix), inputs_of(net, 50))


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keras_computes_every_activation(dtype, suffix, tmp_path):
    for name, parameters in ROWS:
        net = elementwise_net(name, parameters, dtype)
        if (name, parameters) in REFUSED:
            continue
        # TensorFlow's GELU holds 1/√2 as a float32.
        relative = 1e-7 if (name, dtype) == ("gelu", "float64") else None
        check_in_keras(net, inputs_of(net, 50), suffix, tmp_path, relative)


def can_be_written(net):
    rows = [(node.op.activation, node.op.parameters) for node in net.graph.nodes if isinstance(node.op, Elementwise)]
    return REFUSED.isdisjoint(rows)


SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_random_graphs_come_back(suffix):
    @SETTINGS
    @given(examples())
    def check(example):
        assume(can_be_written(example.net))
        check_same(example.net, again(example.net, suffix), list(example.x.values()))

    check()


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_keras_opens_random_graphs(suffix, tmp_path):
    pytest.importorskip("keras")

    @SETTINGS
    @given(examples())
    def check(example):
        net, xs = example.net, list(example.x.values())
        assume(can_be_written(net))
        point = compare(net.graph, xs, answer(net, xs, "numpy"), answer(net, xs, "numpy"))
        gelu = any(getattr(node.op, "activation", "") == "gelu" for node in net.graph.nodes)
        if not point.kinks.jump.any():
            check_in_keras(net, xs, suffix, tmp_path, 1e-6 if gelu else 1e-10)

    check()
