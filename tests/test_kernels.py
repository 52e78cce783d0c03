"""The compiled kernels: the NumPy path's numbers, for what they can run; their cache; their absence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
from numba.core.config import DISABLE_JIT

import refgrad
from refgrad import planning
from refgrad.activations import ACTIVATIONS
from refgrad.agreement import Answer, compare
from refgrad.errors import MissingExtraError
from refgrad.graph import Graph, Node, Provenance
from refgrad.kernels import run
from refgrad.kernels.lower import NotLowered, lower
from refgrad.ops import (
    Affine,
    Elementwise,
    Normalization,
    PReLU,
    Rescaling,
    Softmax,
    Source,
    Sparsemax,
)
from refgrad.rounding import tolerance
from tests.cases import CASES
from tests.chains import ROWS, SAMPLES, chained, every_chain, every_dtype, network

ROOT = Path(__file__).resolve().parents[1]
MODES = ("forward", "reverse", "split")
KINKS = ("keras", "left", "right", "mean")
every_mode = pytest.mark.parametrize("mode", MODES)


def check_agreement(net, x, mode):
    numpy, numba = (net.value_and_jacobian(x, mode=mode, engine=engine) for engine in ("numpy", "numba"))
    agreement = compare(net.graph, [x], Answer(numba[:1], (numba[1:],)), Answer(numpy[:1], (numpy[1:],)))
    assert agreement.agrees.all()
    assert not agreement.vacuous
    np.testing.assert_array_equal(net(x, engine="numba"), numba[0])


@every_mode
@every_dtype
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_agree_with_numpy(case, dtype, mode):
    net = case.net.astype(dtype)
    check_agreement(net, np.random.default_rng(5).normal(size=(SAMPLES, *net.input_shapes[0])).astype(dtype), mode)


@every_mode
@every_dtype
@every_chain
def test_every_step_agrees_with_numpy(name, dtype, mode):
    net, x = chained(name, dtype)
    check_agreement(net, x, mode)
    whole = net.value_and_jacobian(x, mode=mode, engine="numba")
    for some in (slice(3), slice(7, 16)):  # one by one, and in a tile that is not full
        for one, other in zip(net.value_and_jacobian(x[some], mode=mode, engine="numba"), whole, strict=True):
            np.testing.assert_array_equal(one, other[some])


@every_mode
@every_dtype
def test_an_inactive_unit_lets_no_infinity_through(dtype, mode):
    """In batches of any size, and in each order of work: 1e30 · 1e30 in float32 is no more than 0 where f′ is."""
    huge = Affine(np.array([[1e30, -1e30], [1.0, 1.0]]), np.zeros(2))
    steps = huge, Elementwise("relu", (np.inf, 0.0, 0.0)), huge, Elementwise("relu", (np.inf, 0.0, 0.0))
    net = refgrad.Network(network(*steps, Affine(np.ones((2, 1)), None), dtype=dtype))
    x = np.tile(np.array([[1e-30, 1.0]], dtype), (SAMPLES, 1))
    whole = net.jacobian(x, mode=mode, engine="numba")
    assert not np.isnan(whole).any()
    np.testing.assert_array_equal(whole[:3], net.jacobian(x[:3], mode=mode, engine="numba"))


@every_dtype
@pytest.mark.parametrize("samples", [1, 33, SAMPLES])
def test_threads_share_a_batch_and_change_nothing(dtype, samples):
    net, x = chained("wider than a panel", dtype)
    runner, start, x = net._engines.runner, net._engines.direct, x[:samples]
    answers = []
    for threads in (1, 2, 5):
        y, jacobian = np.full((len(x), 37), np.nan, dtype), np.full((len(x), 37, 40), np.nan, dtype)
        runner.value_and_jacobian(x, start, "keras", y, jacobian, threads)
        alone = np.full_like(y, np.nan)
        runner.value(x, alone, threads)
        answers.append((y, jacobian, alone))
    for answer in answers:
        for one, other in zip(answer, answers[0], strict=True):
            np.testing.assert_array_equal(one, other)
    assert np.isfinite(answers[0][1]).all()
    np.testing.assert_array_equal(answers[0][0], answers[0][2])


@pytest.mark.parametrize("samples", [0, 1, 5, 33, SAMPLES])
def test_a_plain_batch_is_shared_without_a_plan_and_gives_the_same_bits(samples, monkeypatch):
    net, x = chained("wider than a panel", "float32")
    wanted = net.value_and_jacobian(x[:samples], threads=1), net(x[:samples], threads=1)
    monkeypatch.setattr("refgrad.planning.WORTH_A_THREAD", 1)
    monkeypatch.setenv("REFGRAD_NUM_THREADS", "3")
    net = refgrad.Network(net.graph)  # which has not yet looked up what is worth a thread
    monkeypatch.setattr("refgrad.evaluation.values", refuse)
    monkeypatch.setattr("refgrad.evaluation.jacobians", refuse)
    wished, helped = [], run._compiled("team").helped
    monkeypatch.setattr(run._compiled("team"), "helped", lambda helpers: wished.append(helpers) or helped(helpers))
    for found, expected in zip(net.value_and_jacobian(x[:samples]), wanted[0], strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(net(x[:samples]), wanted[1])
    # A Jacobian of one sample is one thread's; the layers of a few are for all.
    assert wished == ([2] if samples > 1 else []) + ([2] if samples > 0 else [])


def refuse(*_):
    pytest.fail("the long way was taken")


def test_after_a_warm_up_nothing_is_compiled(tmp_path):
    """Neither for values nor for Jacobians, of one sample or of a batch that threads share."""
    code = """
