"""The audit: it passes what is right, fails what is wrong, keeps kinks apart, and says where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import refgrad
from refgrad.auditing.coverage import coverage
from refgrad.auditing.verdicts import SAMPLE, VERDICTS
from refgrad.derivatives.margins import near_kinks
from refgrad.derivatives.products import linearize, values
from refgrad.graph import Provenance, chain
from refgrad.ops import Affine, Elementwise
from refgrad.rounding import deviations, tolerance, unit_roundoff, variances
from tests.cases import CASES, GOLDEN, golden_arguments, golden_truth

NET = refgrad.load(GOLDEN / "mixed-keras3.keras")
X = golden_truth("mixed-keras3")["x"]


def failing(report):
    """How many samples are discrepant, proved or not."""
    return report.counts["discrepant_suspect"] + report.counts["discrepant_proved"]


def honest(net):
    return lambda x: net.value_and_jacobian(x, engine="numpy")


def test_the_noise_model_is_the_documented_one():
    """σ²(z_j) = Σ_k W_kj²(σ²(a_k) + u² max(1, n/6) a_k²) + u²(z_j² + b_j²), σ(a) = |f′| σ(z): by hand on two layers."""
    w, b, v = np.array([[2.0, -1.0]]), np.array([0.5, 3.0]), np.ones((2, 1))
    net = refgrad.Network.sequential([(w, b, "tanh"), (v, None, "linear")])
    x, u = np.array([[0.25]]), 2.0**-53
    z = x @ w + b
    a = np.tanh(z)
    first = w**2 * u**2 * x**2 + u**2 * (z**2 + b**2)
    inner = (1 - a**2) ** 2 * first
    second = (inner + u**2 * a**2).sum() + u**2 * (a.sum() ** 2)
    found = variances(net.graph, values(net.graph, [x]))
    np.testing.assert_allclose(found[1], first, rtol=1e-14)
    np.testing.assert_allclose(found[2], inner, rtol=1e-12)
    np.testing.assert_allclose(found[3][0, 0], second, rtol=1e-12)
    wide = refgrad.Network.sequential([(np.ones((12, 1)), None, "linear")])
    ones = np.ones((1, 12))
    found = variances(wide.graph, values(wide.graph, [ones]))
    np.testing.assert_allclose(found[1], u**2 * (12 * 2 + 12**2), rtol=1e-14)


def test_the_tolerances_are_the_documented_ones():
    question = refgrad.load(GOLDEN / "question-keras3.keras")
    assert unit_roundoff(np.dtype("float32")) == 2.0**-24
    assert tolerance(question.graph) == 64 * 2.0**-24 * np.sqrt(1 + 64 + 32 + 32 + 1)
    assert tolerance(question.astype("float64").graph) == 1e-13


def test_near_a_kink_is_within_eight_sigma():
    """One unit z = x − 1 in float64: σ = u √(x² + z² + 1), so √2 u at x = 1, and 8 σ is 11.3 u."""
    net = refgrad.Network.sequential([(np.array([[1.0]]), np.array([-1.0]), "relu")])
    u = 2.0**-53
    x = np.array([[1.0], [1 + 10 * u], [1 + 12 * u], [1 - 11 * u], [1 - 12 * u], [2.0]])
    point = linearize(net.graph, [x], "keras")
    near = near_kinks(point, deviations(net.graph, point.values))
    np.testing.assert_array_equal(near.near, [True, True, False, True, False, False])
    assert set(near.node) == {2}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_right_reference_passes(case):
    x = np.random.default_rng(3).normal(size=(100, *case.net.input_shapes[0])).astype(case.net.dtype)
    report = refgrad.audit(case.net, x, honest(case.net))
    assert report.passed, report.summary()
    assert len(report.samples) == 100


def spoiled(change):
    def reference(x):
        y, jacobian = honest(NET)(x)
        return change(y.astype(float), jacobian.astype(float))

    return reference


def at(sample, part, value):
    def change(y, jacobian):
        (y if part == "y" else jacobian)[sample, 1] = value
        return y, jacobian

    return change


FAULTS = {
    "one entry": (lambda y, j: (y, j + np.eye(64)[:, 7, None, None] * 1e-3), 1),
    "one value": (lambda y, j: (y + np.eye(64)[:, 7, None] * 1e-3, j), 1),
    "scaled": (lambda y, j: (y, j * 1.001), 60),
    "sign": (lambda y, j: (y, -j), 60),
    "zero": (lambda y, j: (y, 0 * j), 60),
    "rows swapped": (lambda y, j: (y, j[:, ::-1]), 60),
    "values swapped": (lambda y, j: (y[:, ::-1], j), 60),
    "samples shifted": (lambda y, j: (np.roll(y, 1, 0), np.roll(j, 1, 0)), 60),
    "a NaN": (at(5, "j", np.nan), 1),
    "an infinity": (at(5, "j", np.inf), 1),
    "a NaN value": (at(5, "y", np.nan), 1),
    "something huge": (at(5, "j", 1e30), 1),
    "a constant": (lambda y, j: (y, j + 1e-3), 64),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_reference_fails(fault):
    change, at_least = FAULTS[fault]
    report = refgrad.audit(NET, X, spoiled(change))
    assert not report.passed
    assert failing(report) >= at_least
    assert report.samples[report.worst]["verdict"].startswith("discrepant")
    assert "FAILED" in report.summary()


def test_the_worst_entry_is_named():
    report = refgrad.audit(NET, X, spoiled(at(5, "j", 9.0)))
    row = report.samples[5]
    assert (report.worst, row["verdict"]) == (5, "discrepant_proved")
    assert row["where"].startswith("dy[1]/dx[")
    assert row["error"] > 1e4 * row["bound"] > 0
    y_only = refgrad.audit(NET, X, spoiled(at(5, "y", 9.0)))
    assert y_only.samples[5]["value_error"] > 1e4 * y_only.samples[5]["value_bound"] > 0
    assert y_only.samples[5]["where"] == "y[1]"


KINK = refgrad.Network.sequential(
    [(np.array([[1.0, -1.0]]), None, "relu"), (np.array([[1.0], [-1.0]]), None, "linear")]
)


def test_samples_near_a_kink_are_kept_apart():
    """y = x by two ReLUs: at 0 the reference says 1, the truth, and refgrad 0, Keras's choice; both are right."""
    x = np.concatenate([np.linspace(1, 3, 19), [0.0]])[:, None]
    report = refgrad.audit(KINK, x, lambda x: (x, np.ones((len(x), 1, 1))))
    assert report.passed
    assert report.counts == {"ok": 19, "kink_convention": 1}
    row = report.samples[19]
    assert (row["side"], row["layer"]) == ("ours", "dense_0/relu")
    assert row["units"] == "dense_0/relu[0], dense_0/relu[1]"
    assert row["fault"] == "the rule of tensorflow, jax, torch"
    theirs = refgrad.audit(KINK, x, lambda x: (x, KINK.jacobian(x, kink="right")), engine="numpy")
    assert theirs.counts == {"ok": 19, "kink_convention": 1}
    wrong = refgrad.audit(KINK, x, lambda x: (x + (x == 0), np.ones((len(x), 1, 1))))
    assert wrong.counts == {"ok": 19, "discrepant_proved": 1}


