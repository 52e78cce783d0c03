"""The staircase of a piecewise-linear network of one input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import refgrad
from refgrad.activations import ACTIVATIONS
from refgrad.breakpoints import PIECEWISE_LINEAR, _gaps, obstacle, staircase
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.kernels.run import installed
from refgrad.ops import Add, Affine, BatchNormalization, Elementwise, Source
from refgrad.rounding import tolerance
from tests import cases

F64, FROM, RELU = np.dtype("float64"), Provenance(), ACTIVATIONS["relu"].defaults


def random_layers(widths, activation, dtype, seed=0):
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(widths))
    return [
        (
            (rng.standard_normal(pair) * np.sqrt(2 / pair[0])).astype(dtype),
            (0.3 * rng.standard_normal(pair[1])).astype(dtype),
            activation if place < len(pairs) - 1 else "linear",
        )
        for place, pair in enumerate(pairs)
    ]


def residual(dtype):
    """y = relu(x + W relu(V x + b)) summed, with a BatchNormalization on the way."""
    rng = np.random.default_rng(5)

    def of(*shape):
        return rng.standard_normal(shape).astype(dtype)

    nodes = [
        Node(Source((1,)), (), "x"),
        Node(Affine(of(1, 12), of(12)), (0,), "wide"),
        Node(Elementwise("relu", RELU), (1,), "on"),
        Node(BatchNormalization(of(12), np.abs(of(12)), of(12), of(12)), (2,), "norm"),
        Node(Add(), (1, 3), "sum"),
        Node(Elementwise("relu", (np.inf, 0.25, 0.0)), (4,), "leaky"),
        Node(Affine(of(12, 2), of(2)), (5,), "out"),
    ]
    return Graph(tuple(nodes), (0,), (6,), ("x",), ("out",), np.dtype(dtype), Provenance())


GRAPHS = {
    "question": lambda dtype: refgrad.load(cases.GOLDEN / "question-keras3.keras").astype(dtype).graph,
    "deep": lambda dtype: refgrad.Network.sequential(random_layers((1, 24, 24, 24, 3), "relu", dtype)).graph,
    "clipped": lambda dtype: refgrad.Network.sequential(random_layers((1, 16, 16, 1), "hard_sigmoid", dtype, 1)).graph,
    "older clips": lambda dtype: (
        refgrad.Network.sequential(random_layers((1, 16, 16, 1), "hard_sigmoid", dtype, 2), keras=2).graph
    ),
    "residual": residual,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GRAPHS)
def test_it_gives_what_the_network_gives(name, dtype):
    graph = GRAPHS[name](dtype)
    assert obstacle(graph) is None
    table = staircase(graph)
    # everywhere the table answers, and close to both ends of its intervals, where a wrong zone would show
    rng = np.random.default_rng(7)
    ends = np.concatenate([table.starts, table.ends])
    t = np.concatenate([rng.uniform(-8, 8, 4_000), *(ends * (1 + k * np.finfo(dtype).eps) for k in range(-6, 7))])
    x = t.astype(dtype)[:, None]
    places, inside = table.places(x[:, 0].astype(float))
    assert inside[:4_000].mean() > 0.99
    assert 0.05 < inside[4_000:].mean() < 0.95
    wide = refgrad.Network(graph.astype(np.dtype("float64")))
    y, jacobian = wide.value_and_jacobian(x.astype(float), engine="numpy")
    slopes = table.slopes[places]
    values = table.offsets[places] + slopes * x
    assert np.abs(slopes - jacobian[:, :, 0])[inside].max() <= 1e-12 * np.abs(jacobian).max()
    assert np.abs(values - y)[inside].max() <= 1e-12 * np.abs(y).max()
    # and rounding to the network's dtype does not change a slope there
    own = refgrad.Network(graph).jacobian(x, engine="numpy")[:, :, 0]
    assert np.abs(slopes - own)[inside].max() <= tolerance(graph) * np.abs(own).max()


def test_the_number_of_steps_is_the_number_of_slopes():
    """relu(x) + relu(2 − x) + relu(x − 5): 0 at x < 0 is the only place nobody counts; kinks at 0, 2 and 5."""
    net = refgrad.Network.sequential(
        [
            (np.array([[1.0, -1.0, 1.0]]), np.array([0.0, 2.0, -5.0]), "relu"),
            (np.ones((3, 1)), np.zeros(1), "linear"),
        ]
    )
    table = staircase(net.graph)
    assert table.slopes.ravel().tolist() == [-1.0, 0.0, 1.0, 2.0]
    np.testing.assert_allclose(table.starts, [-1024, 0, 2, 5], atol=1e-12)
    np.testing.assert_allclose(table.ends, [0, 2, 5, 1024], atol=1e-12)
    np.testing.assert_allclose(table.offsets.ravel(), [2.0, 2.0, 0.0, -5.0], atol=1e-12)


def test_what_a_table_cannot_say_is_left_to_the_network():
    table = staircase(GRAPHS["question"]("float32"))
    t = np.array([np.nan, np.inf, -np.inf, 1024.0, -1024.0, 2000.0, *table.starts, *table.ends])
    assert not table.places(t)[1].any()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rows_are_called_piecewise_linear_if_they_are(name):
    row = ACTIVATIONS[name]
    places = [kink.where for kink in row.kinks(*row.defaults)]
    t = np.linspace(-7, 7, 2_001)
    with np.errstate(all="ignore"):
        slopes = row.df(t, *row.defaults)
    bends = ~(np.abs(np.diff(slopes)) <= 1e-9)
    explained = np.array([any(a <= p <= b for p in places) for a, b in itertools.pairwise(t)])
    is_linear = not (bends & ~explained).any() and name not in ("hard_shrink", "threshold", "sign")
    assert is_linear == (name in PIECEWISE_LINEAR), name


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([("bent", Elementwise("tanh"))], "bent"),
        ([("cut", Elementwise("relu", (np.inf, 0.0, 1.0)))], "cut"),
        ([("wide", Affine(np.full((1, 1), np.inf), None))], "NaN or infinity"),
    ],
)
def test_graphs_without_a_staircase_are_told_why(steps, said):
    assert said in obstacle(chain((1,), steps, F64, FROM))


def test_two_inputs_have_no_staircase():
    assert "one number" in obstacle(chain((2,), [("out", Affine(np.ones((2, 1)), None))], F64, FROM))


def test_units_that_do_not_move_are_near_no_kink():
    """relu(relu(t)): where the first is off, the second stands on its kink, and nothing depends on it."""
    table = staircase(chain((1,), [("one", Elementwise("relu", RELU)), ("two", Elementwise("relu", RELU))], F64, FROM))
    assert table.places(np.array([-3.0, -1e-3, 1e-3, 3.0]))[1].all()


def test_a_zone_within_a_zone_ends_nothing():
    starts, ends = _gaps(np.array([[-1.0, 2.0], [0.0, 0.5], [4.0, 5.0]]), 1e-16)
    assert (starts.tolist(), ends.tolist()) == ([-1024.0, 2.0, 5.0], [-1.0, 4.0, 1024.0])


ENGINES = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(not installed(), reason="needs Numba"))]
BATCH = 600


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["question", "deep"])
def test_the_algorithm_gives_what_the_chain_gives(name, dtype, engine):
    net = refgrad.Network(GRAPHS[name](dtype))
    table = staircase(net.graph)
    rng = np.random.default_rng(3)
    t = np.concatenate([rng.uniform(-8, 8, BATCH), table.starts, table.ends, [np.nan, np.inf, -np.inf, 5e3]])
    x = rng.permutation(t).astype(dtype)[:, None]
    assert len(table.look_up(x[:, 0], *np.empty((2, len(x), net.output_shapes[0][0])))) > 0
    y, jacobian = net.value_and_jacobian(x, engine=engine, algorithm="staircase")
    expected = net.value_and_jacobian(x, engine=engine, algorithm="chain")
    for found, wanted in zip((y, jacobian), expected, strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        finite = np.isfinite(wanted)
        np.testing.assert_array_equal(found[~finite], wanted[~finite])
        within = np.abs(wanted[(np.abs(x) < 10).ravel()]).max()
        near = finite & (np.abs(x) < 10).reshape(-1, *(1,) * (wanted.ndim - 1))
        assert np.abs(found - wanted)[near].max() <= tolerance(net.graph) * within
    if engine == "numpy":  # BLAS rounds by a batch's length what the table leaves to the chain
        return
    beyond = np.abs(x[:, 0]) > 2e3
    np.testing.assert_array_equal(jacobian[beyond], expected[1][beyond])
    # not a sample depends on its neighbours, nor on threads
    again = net.value_and_jacobian(x[::-1], engine=engine, algorithm="staircase", threads=2)
    np.testing.assert_array_equal(again[1][::-1], jacobian)
    np.testing.assert_array_equal(again[0][::-1], y)


def test_auto_takes_the_table_for_batches_that_are_worth_it():
    net = refgrad.Network(GRAPHS["question"]("float32"))
    assert [net.plan(n).algorithm for n in (1, 10_000)] == ["chain", "staircase"]
    assert net.plan(10_000, engine="numpy").algorithm == "chain"
    assert net.plan(10_000, algorithm="chain").algorithm == "chain"
    assert net.plan(1, algorithm="staircase").algorithm == "staircase"
    assert str(net.plan(10_000)).startswith("staircase on ")
    looks = [net.plan(n, threads=2) for n in (3_000, 10_000, 10**7)]
    if looks[0].engine == "numba":  # threads are for what looking up is worth, not the layers
        assert [plan.threads for plan in looks] == [1, 2, 2]
    x = np.linspace(-3, 3, 10_000, dtype="float32")[:, None]
    by_table = net.value_and_jacobian(x, algorithm="staircase")
    assert not np.array_equal(by_table[0], net.value_and_jacobian(x, algorithm="chain")[0])
    for found, wanted in zip(net.value_and_jacobian(x), by_table, strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(net(x), by_table[0])
    np.testing.assert_array_equal(net.gradient(x), by_table[1][:, 0])
    np.testing.assert_array_equal(net.jacobian(x, out=np.empty((10_000, 1, 1), "float32")), by_table[1])


def test_values_near_breakpoints_are_the_chains():
    net = refgrad.Network(GRAPHS["question"]("float32"))
    x = np.concatenate([staircase(net.graph).starts, np.linspace(-3, 3, 2_000), [np.nan]]).astype("float32")[:, None]
    np.testing.assert_allclose(net(x), net(x, engine="numpy"), rtol=1e-5, atol=1e-5)
    assert np.isnan(net(x)[-1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "reverse"}, "no mode"),
        ({"kink": "raise"}, "raises nothing"),
        ({"output_index": 0}, "whole Jacobians"),
    ],
)
def test_what_the_algorithm_cannot_do_is_said(options, said):
    net = refgrad.Network(GRAPHS["question"]("float32"))
    with pytest.raises(refgrad.UnsupportedError, match=f"algorithm='staircase' cannot run this: .*{said}"):
        net.jacobian([[0.5]], algorithm="staircase", **options)


def test_a_network_without_a_staircase_says_so():
    net = refgrad.Network.sequential(random_layers((2, 3, 1), "relu", "float32"))
    with pytest.raises(refgrad.UnsupportedError, match="its input is not one number"):
        net.jacobian([[0.5, 1.0]], algorithm="staircase")
    assert net.plan(10**6).algorithm == "chain"


def test_an_unknown_algorithm_is_refused():
    net = refgrad.Network(GRAPHS["question"]("float32"))
    with pytest.raises(refgrad.InputError, match="algorithm='tape' is not one of 'chain', 'staircase'"):
        net.jacobian([[0.5]], algorithm="tape")
