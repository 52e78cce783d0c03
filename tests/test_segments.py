"""Chains in graphs that are none: the kernels run them, NumPy joins them, and the numbers are NumPy's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import refgrad
from refgrad.agreement import compare
from refgrad.graph import Graph, Node, Provenance
from refgrad.kernels import run
from refgrad.kernels.segments import chains
from refgrad.network import answer
from refgrad.ops import (
    Add,
    Affine,
    BatchNormalization,
    Concatenate,
    Elementwise,
    LayerNormalization,
    Permute,
    PReLU,
    Reshape,
    Softmax,
    Source,
    Take,
)

RELU, TANH = Elementwise("relu", (np.inf, 0.0, 0.0)), Elementwise("tanh")


class _Rows:
    """A graph written down node by node; each call gives the node's place."""

    def __init__(self, seed=3):
        self.rng, self.nodes = np.random.default_rng(seed), []

    def __call__(self, op, *inputs):
        self.nodes.append(Node(op, inputs, f"node_{len(self.nodes)}"))
        return len(self.nodes) - 1

    def affine(self, n, m):
        return Affine(self.rng.normal(size=(n, m)) / np.sqrt(n), self.rng.normal(size=m))

    def graph(self, *outputs):
        inputs = tuple(index for index, node in enumerate(self.nodes) if not node.inputs)
        names = (tuple(f"x{index}" for index in inputs), tuple(f"y{index}" for index in outputs))
        return Graph(tuple(self.nodes), inputs, outputs, *names, np.dtype("float64"), Provenance())


def _residual():
    add = _Rows()
    at = add(add.affine(4, 20), add(Source((4,))))
    for act in (RELU, TANH):
        at = add(Add(), add(add.affine(20, 20), add(act, add(add.affine(20, 20), at))), at)
    return add.graph(add(add.affine(20, 3), at)), [(1,), (2, 3, 4), (6, 7, 8), (10,)]


def _critic():
    add = _Rows()
    state, action = add(Source((3,))), add(Source((2,)))
    seen = add(RELU, add(add.affine(3, 40), state))
    both = add(Concatenate(), seen, add(TANH, add(add.affine(2, 7), action)))
    batch = BatchNormalization(add.rng.normal(size=30), add.rng.uniform(0.5, 2, size=30))
    last = add(add.affine(30, 1), add(PReLU(add.rng.normal(size=30)), add(batch, add(add.affine(47, 30), both))))
    return add.graph(last), [(2, 3), (4, 5), (7, 8, 9, 10)]


def _two_heads():
    add = _Rows()
    trunk = add(RELU, add(add.affine(6, 9), add(Reshape((6,)), add(Source((2, 3))))))
    policy = add(Softmax(), add(add.affine(9, 4), trunk))
    return add.graph(policy, add(add.affine(9, 1), trunk)), [(1, 2, 3), (4, 5), (6,)]


def _softmax_inside():
    add = _Rows()
    weighed = add(Softmax(), add(add.affine(3, 5), add(Source((3,)))))
    return add.graph(add(add.affine(5, 2), add(TANH, weighed))), [(1, 2), (3, 4)]


def _turned():
    add = _Rows()
    turned = add(Reshape((6,)), add(Permute((-1, -2)), add(TANH, add(Source((2, 3))))))
    cut = add(Take((3, 1), -1), add(RELU, add(add.affine(6, 8), turned)))
    return add.graph(add(Concatenate(), add(add.affine(2, 3), cut), turned)), [(1,), (3,), (4, 5), (7,)]


def _normalised():
    add = _Rows()
    at = add(RELU, add(add.affine(3, 8), add(Source((3,)))))
    norm = add(LayerNormalization(np.full(8, 1.1), np.full(8, 0.1)), at)
    return add.graph(add(add.affine(8, 2), add(RELU, norm))), [(1, 2), (4, 5)]


def _read_on_the_way():
    add = _Rows()
    hidden = add(TANH, add(add.affine(3, 4), add(Source((3,)))))
    return add.graph(hidden, add(add.affine(4, 2), hidden)), [(1, 2), (3,)]


def _shared():
    add = _Rows()
    one, other = add(Source((3,))), add(Source((3,)))
    layer = add.affine(3, 4)
    return add.graph(add(Add(), add(RELU, add(layer, one)), add(RELU, add(layer, other)))), [(2, 3), (4, 5)]


