"""The frameworks' own word on rebuilt graphs: every op, every activation, and what the report says was compared."""

from __future__ import annotations

import importlib
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest

import refgrad
from refgrad.activations import ACTIVATIONS
from refgrad.agreement import compare
from refgrad.auditing.frameworks import FRAMEWORKS
from refgrad.auditing.frameworks.rebuild import RULES
from refgrad.auditing.frameworks.reference import Question
from refgrad.graph import Graph, Node, Provenance
from refgrad.network import Network, answer
from refgrad.ops import OPS, Elementwise, Source
from tests import test_ops
from tests.accuracy import ROWS
from tests.cases import CASES, GOLDEN, tolerance

pytestmark = pytest.mark.filterwarnings("ignore:CUDA initialization:UserWarning")

ASKED = {
    "tensorflow": ("tensorflow", {}),
    "tensorflow-function": ("tensorflow", {"mode": "function"}),
    "xla": ("tensorflow", {"mode": "xla"}),
    "jax": ("jax", {}),
    "torch": ("torch", {}),
}


def rebuilt(name):
    """(graph, inputs) → what a framework says of the graph in its ops."""
    module, options = ASKED[name]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return partial(importlib.import_module(f"refgrad.auditing.frameworks.{module}").answer, **options)


ROUGH = {("tensorflow", "gelu"), ("tensorflow", "gelu_tanh"), ("torch", "hard_sigmoid")}
"""Whose constants (1/√2, 0.044715, the slope 1/6) are float32 numbers in float64 too: off by up to 5e-9."""

QUICK = ("tensorflow", "jax", "torch")
each_framework = pytest.mark.parametrize("name", QUICK)


def single(op, shapes, dtype="float64"):
    """A graph of one op."""
    op = op.astype(np.dtype(dtype))
    nodes = [Node(Source(shape), (), f"x{place}") for place, shape in enumerate(shapes)]
    ends = tuple(range(len(nodes)))
    nodes.append(Node(op, ends, "op"))
    names = tuple(node.name for node in nodes[:-1])
    return Graph(tuple(nodes), ends, (len(ends),), names, ("op",), np.dtype(dtype), Provenance())


def assert_agrees(graph, inputs, theirs):
    net = Network(graph)
    found = compare(graph, inputs, answer(net, inputs, engine="numpy"), theirs)
    assert found.agrees.all(), (found.jacobian_error, found.jacobian_bound, found.value_error, found.value_bound)
    assert not found.vacuous


@each_framework
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_agrees_with_its_truth(name, case):
    theirs = rebuilt(name)(case.net.graph, [case.x])
    assert theirs.values[0].dtype == theirs.jacobians[0][0].dtype == case.net.dtype
    for ours, true in zip((theirs.values[0], theirs.jacobians[0][0]), case.truth, strict=True):
        assert np.abs(ours - true).max() <= tolerance(case) * max(1, np.abs(true).max())


@pytest.mark.parametrize("name", ["tensorflow-function", "xla"])
@pytest.mark.parametrize("case", CASES[6:20:4], ids=str)
def test_compiled_tensorflow_agrees(name, case):
    theirs = rebuilt(name)(case.net.graph, [case.x])
    for ours, true in zip((theirs.values[0], theirs.jacobians[0][0]), case.truth, strict=True):
        assert np.abs(ours - true).max() <= tolerance(case) * max(1, np.abs(true).max())


def test_every_op_has_a_rule():
    assert set(RULES) == set(OPS)


@each_framework
@pytest.mark.parametrize("case", test_ops.CASES, ids=str)
def test_every_op_agrees(name, case):
    inputs = [np.asarray(x, "float64") for x in case.inputs]
    graph = single(case.op, [x.shape[1:] for x in inputs])
    assert_agrees(graph, inputs, rebuilt(name)(graph, inputs))


def inputs_of(row, dtype):
    """Numbers at which a row is one."""
    low, rng = ACTIVATIONS[row].domain[0], np.random.default_rng(5)
    z = (rng.uniform(0.3, 4, (60, 1)) if np.isfinite(low) else rng.uniform(-8, 8, (60, 1))).astype(dtype)
    return np.clip(z, -1.2, 1.2) if row == "tan" else z


@each_framework
@pytest.mark.parametrize(("row", "parameters"), ROWS, ids=str)
def test_every_activation_agrees(name, row, parameters):
    dtype = "float32" if (name, row) in ROUGH else "float64"
    z = inputs_of(row, dtype)
    graph = single(Elementwise(row, parameters), [(1,)], dtype)
    assert_agrees(graph, [z], rebuilt(name)(graph, [z]))


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_the_report_says_what_was_compared(name):
    pytest.importorskip(name)
    case = CASES[0]
    report = refgrad.audit(case.net, case.x, name)
    assert report.passed, report.summary()
    assert "refgrad's own graph rebuilt in" in report.against
    assert name in FRAMEWORKS