def test_a_kink_that_nothing_depends_on_is_none():
    """A ReLU after a ReLU is on its kink whenever the first is off: its slope multiplies 0, whatever it is."""
    relu = Elementwise("relu", (np.inf, 0.0, 0.0))
    steps = [("z", Affine(np.ones((1, 2)), np.array([0.5, -0.5]))), ("a", relu), ("again", relu)]
    net = refgrad.Network(chain((1,), steps, np.dtype("float64"), Provenance()))
    report = refgrad.audit(net, np.linspace(-3, 3, 32)[:, None], honest(net))
    assert report.counts == {"ok": 32}
    assert report.passed
    assert net.jacobian([-3.0], kink="raise").max() == 0
    np.testing.assert_array_equal(net.jacobian([[-3.0]], kink="right"), net.jacobian([[-3.0]]))
    with pytest.raises(refgrad.KinkError, match=r"unit a\[1\]"):
        net.jacobian([0.5], kink="raise")


def test_an_audit_that_leaves_too_much_open_is_vacuous():
    x = np.concatenate([np.linspace(1, 3, 17), np.full(3, np.nan)])[:, None]
    report = refgrad.audit(KINK, x, honest(KINK))
    assert report.counts == {"ok": 20}
    assert report.vacuous
    assert not report.passed
    assert "only 85% of the samples are finite and could be judged" in report.summary()
    empty = refgrad.audit(KINK, x[:0], honest(KINK))
    assert not empty.passed
    assert empty.summary()