import sys, numpy as np, refgrad
from refgrad.kernels import run
if sys.argv[1] == "warm":
    run.warm_up(np.dtype("float32"))
    sys.exit()
import numba.core.dispatcher as dispatcher
def refuse(*_):
    raise SystemExit("compiled")
dispatcher._FunctionCompiler.compile = refuse
net = refgrad.Network.sequential([(np.ones((3, 40), "f4"), None, "relu"), (np.ones((40, 2), "f4"), None, "linear")])
x = np.ones((200_000, 3), "f4")
for some in (x[:1].copy(), x[0], x):
    net(some), net.jacobian(some)
net.jvp(x[:3], x[:3])
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "REFGRAD_NUM_THREADS": "2"}
    for stage in ("warm", "ask"):
        done = subprocess.run(
            [sys.executable, "-c", code, stage], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr


def test_side_by_side_serves_few_vectors_and_units_that_stay_on():
    def together(*steps, mode="reverse"):
        net = refgrad.Network(network(*steps, shape=(4,)))
        runner = net._engines.runner
        return runner.samples_together(net._engines._cut(mode))

    rng = np.random.default_rng(3)
    first, one, nine = (Affine(rng.normal(size=size), None) for size in ((4, 5), (5, 1), (5, 9)))
    relu, leaky = (Elementwise("relu", (np.inf, slope, 0.0)) for slope in (0.0, 0.2))
    tanh = Elementwise("tanh")
    assert together(first, relu, one) == together(first, leaky, one) == together(first, tanh, one) == 0
    assert together(first, tanh, nine, mode="forward") == together(first, leaky, nine, mode="forward") == 0
    assert together(first, PReLU(np.ones(5)), nine, mode="forward") == 0
    assert together(first, relu, nine, mode="forward") == together(first, tanh, nine) == 1
    assert together(first, tanh, nine, mode="split") == together(first, PReLU(np.zeros(5)), nine, mode="forward") == 1


@every_dtype
@every_chain
@pytest.mark.parametrize("k", [None, 1, 7])
def test_products_agree_with_numpy(name, dtype, k):
    net, x = chained(name, dtype)
    rng = np.random.default_rng(13)
    jacobian = net.jacobian(x, engine="numpy")
    for method, ends in ((net.jvp, net.input_shapes), (net.vjp, net.output_shapes)):
        lead = () if k is None else (k,)
        vector = rng.normal(size=(*lead, len(x), *ends[0])).astype(dtype)
        y, product = method(x, vector, engine="numba")
        np.testing.assert_array_equal(y, net(x, engine="numba"))
        expected = method(x, vector, engine="numpy")[1]
        bound = tolerance(net.graph) * np.abs(jacobian).max() * np.abs(vector).max() * vector[..., 0].size
        assert product.shape == expected.shape
        near = net.kinks(x).margin < 1e-4
        gap = np.abs(product - expected).reshape(*lead, len(x), -1)[..., ~near, :]
        assert (gap <= bound).all()


@every_dtype
@pytest.mark.parametrize("kink", KINKS)
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.kinks(*row.defaults)] + ["prelu"])
def test_on_a_kink_the_slopes_are_as_numpy(name, dtype, kink):
    """Inputs are pre-activations, so that they can be exactly on it; a second activation has slopes of its own."""
    row = ACTIVATIONS.get(name)
    op = PReLU(np.full(1, 0.25)) if row is None else Elementwise(name, row.defaults)
    places = [0.0] if row is None else [found.where for found in row.kinks(*row.defaults)]
    net = refgrad.Network(network(Affine(np.eye(1)), op, Elementwise("tanh"), op, shape=(1,), dtype=dtype))
    x = np.array([*places, *(place + 0.25 for place in places), *[0.0] * 7])[:, None].astype(dtype)
    for method in (net.jacobian, lambda x, **how: net.vjp(x, np.ones_like(x), **how)[1]):
        numpy, numba = (method(x, kink=kink, engine=engine) for engine in ("numpy", "numba"))
        np.testing.assert_allclose(numba, numpy, rtol=1e-6 if dtype == "float32" else 1e-14)


