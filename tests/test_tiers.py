"""The tiers of an audit: what explains a difference, what is proved, and that no tier takes back what another said."""

from __future__ import annotations

import re

import numpy as np
import pytest

import refgrad
from refgrad.agreement import Answer
from refgrad.auditing.accuracy import assumed
from refgrad.auditing.faults import FAULTS, REDUCED_PRECISION
from refgrad.auditing.gaps import numbers
from refgrad.auditing.rules import rule_of
from refgrad.auditing.screening import MANY, value_floor
from refgrad.auditing.text import headline
from refgrad.auditing.tiers import judge
from refgrad.graph import Graph, Node, Provenance
from refgrad.network import answer
from refgrad.ops import Elementwise, Source
from refgrad.ops.extremum import Maximum
from refgrad.ops.partial import Partial
from tests import fault_study as study
from tests.cases import CASES, GOLDEN

flint = pytest.importorskip("flint")

RELU = Elementwise("relu", (np.inf, 0.0, 0.0))
QUESTION = GOLDEN / "question-keras3.keras"


def chain(*ops, shape=(1,), dtype="float64"):
    """One op after the other."""
    nodes = [Node(Source(shape), (), "x")] + [Node(op, (i,), f"op{i}") for i, op in enumerate(ops)]
    return refgrad.Network(Graph(tuple(nodes), (0,), (len(ops),), ("x",), ("y",), np.dtype(dtype), Provenance()))


def plane(dtype="float64"):
    """y = relu(x₁) + relu(x₂)."""
    return refgrad.Network.sequential(
        [(np.eye(2, dtype=dtype), None, "relu"), (np.ones((2, 1), dtype), None, "linear")]
    )


def given(net, jacobian, value=None):
    """A function that has other numbers at the sample 0."""

    def function(x):
        y, found = net.value_and_jacobian(x, engine="numpy")
        found, y = found.astype(float), y.astype(float)
        found[0] = np.reshape(jacobian, found[0].shape)
        y[0] = y[0] if value is None else value
        return y, found

    return function


def first(net, x, jacobian, value=None, **options):
    """The row of sample 0."""
    with_others = np.concatenate([[x], np.random.default_rng(0).uniform(1, 2, size=(19, len(x)))])
    report = refgrad.audit(net, with_others, given(net, jacobian, value), engine="numpy", **options)
    return report.samples[0]