def test_nothing_finite_is_nothing_judged():
    """NaN against NaN agrees, and says nothing."""
    x = np.full((20, 3), np.nan)
    report = refgrad.audit(NET, x, honest(NET))
    assert (report.counts["ok"], report.judged, report.passed) == (20, 0, False)
    huge = refgrad.Network.sequential([(np.array([[1.0]]), None, "linear")])
    x = np.full((20, 1), 1e160)
    assert not refgrad.audit(huge, x, lambda x: (2 * x, np.ones((20, 1, 1)))).passed


def test_near_a_kink_or_jump_numbers_must_still_be_finite():
    x = np.concatenate([np.linspace(1, 3, 19), [0.0]])[:, None]
    for bad in (np.nan, np.inf):
        report = refgrad.audit(KINK, x, lambda x, bad=bad: (x, np.where(x == 0, bad, 1.0)[:, :, None]))
        assert report.counts["ok"] == 19
        assert failing(report) == 1


def test_near_a_jump_either_value_will_do_and_near_a_kink_not():
    """relu with threshold 1 jumps from 0 to 1 there; with max_value 2 it has a kink there."""
    steps = [("z", Affine(np.eye(1))), ("re_lu", Elementwise("relu", (2.0, 0.0, 1.0)))]
    net = refgrad.Network(chain((1,), steps, np.dtype("float64"), Provenance()))
    x = np.concatenate([np.linspace(1.1, 1.9, 28), [1.0, 2.0]])[:, None]

    def beyond(at, slope):
        """The value beyond a place, and another slope there."""

        def answer(x):
            y, jacobian = net.value_and_jacobian(x, engine="numpy")
            return np.where(x == at, x - (x == 2) * 0.5, y), np.where(x == at, slope, jacobian[:, :, 0])[:, :, None]

        return answer

    # Value and slope are those of one side, or of the kink itself; a mixture is neither.
    assert refgrad.audit(net, x, beyond(1.0, 1.0)).counts == {"ok": 28, "clarke_element": 2}
    assert refgrad.audit(net, x, beyond(1.0, 7.0)).counts == {"ok": 28, "clarke_element": 1, "discrepant_proved": 1}
    assert failing(refgrad.audit(net, x, beyond(2.0, 1.0))) == 1
    for bad in (np.nan, np.inf):
        spoil = lambda x, bad=bad: (np.where(x == 1, bad, net(x)), net.jacobian(x, engine="numpy"))  # noqa: E731
        assert failing(refgrad.audit(net, x, spoil)) == 1


def test_near_a_kink_it_is_the_value_that_is_named():
    x = np.concatenate([np.linspace(1, 3, 19), [0.0]])[:, None]
    report = refgrad.audit(KINK, x, lambda x: (KINK(x) + (x == 0), KINK.jacobian(x)))
    assert report.samples[-1]["verdict"] == "discrepant_proved"
    assert report.samples[-1]["where"] == "y[0]"


def test_an_infinite_input_excuses_nothing():
    """Its noise is infinite, and so would be the bound: still a wrong number is one."""
    net = refgrad.Network.sequential([(np.ones((1, 1)), None, "linear"), (np.ones((1, 1)), None, "linear")])
    x = np.append(np.linspace(1, 3, 19), np.inf)[:, None]
    assert refgrad.audit(net, x, honest(net)).passed
    wrong = refgrad.audit(net, x, lambda x: (np.where(x == np.inf, 7.0, net(x)), net.jacobian(x)))
    assert failing(wrong) == 1


