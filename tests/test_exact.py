"""The exact room against rational arithmetic, mpmath and itself in another order: its own output is never the truth."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refgrad
from refgrad.activations import ACTIVATIONS
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.ops import OPS, Add, Affine, Elementwise, Max, Maximum, Min, Partial, Power, PReLU, Rescaling, Source
from refgrad.ops.movement import Movement
from tests import oracle
from tests.accuracy import ROWS, true_slope, true_value
from tests.graphs import examples
from tests.test_ops import CASES
from tests.test_properties import by_name, entries, everything, holds_for, scale_of

pytest.importorskip("flint")

DTYPES = ("float32", "float64")
RELU = Elementwise("relu", ACTIVATIONS["relu"].defaults)


def truth(net, x, **options):
    return refgrad.exact.value_and_jacobian(net, x, **options)


def neighbours(number):
    """The floats beside a float, as fractions; beyond the largest the next power of two counts, as IEEE 754 has it."""
    info = np.finfo(number.dtype)
    beyond = Fraction(2) ** info.maxexp
    found = []
    for way in (-np.inf, np.inf):
        with np.errstate(over="ignore"):
            beside = np.nextafter(number, number.dtype.type(way))
        found.append(Fraction(float(beside)) if np.isfinite(beside) else beyond if way > 0 else -beyond)
    return found


def is_even(number):
    return int(number.view(f"u{number.dtype.itemsize}")) % 2 == 0


def is_nearest(number, exact):
    """Whether a float is the one nearest to a fraction, ties to even."""
    if np.isinf(number):
        info = np.finfo(number.dtype)
        return (exact if number > 0 else -exact) >= (Fraction(float(info.max)) + Fraction(2) ** info.maxexp) / 2
    here, (below, above) = Fraction(float(number)), neighbours(number)
    gaps = abs(exact - below), abs(exact - above)
    own = abs(exact - here)
    return own < min(gaps) or (own == min(gaps) and is_even(number))


def encloses(lower, upper, exact):
    """Whether two floats enclose a fraction, with no float between them and it."""
    low = np.isinf(lower) or Fraction(float(lower)) <= exact
    high = np.isinf(upper) or exact <= Fraction(float(upper))
    with np.errstate(over="ignore"):
        tight = lower == upper or np.nextafter(lower, upper) == upper
    return bool(low and high and tight)


def bits(number):
    """A number exactly as the network's dtype holds it."""
    return Fraction(float(number))


SLOPE = {
    "relu": lambda z, dtype: (max(z, Fraction(0)), Fraction(int(z > 0))),
    "leaky_relu": lambda z, dtype: (z, Fraction(1)) if z > 0 else (bits(np.float32(0.2)) * z, bits(np.float32(0.2))),
    "relu6": lambda z, dtype: (min(max(z, Fraction(0)), Fraction(6)), Fraction(int(0 < z < 6))),
    "hard_sigmoid": lambda z, dtype: (min(max(z + 3, Fraction(0)), Fraction(6)) / 6, Fraction(int(abs(z) < 3), 6)),
    "hard_tanh": lambda z, dtype: (min(max(z, Fraction(-1)), Fraction(1)), Fraction(int(abs(z) <= 1))),
    "soft_shrink": lambda z, dtype: (
        (z - Fraction(1, 2), Fraction(1))
        if z > Fraction(1, 2)
        else ((z + Fraction(1, 2), Fraction(1)) if z < -Fraction(1, 2) else (Fraction(0), Fraction(0)))
    ),
    "sparse_plus": lambda z, dtype: (
        (Fraction(0), Fraction(0)) if z <= -1 else (z, Fraction(1)) if z >= 1 else ((z + 1) ** 2 / 4, (z + 1) / 2)
    ),
    "linear": lambda z, dtype: (z, Fraction(1)),
}
"""Value and slope by the definitions, with what eager TensorFlow takes on kinks, in rational numbers."""


def rational_truth(layers, x, dtype):
    """Value and Jacobian of Dense layers at one sample, in fractions."""
    a = [bits(number) for number in x]
    tangents = [[Fraction(int(i == j)) for j in range(len(a))] for i in range(len(a))]
    for kernel, bias, activation in layers:
        weights = [[bits(w) for w in row] for row in kernel]
        columns = range(kernel.shape[1])
        found = [
            SLOPE[activation](sum(a[i] * weights[i][j] for i in range(len(a))) + bits(bias[j]), dtype) for j in columns
        ]
        tangents = [
            [
                slope * sum(t[i] * weights[i][j] for i in range(len(a)))
                for j, (_, slope) in zip(columns, found, strict=True)
            ]
            for t in tangents
        ]
        a = [value for value, _ in found]
    return a, [[t[j] for t in tangents] for j in range(len(a))]