ABS = chain(Elementwise("abs"))
MAXIMUM = chain(Partial("maximum", np.zeros(1)))
TWICE = refgrad.Network.sequential(
    [(np.array([[1.0, 2.0]]), None, "relu"), (np.array([[1.0], [-1.0]]), None, "linear")]
)
CHOICES = {
    "Keras's 0 of abs is neither side's": (ABS, [0.0], [0.0], "kink_convention", "tensorflow, torch"),
    "1 is the limit from the right, ours the rule": (ABS, [0.0], [1.0], "kink_convention", "tensorflow, torch"),
    "the mean that JAX and torch take": (MAXIMUM, [0.0], [0.5], "kink_convention", "jax, torch, mean slopes"),
    "1 for maximum(x, 0)": (MAXIMUM, [0.0], [1.0], "clarke_element", ""),
    "one of both right": (plane(), [0.0, 0.0], [1.0, 0.0], "clarke_element", ""),
    "both right": (plane(), [0.0, 0.0], [1.0, 1.0], "clarke_element", ""),
    "both mean": (plane(), [0.0, 0.0], [0.5, 0.5], "kink_convention", "mean slopes"),
    "no direction turns on only the first": (TWICE, [0.0], [1.0], "kink_convention", "slopes of both sides"),
    "a slope of nobody": (plane(), [0.0, 0.0], [0.3, 0.0], "discrepant_suspect", ""),
    "beyond all slopes": (plane(), [0.0, 0.0], [1.3, 0.0], "discrepant_proved", ""),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_on_a_kink_limits_and_rules_are_told_apart(choice):
    net, x, jacobian, verdict, rule = CHOICES[choice]
    row = first(net, x, jacobian)
    assert (row["verdict"], row["tier"]) == (verdict, 2)
    assert rule in row["fault"]
    if not verdict.startswith("discrepant"):
        assert row["units"]


def test_the_front_page_line_through_zero():
    """y = relu(x) − relu(−x) = x: Keras says 0 at 0, the truth is 1, and the report says whose rule it is."""
    net = refgrad.Network.sequential(
        [(np.array([[1.0, -1.0]], "f4"), None, "relu"), (np.array([[1.0], [-1.0]], "f4"), None, "linear")]
    )
    assert net.jacobian([0.0])[0, 0] == 0
    row = first(net, [0.0], [1.0])
    assert (row["verdict"], row["side"], row["ours"], row["theirs"]) == ("kink_convention", "ours", 0.0, 1.0)
    assert "tensorflow" in row["fault"]


def neighbours(net, away=64):
    """Floats around the kinks of a network of one input, at most `away` floats off: kinks by bisection in float64."""
    wide = net.astype("float64")
    x = np.linspace(-10, 20, 30001)
    slopes = wide.jacobian(x[:, None])[:, 0, 0]
    (place,) = np.nonzero(np.diff(slopes))
    low, high, left = x[place], x[place + 1], slopes[place]
    for _ in range(60):
        middle = (low + high) / 2
        same = wide.jacobian(middle[:, None])[:, 0, 0] == left
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    bits = low.astype("float32").view(np.int32)
    return np.unique((bits[:, None] + np.arange(-away, away + 1)).astype(np.int32).view("float32"))[:, None]


def test_near_kinks_every_flip_is_named_and_nothing_else_is_wrong():
    """Some 13 000 floats within 64 of a kink: exact truth knows the side, and both engines lose it now and then."""
    net = refgrad.load(QUESTION)
    x = neighbours(net)
    report = refgrad.audit(net, x, lambda x: net.value_and_jacobian(x, engine="numpy"), certify="all")
    assert set(report.counts) <= {"ok", "kink_flip"}
    assert report.counts["kink_flip"] > 5
    assert len(x) > 10_000
    flipped = report.samples[report.samples["verdict"] == "kink_flip"]
    assert all(flipped["units"] != "")
    assert report.passed
    truth = refgrad.exact.value_and_jacobian(net, x)
    at = np.flatnonzero(report.samples["verdict"] == "kink_flip")
    np.testing.assert_array_equal(report.samples["truth"][at], truth.jacobian[at, 0, 0])


@pytest.mark.tensorflow
@pytest.mark.parametrize("against", ["tensorflow", "xla"])
def test_the_front_page_flips(against):
    """At floats beside kinks TensorFlow loses the sign of a unit, as refgrad does; which ones depends on the machine.

    On an AVX-512 one both say −0.4201 at 0x1.efb7e4p-2, where the truth is −0.2890.
    """
    pytest.importorskip("tensorflow")
    net = refgrad.load(QUESTION)
    x = neighbours(net)
    report = refgrad.audit(net, x, against)
    assert report.passed
    assert set(report.counts) <= {"ok", "kink_flip"}
    theirs = report.samples[(report.samples["verdict"] == "kink_flip") & (report.samples["side"] != "ours")]
    assert len(theirs) >= 5
    assert np.abs(theirs["theirs"] - theirs["truth"]).max() > 0.05
    at = float.fromhex("0x1.efb7e4p-2")
    assert refgrad.exact.value_and_jacobian(net, at).jacobian[0, 0] == pytest.approx(-0.28900788588165066, rel=1e-15)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_tier_0_passes_the_truth_passes(case):
    """And what the truth passes tier 0 does not fail: for right answers, and for ones that are off by some σ."""
    net = case.net
    found = answer(net, [case.x], engine="numpy")
    rng = np.random.default_rng(5)
    size = rng.choice([0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-3], size=len(case.x)).astype(net.dtype)
    moved = [[block * (1 + size.reshape(-1, *(1,) * (block.ndim - 1))) for block in row] for row in found.jacobians]
    answers = {"ours": numbers(found), "theirs": numbers(Answer(found.values, tuple(map(tuple, moved))))}
    floor = value_floor(net.graph, found)
    cheap, dear = (judge(net, [case.x], answers, floor, certify=certify) for certify in (0, "all"))
    for name in answers:
        one, other = cheap.sides[name].verdict, dear.sides[name].verdict
        passed = np.isin(one, ["ok"]) & (cheap.tier == 0)
        assert not (passed & np.char.startswith(other, "discrepant")).any(), name
        assert (one[cheap.distance > 8] == other[cheap.distance > 8]).all(), name


def test_a_proof_needs_the_enclosure():
    """Discrepancies stay suspects where no op's rounding is bounded, as with softmax, and beyond the worst 32."""
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(3, 8)), None, "tanh"), (0.1 * rng.normal(size=(8, 2)), None, "softmax")]
    net = refgrad.Network.sequential(layers)
    x = rng.normal(size=(40, 3))
    wrong = lambda of: lambda x: (of(x), -of.jacobian(x))  # noqa: E731
    assert refgrad.audit(net, x, wrong(net)).counts == {"discrepant_suspect": 40}
    plain = refgrad.Network.sequential([layers[0], (layers[1][0], None, "linear")])
    report = refgrad.audit(plain, x, wrong(plain))
    assert report.counts == {"discrepant_suspect": 8, "discrepant_proved": 32}
    assert "Of 32 it is proved" in headline(report)
    assert "What explains it: in theirs, " in headline(report)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_rounding_leaves_the_enclosure(case):
    """Either engine, either mode, either dtype's truth: all are inside."""
    from refgrad.exact.enclosure import enclosure

    net = case.net
    limits = enclosure(net.graph, [case.x], assumed)
    if limits is None:
        return
    for engine, mode in (("auto", "auto"), ("numpy", "forward"), ("numpy", "reverse")):
        y, jacobian = net.value_and_jacobian(case.x, engine=engine, mode=mode)
        (value,), ((block,),) = limits.values, limits.jacobians
        assert ((value.lower <= y.reshape(value.lower.shape)) & (y.reshape(value.lower.shape) <= value.upper)).all()
        rows = jacobian.reshape(block.lower.shape)
        inside = (block.lower <= rows) & (rows <= block.upper)
        # On a kink the slope is anything between both.
        assert inside.all()


