"""What a Jacobian may be asked: which ends and features of it, in which mode and pieces, into which arrays."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

import refgrad
from refgrad import chunks, helpers
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.ops import Affine, BatchNormalization, Concatenate, Elementwise, Reshape, Softmax, Source
from tests.cases import CASES

ROOT = Path(__file__).resolve().parents[1]


def two_by_two(dtype="float64"):
    """Inputs a (3,) and b (2, 2); outputs p, a softmax of both, and q, of a alone."""
    rng = np.random.default_rng(0)

    def affine(n, m):
        return Affine(rng.normal(size=(n, m)).astype(dtype), rng.normal(size=m).astype(dtype))

    moments = [rng.uniform(0.5, 2, size=4).astype(dtype) for _ in range(4)]
    nodes = (
        Node(Source((3,)), (), "a"),
        Node(Source((2, 2)), (), "b"),
        Node(affine(3, 4), (0,), "hidden"),
        Node(Elementwise("tanh"), (2,), "hidden/tanh"),
        Node(Reshape((4,)), (1,), "flat"),
        Node(BatchNormalization(*moments), (4,), "norm"),
        Node(Elementwise("relu", (np.inf, 0.0, 0.0)), (5,), "norm/relu"),
        Node(Concatenate(), (3, 6), "both"),
        Node(affine(8, 5), (7,), "logits"),
        Node(Softmax(), (8,), "p"),
        Node(affine(4, 2), (3,), "q"),
    )
    return Graph(nodes, (0, 1), (9, 10), ("a", "b"), ("p", "q"), np.dtype(dtype), Provenance())


NET = refgrad.Network(two_by_two())
SHAPES = {"p": (5,), "q": (2,), "a": (3,), "b": (2, 2)}
X = {"a": np.random.default_rng(1).normal(size=(6, 3)), "b": np.random.default_rng(2).normal(size=(6, 2, 2))}
Y, J = NET.value_and_jacobian(X)
ONE, ONE_X = CASES[0].net, CASES[0].x


def test_several_ends_come_by_name_in_the_models_order():
    assert list(Y) == list(J) == ["p", "q"]
    assert list(J["p"]) == ["a", "b"]
    assert {name: y.shape for name, y in Y.items()} == {"p": (6, 5), "q": (6, 2)}
    for out, row in J.items():
        assert {name: block.shape for name, block in row.items()} == {i: (6, *SHAPES[out], *SHAPES[i]) for i in "ab"}
    for given in ([X["a"], X["b"]], (X["a"], X["b"]), dict(reversed(X.items()))):
        for out in "pq":
            np.testing.assert_array_equal(NET(given)[out], Y[out])


def test_jacobians_are_central_differences():
    h = 1e-6
    for out in "pq":
        for name in "ab":
            for place in np.ndindex(*SHAPES[name]):
                step = np.zeros(SHAPES[name])
                step[place] = h
                up, down = (NET({**X, name: X[name] + side * step})[out] for side in (1, -1))
                slope = (up - down) / (2 * h)
                np.testing.assert_allclose(J[out][name][(..., *place)], slope, atol=1e-8)
    assert not J["q"]["b"].any()


def test_one_sample_of_each_input_has_no_batch_axis():
    y, jacobian = NET.value_and_jacobian({name: x[3] for name, x in X.items()})
    for out in "pq":
        np.testing.assert_allclose(y[out], Y[out][3], rtol=1e-13)
        for name in "ab":
            np.testing.assert_allclose(jacobian[out][name], J[out][name][3], rtol=1e-13)


def test_products_go_by_name_and_what_is_left_out_is_zero():
    rng = np.random.default_rng(3)
    tangent = {name: rng.normal(size=(2, *x.shape)) for name, x in X.items()}
    y, dy = NET.jvp(X, tangent)
    y_a, dy_a = NET.jvp(X, {"a": tangent["a"]})
    _, dy_b = NET.jvp(X, [None, tangent["b"]])
    for out in "pq":
        np.testing.assert_array_equal(y[out], Y[out])
        np.testing.assert_array_equal(y_a[out], Y[out])
        of_a = np.einsum("bji,kbi->kbj", J[out]["a"], tangent["a"])
        of_b = np.einsum("bjrs,kbrs->kbj", J[out]["b"], tangent["b"])
        np.testing.assert_allclose(dy[out], of_a + of_b, atol=1e-13)
        np.testing.assert_allclose(dy_a[out], of_a, atol=1e-13)
        np.testing.assert_allclose(dy_b[out], of_b, atol=1e-13)
    cotangent = rng.normal(size=Y["q"].shape)
    _, dx = NET.vjp(X, {"q": cotangent})
    np.testing.assert_allclose(dx["a"], np.einsum("bji,bj->bi", J["q"]["a"], cotangent), atol=1e-13)
    np.testing.assert_array_equal(dx["b"], np.zeros_like(X["b"]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"outputs": "p", "inputs": "b"}, lambda: J["p"]["b"]),
        ({"outputs": 1, "inputs": 0}, lambda: J["q"]["a"]),
        ({"outputs": -2, "inputs": np.int64(-1)}, lambda: J["p"]["b"]),
        ({"outputs": "p"}, lambda: J["p"]),
        ({"inputs": "a"}, lambda: {out: J[out]["a"] for out in "pq"}),
        ({"outputs": ["p"], "inputs": ["a"]}, lambda: {"p": {"a": J["p"]["a"]}}),
        ({"outputs": ("q", "p")}, lambda: {"q": J["q"], "p": J["p"]}),
        ({"outputs": "p", "inputs": "a", "output_index": 2}, lambda: J["p"]["a"][:, 2]),
        ({"outputs": "p", "inputs": "b", "output_index": [4, 0]}, lambda: J["p"]["b"][:, [4, 0]]),
        ({"outputs": "p", "inputs": "b", "input_index": (1, 0)}, lambda: J["p"]["b"][:, :, 1, 0]),
        ({"outputs": "p", "inputs": "b", "input_index": -1}, lambda: J["p"]["b"][:, :, -1]),
        ({"outputs": "q", "inputs": "a", "input_index": slice(1, None)}, lambda: J["q"]["a"][:, :, 1:]),
        (
            {"outputs": "q", "inputs": "a", "input_index": np.array([True, False, True])},
            lambda: J["q"]["a"][..., [0, 2]],
        ),
        ({"outputs": "q", "inputs": "a", "output_index": [], "input_index": 0}, lambda: np.empty((6, 0))),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse", "split"])
def test_ends_and_features_are_those_of_the_whole(options, expected, mode):
    def same(ours, theirs):
        if isinstance(theirs, dict):
            assert list(ours) == list(theirs)
            for name in theirs:
                same(ours[name], theirs[name])
        else:
            np.testing.assert_allclose(ours, theirs, atol=1e-14)
            assert ours.flags.c_contiguous
            assert ours.flags.writeable

    same(NET.jacobian(X, mode=mode, **options), expected())
    same(NET.jacobian(X, mode=mode, max_bytes=1, **options), expected())
    y, _ = NET.value_and_jacobian(X, mode=mode, **options)
    wanted = options.get("outputs")
    assert isinstance(y, dict) == (wanted is None or isinstance(wanted, list | tuple))


def test_a_chosen_number_of_one_sample_is_an_array():
    whole = ONE.jacobian(ONE_X[0, 0])
    chosen = ONE.jacobian(ONE_X[0, 0], output_index=0, input_index=0)
    assert isinstance(chosen, np.ndarray)
    assert chosen.shape == ()
    np.testing.assert_array_equal(chosen, whole[0, 0])


def test_kernels_give_chosen_features_too():
    net, x = CASES[2].net, CASES[2].x
    whole = net.jacobian(x, engine="numba")
    some = net.jacobian(x, engine="numba", output_index=[1], input_index=[2, 0])
    np.testing.assert_array_equal(some, whole[:, [1]][:, :, [2, 0]])


def test_gradient_is_of_the_one_number_asked_for():
    of_a, of_b = (NET.gradient(X, outputs="p", output_index=3)[name] for name in "ab")
    np.testing.assert_allclose(of_a, J["p"]["a"][:, 3], atol=1e-15)
    np.testing.assert_allclose(of_b, J["p"]["b"][:, 3], atol=1e-15)
    one = NET.gradient({name: x[0] for name, x in X.items()}, outputs="q", output_index=[1], inputs="b")
    np.testing.assert_array_equal(one, np.zeros((2, 2)))


@pytest.mark.parametrize("axes", [[], [1], [[1]]], ids=str)
def test_the_gradient_is_written_into_out(axes):
    index = np.array(axes, int) if axes else 1
    for x, batch in ((X, (6,)), ({name: part[0] for name, part in X.items()}, ())):
        out = {name: np.full((2, *batch, *SHAPES[name]), np.nan)[0] for name in "ab"}
        given = NET.gradient(x, outputs="p", output_index=index, out=out)
        for name in "ab":
            assert given[name] is out[name]
            np.testing.assert_allclose(out[name], J["p"][name][:, 1] if batch else J["p"][name][0, 1], atol=1e-15)
    with pytest.raises(
        refgrad.InputError, match=r"out for gradient by 'b' is float64 \(6, 1, 2, 2\); float64 \(6, 2, 2\)"
    ):
        NET.gradient(X, outputs="q", output_index=0, inputs="b", out=np.zeros((6, 1, 2, 2)))


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("strided", [False, True])
def test_out_is_written_and_given_back(engine, strided, tmp_path):
    whole = ONE.value_and_jacobian(ONE_X, engine=engine)
    step = 2 if strided else 1
    y = np.zeros((step * len(ONE_X), 1), "f4")[::step]
    jacobian = np.lib.format.open_memmap(tmp_path / "j.npy", "w+", "f4", (step * len(ONE_X), 1, 1))[::step]
    given = ONE.value_and_jacobian(ONE_X, engine=engine, out=(y, jacobian), max_bytes=1000)
    assert given[0] is y
    assert given[1] is jacobian
    for ours, theirs in zip(given, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)  # BLAS adds in another order for other sizes
    again = np.zeros((len(ONE_X), 1, 1), "f4")
    assert ONE.jacobian(ONE_X, engine=engine, out=again) is again
    np.testing.assert_array_equal(again, whole[1])
    single = np.zeros((1, 1), "f4")
    ONE.jacobian(ONE_X[0, 0], engine=engine, out=single)
    np.testing.assert_allclose(single, whole[1][0], rtol=1e-5)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_out_may_not_overlap_x(engine):
    net = refgrad.Network.sequential([(np.eye(4), None, "tanh")])
    memory = np.ones((5, 4, 4))
    x = memory.reshape(-1)[:20].reshape(5, 4)
    with pytest.raises(refgrad.InputError, match="out for J overlaps the memory of x"):
        net.jacobian(x, engine=engine, out=memory)
    with pytest.raises(refgrad.InputError, match="out for y overlaps the memory of x"):
        net.value_and_jacobian(x, engine=engine, out=(x, np.empty((5, 4, 4))))


def shifted(shape, dtype="f4"):
    """An array that begins one byte after where its numbers should."""
    return np.zeros(4 * int(np.prod(shape)) + 1, np.uint8)[1:].view(dtype).reshape(shape)


@pytest.mark.parametrize("engine", ["numpy", "auto"])
@pytest.mark.parametrize("samples", [3, 500], ids=["chain", "staircase"])
def test_out_may_lie_anywhere_in_memory(engine, samples):
    x = np.linspace(-2, 2, samples, dtype="f4")[:, None]
    y, jacobian = wanted = ONE.value_and_jacobian(x, engine=engine)
    for places in ((shifted(y.shape), np.zeros_like(jacobian)), (np.zeros_like(y), shifted(jacobian.shape))):
        found = ONE.value_and_jacobian(x, engine=engine, out=places)
        for place, array, expected in zip(places, found, wanted, strict=True):
            assert array is place
            np.testing.assert_array_equal(array, expected)


def test_out_of_several_ends_is_dicts_of_arrays():
    out = {o: {i: np.zeros((6, *SHAPES[o], *SHAPES[i])) for i in "ab"} for o in "pq"}
    given = NET.jacobian(X, out=out)
    for o in "pq":
        for i in "ab":
            assert given[o][i] is out[o][i]
            np.testing.assert_array_equal(out[o][i], J[o][i])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": "r"}, r"outputs='r': there is no 'r'; there are 'p', 'q', or their places"),
        ({"outputs": 2}, r"outputs=2: there is no 2"),
        ({"outputs": True}, r"there is no True"),
        ({"inputs": ["a", "a"]}, r"each of 'a', 'b' can be asked for, once"),
        ({"inputs": []}, r"can be asked for, once"),
        ({"inputs": {"a"}}, r"there is no \{'a'\}"),
        ({"output_index": 0}, r"output_index indexes one tensor; choose which with outputs="),
        ({"inputs": "a", "outputs": "p", "output_index": 5}, r"output_index=5 does not index features of shape \(5,\)"),
        (
            {"inputs": "a", "outputs": "p", "input_index": 0.5},
            r"input_index=0.5 does not index features of shape \(3,\)",
        ),
        ({"inputs": "a", "outputs": "p", "input_index": "b"}, r"input_index='b' does not index"),
        ({"mode": "sideways"}, r"mode='sideways' is not one of 'auto', 'forward', 'reverse', 'split'"),
        ({"kink": "up"}, r"kink='up' is not one of"),
        ({"engine": "jax"}, r"engine='jax' is not one of"),
        ({"max_bytes": 0}, r"max_bytes=0 is not a whole number above 0"),
        ({"max_bytes": 1e6}, r"max_bytes=1000000.0 is not a whole number"),
        ({"threads": 0}, r"threads=0 is not a whole number above 0"),
        ({"threads": True}, r"threads=True"),
        ({"progress": "yes"}, r"progress='yes' is neither True nor False"),
        ({"out": np.zeros(3)}, r"out for J must be a dict with the keys 'p', 'q'"),
        ({"out": {"p": {}, "q": {}}}, r"out for J must be a dict with the keys 'a', 'b'"),
        ({"outputs": "p", "inputs": "a", "out": [0]}, r"out for Jacobian of 'p' by 'a' is a list; an array float64"),
        (
            {"outputs": "p", "inputs": "a", "out": np.zeros((6, 5, 4))},
            r"'p' by 'a' is float64 \(6, 5, 4\); float64 \(6, 5, 3\) is needed",
        ),
        ({"outputs": "p", "inputs": "a", "out": np.zeros((6, 5, 3), "f4")}, r"is float32 .*; float64"),
        ({"outputs": "p", "inputs": "a", "out": np.broadcast_to(0.0, (6, 5, 3))}, r"read-only"),
    ],
    ids=str,
)
def test_options_that_are_refused(options, message):
    with pytest.raises(refgrad.InputError, match=message):
        NET.jacobian(X, **options)


def test_an_option_that_does_not_exist_is_refused():
    for call in (NET.jacobian, NET.value_and_jacobian, NET.gradient):
        with pytest.raises(
            refgrad.InputError, match=r"there is no option 'modes'; there are algorithm, engine, .*mode, out"
        ):
            call(X, modes="forward")


def test_help_shows_the_options():
    for method in (NET.jacobian, NET.value_and_jacobian, NET.gradient, NET.plan):
        shown = inspect.signature(method).parameters
        assert list(shown)[1:] == [field.name for field in dataclasses.fields(refgrad.Options)]
        assert shown["mode"].default == "auto"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X["a"], r"x is a ndarray; expected is a dict, or a list in this order, for 'a', 'b'"),
        ([X["a"]], r"x is a list of 1"),
        ({"a": X["a"]}, r"x is a dict with the keys 'a'; expected"),
        ({**X, "c": 1}, r"x is a dict with the keys 'a', 'b', 'c'; expected"),
        ({"a": X["a"], "b": X["b"][:5]}, r"the inputs differ in how many samples they hold \('a': 6, 'b': 5\)"),
        ({"a": X["a"], "b": X["b"][0]}, r"\('a': 6, 'b': one sample\)"),
        ({"a": X["a"], "b": X["a"]}, r"input 'b' has shape \(6, 3\); expected \(batch, 2, 2\)"),
    ],
    ids=range(7),
)
def test_several_inputs_that_are_refused(given, message):
    for call in (NET, NET.jacobian, NET.kinks, lambda x: NET.jvp(x, x)):
        with pytest.raises(refgrad.InputError, match=message):
            call(given)


@pytest.mark.parametrize(
    ("tangent", "message"),
    [
        ({"a": np.ones((6, 4))}, r"the tangent of 'a' has shape \(6, 4\); expected \(6, 3\), or \(k, 6, 3\)"),
        ({"a": np.ones((2, 6, 3)), "b": np.ones((3, 6, 2, 2))}, r"the tangent holds k = 2 and k = 3; one number"),
        ({"a": np.ones((2, 6, 3)), "b": np.ones((6, 2, 2))}, r"holds k = 2 and no axis k"),
        ({}, r"the tangent holds nothing"),
        ({"c": 1}, r"the tangent is a dict with the keys 'c'"),
        (np.ones((6, 3)), r"the tangent is a ndarray"),
    ],
    ids=range(6),
)
def test_tangents_that_are_refused(tangent, message):
    with pytest.raises(refgrad.InputError, match=message):
        NET.jvp(X, tangent)


def test_gradient_of_several_numbers_is_refused():
    for options in ({}, {"outputs": "p"}, {"outputs": "q", "output_index": slice(None)}):
        with pytest.raises(refgrad.InputError, match=r"one output number per sample, here is .*\(\d,\)"):
            NET.gradient(X, **options)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_the_number_of_threads_changes_nothing(engine, monkeypatch):
    x = np.linspace(-10, 20, 5000, dtype="f4")[:, None]
    monkeypatch.setattr("refgrad.planning.WORTH_A_THREAD", 10_000)
    plans = [ONE.plan(len(x), engine=engine, threads=n, max_bytes=10**6) for n in (1, 3)]
    assert [plan.threads for plan in plans] == [1, 3]
    one, three = (ONE.jacobian(x, engine=engine, threads=n, max_bytes=10**6) for n in (1, 3))
    np.testing.assert_allclose(one, three, rtol=0, atol=0 if engine == "numba" else 1e-6)


def test_the_environment_says_how_many_threads(monkeypatch):
    monkeypatch.setenv("REFGRAD_NUM_THREADS", "3")
    assert chunks.threads_allowed(None) == 3
    assert chunks.threads_allowed(5) == 5
    monkeypatch.setenv("REFGRAD_NUM_THREADS", "many")
    with pytest.raises(refgrad.InputError, match="REFGRAD_NUM_THREADS='many'"):
        chunks.threads_allowed(None)
    monkeypatch.delenv("REFGRAD_NUM_THREADS")
    assert chunks.threads_allowed(None) == len(os.sched_getaffinity(0))


def test_an_error_in_a_thread_reaches_the_caller():
    x = np.ones((1000, 3))
    net = refgrad.Network.sequential([(np.eye(3), None, "relu")])
    x[700] = 0
    with pytest.raises(refgrad.KinkError, match=r"sample 700: unit dense_0/relu\[0\] is exactly on a kink"):
        net.jacobian(x, kink="raise", threads=3, max_bytes=20_000)


def test_after_an_error_in_a_thread_nothing_is_written_any_more():
    """And the error is that of the first piece that fails, whichever fails first."""
    begun, written = threading.Event(), []

    def work(piece):
        if piece.start == 0:
            assert begun.wait(10)
            time.sleep(0.05)
            raise IndexError(piece.start)
        begun.set()
        if piece.start == 1:
            raise IndexError(piece.start)
        time.sleep(0.2)
        written.append(piece)

    with pytest.raises(IndexError, match="0"):
        chunks.each(work, 9, 1, threads=2)
    before = list(written)
    time.sleep(0.5)
    assert written == before


@pytest.mark.parametrize("where", ["while a thread is asked", "in its own piece"])
def test_after_an_interruption_nothing_is_written_any_more(where, monkeypatch):
    written = []

    class Interrupted(SimpleQueue):
        asked = 0

        def put(self, task):
            Interrupted.asked += 1
            if Interrupted.asked == 2 and where == "while a thread is asked":
                raise KeyboardInterrupt
            super().put(task)

    def work(piece):
        time.sleep(0.05)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        written.append(piece)

    with helpers_of_its_own(monkeypatch, Interrupted()), pytest.raises(KeyboardInterrupt):
        chunks.each(work, 90, 1, threads=3)
    before = list(written)
    time.sleep(0.3)
    assert written == before
    assert len(written) < 9


@contextmanager
def helpers_of_its_own(monkeypatch, queue):
    """Threads that serve this queue, and no others."""
    with monkeypatch.context() as patch:
        patch.setattr(helpers, "_asked", queue)
        patch.setattr(helpers, "_helpers", 0)
        yield


def test_the_caller_does_what_busy_threads_do_not_begin(monkeypatch):
    done, free, busy = [], threading.Event(), threading.Event()
    with helpers_of_its_own(monkeypatch, SimpleQueue()):
        helpers._there_are(1)
        helpers._asked.put(helpers._Task(lambda: (busy.set(), free.wait(10))))
        assert busy.wait(10)
        chunks.each(done.append, 9, 1, threads=2)
        assert [piece.start for piece in done] == [*range(9)]
        waiting = helpers._asked.get()
        assert waiting._work == []  # what was taken back keeps no arrays
        free.set()


def test_progress_shows_a_bar_on_standard_error(capsys, monkeypatch):
    monkeypatch.setattr(chunks, "DELAY", 0)
    plain = ONE.jacobian(ONE_X, engine="numpy")
    shown = ONE.jacobian(ONE_X, engine="numpy", progress=True, max_bytes=10_000)
    np.testing.assert_allclose(shown, plain, rtol=1e-5)
    said = capsys.readouterr()
    assert "jacobian:   0%" in said.err
    assert not said.out
    ONE.jacobian(ONE_X, engine="numpy")
    assert not capsys.readouterr().err


def test_a_plan_says_what_runs_and_why():
    plan = ONE.plan(1000, algorithm="chain")
    assert (plan.engine, plan.mode, plan.samples, plan.multiply_adds) == ("numba", "forward", 1000, 3232)
    assert str(plan).startswith("forward mode on numba: 3,232 multiply–adds a sample, 1,000 in pieces of 1,000")
    assert "engine='numpy' was asked for" in ONE.plan(1, engine="numpy").why
    assert "mode='reverse' was asked for" in ONE.plan(1, mode="reverse").why
    assert (ONE.plan(1, mode="split").engine, ONE.plan(1, mode="split").mode) == ("numba", "split")
    assert "no kink='raise'" in ONE.plan(1, kink="raise").why
    assert ONE.plan(10**6, engine="numpy", max_bytes=2**20).at_once < ONE.plan(10**6, engine="numpy").at_once < 10**6
    wide = refgrad.Network.sequential([(np.ones((50, 500)), None, "relu"), (np.ones((500, 50)), None, "linear")])
    assert wide.plan(10, engine="numpy", max_bytes=100_000).vectors < 50
    assert wide.plan(0).samples == 0
    assert wide.plan(10**6, max_bytes=None) == wide.plan(10**6) == wide.plan(10**6, max_bytes=2**28)
    for samples in (-1, 2.5, "ten", True):
        with pytest.raises(refgrad.InputError, match="is no number of samples"):
            wide.plan(samples)


def test_a_unit_that_is_nan_does_not_hide_the_others():
    steps = [("re_lu", Elementwise("relu", (np.inf, 0.0, 0.0)))]
    net = refgrad.Network(chain((3,), steps, np.dtype("float64"), Provenance()))
    nearest = net.kinks([[np.nan, 2.0, 0.5]]).nearest[0]
    assert (nearest["layer"], nearest["unit"], nearest["distance"]) == ("re_lu", 2, 0.5)


def test_kinks_say_which_units_are_how_near():
    net = refgrad.Network.sequential(
        [(np.eye(3), np.array([0.0, 1.0, -2.0]), "relu"), (np.ones((3, 1)), None, "linear")]
    )
    kinks = net.kinks([[0.0, 5.0, 5.0], [1.0, -1.25, 2.0], [9.0, 9.0, 9.0]], tol=0.5)
    found = [tuple(row) for row in kinks.units]
    assert found == [(0, "dense_0/relu", 0, 0.0), (1, "dense_0/relu", 1, 0.25), (1, "dense_0/relu", 2, 0.0)]
    np.testing.assert_array_equal(kinks.margin, [0, 0, 7])
    assert [tuple(row) for row in kinks.nearest][2] == (2, "dense_0/relu", 2, 7.0)
    assert "3 units within reach in 3 samples; smallest margin 0 at sample 0, dense_0/relu[0]" in repr(kinks)
    assert len(net.kinks([[0.0, 5.0, 5.0]]).units) == 1
    smooth = refgrad.Network.sequential([(np.eye(3), None, "tanh")]).kinks(np.zeros((2, 3)))
    assert len(smooth.units) == 0
    assert np.isinf(smooth.margin).all()
    assert "nothing has kinks" in repr(smooth)
    assert "no samples" in repr(net.kinks(np.zeros((0, 3))))
    for tol in (-1, np.nan, "near", True):
        with pytest.raises(refgrad.InputError, match="is no distance"):
            net.kinks([[0.0, 5.0, 5.0]], tol=tol)


def test_kinks_of_a_large_batch_are_those_of_its_pieces(monkeypatch):
    whole = NET.kinks(X, tol=0.3)
    monkeypatch.setattr("refgrad.evaluation.MAX_BYTES", 1)
    pieces = NET.kinks(X, tol=0.3)
    np.testing.assert_array_equal(whole.units, pieces.units)
    np.testing.assert_array_equal(whole.nearest, pieces.nearest)
    assert len(whole.units)


def test_split_multiplies_at_the_narrowest_place():
    rng = np.random.default_rng(4)
    widths = (40, 30, 2, 30, 40)
    layers = [(rng.normal(size=pair), None, "tanh") for pair in pairwise(widths)]
    net = refgrad.Network.sequential(layers)
    plan = net.plan(1, engine="numpy")
    assert plan.mode == "split"
    left = 2 * (2 + 2 * 30 + 30 + 30 * 40 + 40)
    right = 2 * (30 * 40 + 30 + 2 * 30)
    assert plan.multiply_adds == pytest.approx(left + right + 40 * 2 * 40, rel=0.05)
    x = rng.normal(size=(5, 40))
    split, reverse = (net.jacobian(x, mode=mode, engine="numpy") for mode in ("split", "reverse"))
    np.testing.assert_allclose(split, reverse, atol=1e-13 * np.abs(reverse).max())


def test_what_cannot_be_split_is_not():
    assert refgrad.Network.sequential([(np.ones((3, 2)), None, "linear")]).plan(1, mode="split").mode == "reverse"


def test_copies_are_the_same_network():
    for twin in (copy.deepcopy(NET), pickle.loads(pickle.dumps(NET)), copy.copy(NET)):
        assert twin.digest == NET.digest
        np.testing.assert_array_equal(twin(X)["p"], Y["p"])
        assert not any(array.flags.writeable for node in twin.graph.nodes for array in node.op.arrays().values())


def test_float16_weights_compute_in_float32():
    kernel = np.random.default_rng(5).normal(size=(3, 2)).astype("float16")
    net = refgrad.Network.sequential([(kernel, kernel[0, :2], "tanh")])
    assert net.dtype == np.float32
    same = refgrad.Network.sequential([(kernel.astype("f4"), kernel[0, :2].astype("f4"), "tanh")])
    assert net.digest == same.digest


def _jacobian_in_a_child(net, x, queue):
    queue.put(net.jacobian(x, threads=2, max_bytes=5000, engine="numpy"))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_children_compute_the_same(start):
    """After this process has used its threads: a fork inherits their names but not them."""
    here = ONE.jacobian(ONE_X, threads=2, max_bytes=5000, engine="numpy")
    context = multiprocessing.get_context(start)
    queue = context.Queue()
    child = context.Process(target=_jacobian_in_a_child, args=(ONE, ONE_X, queue))
    child.start()
    there = queue.get(timeout=120)
    child.join(timeout=60)
    assert child.exitcode == 0
    np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_many_threads_share_a_network(engine):
    """Fresh, so that they also meet in what is made on first use."""
    net = refgrad.Network(ONE.graph)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: net.jacobian(ONE_X, engine=engine, threads=2, max_bytes=5000), range(40)))
    for jacobian in found:
        np.testing.assert_array_equal(jacobian, found[0])


def test_others_have_ended_when_the_caller_fails():
    begun, ended = threading.Event(), []

    def work():
        if threading.current_thread() is threading.main_thread():
            begun.wait(10)
            raise KeyboardInterrupt
        begun.set()
        time.sleep(0.05)
        ended.append(True)
        return True

    with pytest.raises(KeyboardInterrupt):
        helpers.with_help(work, work, 1)
    assert ended


def test_ctrl_c_while_the_caller_waits_is_heard_when_others_have_ended():
    """The main thread's own interruption, sent by a helper that is still at work."""
    ended, begun = [], threading.Event()

    def theirs():
        begun.set()
        time.sleep(0.1)
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.1)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        helpers.with_help(lambda: begun.wait(10) and None, theirs, 1)
    assert ended