def layers_of(widths, activation, dtype, seed, whole):
    """Dense layers; with `whole` their weights are small whole numbers, and pre-activations often zero."""
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return rng.integers(-2, 3, size=shape) if whole else rng.normal(size=shape)

    last = len(widths) - 2
    return [
        (drawn(a, b).astype(dtype), drawn(b).astype(dtype), "linear" if place == last else activation)
        for place, (a, b) in enumerate(pairwise(widths))
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [name for name in SLOPE if name != "linear"])
@pytest.mark.parametrize("whole", [False, True], ids=["normal", "whole"])
def test_piecewise_linear_networks_equal_rational_arithmetic(dtype, activation, whole):
    """10 000 samples in all, of either dtype; whole numbers put units exactly on their kinks."""
    layers = layers_of((2, 4, 3, 2), activation, dtype, len(activation), whole)
    rng = np.random.default_rng(3)
    x = (rng.integers(-3, 4, size=(358, 2)) if whole else rng.normal(size=(358, 2))).astype(dtype)
    x[-1] = 0
    found = truth(refgrad.Network.sequential(layers), x, dtype=dtype)
    assert found.value.dtype == found.jacobian.dtype == dtype
    assert found.proved.all()
    assert found.value_proved.all()
    assert not found.precision.any()
    if whole:
        assert found.on_kink.any()
    for sample, given_x in enumerate(x):
        y, jacobian = rational_truth(layers, given_x, dtype)
        exact = [*y, *(entry for row in jacobian for entry in row)]
        parts = [
            np.concatenate([of_value[sample], of_jacobian[sample].ravel()])
            for of_value, of_jacobian in [
                (found.value, found.jacobian),
                (found.value_lower, found.lower),
                (found.value_upper, found.upper),
            ]
        ]
        for number, lower, upper, wanted in zip(*parts, exact, strict=True):
            assert is_nearest(number, wanted), (sample, number, wanted)
            assert encloses(lower, upper, wanted), (sample, lower, upper, wanted)


def as_fraction(number):
    """An mpmath number, which is a binary one, exactly."""
    sign, mantissa, exponent, _ = mpmath.mpf(number)._mpf_
    return Fraction((-1) ** sign * int(mantissa)) * Fraction(2) ** exponent


FAR = [sign * size for sign in (-1, 1) for size in (1e-3, 40.25, 300.5, 750.5, 1e6, 1e30, 1.7e38)]


def is_near(number, truth):
    """Whether a float is the nearest to a number that mpmath has to 25 digits."""
    if not mpmath.mpf("1e-400") < abs(truth) < mpmath.mpf("1e400"):
        return number == (0 if abs(truth) < 1 else np.inf * float(mpmath.sign(truth)))
    almost = as_fraction(truth)
    return any(is_nearest(number, almost * (1 + Fraction(way, 10**25))) for way in (-1, 0, 1))


def graph_of(op, shapes, dtype="float64"):
    """An op alone."""
    count, dtype = len(shapes), np.dtype(dtype)
    sources = [Node(Source(shape), (), f"x{place}") for place, shape in enumerate(shapes)]
    nodes = (*sources, Node(op.astype(dtype), tuple(range(count)), op.name))
    names = tuple(node.name for node in sources)
    return Graph(nodes, tuple(range(count)), (count,), names, ("y",), dtype, Provenance())


def alone(op, shapes, dtype="float64"):
    return refgrad.Network(graph_of(op, shapes, dtype))


def constants(dtype):
    """The functions that hold decimal constants, with these as the dtype has them."""

    def single(number):
        return mpmath.mpf(float(np.dtype(dtype).type(number)))

    scale, below = single(1.0507009873554804934193349852946), single(1.7580993408473768599402175208123)
    return {
        "hard_sigmoid_keras2": lambda z: min(max(single(0.2) * z + mpmath.mpf(1) / 2, mpmath.mpf(0)), mpmath.mpf(1)),
        "selu": lambda z: scale * z if z > 0 else below * mpmath.expm1(z),
        "gelu_tanh": lambda z: z / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + single(0.044715) * z**3))),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "parameters"), ROWS, ids=str)