def test_the_enclosure_is_the_documented_one():
    """z = w x + b: γ₃ (|w x| + |b|) for the value, with n = 1 product, and some u |w| for the Jacobian."""
    from refgrad.exact.enclosure import enclosure

    w, b, x = 3.0, 0.5, 0.25
    net = refgrad.Network.sequential([(np.array([[w]], "f4"), np.array([b], "f4"), "linear")])
    limits = enclosure(net.graph, [np.array([[x]], "f4")], assumed)
    u = 2.0**-24
    gamma = 3 * u / (1 - 3 * u)
    (value,), ((block,),) = limits.values, limits.jacobians
    assert value.upper[0, 0] - (w * x + b) == pytest.approx(gamma * (w * x + b), rel=1e-6)
    assert 0 < block.upper[0, 0, 0] - w == pytest.approx(w - block.lower[0, 0, 0])
    assert block.upper[0, 0, 0] - w < 10 * u * w


def test_an_activation_errs_by_what_is_assumed_of_it():
    """tanh at an exact 0.5: 64 u, four times the 16 that rows are granted at least, for value and slope."""
    from refgrad.exact.enclosure import enclosure

    net = chain(Elementwise("tanh"), dtype="float32")
    limits = enclosure(net.graph, [np.array([[0.5]], "f4")], assumed)
    (value,), ((block,),), u = limits.values, limits.jacobians, 2.0**-24
    assert value.upper[0, 0] - np.tanh(0.5) == pytest.approx(64 * u, rel=1e-3)
    assert 64 * u < block.upper[0, 0, 0] - 1 / np.cosh(0.5) ** 2 < 80 * u


def test_numbers_flushed_to_zero_are_recognised():
    """1e-40 is below the least normal float32: a machine that flushes has y = 0 and J = 0, which is no bug."""
    net = refgrad.Network.sequential(
        [(np.array([[1e-40, 1.0]], "f4"), None, "linear"), (np.array([[1e38], [0.0]], "f4"), None, "linear")]
    )
    x = np.linspace(1, 2, 20, dtype="f4")[:, None]
    slope = float(np.float32(1e-40)) * float(np.float32(1e38))
    report = refgrad.audit(net, x, lambda x: (0 * x, np.zeros((len(x), 1, 1))), engine="numpy")
    assert report.counts == {"flushed_subnormal": 20}
    right = refgrad.audit(net, x, lambda x: (slope * x.astype(float), np.full((len(x), 1, 1), slope)), engine="numpy")
    assert set(right.counts) <= {"ok"}
    between = refgrad.Network.sequential(
        [(np.array([[1e-20]], "f4"), None, "linear"), (np.array([[1e30]], "f4"), None, "linear")]
    )
    tiny = 1e-20 * x
    report = refgrad.audit(between, tiny, lambda x: (0 * x, between.jacobian(x)), engine="numpy")
    assert report.counts == {"flushed_subnormal": 20}, "x and the weights are normal, their product is not"
    other = refgrad.audit(net, x, lambda x: (0 * x, np.full((len(x), 1, 1), 7.0)), engine="numpy")
    assert other.counts["flushed_subnormal"] == 0


@pytest.mark.parametrize("name", ["small 16-64-64-8", "tanh 8-32-32-4"])
def test_products_of_fewer_digits_are_no_bugs_but_nothing_is_judged(name):
    """TF32 and bfloat16, emulated: recognised by their own rounding; but not with Jacobians twice too large."""
    net = study.network(name)
    inputs = study.normal(net, 100, seed=3)
    for phrase, graph in FAULTS[REDUCED_PRECISION](net.graph, inputs):
        given_answer = study.ANSWERS["emulated"](graph, inputs)
        report = study.audited(net, inputs, given_answer)
        assert report.counts == {"reduced_precision": 100}
        assert set(report.samples["fault"]) == {phrase}
        assert set(report.samples["side"]) == {"theirs"}
        assert report.vacuous
        doubled = Answer(
            given_answer.values, tuple(tuple(2 * block for block in row) for row in given_answer.jacobians)
        )
        assert failing(study.audited(net, inputs, doubled)) > 90


