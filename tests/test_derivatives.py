"""Every derivative of every case: against the truth, against its adjoint, and against every other way to it."""

from __future__ import annotations

from functools import cache, partial
from itertools import dropwhile, pairwise

import numpy as np
import pytest

import refgrad
from refgrad.derivatives import order, products, spans
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.ops import Add, Affine, Elementwise, Source
from tests.cases import CASES, away_from_kinks, tolerance

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_engine = pytest.mark.parametrize("engine", ["numpy", "numba"])
every_mode = pytest.mark.parametrize("mode", ["forward", "reverse"])
RNG = np.random.default_rng(99)


def close(ours, theirs, relative):
    scale = np.abs(theirs).max(initial=0)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * scale)


@every_case
@every_engine
def test_value_is_the_truth(case, engine):
    close(case.net(case.x, engine=engine), case.truth[0], tolerance(case))


@every_case
@every_engine
@every_mode
def test_jacobian_is_the_truth(case, engine, mode):
    away = away_from_kinks(case)
    assert away.mean() >= 0.9
    y, jacobian = case.net.value_and_jacobian(case.x, engine=engine, mode=mode)
    close(jacobian[away], case.truth[1][away], tolerance(case))
    close(y, case.truth[0], tolerance(case))


@every_case
def test_jvp_is_the_jacobian_times_the_tangent(case):
    tangents = RNG.normal(size=(3, *case.x.shape)).astype(case.net.dtype)
    y, products = case.net.jvp(case.x, tangents)
    away = away_from_kinks(case)
    wanted = np.einsum("bji,kbi->kbj", case.truth[1], tangents.astype("float64"))
    close(products[:, away], wanted[:, away], 4 * tolerance(case))
    close(y, case.truth[0], tolerance(case))
    close(case.net.jvp(case.x, tangents[1])[1], products[1], tolerance(case))


@every_case
def test_vjp_is_the_transposed_jacobian_times_the_cotangent(case):
    cotangents = RNG.normal(size=(3, *case.truth[0].shape)).astype(case.net.dtype)
    y, products = case.net.vjp(case.x, cotangents)
    away = away_from_kinks(case)
    wanted = np.einsum("bji,kbj->kbi", case.truth[1], cotangents.astype("float64"))
    close(products[:, away], wanted[:, away], 4 * tolerance(case))
    close(y, case.truth[0], tolerance(case))
    close(case.net.vjp(case.x, cotangents[2])[1], products[2], tolerance(case))


@every_case
def test_vjp_is_the_adjoint_of_jvp(case):
    tangent = RNG.normal(size=case.x.shape).astype(case.net.dtype)
    cotangent = RNG.normal(size=case.truth[0].shape).astype(case.net.dtype)
    pushed, pulled = case.net.jvp(case.x, tangent)[1], case.net.vjp(case.x, cotangent)[1]
    forward = (cotangent.astype("float64") * pushed).sum(axis=1)
    backward = (pulled.astype("float64") * tangent).sum(axis=1)
    scale = np.abs(cotangent.astype("float64") * pushed).sum(axis=1).max()
    np.testing.assert_allclose(forward, backward, rtol=0, atol=4 * tolerance(case) * scale)


@every_case
def test_forward_and_reverse_are_the_same_product(case):
    for engine in ("numpy", "numba"):
        forward, reverse = (case.net.jacobian(case.x, mode=mode, engine=engine) for mode in ("forward", "reverse"))
        close(forward, reverse, tolerance(case))


@every_case
@every_engine
def test_a_batch_is_its_samples(case, engine):
    """To rounding: BLAS adds in another order for one row. In the kernels samples never meet: to the bit."""
    y, jacobian = case.net.value_and_jacobian(case.x, engine=engine)
    backwards = case.net.jacobian(case.x[::-1], engine=engine)[::-1]
    samples = [x[0] if case.x.shape[1] == 1 else x for x in case.x]
    singles = [case.net.value_and_jacobian(x, engine=engine) for x in samples]
    assert {(one[0].shape, one[1].shape) for one in singles} == {(y.shape[1:], jacobian.shape[1:])}
    same = np.testing.assert_array_equal if engine == "numba" else partial(close, relative=tolerance(case))
    same(np.stack([one[0] for one in singles]), y)
    same(np.stack([one[1] for one in singles]), jacobian)
    same(backwards, jacobian)


