"""Units put on sides of their kinks: slopes and values there by algebra, and the sides that truth has them on."""

from __future__ import annotations

import numpy as np
import pytest

import refgrad
from refgrad.auditing.screening import in_double
from refgrad.auditing.sides import CROSSED, KEPT, LEAVE, LEFT, ON, RIGHT, can_be_put, put, sides, true_sides
from refgrad.derivatives.products import jvp
from refgrad.graph import Graph, Node, Provenance
from refgrad.ops import Affine, Elementwise, PReLU, Softmax, Source
from refgrad.ops.extreme import Max, Min
from refgrad.ops.extremum import Maximum, Minimum
from refgrad.ops.partial import Partial

INF = np.inf


def graph(op, *shapes):
    nodes = tuple(Node(Source(shape), (), f"x{i}") for i, shape in enumerate(shapes))
    names = tuple(f"x{i}" for i in range(len(shapes)))
    last = len(nodes)
    whole = (*nodes, Node(op, tuple(range(last)), "op"))
    return Graph(whole, tuple(range(last)), (last,), names, ("y",), np.dtype("float64"), Provenance())


def relu(*parameters):
    return Elementwise("relu", parameters)


ONE = [(1,)]
ROWS = {
    "relu on its kink, left": (relu(INF, 0.0, 0.0), [0.0], LEFT, 0.0, 0.0),
    "relu on its kink, right": (relu(INF, 0.0, 0.0), [0.0], RIGHT, 0.0, 1.0),
    "relu on its kink, there": (relu(INF, 0.0, 0.0), [0.0], ON, 0.0, 0.0),
    "relu above, left": (relu(INF, 0.25, 0.0), [1e-9], LEFT, 0.0, 0.25),
    "relu above, right, stays": (relu(INF, 0.25, 0.0), [1e-9], RIGHT, 1e-9, 1.0),
    "relu above, on": (relu(INF, 0.25, 0.0), [1e-9], ON, 0.0, 0.25),
    "relu6 at 6, right": (relu(6.0, 0.0, 0.0), [6 - 1e-9], RIGHT, 6.0, 0.0),
    "relu6 at 6, left, stays": (relu(6.0, 0.0, 0.0), [6 - 1e-9], LEFT, 6 - 1e-9, 1.0),
    "left alone": (relu(INF, 0.0, 0.0), [1e-9], LEAVE, 1e-9, 1.0),
    "elu, left": (Elementwise("elu", (2.0,)), [1e-9], LEFT, 0.0, 2.0),
    "a jump, right of it": (Elementwise("hard_shrink", (0.5,)), [0.5], RIGHT, 0.5, 1.0),
    "a jump, left of it": (Elementwise("hard_shrink", (0.5,)), [0.5 + 1e-9], LEFT, 0.0, 0.0),
    "prelu, left": (PReLU(np.array([0.25])), [1e-9], LEFT, 0.0, 0.25),
    "prelu, on": (PReLU(np.array([0.25])), [1e-9], ON, 0.0, 0.0),
    "maximum with a constant, kept": (Partial("maximum", np.array([2.0])), [2.0], KEPT, 2.0, 1.0),
    "maximum with a constant, crossed": (Partial("maximum", np.array([2.0])), [2 + 1e-9], CROSSED, 2.0, 0.0),
    "maximum with a constant, crossed from below": (Partial("maximum", np.array([2.0])), [2 - 1e-9], CROSSED, 2.0, 1.0),
    "minimum of a constant and x, crossed": (Partial("minimum", np.array([2.0]), 0), [2.0], CROSSED, 2.0, 1.0),
}


def slope(op, x, code, shapes=ONE):
    """Value and Jacobian of one output by all inputs, in their order."""
    whole = graph(op, *shapes)
    inputs = [np.array(part, float).reshape(1, *shape) for part, shape in zip(x, shapes, strict=True)]
    point = put(whole, inputs, {len(shapes): np.array(code, np.int8).reshape(1, *whole.shapes[-1])})
    found = []
    for i, given in enumerate(inputs):
        units = np.eye(given.size).reshape(given.size, *given.shape)
        (tangent,) = jvp(point, [units if i == j else None for j in range(len(inputs))])
        found.append(tangent.reshape(given.size, -1)[:, 0])
    return point.outputs[0].ravel()[0], np.concatenate(found)


@pytest.mark.parametrize("row", ROWS)
def test_value_and_slope_are_those_of_the_side(row):
    op, x, code, value, derivative = ROWS[row]
    found, jacobian = slope(op, [x], code)
    assert found == pytest.approx(value, rel=1e-15, abs=1e-300)
    np.testing.assert_array_equal(jacobian, [derivative])