def test_every_activation_rounds_to_the_float_nearest_to_the_mathematics(name, parameters, dtype, monkeypatch):
    for of, function in constants(dtype).items():
        monkeypatch.setitem(oracle.FUNCTIONS, of, function)
    net = alone(Elementwise(name, parameters), [(1,)], dtype)
    z = np.concatenate([np.linspace(-9.1, 9.2, 25), FAR]).astype(dtype)
    row = ACTIVATIONS[name]
    z = z[~np.isin(z, [*(kink.where for kink in row.kinks(*parameters)), *row.jumps(*parameters)])]
    z = z[(z > row.domain[0]) & (z < row.domain[1])]
    found = truth(net, z, dtype=dtype)
    assert found.proved.all()
    assert found.value_proved.all()
    for place, number in enumerate(z.tolist()):
        for rounded, exact in (
            (found.value[place, 0], true_value(name, parameters, number)),
            (found.jacobian[place, 0, 0], true_slope(name, parameters, number)),
        ):
            assert is_near(rounded, exact), (number, rounded, exact)


@pytest.mark.parametrize("kink", ["keras", "left", "right", "mean"])
@pytest.mark.parametrize(("name", "parameters"), ROWS, ids=str)
def test_on_a_kink_the_slope_is_the_tables(name, parameters, kink):
    """At places that both float and real function take for the kink; which place that is of 0.2 z + ½ is rounded."""
    op = Elementwise(name, parameters)
    places = [place for place in op.kinks if name != "hard_sigmoid_keras2"]
    found = [truth(alone(op, [(1,)]), place.where, kink=kink) for place in places]
    wanted = {"left": "left", "right": "right", "keras": "keras"}
    for one, place in zip(found, places, strict=True):
        slope = (place.left + place.right) / 2 if kink == "mean" else getattr(place, wanted[kink])
        assert one.jacobian[0, 0] == slope
        assert one.on_kink


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_op_rounds_to_the_float_nearest_to_the_mathematics(case):
    net, (value, blocks) = alone(case.op, case.shapes), case.truth
    names = net.input_names
    found = truth(net, dict(zip(names, case.inputs, strict=True)))
    np.testing.assert_array_equal(found.value, value)
    for name, wanted in zip(names, blocks, strict=True):
        block = found.jacobian[name] if len(names) > 1 else found.jacobian
        noise = np.abs(wanted) < 1e-40  # a central difference of 80 digits gives no zeros
        np.testing.assert_array_equal(block[~noise], wanted[~noise])
        assert (np.abs(block[noise]) < 1e-40).all()
    assert found.value_proved.all()
    assert all(mask.all() for mask in (found.proved.values() if len(names) > 1 else [found.proved]))


SMOOTH = ("tanh", "sigmoid", "softplus", "elu", "gelu", "silu", "mish", "squareplus", "softsign", "exponential")


@pytest.mark.parametrize("activation", SMOOTH)
def test_smooth_networks_round_to_the_float_nearest_to_80_digits(activation):
    layers = layers_of((3, 5, 4, 2), activation, "float32", 5, whole=False)
    net = refgrad.Network.sequential(layers)
    x = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
    found = truth(net, x)
    assert found.proved.all()
    defaults = ACTIVATIONS[activation].defaults
    truths = [
        oracle.value_and_jacobian([(*layer, defaults if layer[2] == activation else ()) for layer in layers], one)
        for one in x
    ]
    np.testing.assert_array_equal(found.value, [y for y, _ in truths])
    np.testing.assert_array_equal(found.jacobian, [jacobian for _, jacobian in truths])


def test_everything_has_a_rule():
    from refgrad.exact.activations import CURVES
    from refgrad.exact.rules import RULES

    missing = [name for name, op in OPS.items() if name not in RULES and not issubclass(op, Movement)]
    assert missing == [], "ops without an exact rule"
    assert set(CURVES) == set(ACTIVATIONS)