@every_case
@every_engine
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_new_writable_arrays_of_the_networks_dtype(case, engine, dtype):
    net = case.net.astype(dtype)
    given = case.x.astype(dtype)
    before = given.copy()
    ones = np.ones((len(given), *net.output_shapes[0]))
    results = [
        net(given, engine=engine),
        *net.value_and_jacobian(given, engine=engine),
        *net.jvp(given, given),
        *net.vjp(given, ones),
    ]
    assert {result.dtype for result in results} == {np.dtype(dtype)}
    for result in results:
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert result.base is None or result.base.flags.owndata
        result[...] = 7
    np.testing.assert_array_equal(given, before)


@every_case
def test_gradient_is_the_only_row_of_the_jacobian(case):
    if case.net.output_shapes == ((1,),):
        np.testing.assert_array_equal(case.net.gradient(case.x), case.net.jacobian(case.x)[:, 0])
        np.testing.assert_array_equal(case.net.gradient(case.x[0, 0]), case.net.jacobian(case.x[0, 0])[0])
    else:
        with pytest.raises(refgrad.InputError, match=r"one output number per sample.*use jacobian"):
            case.net.gradient(case.x)


@every_case
def test_no_samples_give_empty_results(case):
    for engine in ("numpy", "numba"):
        for mode in ("forward", "reverse"):
            y, jacobian = case.net.value_and_jacobian(case.x[:0], engine=engine, mode=mode)
            assert y.shape == (0, *case.net.output_shapes[0])
            assert jacobian.shape == (0, *case.net.output_shapes[0], *case.net.input_shapes[0])


def dense(widths, activations):
    rng = np.random.default_rng(0)
    pairs = zip(widths[:-1], widths[1:], activations, strict=True)
    return refgrad.Network.sequential([(rng.normal(size=(n, m)), None, f) for n, m, f in pairs]).graph


def cost(graph, mode):
    return order.order(graph, order.whole(graph), mode).cost


def test_cost_counts_multiply_adds_after_the_first_activation():
    graph = dense((3, 5, 7, 2), ("tanh", "relu", "linear"))
    assert cost(graph, "forward") == 3 * (5 + 5 * 7 + 7 + 7 * 2)
    assert cost(graph, "reverse") == 2 * (3 * 5 + 5 + 5 * 7 + 7)
    assert order.from_an_end(graph, order.whole(graph)).mode == "reverse"


def least_cost(sizes, costs, linear):
    """Of a chain's Jacobian, by trying everything; linear maps next to unit vectors are free."""

    def unit(path):
        return sum(costs[k] for k in dropwhile(lambda k: linear[k], path))

    @cache
    def least(i, j):
        path = range(i + 1, j + 1)
        ways = [sizes[i] * unit(path), sizes[j] * unit(reversed(path))]
        for k in range(i + 1, j):
            left, right = least(k, j), least(i, k)
            ways.append(right + sizes[i] * sum(costs[k + 1 : j + 1]))
            ways.append(left + sizes[j] * sum(costs[i + 1 : k + 1]))
            ways.append(left + right + sizes[i] * sizes[k] * sizes[j])
        return min(ways)

    return least(0, len(sizes) - 1)


@pytest.mark.parametrize(
    "widths", [(40, 30, 2, 30, 40), (20, 2, 20, 20, 3, 20), (30, 20, 2, 25, 3, 20, 30), (9, 1, 9, 8, 1, 8)]
)
def test_split_is_the_cheapest_of_all_products(widths):
    graph = dense(widths, ["tanh"] * (len(widths) - 1))
    pairs = list(pairwise(widths))
    sizes = (widths[0], *(m for _, m in pairs for _ in range(2)))
    costs = (0, *(number for n, m in pairs for number in (n * m, m)))
    linear = (False, *(kind for _ in pairs for kind in (True, False)))
    assert cost(graph, "split") == least_cost(sizes, costs, linear)