def test_where_no_thread_can_be_started_the_caller_does_it_alone(monkeypatch):
    def refuse(*_):
        raise RuntimeError

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []
    with helpers_of_its_own(monkeypatch, SimpleQueue()):
        chunks.each(done.append, 9, 1, threads=4)
    assert [piece.start for piece in done] == [*range(9)]


def test_an_error_of_a_helper_reaches_the_caller_unless_all_is_done():
    begun = threading.Event()

    def fail():
        begun.set()
        raise IndexError

    with pytest.raises(IndexError):
        helpers.with_help(lambda: begun.wait(10) and None, fail, 1)
    begun.clear()
    helpers.with_help(lambda: begun.wait(10), fail, 1)


TIGHT = [(np.ones((60, 40)), None, "relu"), (np.ones((40, 60)), None, "linear")]
BOTTLE = [(np.ones(shape), None, "tanh") for shape in ((200, 50), (50, 8), (8, 50), (50, 200))]


@pytest.mark.parametrize(
    ("layers", "options"),
    [
        (BOTTLE, {"engine": "numpy", "mode": "split"}),
        (TIGHT, {"engine": "numba", "output_index": [0, 1], "threads": 1}),
        (TIGHT, {"engine": "numba", "input_index": [[0], [1]], "threads": 2}),
    ],
    ids=["split", "rows", "columns"],
)
def test_temporaries_stay_within_max_bytes(layers, options):
    net = refgrad.Network.sequential(layers)
    x = np.ones((1000, len(layers[0][0])))
    net.jacobian(x, **options, max_bytes=2**20)  # what is loaded once is no temporary
    tracemalloc.start()
    try:
        kept = net.jacobian(x, **options, max_bytes=2**20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - kept.nbytes - net(x).nbytes < 1.1 * 2**20


MEMORY = """
import os, resource, sys, threading, time
import numpy as np, refgrad

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

net = refgrad.load(sys.argv[1])
before, peak, done = used(), [0], threading.Event()

def watch():
    while not done.wait(0.001):
        peak[0] = max(peak[0], used())

watcher = threading.Thread(target=watch)
watcher.start()
x = np.linspace(-10, 20, 10**6, dtype="float32")[:, None]
out = np.lib.format.open_memmap(sys.argv[2], "w+", "float32", (10**6, 1, 1))
net.jacobian(x, engine=sys.argv[3], max_bytes=64 * 2**20, out=out)
done.set()
watcher.join()
print((peak[0] - before) / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_a_million_samples_fit_into_200_mebibytes(engine, tmp_path):
    """Above what importing takes, Numba's own import included, and the output on disk."""
    model = ROOT / "tests/golden/question-keras3.keras"
    command = [sys.executable, "-c", MEMORY, str(model), str(tmp_path / "j.npy"), engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200
    assert np.isfinite(np.load(tmp_path / "j.npy", mmap_mode="r")[::1000]).all()