def test_a_sign_that_rounding_loses_is_found():
    """z = 2²⁴ + 1 − 2²⁴: in float32, from the left, that is 0 and the unit is off; it is on."""
    kernel = np.array([[2**24], [1], [-(2**24)]], "float32")
    x = np.ones((1, 3), "float32")
    total = np.float32(0)
    for weight in kernel[:, 0]:
        total += weight
    assert total == 0
    found = truth(refgrad.Network.sequential([(kernel, None, "relu")]), x)
    assert found.value[0, 0] == 1
    np.testing.assert_array_equal(found.jacobian[0, 0], kernel[:, 0])
    assert found.pattern["dense_0/relu"].tolist() == [[2]]
    assert not found.on_kink.any()


@pytest.mark.parametrize(("kink", "slope"), [("keras", 0), ("left", 0), ("right", 2), ("mean", 1)])
def test_on_kinks_the_slope_is_a_choice_and_said_to_be(kink, slope):
    """y = relu(x) − relu(−x) is x, whose slope at 0 is 1; the chain rule with slopes of units gives what they make."""
    net = refgrad.Network.sequential(
        [(np.array([[1.0, -1.0]]), None, "relu"), (np.array([[1.0], [-1.0]]), None, "linear")]
    )
    found = truth(net, [0.0, 0.5], kink=kink)
    np.testing.assert_array_equal(found.jacobian.ravel(), [slope, 1])
    np.testing.assert_array_equal(found.on_kink, [True, False])
    np.testing.assert_array_equal(found.pattern["dense_0/relu"], [[1, 1], [2, 0]])
    assert "1 on kinks" in repr(found)


def test_a_zero_that_cancels_in_balls_keeps_its_enclosure_or_rounds_to_zero():
    net = refgrad.Network(
        Graph(
            (Node(Source((1,)), (), "x"), *_twice_tanh()), (0,), (3,), ("x",), ("y",), np.dtype("float64"), Provenance()
        )
    )
    few, many = (truth(net, [0.3], most_bits=most) for most in (500, 1536))
    assert not few.proved.any()
    assert few.lower[0, 0, 0] < 0 < few.upper[0, 0, 0]
    assert few.precision.tolist() == [500]
    assert many.proved.all()
    assert many.jacobian[0, 0, 0] == 0


def test_a_side_that_more_bits_tell_is_told():
    """relu((e^−100 + 1) − 1): 96 bits do not hold e^−100 beside 1."""
    steps = [
        ("e", Elementwise("exponential")),
        ("up", Rescaling(np.array(1.0), np.array(1.0))),
        ("down", Rescaling(np.array(1.0), np.array(-1.0))),
        ("act", RELU),
    ]
    net = refgrad.Network(chain((1,), steps, np.dtype("float64"), Provenance()))
    assert truth(net, [-100.0], most_bits=96).pattern["act"].tolist() == [[-1]]
    found = truth(net, [-100.0])
    assert found.pattern["act"].tolist() == [[2]]
    assert found.precision.tolist() == [384]
    with mpmath.workdps(80):
        assert found.value[0, 0] == found.jacobian[0, 0, 0] == float(mpmath.exp(-100))


def _twice_tanh():
    """tanh(x) − tanh(x), which balls don't know to be the same."""
    from refgrad.ops import Subtract

    tanh = Elementwise("tanh")
    return Node(tanh, (0,), "one"), Node(Elementwise("tanh"), (0,), "other"), Node(Subtract(), (1, 2), "y")


def test_a_tie_between_floats_is_rounded_to_even_in_integers_and_left_open_in_balls():
    tie = 1 + 2.0**-24
    exact = truth(refgrad.Network.sequential([(np.array([[tie]]), None, "relu")]), [1.0], dtype="float32")
    assert exact.jacobian[0, 0, 0] == 1
    assert exact.proved.all()
    assert exact.lower[0, 0, 0] == 1 < exact.upper[0, 0, 0]
    # exp(x − x) is 1 in a ball, times the tie.
    steps = [
        ("a", Affine(np.zeros((1, 1)), np.zeros(1))),
        ("e", Elementwise("exponential")),
        ("s", Rescaling(np.array(tie), np.array(0.0))),
    ]
    net = refgrad.Network(chain((1,), steps, np.dtype("float64"), Provenance()))
    assert truth(net, [0.3], dtype="float32").value[0, 0] == 1