def test_a_row_holds_the_numbers_and_how_far_they_are_apart():
    def off_by_one(x):
        y, jacobian = NET.value_and_jacobian(x, engine="numpy")
        jacobian[3, 1, 0] += 1
        return y, jacobian

    report = refgrad.audit(NET, X, off_by_one, engine="numpy")
    row, jacobian = report.samples[3], NET.jacobian(X, engine="numpy").astype(float)
    assert (row["where"], row["side"], row["ours"]) == ("dy[1]/dx[0]", "theirs", jacobian[3, 1, 0])
    assert row["error"] == abs(row["theirs"] - row["truth"])
    assert row["theirs"] == pytest.approx(row["ours"] + 1, abs=1e-6)
    assert row["ratio"] == 8 * row["error"] / row["bound"] > 1e4
    assert row["truth"] == refgrad.exact.value_and_jacobian(NET, X[3]).jacobian[1, 0]
    margin = NET.kinks(X, tol=0).margin
    assert np.corrcoef(np.log(report.samples["distance"]), np.log(margin))[0, 1] > 0.9
    assert report.coverage == coverage(NET, [X])
    assert report.to_dict()["coverage"]["layers"][0]["units"] == report.coverage.layers[0].units
    assert f"  {report.coverage.summary()}" in report.summary().splitlines()


def test_a_large_audit_is_worked_in_pieces(monkeypatch):
    whole = refgrad.audit(NET, X, honest(NET))
    monkeypatch.setattr("refgrad.agreement.MAX_BYTES", 1000)
    pieces = refgrad.audit(NET, X, honest(NET))
    for name in SAMPLE.names:
        if name == "distance":  # in σ: BLAS rounds by the length of the batch
            np.testing.assert_allclose(pieces.samples[name], whole.samples[name], rtol=1e-5, atol=4)
        else:
            np.testing.assert_array_equal(pieces.samples[name], whole.samples[name])


def test_a_dead_network_is_compared_absolutely():
    dead = refgrad.Network.sequential(
        [(np.ones((1, 2)), np.array([-50.0, -50]), "relu"), (np.ones((2, 1)), None, "relu")]
    )
    x = np.linspace(-1, 1, 20)[:, None]
    assert refgrad.audit(dead, x, lambda x: (0 * x, np.zeros((len(x), 1, 1)))).passed
    assert refgrad.audit(dead, x, lambda x: (0 * x, np.full((len(x), 1, 1), 1e-30))).counts["discrepant_proved"] == 20


@pytest.mark.parametrize(
    ("against", "message"),
    [
        (["tensorflow"], "none of 'tensorflow', .*'exact', nor a function"),
        ("fortran", "against='fortran' is none of 'tensorflow', .*'torch', .*nor a function"),
        (lambda x: (np.zeros((len(x), 3)), np.zeros((len(x), 2, 3))), "the value to compare with has shape"),
        (lambda x: (np.zeros((len(x), 2)), np.zeros((len(x), 3, 3))), "the Jacobian to compare with has shape"),
        (lambda x: (np.zeros((len(x), 2)), np.zeros((2, len(x), 3))), "the Jacobian to compare with has shape"),
        (lambda x: (np.zeros((len(x), 2)), np.zeros((len(x), 3, 2))), "the Jacobian to compare with has shape"),
        (lambda x: (np.zeros((1, 2)), np.zeros((len(x), 2, 3))), "the value to compare with has shape"),
        (lambda x: None, "must give the pair \\(y, J\\), not NoneType"),
        (lambda x: x, "must give the pair"),
        (lambda x: (x, x, x), "must give the pair"),
        (lambda x: ("a", "b"), "gave holds str"),
        (lambda x: (np.zeros((len(x), 2)) * 1j, np.zeros((len(x), 2, 3))), "gave holds complex128"),
        (lambda x: ([[1], [1, 2]], 0), "rows differ in length"),
    ],
)
def test_references_that_are_refused(against, message):
    with pytest.raises(refgrad.InputError, match=message):
        refgrad.audit(NET, X, against)


def test_tensorflow_without_a_model_is_refused():
    with pytest.raises(refgrad.InputError, match="needs model="):
        refgrad.audit(KINK, [[1.0]])