def test_cost_counts_every_input_and_every_output():
    """Inputs of 2 and 3, a tanh of each, and maps to 5 and 7, through which unit cotangents are the same for all."""
    sources = [Node(Source((n,)), (), f"x{n}") for n in (2, 3)]
    bent = [Node(Elementwise("tanh", ()), (index,), f"tanh{index}") for index in range(2)]
    maps = [Node(Affine(np.ones(shape)), (source,), str(shape)) for shape, source in (((2, 5), 2), ((3, 7), 3))]
    nodes = (*sources, *bent, *maps)
    graph = Graph(nodes, (0, 1), (4, 5), ("a", "b"), ("c", "d"), np.dtype("float64"), Provenance())
    assert cost(graph, "forward") == 2 * (2 + 2 * 5) + 3 * (3 + 3 * 7)
    assert cost(graph, "reverse") == 5 * 2 + 7 * 3


@pytest.mark.parametrize("widths", [(3, 5, 7, 2), (2, 7, 5, 3)])
@pytest.mark.parametrize("mode", ["forward", "reverse", "split"])
def test_a_mode_that_is_asked_for_is_taken_even_where_it_costs_more(widths, mode):
    graph = dense(widths, ("tanh", "relu", "relu"))
    assert order.order(graph, order.whole(graph), mode).mode == mode


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse", "split"])
def test_an_output_that_does_not_depend_on_an_input_has_zeros(mode):
    """Of c = tanh(a) and d = tanh(b), side by side."""
    bend = Elementwise("tanh", ())
    nodes = (Node(Source((2,)), (), "a"), Node(Source((3,)), (), "b"), Node(bend, (0,), "c"), Node(bend, (1,), "d"))
    graph = Graph(nodes, (0, 1), (2, 3), ("a", "b"), ("c", "d"), np.dtype("float64"), Provenance())
    x = {"a": RNG.normal(size=(4, 2)), "b": RNG.normal(size=(4, 3))}
    found = refgrad.Network(graph).jacobian(x, outputs=["c", "d"], inputs=["a", "b"], mode=mode)
    np.testing.assert_array_equal(found["c"]["b"], np.zeros((4, 2, 3)))
    np.testing.assert_array_equal(found["d"]["a"], np.zeros((4, 3, 2)))
    for output, given in (("c", "a"), ("d", "b")):
        wanted = np.eye(x[given].shape[1]) * (1 - np.tanh(x[given]) ** 2)[:, :, None]
        np.testing.assert_allclose(found[output][given], wanted, rtol=1e-14)


@pytest.mark.parametrize(
    ("widths", "activations", "end"),
    [
        ((784, 256, 10), ("relu", "linear"), "reverse"),
        ((10, 256, 784), ("relu", "linear"), "forward"),
        # A linear map costs nothing that depends on the sample, from either end: of equals the fewer vectors.
        ((9, 2), ("linear",), "reverse"),
        ((2, 9), ("linear",), "forward"),
    ],
)
def test_the_end_with_less_to_multiply_is_taken(widths, activations, end):
    graph = dense(widths, activations)
    assert order.from_an_end(graph, order.whole(graph)).mode == end


def test_cost_counts_every_position_of_leading_axes():
    steps = [("relu", Elementwise("relu", (np.inf, 0.0, 0.0))), ("dense", Affine(np.ones((3, 4))))]
    graph = chain((50, 3), steps, np.dtype("float64"), Provenance())
    assert cost(graph, "forward") == 150 * (50 * 3 + 50 * 3 * 4)