@pytest.mark.parametrize("way", ["hull", "jump"])
def test_where_balls_cannot_tell_the_side_both_slopes_are_enclosed(way):
    """tanh(x) − tanh(x) before a unit: no precision tells that it is on its kink."""
    last = RELU if way == "hull" else Elementwise("threshold", (0.0, 3.0))
    scale = Rescaling(np.array(2.0), np.array(0.0))
    nodes = (
        Node(Source((1,)), (), "x"),
        *_twice_tanh(),
        Node(last, (3,), "act"),
        Node(scale, (0,), "more"),
        Node(Add(), (4, 5), "sum"),
    )
    net = refgrad.Network(Graph(nodes, (0,), (6,), ("x",), ("y",), np.dtype("float64"), Provenance()))
    found = truth(net, [0.25])
    assert found.pattern["act"].tolist() == [[-1]]
    assert not found.on_kink.any()
    assert refgrad.exact.flips(net, [np.array([[0.25]])], found) == [()]
    assert found.value_lower[0, 0] <= 0.5 <= found.value_upper[0, 0]
    assert found.value_proved.all() == (way == "hull")
    if way == "jump":
        assert found.value_upper[0, 0] >= 3.5
    assert found.lower[0, 0, 0] <= 2 <= found.upper[0, 0, 0]


def sides(found, net):
    """Every block of an `Exact`, by output and input: value, lower, upper, proved."""
    outputs, inputs = net.output_names, net.input_names

    def blocks(part):
        rows = by_name(net, part, outputs)
        return {(o, i): by_name(net, rows[o], inputs)[i] for o in outputs for i in inputs}

    values = [
        by_name(net, part, outputs) for part in (found.value, found.value_lower, found.value_upper, found.value_proved)
    ]
    jacobians = [blocks(part) for part in (found.jacobian, found.lower, found.upper, found.proved)]
    return [tuple(part[key] for part in kind) for kind in (values, jacobians) for key in kind[0]]


@holds_for(examples(), count=100)
def test_floats_agree_with_the_truth_within_rounding(example):
    net, x = example.net, example.x
    found = truth(net, x)
    away = net.kinks(x).margin > 1e-9
    y, jacobian = everything(net, x, engine="numpy")
    ours = [*y.values(), *(block for _, block in entries(jacobian))]
    bound = 1e-12 * scale_of(example)
    for number, (value, lower, upper, proved) in zip(ours, sides(found, net), strict=True):
        assert value.shape == number.shape == proved.shape
        assert (np.abs(number - value)[away & finite(value)] <= bound).all()
        assert ((lower <= value) & (value <= upper) | np.isnan(value)).all()


def finite(value):
    """Samples without a number that nothing is known of."""
    return np.isfinite(value.reshape(len(value), -1)).all(axis=1)


@holds_for(examples(), count=60)
def test_either_end_and_any_precision_give_the_same(example):
    from refgrad.exact.evaluate import Evaluator

    graph = example.graph
    inputs = [example.x[name] for name in graph.input_names]
    pieces = []
    for forward, most in ((True, 1536), (False, 1536), (True, 96)):
        evaluator = Evaluator(graph, "keras", np.dtype("float64"), most)
        evaluator.forward = forward
        found = evaluator.at(inputs)
        pieces.append([*found.values, *(block for row in found.jacobians for block in row)])
    for one, other, rough in zip(*pieces, strict=True):
        both = one.proved & other.proved
        assert (one.value == other.value)[both].all()
        assert (np.maximum(one.lower, other.lower) <= np.minimum(one.upper, other.upper)).all()
        assert ((rough.lower <= one.value) & (one.value <= rough.upper))[one.proved].all()


@holds_for(examples(), count=60)
def test_float32_is_the_same_truth_rounded_once(example):
    wide, single = (sides(truth(example.net, example.x, dtype=dtype), example.net) for dtype in ("float64", "float32"))
    for (_, lower, upper, proved), (value, *_, sure) in zip(wide, single, strict=True):
        with np.errstate(over="ignore", under="ignore"):
            inside = (lower.astype("float32") <= value) & (value <= upper.astype("float32"))
        assert inside[sure & proved].all()
        assert value.dtype == "float32"