CONTESTS = {
    "tied, first wins": (Maximum(), [1.0, 1.0], KEPT, [1, 0]),
    "tied, next wins": (Maximum(), [1.0, 1.0], CROSSED, [0, 1]),
    "first ahead, kept": (Maximum(), [1 + 1e-9, 1.0], KEPT, [1, 0]),
    "first ahead, next wins": (Maximum(), [1 + 1e-9, 1.0], CROSSED, [0, 1]),
    "first ahead, tied": (Maximum(), [1 + 1e-9, 1.0], ON, [1, 0]),
    "smallest, next wins": (Minimum(), [1.0, 1 - 1e-9], CROSSED, [1, 0]),
    "smallest, kept": (Minimum(), [1.0, 1.0], KEPT, [1, 0]),
}


@pytest.mark.parametrize("row", CONTESTS)
def test_of_several_the_best_or_the_next_wins(row):
    op, x, code, derivatives = CONTESTS[row]
    np.testing.assert_array_equal(slope(op, x, code, [(1,), (1,)])[1], derivatives)


@pytest.mark.parametrize(
    ("op", "x", "code", "derivatives"),
    [
        (Max((-1,)), [3, 1, 3 - 1e-9], CROSSED, [0, 0, 1]),
        (Max((-1,)), [3, 1, 3 - 1e-9], ON, [0.5, 0, 0.5]),
        (Max((-1,)), [3, 1, 3], KEPT, [1, 0, 0]),
        (Min((-1,)), [3, 1, 1 + 1e-9], CROSSED, [0, 0, 1]),
    ],
)
def test_along_axes_too(op, x, code, derivatives):
    np.testing.assert_array_equal(slope(op, [x], code, [(3,)])[1], derivatives)


def test_what_stretches_does_not_move():
    """maximum(x of shape (1,), z of shape (2,)): x is read by both units, so it is z that moves, here the winner."""
    found, jacobian = slope(Maximum(), [[1.0], [1 + 1e-9, 5.0]], [CROSSED, LEAVE], [(1,), (2,)])
    assert found == 1.0
    np.testing.assert_array_equal(jacobian, [1, 0, 0])


def test_sides_are_seen_where_units_moved_to():
    z, there = np.array([[0.0, 1e-9, -1.0, 6.0]]), np.array([[-1.0, 1.0, 3.0, 7.0]])
    np.testing.assert_array_equal(sides(relu(6.0, 0.0, 0.0), [z], [there]), [[LEFT, RIGHT, RIGHT, RIGHT]])
    one, other = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0]])
    np.testing.assert_array_equal(sides(Maximum(), [one, other], [other, one]), [[KEPT, CROSSED]])


def test_true_sides_are_those_of_exact_patterns():
    """Codes: 2 i on the i-th piece, 2 i + 1 on the kink after it; relu6 has kinks at 0 and 6."""
    op = relu(6.0, 0.0, 0.0)
    z = np.array([[0.0, 1e-9, 0.0, 6.0, -1e-9, 0.0]])
    seen = np.array([[1, 2, 1, 3, 0, 1]])
    truth = np.array([[2, 0, 1, 4, 1, -1]])
    np.testing.assert_array_equal(true_sides(op, [z], seen, truth), [[RIGHT, LEFT, ON, RIGHT, ON, LEFT]])
    pair = [np.array([[1.0, 1.0, 1.0, 1.0]]), np.array([[1.0, 2.0, 2.0, 1.0]])]
    codes = true_sides(Maximum(), pair, np.array([[1, 2, 2, 1]]), np.array([[2, 2, 3, 0]]))
    np.testing.assert_array_equal(codes, [[CROSSED, KEPT, ON, KEPT]])


def test_axes_that_are_kept_are_no_units_of_their_own():
    """The best of five, kept as (1,): one unit, however many samples."""
    op, x = Max((-1,), keepdims=True), np.array([[1.0, 3.0], [4.0, 2.0], [1.0, 1.0]])
    np.testing.assert_array_equal(sides(op, [x], [x[:, ::-1]]), [[CROSSED], [CROSSED], [KEPT]])
    found = true_sides(op, [x], np.array([[2], [0], [1]]), np.array([[0], [0], [2]]))
    np.testing.assert_array_equal(found, [[CROSSED], [KEPT], [CROSSED]])


def test_which_ops_have_sides():
    with_sides = (relu(INF, 0.0, 0.0), PReLU(np.zeros(1)), Maximum(), Max((-1,)), Partial("minimum", np.zeros(1)))
    assert all(can_be_put(op) for op in with_sides)
    assert not any(
        can_be_put(op) for op in (Softmax(), Affine(np.eye(1)), Partial("add", np.zeros(1)), Elementwise("elu", (1.0,)))
    )


def test_the_twin_has_the_parameters_of_the_network():
    net = refgrad.Network.sequential([(np.ones((1, 1), "f4"), None, "relu")])
    op = Elementwise("relu", (INF, 0.1, 0.0))
    assert in_double(net.graph).dtype == np.float64
    assert slope(op, [[1e-9]], LEFT)[1] == 0.1