GRAPHS = {
    "residual": _residual(),
    "critic": _critic(),
    "two heads": _two_heads(),
    "a softmax inside": _softmax_inside(),
    "turned": _turned(),
    "normalised": _normalised(),
    "an output on the way": _read_on_the_way(),
    "a shared layer": _shared(),
}
every_graph = pytest.mark.parametrize("name", GRAPHS)


def given(name, dtype="float64", samples=90):
    net = refgrad.Network(GRAPHS[name][0]).astype(dtype)
    rng = np.random.default_rng(4)
    return net, {end: rng.normal(size=(samples, *net.graph.shapes[at])).astype(dtype)
                 for end, at in zip(net.input_names, net.graph.inputs, strict=True)}  # fmt: skip


@every_graph
def test_chains_are_the_longest_there_are(name):
    graph, expected = GRAPHS[name]
    assert list(chains(graph)) == expected
    dense = sum(any(isinstance(graph.nodes[index].op, Affine) for index in row) for row in expected)
    assert f"numba for {dense} chain" in refgrad.Network(graph).engine


@every_graph
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse", "split"])
def test_values_and_jacobians_are_numpys(name, dtype, mode):
    net, x = given(name, dtype)
    arrays = list(x.values())
    agreement = compare(net.graph, arrays, answer(net, arrays, engine="auto"), answer(net, arrays, engine="numpy"))
    assert agreement.agrees.all()
    assert agreement.judged.mean() >= 0.9
    plan = net.plan(90, mode=mode, outputs=list(net.output_names))
    assert plan.engine == "mixed"
    assert "numba for chains only" in plan.why
    u = 1e-5 if dtype == "float32" else 1e-12
    for out in net.output_names:
        for found, wanted in zip(
            *(net.jacobian(x, outputs=out, mode=mode, engine=engine, inputs=list(x)).values()
              for engine in ("auto", "numpy")), strict=True,
        ):  # fmt: skip
            np.testing.assert_allclose(found, wanted, rtol=0, atol=u * np.abs(wanted).max())


@every_graph
def test_products_are_those_of_the_jacobian(name):
    net, x = given(name)
    rng = np.random.default_rng(5)
    tangent = {end: rng.normal(size=(3, *array.shape)) for end, array in x.items()}
    for one, other in zip(net.jvp(x, tangent), net.jvp(x, tangent, engine="numpy"), strict=True):
        close(one, other)
    y = net(x)
    cotangent = (
        {end: rng.normal(size=value.shape) for end, value in y.items()} if isinstance(y, dict) else np.ones_like(y)
    )
    for one, other in zip(net.vjp(x, cotangent), net.vjp(x, cotangent, engine="numpy"), strict=True):
        close(one, other)


def close(one, other):
    pairs = [(one[end], other[end]) for end in one] if isinstance(one, dict) else [(one, other)]
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


@every_graph
def test_a_sample_has_the_same_bits_in_any_batch_on_any_number_of_threads(name, monkeypatch):
    """Of what NumPy does here, nothing calls BLAS."""
    net, x = given(name, "float32")
    whole = net.value_and_jacobian(x, outputs=0, inputs=0)
    monkeypatch.setattr("refgrad.planning.WORTH_A_THREAD", 100)
    assert net.plan(90, threads=3).threads == 3
    shared = net.value_and_jacobian(x, outputs=0, inputs=0, threads=3)
    some = net.value_and_jacobian({end: array[5:12] for end, array in x.items()}, outputs=0, inputs=0)
    for all_of_it, by_three, few in zip(whole, shared, some, strict=True):
        np.testing.assert_array_equal(by_three, all_of_it)
        np.testing.assert_array_equal(few, all_of_it[5:12])
    again, once = net(x, threads=3), net(x, threads=1)
    for end in again if isinstance(again, dict) else [...]:
        np.testing.assert_array_equal(again[end], once[end])


@every_graph
def test_kernels_are_given_arrays_as_they_were_compiled_for(name):
    """A view of another array would do, after seconds of compiling for it."""
    net, x = given(name)
    net.vjp(x, {end: np.ones((90, *shape)) for end, shape in zip(net.output_names, net.output_shapes, strict=True)})
    net.jvp(x, x)
    net(x, threads=2)
    asked = {"plain": "plain", "sharing": "share", "together": "share_layers"}
    for module, kernel in asked.items():
        for signature in getattr(run._compiled(module), kernel).nopython_signatures:
            assert {kind.layout for kind in signature.args if hasattr(kind, "layout")} == {"C"}


