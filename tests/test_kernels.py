"""The compiled kernels: the NumPy path's numbers, for what they can run; their cache; their absence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.config import DISABLE_JIT

import refgrad
from refgrad.agreement import Answer, compare
from refgrad.errors import MissingExtraError
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.kernels import run
from refgrad.kernels.lower import NotLowered, lower
from refgrad.ops import Affine, Elementwise, Source
from tests.cases import CASES

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_kernels_agree_with_numpy(case, dtype, mode):
    net = case.net.astype(dtype)
    samples = 20 if DISABLE_JIT else 200  # a Python loop, run for the coverage of the kernels' lines
    x = np.random.default_rng(5).normal(size=(samples, *net.input_shapes[0])).astype(dtype)
    numpy, numba = (net.value_and_jacobian(x, mode=mode, engine=engine) for engine in ("numpy", "numba"))
    agreement = compare(net.graph, [x], Answer(numba[:1], (numba[1:],)), Answer(numpy[:1], (numpy[1:],)))
    assert agreement.agrees.all()
    assert not agreement.vacuous
    np.testing.assert_array_equal(net(x, engine="numba"), numba[0])


def test_every_case_is_lowered():
    """Otherwise the properties above would compare NumPy with itself."""
    assert not [case.name for case in CASES if isinstance(lower(case.net.graph), NotLowered)]


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_special_inputs_come_out_as_numpy(mode):
    layers = [(np.array([[1.0, -2.0, 0.5]]), np.array([0.0, 1.0, 0.0]), "relu"), (np.eye(3), None, "tanh")]
    net = refgrad.Network.sequential(layers)
    x = np.array([[np.nan], [0.0], [-0.0], [1e300], [-1e300], [5e-324], [0.5]])
    for mine, theirs in zip(
        *(net.value_and_jacobian(x, mode=mode, engine=engine) for engine in ("numba", "numpy")), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-15, atol=0)


def network(*steps, shape=(2,)):
    return chain(shape, [(f"step_{k}", op) for k, op in enumerate(steps)], np.dtype("float64"), Provenance())


KERNEL = np.ones((2, 2))
RELU = Elementwise("relu", (np.inf, 0.0, 0.0))


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (network(RELU, Affine(KERNEL)), "does not follow a Dense layer"),
        (network(Affine(KERNEL), RELU, Elementwise("tanh")), "does not follow a Dense layer"),
        (network(), "no Dense layer"),
        (network(Affine(KERNEL), shape=(3, 2)), "one input of one axis"),
        (network(Affine(KERNEL * np.nan)), "not all weights are finite"),
        (network(Affine(KERNEL, np.array([np.inf, 0]))), "not all weights are finite"),
        (
            Graph(
                (Node(Source((2,)), (), "x"), Node(Affine(KERNEL), (0,), "a"), Node(Affine(KERNEL), (0,), "b")),
                (0,),
                (2,),
                ("x",),
                ("b",),
                np.dtype("float64"),
                Provenance(),
            ),
            "plain chains",
        ),
        (
            Graph(
                (Node(Source((2,)), (), "x"), Node(Affine(KERNEL), (0,), "a"), Node(Affine(2 * KERNEL), (1,), "b")),
                (0,),
                (1,),
                ("x",),
                ("a",),
                np.dtype("float64"),
                Provenance(),
            ),
            "the output is not the last layer",
        ),
    ],
)
def test_what_cannot_be_lowered_says_why_and_runs_on_numpy(graph, reason):
    net = refgrad.Network(graph)
    found = lower(graph)
    assert isinstance(found, NotLowered)
    assert reason in found.reason
    assert reason in net.engine
    x = np.ones((1, *net.input_shapes[0]))
    np.testing.assert_array_equal(net.jacobian(x), net.jacobian(x, engine="numpy"))
    with pytest.raises(refgrad.UnsupportedError, match=f"engine='numba' cannot run this.*{reason}"):
        net(x, engine="numba")


def test_not_finite_weights_give_what_the_frameworks_give():
    """0 · ∞ is NaN in a matrix product, and skipping the zero would hide it."""
    net = refgrad.Network.sequential([(np.array([[-1.0]]), None, "relu"), (np.array([[np.inf]]), None, "linear")])
    assert np.isnan(net(np.array([[1.0]])))
    assert np.isnan(net.jacobian(np.array([[1.0]])))


def test_kinks_other_than_keras_are_left_to_numpy():
    net = refgrad.Network.sequential([(np.eye(1), None, "relu")])
    assert net.jacobian([[0.0]], kink="right") == 1
    with pytest.raises(refgrad.UnsupportedError, match="no kink='right'"):
        net.jacobian([[0.0]], kink="right", engine="numba")


def test_without_numba_auto_is_numpy_and_numba_names_the_extra(monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    run.unavailable.cache_clear()
    net = refgrad.Network(CASES[0].net.graph)
    x = CASES[0].x
    np.testing.assert_array_equal(net.jacobian(x), net.jacobian(x, engine="numpy"))
    assert "extra 'jit'" in net.engine
    with pytest.raises(MissingExtraError, match="extra 'jit'"):
        net.jacobian(x, engine="numba")
    run.unavailable.cache_clear()
    assert issubclass(MissingExtraError, ImportError)


def test_a_numba_that_cannot_be_imported_is_as_none(monkeypatch):
    def refuse():
        msg = "Numba needs NumPy 1.0 or less"
        raise ImportError(msg)

    monkeypatch.setattr(run, "_compiled", refuse)
    run.unavailable.cache_clear()
    net = refgrad.Network(CASES[0].net.graph)
    np.testing.assert_array_equal(net(CASES[0].x), net(CASES[0].x, engine="numpy"))
    with pytest.raises(MissingExtraError, match=r"Numba needs NumPy 1\.0 or less"):
        net(CASES[0].x, engine="numba")
    run.unavailable.cache_clear()


def test_read_only_inputs_need_no_second_compilation():
    net, x = CASES[0].net, CASES[0].x.copy()
    net.value_and_jacobian(x, engine="numba")
    compiled = run._compiled().value_and_jacobian.nopython_signatures
    x.setflags(write=False)
    net.value_and_jacobian(x, engine="numba")
    assert run._compiled().value_and_jacobian.nopython_signatures == compiled


SCRIPT = """
import sys, numpy as np, refgrad
net = refgrad.Network.sequential([(np.ones((1, 2)), None, "tanh"), (np.ones((2, 1)), np.ones(1), "sigmoid")])
for mode in ("forward", "reverse"):
    y, J = net.value_and_jacobian([[0.25]], engine="numba", mode=mode)
    print(repr(float(y[0, 0])), repr(float(J[0, 0, 0])))