@pytest.mark.parametrize(("name", "label"), [("jax", "JAX"), ("torch", "PyTorch")])
def test_without_a_framework_the_extra_is_named(name, label, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(refgrad.MissingExtraError, match=f"{label} is missing .*extra '{name}'"):
        refgrad.audit(CASES[0].net, CASES[0].x, name)


@pytest.mark.tensorflow
def test_a_file_that_keras_cannot_load_is_rebuilt_in_tensorflow(tmp_path):
    pytest.importorskip("tensorflow")
    path = tmp_path / "net.keras"
    path.write_bytes((GOLDEN / "question-keras3.keras").read_bytes())
    net = refgrad.load(path)
    path.write_bytes(b"nonsense")
    report = refgrad.audit(net, CASES[0].x, "tensorflow")
    assert report.passed, report.summary()
    assert "rebuilt in TensorFlow's ops (how the file was read is not compared: keras" in report.against
    with pytest.raises(refgrad.UnsupportedError, match="cannot load"):
        refgrad.audit(net, CASES[0].x, "tensorflow", model=path)


def question(graph, inputs):
    return Question(None, None, None, tuple(inputs), graph)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_finite_differences_know_their_error(case):
    """Every entry is within the error it claims of the truth, and the claim is small."""
    found = FRAMEWORKS["finite-differences"](question(case.net.graph, [case.x]))
    (error,), (jacobian,) = found.error.jacobians[0], found.answer.jacobians[0]
    true = case.truth[1]
    scale = np.abs(true).max()
    assert (np.abs(jacobian - true) <= error + tolerance(case) * scale).all()
    assert np.median(error) <= 1e-6 * scale
    assert np.isfinite(error).mean() > 0.9


@pytest.mark.parametrize("case", CASES, ids=str)
def test_complex_steps_are_exact_to_rounding(case):
    found = FRAMEWORKS["complex-step"](question(case.net.graph, [case.x]))
    true = case.truth[1]
    assert found.error is None
    assert np.abs(found.answer.jacobians[0][0] - true).max() <= tolerance(case) * max(1, np.abs(true).max())


@pytest.mark.parametrize("case", test_ops.CASES, ids=str)
def test_complex_steps_go_through_every_op(case):
    inputs = [np.asarray(x, "float64") for x in case.inputs]
    graph = single(case.op, [x.shape[1:] for x in inputs])
    assert_agrees(graph, inputs, FRAMEWORKS["complex-step"](question(graph, inputs)).answer)


@pytest.mark.parametrize(("row", "parameters"), ROWS, ids=str)
def test_complex_steps_go_through_every_activation_or_refuse_it(row, parameters):
    z = inputs_of(row, "float64")
    graph = single(Elementwise(row, parameters), [(1,)])
    if row in ("erf", "gelu"):
        with pytest.raises(refgrad.UnsupportedError, match=f"layer 'op': {row} takes no complex numbers"):
            FRAMEWORKS["complex-step"](question(graph, [z]))
        return
    assert_agrees(graph, [z], FRAMEWORKS["complex-step"](question(graph, [z])).answer)


def test_a_wrong_slope_fails_both_differences(monkeypatch):
    case = CASES[12]
    for against in ("finite-differences", "complex-step"):
        assert refgrad.audit(case.net, case.x, against, engine="numpy").passed
    slope = Elementwise.linearize
    monkeypatch.setattr(
        Elementwise, "linearize", lambda *a, kink: (slope(*a, kink=kink)[0], slope(*a, kink=kink)[1] * 1.001)
    )
    for against in ("finite-differences", "complex-step"):
        report = refgrad.audit(case.net, case.x, against, engine="numpy")
        assert not report.passed
        assert "not how the file was read" in report.against


def test_finite_differences_keep_off_kinks():
    """The step shrinks until no kink is within it; on the kink itself nothing is claimed."""
    graph = single(Elementwise("relu", (np.inf, 0.0, 0.0)), [(1,)])
    x = np.array([[1.0], [1e-6], [-1e-6], [1e-9], [-1e-9], [0.0]])
    found = FRAMEWORKS["finite-differences"](question(graph, [x]))
    jacobian, error = (part.jacobians[0][0][:, 0, 0] for part in (found.answer, found.error))
    assert np.abs(jacobian[:5] - (x[:5, 0] > 0)).max() <= 1e-9
    assert error[:5].max() <= 1e-6
    assert error[5] == np.inf