def rounding_cases(dtype):
    """Fractions at, or hardly beside, a float or halfway between two."""
    width = 32 if dtype == "float32" else 64
    numbers = st.floats(width=width, allow_nan=False, allow_infinity=False).map(np.dtype(dtype).type)

    def make(number, way, nudge):
        here, beside = Fraction(float(number)), neighbours(number)
        middle = (here + beside[way]) / 2 if way < 2 else here
        return middle + nudge * Fraction(1, 2**2200)

    return st.builds(make, numbers, st.integers(0, 2), st.integers(-1, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_to_nearest_even(dtype):
    from flint import fmpq

    from refgrad.exact.nearest import rounded
    from refgrad.exact.tensors import constant

    ends = np.finfo(dtype)
    extremes = [float(ends.max), float(ends.smallest_subnormal), float(ends.tiny), 0.0]

    def check(exact):
        found = rounded(constant(fmpq(exact.numerator, exact.denominator), (1,)), np.dtype(dtype))
        assert found.value.dtype == dtype
        assert is_nearest(found.value[0], exact)
        assert encloses(found.lower[0], found.upper[0], exact)

    for number in extremes:
        for part in (Fraction(1, 2), Fraction(3, 2), Fraction(1), 1 + Fraction(1, 2**30), Fraction(2)):
            for sign in (1, -1):
                for nudge in (-1, 0, 1):
                    check(sign * Fraction(number) * part + Fraction(nudge, 2**2200))
    tie = (Fraction(extremes[0]) + Fraction(2) ** ends.maxexp) / 2
    for nudge in (-1, 0, 1):
        check(tie + Fraction(nudge, 2**2200))
        check(-tie + Fraction(nudge, 2**2200))
    settings(max_examples=500, deadline=None, derandomize=True, database=None)(given(rounding_cases(dtype))(check))()


@pytest.mark.parametrize("bits", [53, 64, 200])
def test_ends_of_a_ball_are_rounded_outwards_at_any_precision(bits):
    from flint import arb, ctx

    from refgrad.exact.nearest import rounded
    from refgrad.exact.tensors import Balls, objects

    mantissa = 3**200
    ball = arb((mantissa, -300), (1, -320))
    with ctx.workprec(bits):
        found = rounded(Balls(objects([ball, -ball], (2,))), np.dtype("float64"))
    middle, radius = Fraction(mantissa, 2**300), Fraction(1, 2**320)
    for place, sign in ((0, 1), (1, -1)):
        assert Fraction(float(found.lower[place])) <= sign * middle - radius
        assert Fraction(float(found.upper[place])) >= sign * middle + radius
        assert found.upper[place] - found.lower[place] <= 4 * np.spacing(np.abs(found.upper[place]))


def test_overflow_is_infinite_and_subnormals_are_kept():
    net = refgrad.Network.sequential(
        [(np.array([[1e200, 1e-200]]), None, "linear"), (np.diag([1e200, 1e-120]), None, "linear")]
    )
    found = truth(net, [1.0])
    assert found.value.tolist() == [[np.inf, 1e-320]]
    assert found.value_lower[0, 0] == np.finfo("float64").max
    assert found.proved.all()
    assert truth(net, [-1.0]).value.tolist() == [[-np.inf, -1e-320]]


def test_workers_threads_and_pieces_change_nothing(capsys):
    net = refgrad.Network.sequential(layers_of((2, 6, 3), "tanh", "float32", 1, whole=False))
    x = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    one = truth(net, x)
    with ThreadPoolExecutor(2) as pool:
        rough, fine = (pool.submit(partial(truth, net, x, most_bits=most)) for most in (60, 1536))
        others = [fine.result(), truth(net, x, workers=2, progress=True)]
    assert (rough.result().precision == 60).all()
    for other in others:
        for name in ("value", "jacobian", "lower", "upper", "proved", "precision"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    singles = [truth(net, sample) for sample in x[:3]]
    np.testing.assert_array_equal([single.jacobian for single in singles], one.jacobian[:3])
    assert singles[0].precision.shape == ()
    assert truth(net, x[:0]).jacobian.shape == (0, 3, 2)
    capsys.readouterr()


def test_patterns_go_by_layer():
    slope = PReLU(np.array([0.5, 0.5]))
    nodes = (
        Node(Source((2,)), (), "x"),
        Node(RELU, (0,), "act"),
        Node(RELU, (1,), "act"),
        Node(slope, (0,), "prelu"),
        Node(Maximum(), (1, 3), "most"),
        Node(Elementwise("hard_tanh"), (0,), "clip"),
    )
    graph = Graph(nodes, (0,), (4, 5), ("x",), ("y", "z"), np.dtype("float64"), Provenance())
    found = truth(refgrad.Network(graph), [-2.0, 1.0])
    assert {name: codes.tolist() for name, codes in found.pattern.items()} == {
        "act": [0, 2],
        "act_1": [1, 2],
        "prelu": [0, 2],
        "most": [0, 1],
        "clip": [0, 3],
    }
    assert found.on_kink
    assert set(found.value) == {"y", "z"}
    assert found.jacobian["z"].tolist() == [[0, 0], [0, 1]]


def test_a_case_of_ops_where_which_is_drawn_matters():
    """The policies of merges, norms and supports on exact kinks are those of the ops."""
    from refgrad.ops import Dot, Minimum, Sparsemax

    rows = [
        (Maximum(), [np.array([[1.0, 2.0]]), np.array([[1.0, 3.0]]), np.array([[1.0, 3.0]])]),
        (Minimum(), [np.array([[1.0, 2.0]]), np.array([[1.0, 3.0]])]),
        (Max((-1,)), [np.array([[3.0, 1.0, 3.0, 3.0]])]),
        (Min((-1,)), [np.array([[3.0, 1.0, 1.0]])]),
        (Partial("maximum", np.array([2.0, 3.0]), 0), [np.array([[2.0, 4.0]])]),
        (Power(), [np.array([[-2.0, 0.0, 0.0, 3.0]]), np.array([[3.0, 1.0, 0.0, 0.0]])]),
        (PReLU(np.array([0.25, -2.0])), [np.array([[0.0, 0.0]])]),
        (Sparsemax(-1), [np.array([[1.0, 0.0, -3.0]])]),
        (Sparsemax(-1), [np.array([[0.5, 0.5, -0.25]])]),
        (Dot((-1, -1), True, 5.0), [np.array([[3.0, 4.0]]), np.array([[0.0, 8.0]])]),
    ]
    for op, inputs in rows:
        net = alone(op, [x.shape[1:] for x in inputs])
        for kink in ("keras", "left", "right", "mean"):
            given_x = dict(zip(net.input_names, inputs, strict=True))
            found = truth(net, given_x, kink=kink)
            _, jacobian = everything(net, given_x, kink=kink, engine="numpy")
            for (_, block), (value, *_) in zip(entries(jacobian), sides(found, net)[1:], strict=True):
                np.testing.assert_allclose(value, block, rtol=1e-14, atol=1e-15)


def local_at(op, shapes, tensors, kink):
    """A rule's value and the columns of its Jacobians, as balls."""
    from flint import fmpq, fmpz

    from refgrad.exact.local import Site
    from refgrad.exact.rules import rule
    from refgrad.exact.tensors import Integers

    op = op.astype(np.dtype("float64"))
    found = rule(type(op))(op, tensors, Site(shapes, op.shape(*shapes), np.dtype("float64"), kink))
    parts = [found.value.balls().numbers.ravel()]
    for shape, step in zip(shapes, found.maps, strict=True):
        n = int(np.prod(shape))
        unit = np.full((n, 1, n), fmpz(0), object)
        unit[np.arange(n), 0, np.arange(n)] = fmpz(1)
        parts.append(step.push(Integers(unit, fmpq(1))).balls().numbers.ravel())
    return np.concatenate(parts)


def holds_all(op, shapes, points, kink):
    """Whether balls around some points give balls that hold what each point, and each corner, gives."""
    from flint import arb

    from refgrad.exact.tensors import Balls, objects, read

    flat = [np.stack([point[i].ravel() for point in points]) for i in range(len(shapes))]
    lowest, highest = ([end(x, axis=0, keepdims=True) for x in flat] for end in (np.min, np.max))
    wide = [
        Balls(
            objects(
                [arb(a).union(arb(b)) for a, b in zip(low.ravel().tolist(), high.ravel().tolist(), strict=True)],
                low.shape,
            )
        )
        for low, high in zip(lowest, highest, strict=True)
    ]
    held = local_at(op, shapes, wide, kink)
    for place in range(len(points)):
        there = local_at(op, shapes, [read(x[place : place + 1]) for x in flat], kink)
        bad = [
            (one, other) for one, other in zip(held, there, strict=True) if not (one.overlaps(other) or one.is_nan())
        ]
        assert not bad, (op.name, bad[:3])
    return np.mean([number.is_finite() for number in held])


@pytest.mark.parametrize("kink", ["keras", "left", "right", "mean"])
@pytest.mark.parametrize(("name", "parameters"), ROWS, ids=str)
def test_a_ball_over_a_kink_gives_balls_that_hold_both_sides(name, parameters, kink):
    op = Elementwise(name, parameters)
    places = sorted({0.0, *(place.where for place in op.kinks), *op.jumps})
    for place in places:
        points = [[np.array([place + step])] for step in (-0.25, -0.125, 0.0, 0.0625, 0.25)]
        whole = op.row.domain[0] < place - 0.25
        assert holds_all(op, [(1,)], points, kink) == 1 or not whole


@pytest.mark.parametrize("name", [name for name, row in ACTIVATIONS.items() if np.isfinite(row.domain[0])])
def test_outside_the_domain_nothing_is_known(name):
    found = truth(alone(Elementwise(name), [(1,)]), ACTIVATIONS[name].domain[0] - 0.5, most_bits=96)
    for number, proved in ((found.value, found.value_proved), (found.jacobian, found.proved)):
        assert np.isnan(number).all()
        assert not proved.any()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_wide_balls_give_balls_that_hold_all_points(case):
    rng = np.random.default_rng(2)
    centre = [x[0] for x in case.inputs]
    near = [[x + 0.05 * rng.integers(-2, 3, size=x.shape) for x in centre] for _ in range(6)]
    tied = [[np.full_like(x, x.flat[0]) for x in centre]]
    for points in ([centre, *near], [*tied, *near[:2]]):
        holds_all(case.op, case.shapes, points, "keras")


def test_a_wide_ball_over_the_least_length_holds_both_derivatives():
    from refgrad.ops import Dot

    points = [[np.array([3.0, 4.0]) * scale, np.array([1.0, 2.0])] for scale in (0.75, 1.0, 1.25)]
    assert holds_all(Dot((-1, -1), True, 5.0), [(2,), (2,)], points, "keras") == 1


@pytest.mark.parametrize(("name", "parameters"), ROWS, ids=str)
def test_a_jump_itself_belongs_to_the_side_of_the_definition(name, parameters):
    op = Elementwise(name, parameters)
    for place in op.jumps:
        wanted = oracle.FUNCTIONS[name](mpmath.mpf(place), *parameters)
        assert truth(alone(op, [(1,)]), place).value[0] == float(wanted)


def test_what_is_no_number_is_refused():
    net = refgrad.Network.sequential([(np.eye(2), None, "relu")])
    for bad in (np.nan, np.inf):
        with pytest.raises(refgrad.InputError, match=r"input 'input' holds (nan|inf) in sample 1"):
            truth(net, [[0.0, 1.0], [bad, 0.0]])
        weights = refgrad.Network.sequential([(np.array([[bad]]), None, "relu")])
        with pytest.raises(refgrad.UnsupportedError, match="layer 'dense_0': kernel holds NaN or infinity"):
            truth(weights, [1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "dtype='float16'"),
        ({"dtype": "int8"}, "no floating dtype"),
        ({"kink": "raise"}, "kink='raise' is not one of"),
        ({"workers": 0}, "workers=0"),
        ({"most_bits": 0}, "most_bits=0"),
    ],
)
def test_options_are_checked(options, message):
    net = refgrad.Network.sequential([(np.eye(1), None, "relu")])
    with pytest.raises(refgrad.InputError, match=message):
        truth(net, [1.0], **options)
    with pytest.raises(refgrad.InputError, match="of a Network, not of a list"):
        truth([], [1.0])


def test_an_op_without_a_rule_is_named(monkeypatch):
    from refgrad.exact import rules

    monkeypatch.setattr(rules, "RULES", {name: rule for name, rule in rules.RULES.items() if name != "affine"})
    with pytest.raises(refgrad.UnsupportedError, match="layer 'dense_0': affine has no exact rule"):
        truth(refgrad.Network.sequential([(np.eye(1), None, "relu")]), [1.0])


def test_without_flint_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(refgrad.MissingExtraError, match=r"pip install refgrad\[exact\]"):
        truth(refgrad.Network.sequential([(np.eye(1), None, "relu")]), [1.0])


def test_flint_is_imported_when_it_is_used():
    script = "import sys, refgrad; refgrad.exact.value_and_jacobian; print('flint' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