print("numba" in sys.modules, refgrad.__file__)
"""


def python(script, cwd=ROOT, **environment):
    """Run a script in a fresh interpreter, with the refgrad found in `cwd`; returns the lines it printed."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def expected():
    net = refgrad.Network.sequential([(np.ones((1, 2)), None, "tanh"), (np.ones((2, 1)), np.ones(1), "sigmoid")])
    y, jacobian = net.value_and_jacobian([[0.25]], engine="numpy")
    return float(y[0, 0]), float(jacobian[0, 0, 0])


def test_kernels_give_the_same_without_the_compiler():
    for line in python(SCRIPT, NUMBA_DISABLE_JIT="1")[:2]:
        np.testing.assert_allclose([float(word) for word in line.split()], expected(), rtol=1e-14)


def test_an_edited_activation_is_not_served_from_a_stale_cache(tmp_path):
    """Numba's own key is the cached function's file; an activation is in another one."""
    shutil.copytree(ROOT / "refgrad", tmp_path / "refgrad", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"cwd": tmp_path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    first = python(SCRIPT, **environment)
    assert first[2] == f"True {tmp_path / 'refgrad' / '__init__.py'}"
    assert list((tmp_path / "cache").rglob("*.nbc")), "the kernels were not cached at all"
    source = tmp_path / "refgrad" / "activations" / "sigmoid.py"
    text = source.read_text()
    assert "sech = 2 * e / (" in text
    source.write_text(text.replace("sech = 2 * e / (", "sech = 4 * e / ("))
    second = python(SCRIPT, **environment)
    for before, after in zip(first[:2], second[:2], strict=True):
        assert float(after.split()[1]) == pytest.approx(4 * float(before.split()[1]), rel=1e-12)


def test_numba_is_not_imported_for_the_numpy_engine():
    assert python(SCRIPT)[2].startswith("True")
    assert python(SCRIPT.replace('"numba", mode', '"numpy", mode'))[2].startswith("False")


def test_a_cache_folder_that_cannot_be_made_does_not_matter(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    for line in python(SCRIPT, NUMBA_CACHE_DIR=str(blocked / "cache"))[:2]:
        np.testing.assert_allclose([float(word) for word in line.split()], expected(), rtol=1e-14)