@pytest.mark.parametrize("kink", ["keras", "left", "right", "mean"])
def test_slopes_at_kinks_are_the_policys(kink):
    net, x = given("two heads")
    on = {end: np.zeros_like(array) for end, array in x.items()}
    flat = net.graph.nodes[2].op
    graph = replace(net.graph, nodes=tuple(
        Node(Affine(flat.kernel), node.inputs, node.name) if index == 2 else node
        for index, node in enumerate(net.graph.nodes)
    ))  # fmt: skip
    net = refgrad.Network(graph)
    assert net.plan(3, kink=kink).engine == "mixed"
    for out in net.output_names:
        wanted = net.jacobian(on, outputs=out, kink=kink, engine="numpy")
        assert (wanted != 0).any() == (kink != "left" and kink != "keras")
        np.testing.assert_allclose(net.jacobian(on, outputs=out, kink=kink), wanted, rtol=1e-12, atol=1e-15)


def test_engines_that_are_asked_for():
    net, x = given("critic")
    assert net.plan(5, engine="numba").engine == net.plan(5).engine == "mixed"
    assert net.plan(5, engine="numpy").engine == net.plan(5, kink="raise").engine == "numpy"
    close(net(x, engine="numba"), net(x, engine="numpy"))
    with pytest.raises(refgrad.UnsupportedError, match="engine='numba' cannot run this: kernels have no kink='raise'"):
        net.jacobian(x, engine="numba", kink="raise")


def test_a_part_without_a_chain_is_numpys():
    add = _Rows()
    start = add(Source((3,)))
    net = refgrad.Network(add.graph(add(TANH, add(Add(), start, start)), add(RELU, add(add.affine(3, 2), start))))
    assert [net.plan(2, outputs=out).engine for out in (0, 1, [0, 1])] == ["numpy", "mixed", "mixed"]


def test_chains_of_the_same_ops_hold_their_weights_once():
    graph = GRAPHS["a shared layer"][0]
    net = refgrad.Network(graph)
    held = {id(node.op.runner) for node in net._engines.joined.nodes if hasattr(node.op, "runner")}
    assert len(held) == 1


def test_where_the_chains_would_do_far_more_it_is_numpy():
    """A narrow place inside a chain is where NumPy splits; between chains kernels cannot."""
    add = _Rows()
    start = add(Source((200,)))
    narrow = add(TANH, add(add.affine(200, 2), start))
    wide = add(add.affine(200, 200), add(TANH, add(add.affine(2, 200), narrow)))
    net = refgrad.Network(add.graph(add(Add(), wide, add(TANH, wide))))
    assert net.plan(10).engine == "numpy"
    assert net.plan(10, engine="numba").engine == "mixed"


def test_derivatives_of_wide_layers_are_left_to_blas():
    add = _Rows()
    start = add(add.affine(3, 200), add(Source((3,))))
    wide = add(add.affine(200, 200), add(TANH, add(add.affine(200, 200), start)))
    net = refgrad.Network(add.graph(add(add.affine(200, 2), add(Add(), start, wide))))
    plans = [net.plan(samples, engine=engine) for samples, engine in ((1, "auto"), (1000, "auto"), (1000, "numba"))]
    assert [plan.engine for plan in plans] == ["mixed", "numpy", "mixed"]
    x = np.random.default_rng(6).normal(size=(200, 3))
    by_blas, by_kernels = (net.vjp(x, np.ones((200, 2)), engine=engine)[1] for engine in ("auto", "numba"))
    assert not np.array_equal(by_blas, by_kernels)
    close(by_blas, by_kernels)
    np.testing.assert_array_equal(net(x), net(x, engine="numba"))


def test_without_numba_it_is_numpy(monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    run.unavailable.cache_clear()
    net, x = given("critic")
    assert net.plan(5).engine == "numpy"
    assert net.engine.startswith("numpy (")
    assert net(x).shape == (90, 1)
    with pytest.raises(refgrad.errors.MissingExtraError, match="extra 'jit'"):
        net(x, engine="numba")
    run.unavailable.cache_clear()