def failing(report):
    return report.counts["discrepant_suspect"] + report.counts["discrepant_proved"]


def test_the_least_noise_is_less_and_is_tried_first_where_outputs_are_many(monkeypatch):
    rng = np.random.default_rng(2)
    wide = MANY + 1
    net = refgrad.Network.sequential(
        [
            (rng.normal(size=(3, 20)).astype("f4"), None, "relu"),
            (rng.normal(size=(20, wide)).astype("f4"), None, "linear"),
        ]
    )
    x = rng.normal(size=(30, 3)).astype("f4")
    report = refgrad.audit(net, x, lambda x: net.value_and_jacobian(x, engine="numpy"), certify=0)
    assert report.counts == {"ok": 30}
    monkeypatch.setattr("refgrad.auditing.screening.MANY", 10**6)
    whole = refgrad.audit(net, x, lambda x: net.value_and_jacobian(x, engine="numpy"), certify=0)
    assert whole.counts == {"ok": 30}
    assert (report.samples["ratio"] >= whole.samples["ratio"]).all()
    assert (report.samples["ratio"] > whole.samples["ratio"]).any()
    monkeypatch.undo()
    # Outside of the smaller bound, inside of the whole one: that one counts.
    sample = int((whole.samples["bound"] / report.samples["bound"]).argmax())
    row, place = report.samples[sample], [int(n) for n in re.findall(r"\d+", str(report.samples["where"][sample]))]
    assert whole.samples["bound"][sample] > 1.3 * row["bound"]

    def moved(x):
        y, jacobian = (part.astype(float) for part in net.value_and_jacobian(x, engine="numpy"))
        jacobian[sample, place[0], place[1]] = row["truth"] + 1.1 * row["bound"]
        return y, jacobian

    assert refgrad.audit(net, x, moved, certify=0).counts == {"ok": 30}


@pytest.mark.parametrize("against", ["finite-differences", "complex-step"])
def test_a_method_is_granted_its_own_error(against):
    """Central differences are off by 1e-10 and more, which they know; in float64 that is 10⁵ deviations."""
    rng = np.random.default_rng(0)
    net = refgrad.Network.sequential(
        [(rng.normal(size=(3, 8)), None, "tanh"), (rng.normal(size=(8, 2)), None, "linear")]
    )
    report = refgrad.audit(net, rng.normal(size=(30, 3)), against)
    assert report.counts == {"ok": 30}


def test_ops_that_cancel_inside_do_not_alarm():
    """Layer normalisation, a normalised dot product, softmax: their formulas do not show what they lose."""
    assert study.clean("layers (two in, two out)", "emulated", 400, seed=100)["verdicts"] == {"ok": 400}


def test_rules_are_those_that_were_measured():
    """From docs/conventions.md: maximum(x, 0), leaky_relu, selu, abs; a row that was not measured counts as Keras's."""
    leaky, selu = Elementwise("relu", (np.inf, 0.3, 0.0)), Elementwise("selu")
    assert [rule_of(name, leaky) for name in ("tensorflow", "jax", "torch")] == ["keras", "right", "keras"]
    assert [rule_of(name, selu) for name in ("tensorflow", "jax", "torch")] == ["keras", "left", "left"]
    assert [rule_of(name, Elementwise("abs")) for name in ("tensorflow", "jax", "torch")] == ["keras", "right", "keras"]
    assert [rule_of(name, Maximum()) for name in ("tensorflow", "jax", "torch")] == ["keras", "mean", "mean"]
    assert rule_of("jax", Elementwise("sparse_plus")) == "keras"


@pytest.mark.parametrize("option", [{"certify": -1}, {"certify": "some"}, {"workers": 0}, {"certify": True}])
def test_options_are_checked(option):
    with pytest.raises(refgrad.InputError, match=next(iter(option))):
        refgrad.audit(plane(), [[1.0, 1.0]], lambda x: (x, x), **option)


def test_without_flint_near_kinks_stay_open(monkeypatch):
    """Float64 finds flips all the same; where it cannot tell the side either, the sample is left open."""
    monkeypatch.setattr("refgrad.auditing.tiers.has_exact", lambda: False)
    assert first(plane(), [0.0, 0.0], [1.0, 0.0])["verdict"] == "clarke_element"
    assert first(plane(), [0.0, 0.0], [1.3, 0.0])["verdict"] == "discrepant_suspect"
    net = refgrad.load(QUESTION)
    x = neighbours(net, 4)
    report = refgrad.audit(net, x, lambda x: net.value_and_jacobian(x, engine="numpy"))
    assert set(report.counts) <= {"ok", "kink_flip"}
    assert (report.samples["tier"] != 1).all()