def test_a_kink_to_be_raised_is_left_to_numpy():
    net = refgrad.Network.sequential([(np.eye(1), None, "relu")])
    with pytest.raises(refgrad.KinkError):
        net.jacobian([[0.0]], kink="raise")
    for call in (lambda how: net.jacobian([[0.0]], **how), lambda how: net.jvp([[0.0]], [[1.0]], **how)):
        with pytest.raises(refgrad.UnsupportedError, match="no kink='raise'"):
            call({"kink": "raise", "engine": "numba"})


@every_dtype
@pytest.mark.parametrize("name", [*ROWS, "prelu", "prelu of zero", "softmax"])
def test_special_numbers_come_out_as_numpy(name, dtype):
    special = {"prelu": PReLU(np.full(2, 0.25)), "prelu of zero": PReLU(np.zeros(2)), "softmax": Softmax()}
    op = special.get(name) or Elementwise(name, ACTIVATIONS[name].defaults)
    net = refgrad.Network(network(Affine(np.eye(2)), op, shape=(2,), dtype=dtype))
    numbers = [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30, 1e-30, 0.5, -0.5]
    with np.errstate(all="ignore"):
        x = np.array([[a, b] for a in numbers for b in (a, 1.0)]).astype(dtype)
    for samples in (x, x[:2]):
        numpy, numba = (net.value_and_jacobian(samples, engine=engine) for engine in ("numpy", "numba"))
        for mine, theirs in zip(numba, numpy, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-37)


@every_mode
@every_dtype
@pytest.mark.parametrize(
    "name",
    ["relu", "tanh", "softplus", "softmax", "wider than a panel", "narrow in the middle", "several panels at once"],
)
@pytest.mark.parametrize("near", ["weights near", "weights far"])
def test_neighbours_and_threads_change_no_bit(name, dtype, mode, near, monkeypatch):
    monkeypatch.setattr("refgrad.planning.WORTH_A_THREAD", 1)
    if near == "weights far":  # several samples go through a layer together
        monkeypatch.setattr(run.Runner, "group", lambda *_: 5)
    net, x = chained(name, dtype)
    assert net.plan(33, mode=mode, threads=2).threads == 2
    whole = net.value_and_jacobian(x, mode=mode, engine="numba")
    for batch in (1, 2, 7, 33):  # of one sample and few, of a vector and of two, and one more
        parts = [
            net.value_and_jacobian(x[start : start + batch], mode=mode, engine="numba", threads=1 + batch % 2)
            for start in range(0, 66 if batch > 1 else 5, batch)
        ]
        for place, found in enumerate(whole):
            joined = np.concatenate([part[place] for part in parts])
            assert joined.tobytes() == found[: len(joined)].tobytes()  # signs of zeros too
    product = net.jvp(x, np.ones_like(x), engine="numba")[1]
    np.testing.assert_array_equal(net.jvp(x[3:10], np.ones_like(x[3:10]), engine="numba")[1], product[3:10])


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


KERNEL = np.ones((2, 2))
RELU = Elementwise("relu", (np.inf, 0.0, 0.0))


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (network(Softmax(), Affine(KERNEL)), "follows a softmax"),
        (network(Affine(KERNEL), Sparsemax()), "no kernel has 'step_1' (sparsemax"),
        (network(Softmax(), shape=(3, 2)), "no kernel has 'step_0' (softmax of an input of shape (3, 2)"),
        (network(Rescaling(np.array(np.inf), np.array(0.0)), Affine(KERNEL)), "not all weights are finite"),
        (network(), "no Dense layer"),
        (network(Affine(KERNEL), shape=(3, 2)), "no kernel has 'step_0' (affine of an input of shape (3, 2)"),
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
    if net.plan(1).engine == "mixed":  # a chain in it can be
        np.testing.assert_array_equal(net(x, engine="numba"), net(x, engine="numpy"))
        return
    with pytest.raises(refgrad.UnsupportedError, match=f"engine='numba' cannot run this.*{re.escape(reason)}"):
        net(x, engine="numba")