def test_auto_is_the_mode_that_costs_least():
    """To the bit: which one it is, the plan says."""
    for widths, mode in (((3, 5, 7, 2), "reverse"), ((2, 7, 5, 3), "forward"), ((40, 30, 2, 30, 40), "split")):
        net = refgrad.Network(dense(widths, ("tanh", *["relu"] * (len(widths) - 2))))
        x = RNG.normal(size=(4, widths[0]))
        assert net.plan(4, engine="numpy").mode == mode
        chosen = net.jacobian(x, mode=mode, engine="numpy")
        np.testing.assert_array_equal(net.jacobian(x, engine="numpy"), chosen)


def test_cotangents_of_a_node_that_feeds_two_add_up():
    """Outputs z = x A and y = z B: x̄ = (z̄ + ȳ Bᵀ) Aᵀ."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    nodes = (Node(Source((2,)), (), "x"), Node(Affine(a), (0,), "z"), Node(Affine(b), (1,), "y"))
    graph = Graph(nodes, (0,), (1, 2), ("x",), ("z", "y"), np.dtype("float64"), Provenance())
    point = products.linearize(graph, [rng.normal(size=(5, 2))], "keras")
    of_z, of_y = rng.normal(size=(1, 5, 3)), rng.normal(size=(1, 5, 4))
    (pulled,) = products.vjp(point, [of_z, of_y])
    np.testing.assert_allclose(pulled, (of_z + of_y @ b.T) @ a.T, rtol=1e-13)
    (only,) = products.vjp(point, [of_z, None])
    np.testing.assert_allclose(only, of_z @ a.T, rtol=1e-13)
    assert products.vjp(point, [None, None]) == [None]
    assert products.jvp(point, [None]) == [None, None]


def test_an_input_may_come_after_the_nodes_of_another():
    """Of y = tanh(tanh(a)) + b, with b's node after those of a: ∂y/∂a = (1 − t²)(1 − tanh² a), t = tanh a."""
    bend = Elementwise("tanh", ())
    nodes = (Node(Source((1,)), (), "a"), Node(bend, (0,), "t"), Node(bend, (1,), "u"), Node(Source((1,)), (), "b"))
    nodes = (*nodes, Node(Add(), (2, 3), "y"))
    graph = Graph(nodes, (0, 3), (4,), ("a", "b"), ("y",), np.dtype("float64"), Provenance())
    a, b = np.array([[0.5]]), np.array([[2.0]])
    t = np.tanh(a)
    slope = (1 - np.tanh(t) ** 2) * (1 - t**2)
    point, one = products.linearize(graph, [a, b], "keras"), np.ones((1, 1, 1))
    np.testing.assert_allclose(products.jvp(point, [one, one])[0][0], slope + 1, rtol=1e-14)
    np.testing.assert_allclose([part[0] for part in products.vjp(point, [one])], [slope, [[1]]], rtol=1e-14)


def test_an_output_may_come_before_the_nodes_of_another():
    """Outputs tanh(a), and tanh(tanh(a)) by nodes of its own."""
    bend = Elementwise("tanh", ())
    nodes = (Node(Source((1,)), (), "a"), Node(bend, (0,), "c"), Node(bend, (0,), "t"), Node(bend, (2,), "d"))
    graph = Graph(nodes, (0,), (1, 3), ("a",), ("c", "d"), np.dtype("float64"), Provenance())
    a = np.array([[0.5]])
    t = np.tanh(a)
    slopes = [1 - t**2, (1 - np.tanh(t) ** 2) * (1 - t**2)]
    point, one = products.linearize(graph, [a], "keras"), np.ones((1, 1, 1))
    np.testing.assert_allclose([part[0] for part in products.jvp(point, [one])], slopes, rtol=1e-14)
    np.testing.assert_allclose(products.vjp(point, [one, 2 * one])[0][0], slopes[0] + 2 * slopes[1], rtol=1e-14)


def test_a_span_drops_what_nothing_later_needs():
    """Of a chain of 2, 3, 3, 4 and 4 numbers at most 4 and 4 are held at once; the target is kept."""
    path = spans.span(dense((2, 3, 4), ("tanh", "tanh")), [0], [4])
    assert path.nodes == (1, 2, 3, 4)
    assert path.dropped == ((0,), (1,), (2,), (3,))
    assert path.peak == 4 + 4