def test_the_reference_cannot_change_the_inputs():
    def spoil(x):
        y, jacobian = honest(NET)(x)
        x[...] = 0
        return y, jacobian

    given = X.copy()
    assert refgrad.audit(NET, given, spoil).passed
    np.testing.assert_array_equal(given, X)


def test_the_report_as_json(tmp_path):
    report = refgrad.audit(NET, X, spoiled(at(5, "j", np.inf)))
    path = tmp_path / "report.json"
    report.to_json(path)
    found = json.loads(path.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert found["passed"] is False
    assert {name: count for name, count in found["counts"].items() if count} == {"ok": 63, "discrepant_proved": 1}
    assert found["samples"][5]["verdict"] == "discrepant_proved"
    assert found["samples"][5]["error"] == "inf"
    assert found["model"]["digest"] == NET.digest
    assert list(found["counts"]) == list(VERDICTS)


tensorflow = pytest.mark.tensorflow


@tensorflow
@pytest.mark.parametrize(
    ("stem", "container"),
    [
        ("question-keras3", "keras"),
        ("mixed-keras3", "h5"),
        ("mixed-keras3", "json+weights.h5"),
        ("mixed-keras3", "weights.h5+json"),
        ("question-tf_keras", "h5"),
        ("mixed-tf_keras", "json+legacy weights"),
        ("twelve-tf_keras", "keras"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensorflow_agrees_on_fresh_inputs(stem, container, dtype):
    pytest.importorskip("tensorflow")
    (path,), others = golden_arguments(stem, container)
    net = refgrad.load(path, **others).astype(dtype)
    x = np.random.default_rng(8).normal(size=(300, *net.input_shapes[0]))
    report = refgrad.audit(net, x, "tensorflow", **others)
    assert report.passed, report.summary()
    relative = report.samples["error"][report.samples["verdict"] == "ok"].max() / report.scale
    assert relative <= (1e-6 if dtype == "float32" else 1e-13)
    assert ("tf_keras" if "tf_keras" in stem else "keras 3") in report.against
    assert dtype in report.against


@tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_a_live_model_can_be_asked(generation):
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    keras.utils.set_random_seed(4)
    layers = [keras.layers.Input((3,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    (w, b, v, c) = model.get_weights()
    net = refgrad.Network.sequential([(w, b, "tanh"), (v, c, "linear")])
    x = np.random.default_rng(0).normal(size=(50, 3))
    assert refgrad.audit(net, x, "tensorflow", model=model).passed
    assert refgrad.audit(net.astype("float64"), x, "tensorflow", model=model).passed
    wrong = refgrad.Network.sequential([(w, b, "sigmoid"), (v, c, "linear")])
    assert refgrad.audit(wrong, x, "tensorflow", model=model).counts == {
        "discrepant_suspect": 18,
        "discrepant_proved": 32,
    }


@tensorflow
def test_a_model_of_another_shape_is_refused():
    pytest.importorskip("tensorflow")
    with pytest.raises(
        refgrad.InputError, match=r"maps \[\(1,\)\] to \[\(1,\)\]; this network maps \[\(3,\)\] to \[\(2,\)\]"
    ):
        refgrad.audit(NET, X, "tensorflow", model=GOLDEN / "question-keras3.keras")


@tensorflow
def test_a_file_tensorflow_cannot_load_is_one_refusal(tmp_path):
    pytest.importorskip("tensorflow")
    (tmp_path / "broken.keras").write_bytes(b"nonsense")
    with pytest.raises(refgrad.UnsupportedError, match=r"cannot load .*broken\.keras"):
        refgrad.audit(NET, X, "tensorflow", model=tmp_path / "broken.keras")


def test_without_tensorflow_the_extra_is_named():
    script = """
import sys
sys.modules["tensorflow"] = None
import numpy as np, refgrad
net = refgrad.load("tests/golden/mixed-keras3.keras")
try:
    refgrad.audit(net, np.zeros((1, 3)))
except refgrad.MissingExtraError as error:
    print(error)
"""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=root, env=os.environ, check=False
    )
    assert "refgrad's extra 'tf'" in done.stdout, done.stderr
