"""The noise of a Jacobian: the documented equations by hand, and the errors that float32 really makes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import refgrad
from refgrad.activations import ACTIVATIONS
from refgrad.agreement import Answer
from refgrad.auditing.accuracy import PIECEWISE, SLOPES
from refgrad.auditing.gaps import Bounds, numbers
from refgrad.auditing.noise import jacobian_variances
from refgrad.auditing.screening import in_double, screen, share_of_double, value_floor
from refgrad.derivatives.products import linearize
from refgrad.graph import Node
from refgrad.network import answer
from refgrad.ops import Elementwise
from tests.cases import CASES

U = 2.0**-24


def screened(net, x, answers):
    graph, r = net.graph, share_of_double(net.graph)
    floor = value_floor(graph, answers["ours"])
    given = {side: numbers(found) for side, found in answers.items()}
    return screen(graph, in_double(graph), [x], given, dict.fromkeys(answers, Bounds(np.hypot(1, r), floor)))


def variance(net, x):
    point = linearize(in_double(net.graph), [np.asarray(x, np.float64)], "keras")
    ((found,),) = jacobian_variances(net.graph, point)
    return found


def test_a_sum_counts_with_its_random_walk_and_what_is_coherent():
    """One map of n = 12 is its own Jacobian; two add Σ W² T² n/6 + J² n/9 for the sum, and nothing for the first."""
    ones = np.ones((12, 1), "float32")
    net = refgrad.Network.sequential([(ones.T, None, "linear"), (ones, None, "linear")])
    expected = U**2 * (12 * 12 / 6 + 12**2 * 12 / 9)
    first = U**2 * 12 * (1 + 1 / 9)
    np.testing.assert_allclose(variance(net, [[1.0]]), expected + max(first, expected), rtol=1e-12)


def test_a_slope_counts_with_its_accuracy_and_its_curvature():
    """y = tanh(x + b): σ²(J) = (10 u)² + (f″ σ(z))² + u² f′², and what the map before it adds."""
    net = refgrad.Network.sequential([(np.ones((1, 1), "float32"), np.array([0.25], "float32"), "tanh")])
    z = 0.75
    slope = 1 - np.tanh(z) ** 2
    bend, sigma = -2 * np.tanh(z) * slope, U * np.sqrt(0.5**2 + z**2 + 0.25**2)
    affine = U**2 * slope**2 * (1 + 1 / 9)
    expected = (10 * U) ** 2 + (bend * sigma) ** 2 + (U * slope) ** 2 + affine
    np.testing.assert_allclose(variance(net, [[0.5]]), [[[expected]]], rtol=1e-6)


def test_what_was_a_float32_stays_that_float():
    op = Elementwise("relu", (np.inf, 0.1, 0.0))
    net = refgrad.Network.sequential([(np.ones((1, 1), "float32"), None, "linear")])
    last = len(net.graph.nodes)
    nodes = (*net.graph.nodes, Node(op, (last - 1,), "leaky"))
    graph = in_double(replace(net.graph, nodes=nodes, outputs=(last,)))
    assert Fraction(graph.nodes[-1].op.parameters[1]) == Fraction(float(np.float32(0.1)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_real_errors_are_within_the_model(case):
    """Kernels and NumPy, in either order of products; none is beyond 8 σ, and float32's are not far below it."""
    x = np.random.default_rng(3).normal(size=(200, *case.net.input_shapes[0])).astype(case.net.dtype)
    answers = {"ours": answer(case.net, [x]), "theirs": answer(case.net, [x], engine="numpy")}
    for mode in ("forward", "reverse"):
        y, jacobian = case.net.value_and_jacobian(x, engine="numpy", mode=mode)
        answers[mode] = Answer((y,), ((jacobian,),))
    found = screened(case.net, x, answers)
    away = found.distance > 8
    for side, gaps in found.gaps.items():
        assert gaps.inside[away].all(), (side, gaps.ratio[away].max())
        assert gaps.ratio[away].max() < 4, side
    if case.net.dtype == np.float32:
        assert found.gaps["reverse"].ratio.max() > 0.2


def test_one_entry_that_is_off_by_ten_deviations_is_found():
    case = next(case for case in CASES if case.name == "float32 relu")
    x = np.random.default_rng(3).normal(size=(20, 5)).astype("float32")
    point = linearize(in_double(case.net.graph), [x.astype(np.float64)], "keras")
    sigma = np.sqrt(variance(case.net, x))
    y, jacobian = point.outputs[0], case.net.astype("float64").jacobian(x.astype(np.float64))
    for deviations, inside in ((7.0, True), (10.0, False)):
        moved = jacobian.copy()
        moved[4, 1, 2] += deviations * sigma[4, 1, 2]
        gaps = screened(case.net, x, {"ours": Answer((y,), ((moved,),))}).gaps["ours"]
        np.testing.assert_array_equal(gaps.inside, (np.arange(20) != 4) | inside)
        assert gaps.entry[4] == 1 * 5 + 2
        assert abs(gaps.ratio[4] - deviations) < 0.01


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", sorted(SLOPES))
def test_the_accuracy_of_slopes_is_the_measured_one(name):
    """TensorFlow in float32 against this row in float64, at points dense near 0 and up to 20."""
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    row = ACTIVATIONS[name]
    functions = {
        "gelu": lambda z: keras.activations.gelu(z, approximate=False),
        "gelu_tanh": lambda z: keras.activations.gelu(z, approximate=True),
    }
    function = functions.get(name) or getattr(keras.activations, name)
    points = np.concatenate([np.linspace(-20, 20, 20001), np.linspace(-2, 2, 20001)]).astype("float32")
    z = tf.constant(points)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = function(z)
    slope = tape.gradient(value, z).numpy().astype(np.float64)
    exact = row.df(points.astype(np.float64), *row.defaults)
    away = points != 0
    c = (np.abs(slope - exact) / (U * np.maximum(1, np.abs(exact))))[away].max()
    assert c <= SLOPES[name] <= 2 * c


def test_rows_of_constants_are_rows():
    assert set(SLOPES) | PIECEWISE <= set(ACTIVATIONS)
    assert not PIECEWISE & set(SLOPES)