def test_not_finite_weights_give_what_the_frameworks_give():
    """0 · ∞ is NaN in a matrix product, and skipping the zero would hide it."""
    net = refgrad.Network.sequential([(np.array([[-1.0]]), None, "relu"), (np.array([[np.inf]]), None, "linear")])
    assert np.isnan(net(np.array([[1.0]])))
    assert np.isnan(net.jacobian(np.array([[1.0]])))


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
    def refuse(_):
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
    compiled = run._compiled("plain").plain.nopython_signatures
    x.setflags(write=False)
    net.value_and_jacobian(x, engine="numba")
    assert run._compiled("plain").plain.nopython_signatures == compiled


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


VALUE = """
import numpy as np, refgrad
net = refgrad.Network.sequential([(np.ones((1, 2)), None, "sigmoid")])
print(repr(float(net([[0.25]], engine="numba")[0, 0])), refgrad.__file__)
"""


def test_compiled_code_is_kept_and_an_edited_activation_is_compiled_anew(tmp_path):
    """Numba's own key is the cached function's file; an activation is in another one."""
    shutil.copytree(ROOT / "refgrad", tmp_path / "refgrad", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"cwd": tmp_path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def value(script=VALUE):
        """What it prints, and the files of the cache with their times."""
        ((number, place),) = (line.split() for line in python(script, **environment))
        assert place == str(tmp_path / "refgrad" / "__init__.py")
        return float(number), {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.nb*")}

    first, kept = value()
    wanted = "the kernel, values, their four loops and the activation are cached"
    assert sum(path.suffix == ".nbc" for path in kept) == 7, wanted
    assert value() == (first, kept)
    _, of_another_network = value(VALUE.replace("(1, 2)", "(1, 37)"))
    assert of_another_network == kept
    source = tmp_path / "refgrad" / "activations" / "sigmoid.py"
    text = source.read_text()
    assert text.count("where(z >= 0, 1, e) / (1 + e)") == 1
    source.write_text(text.replace("where(z >= 0, 1, e) / (1 + e)", "where(z >= 0, 1, e) / (2 + e)"))
    second, _ = value()
    assert 1 / second == pytest.approx(1 / first + 1, rel=1e-12)


def test_functions_compiled_by_different_processes_are_not_mistaken_for_each_other(tmp_path):
    """Their machine code meets in one process, where the linker knows it by name."""
    script = """
import sys, numpy as np, refgrad
for called in sys.stdin.read().split():
    net = refgrad.Network.sequential([(np.ones((1, 1)), None, called)])
    print(abs(net([[0.25]], engine="numba") - net([[0.25]], engine="numpy")).max() < 1e-15)
"""
    names = ("tanh", "sigmoid", "relu", "elu")
    for given in (*names, " ".join(names)):
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=given,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            check=True,
        )
        assert set(done.stdout.split()) == {"True"}


def test_every_compiled_source_is_part_of_the_key(tmp_path):
    shutil.copytree(ROOT / "refgrad", tmp_path / "refgrad", ignore=shutil.ignore_patterns("__pycache__"))
    sources = [source for room in ("activations", "kernels") for source in (tmp_path / "refgrad" / room).glob("*.py")]
    script = """
import sys
from pathlib import Path
from refgrad.kernels.compiling import digest
for source in sys.stdin.read().split():
    text = Path(source).read_bytes()
    before = digest.__wrapped__()
    Path(source).write_bytes(text + b" ")
    print(before != digest.__wrapped__())
    Path(source).write_bytes(text)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(map(str, sources)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout.split() == ["True"] * len(sources)
    assert len(sources) > 15
    compiled = {"chain.py", "block.py", "units.py", "elementary.py", "sigmoid.py", "row.py"}
    assert compiled <= {source.name for source in sources}


def test_machine_and_versions_are_part_of_the_key(monkeypatch):
    from refgrad.kernels import compiling, vectors

    before = compiling.digest.__wrapped__()
    for module in (compiling.numba, compiling.llvmlite, compiling.np):
        with monkeypatch.context() as patch:
            patch.setattr(module, "__version__", "0")
            assert compiling.digest.__wrapped__() != before
    for features, width in (("+avx2,-avx512f", 32), ("+avx512f,-avx512vl", 32), ("+avx512f,+avx512vl", 64)):
        monkeypatch.setattr(compiling.numba.config, "CPU_FEATURES", features)
        assert compiling.digest.__wrapped__() != before
        assert vectors.vector_bytes() == width
    monkeypatch.setattr(compiling.numba.config, "CPU_FEATURES", None)
    monkeypatch.setattr(compiling, "get_host_cpu_features", lambda: "-avx512f")
    assert compiling.digest.__wrapped__() != before
    assert vectors.vector_bytes() == 32


def test_numba_is_not_imported_for_the_numpy_engine():
    assert python(SCRIPT)[2].startswith("True")
    assert python(SCRIPT.replace('"numba", mode', '"numpy", mode'))[2].startswith("False")


def test_a_cache_folder_that_cannot_be_made_does_not_matter(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    for line in python(SCRIPT, NUMBA_CACHE_DIR=str(blocked / "cache"))[:2]:
        np.testing.assert_allclose([float(word) for word in line.split()], expected(), rtol=1e-14)


@every_dtype
@pytest.mark.parametrize(("name", "least", "most"), [("exp", -110, 90), ("expm1", -20, 90), ("tanh", -12, 12)])
def test_elementary_functions_are_right_to_three_units_and_as_numpy_at_the_ends(name, least, most, dtype):
    from refgrad.kernels import elementary

    function, scale = getattr(elementary, name), 1 if dtype == "float32" or name == "tanh" else 7.9
    points = np.linspace(least * scale, most * scale, 200 if DISABLE_JIT else 3000).astype(dtype)
    points = np.concatenate([points, np.logspace(-30, 0, 300).astype(dtype), -np.logspace(-30, 0, 300).astype(dtype)])
    for x in points:
        with mpmath.workdps(40):
            truth = getattr(mpmath, name)(mpmath.mpf(float(x)))
            if abs(truth) < np.finfo(dtype).max:
                unit = float(np.spacing(np.abs(np.array(float(truth)).astype(dtype))))
                assert abs(mpmath.mpf(float(function(x))) - truth) <= 3 * unit, x
    for x in (np.inf, -np.inf, np.nan, 1e30, -1e30, 0.0):
        with np.errstate(all="ignore"):
            np.testing.assert_equal(
                float(function(np.array(x, dtype)[()])), float(getattr(np, name)(np.array(x, dtype)))
            )


@every_dtype
def test_standardising_inputs_far_from_0_does_not_cancel(dtype):
    mean, variances = np.array([4096.0, -4096.0]), np.array([3.0, 5.0])
    steps = np.random.default_rng(14).integers(1, 40, size=(30, 2)) / 4
    net = refgrad.Network(network(Normalization(mean, variances), Affine(np.eye(2)), dtype=dtype))
    np.testing.assert_allclose(
        net((mean + steps).astype(dtype), engine="numba"),
        steps / np.sqrt(variances),
        rtol=4 * np.finfo(dtype).eps,
    )


@pytest.mark.parametrize("name", ["relu", "flattened", "softmax"])
def test_values_of_a_few_samples_take_the_short_way_to_the_same_bits(name, monkeypatch):
    net, x = chained(name, "float32")
    long, one = net(x[:7], threads=1), net(x[0], threads=1)
    monkeypatch.setattr("refgrad.evaluation.values", refuse)
    np.testing.assert_array_equal(net(x[:7]), long)
    np.testing.assert_array_equal(net(x[0]), one)
    assert net(x[0]).shape == net.output_shapes[0]
    monkeypatch.undo()
    monkeypatch.setattr("refgrad.brief.Brief.value", refuse)
    net(x[:7], engine="numpy")


def test_values_of_many_samples_of_a_staircase_are_looked_up_on_the_short_way(monkeypatch):
    net = refgrad.Network.sequential([(np.ones((1, 3)), np.arange(3.0), "relu"), (np.ones((3, 1)), None, "linear")])
    x, looked_up, look_up = np.linspace(-4.1, 3.9, 201)[:, None], [], run.Runner.look_up
    monkeypatch.setattr("refgrad.evaluation.values", refuse)
    monkeypatch.setattr(run.Runner, "look_up", lambda *given: looked_up.append(given[2]) or look_up(*given))
    np.testing.assert_allclose(net(x), np.maximum(x + np.arange(3), 0).sum(axis=1, keepdims=True), rtol=1e-12)
    assert [len(x) for x in looked_up] == [201]
    net(x[:5])
    assert len(looked_up) == 1  # fewer than are worth a table


@pytest.mark.parametrize("name", ["relu", "flattened", "softmax", "narrow in the middle"])
def test_an_array_that_fits_takes_the_shortest_way_to_the_same_bits(name):
    net, x = chained(name, "float32")
    few = np.ascontiguousarray(x[:3])
    read_only = few.copy()
    read_only.flags.writeable = False
    wanted = net.value_and_jacobian(few, threads=1)
    others = [few, read_only, few.tolist(), few.astype("float64"), np.repeat(few, 2, axis=0)[::2], few.view(_Own)]
    for given in others:
        y, jacobian = net.value_and_jacobian(given)
        np.testing.assert_array_equal(y, wanted[0])
        np.testing.assert_array_equal(jacobian, wanted[1])
        np.testing.assert_array_equal(net(given), wanted[0])
        assert type(y) is type(jacobian) is np.ndarray
    flat = len(net.input_shapes[0]) == len(net.output_shapes[0]) == 1
    assert (net._brief.fitting(few) is not None) == (net._brief.fitting_value(few) is not None) == flat
    for given in (*others[1:], few[:, :-1], few[0], few[None], None):
        assert net._brief.fitting(given) is net._brief.fitting_value(given) is None
    with pytest.raises(refgrad.InputError, match="shape"):
        net.value_and_jacobian(few[:, :-1])


class _Own(np.ndarray):
    """An array of another class."""


@every_dtype
@pytest.mark.parametrize("way", ["one by one", "by vectors"])
def test_what_is_not_zero_is_listed(dtype, way):
    from refgrad.kernels import listing
    from refgrad.kernels.compiling import jit

    if way == "by vectors" and (DISABLE_JIT or listing.vector_bytes() < 64):
        pytest.skip("AVX-512 is not there")
    nonzero = listing._compressed if way == "by vectors" else jit(listing._counted)

    @jit
    def listed(values, start, count, active, first):
        return nonzero(values, start, count, active, first)

    rng = np.random.default_rng(5)
    tiny = np.finfo(dtype).smallest_subnormal
    for count in (0, 1, 7, 8, 16, 17, 31, 64, 100):
        values = rng.choice(np.array([0, 0, 0, -0.0, 1, -2, tiny, np.nan, np.inf], dtype), size=count + 60)
        active = np.full(count + 5 + listing.SPARE, -1, np.int32)
        found = listed(values, 3, count, active, 5)
        np.testing.assert_array_equal(active[5 : 5 + found], np.flatnonzero(values[3 : 3 + count]))
        assert (active[:5] == -1).all()


def test_the_second_cache_is_what_the_system_says_or_small(tmp_path, monkeypatch):
    stated = tmp_path / "size"
    monkeypatch.setattr(run, "_STATED", stated)
    for text, near in ((None, 256), ("1024K\n", 512), ("2M", 256)):
        if text is not None:
            stated.write_text(text)
        assert run.near.__wrapped__() == near * 2**10


def test_more_threads_are_worth_it_from_as_much_work_on_as_few_samples_are_not(monkeypatch):
    monkeypatch.setenv("REFGRAD_NUM_THREADS", "4")
    for cost in (1, 999, planning.WORTH_A_THREAD, 3 * planning.WORTH_A_THREAD):
        few = int(planning.few(cost))
        assert planning.worth_threads(few * cost, None) == 1
        assert planning.worth_threads((few + 1) * cost, None) > 1
        assert planning.worth_threads(10**9 * cost, None) == 4
        assert planning.worth_threads(10**9 * cost, 2) == 2


def test_weights_that_a_core_does_not_hold_are_worth_a_thread_for_one_sample(monkeypatch):
    monkeypatch.setattr(planning, "near", lambda: 2**20)
    for parameters, few in ((10**6, 0), (5 * 10**5, planning.few(5 * 10**5))):  # of 2 MiB some are elsewhere, or none
        assert planning.few_values(parameters, 4) == few
    assert planning.work_of_values(1, 10**6, 4) == planning.work_of_values(6, 10**6, 4) > 4 * 10**6
    assert planning.work_of_values(7, 10**6, 4) == 7 * 10**6
    assert planning.work_of_values(0, 10**6, 4) == 0
