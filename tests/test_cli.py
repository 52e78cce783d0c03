"""The command line: what it prints, how it exits, and how quietly it ends."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import refgrad
from refgrad.cli import main
from refgrad.cli.parser import build_parser
from tests.cases import GOLDEN

ROOT = Path(__file__).resolve().parents[1]
QUESTION = str(GOLDEN / "question-keras3.keras")
MIXED = str(GOLDEN / "mixed-keras3.keras")
NET = refgrad.load(MIXED)
X = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
COMMANDS = ("inspect", "convert", "predict", "jacobian", "audit", "demo")


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run a command in this process; returns (status, stdout, stderr)."""

    def run(*words, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


def shell(command, **options):
    """Run a command line in a real shell, with the `refgrad` of this interpreter first on the path."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, check=False, **options)


def test_inspect(cli):
    status, out, err = cli("inspect", QUESTION)
    assert (status, err) == (0, "")
    for part in ("dense_1/relu", "3,297 parameters", "float32", "written by Keras 3."):
        assert part in out
    found = json.loads(cli("inspect", QUESTION, "--json")[1])
    assert found["parameters"] == 3297
    assert found["layers"][1] == {
        "name": "dense",
        "op": "affine",
        "shape": [64],
        "arrays": {"kernel": [1, 64], "bias": [64]},
    }
    assert found["digest"] == refgrad.load(QUESTION).digest


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv"])
@pytest.mark.parametrize("command", ["predict", "jacobian"])
def test_arrays_in_and_out(cli, tmp_path, suffix, command):
    source, target = tmp_path / f"x.{suffix}", tmp_path / f"out.{suffix}"
    {
        "npy": np.save,
        "npz": lambda path, x: np.savez(path, x=x),
        "csv": lambda path, x: np.savetxt(path, x, delimiter=","),
    }[suffix](source, X)
    assert cli(command, MIXED, "--input", source, "--output", target) == (0, "", "")
    expected = NET(X) if command == "predict" else NET.jacobian(X)
    if suffix == "csv":
        np.testing.assert_array_equal(np.loadtxt(target, delimiter=",", dtype="f4"), expected.reshape(7, -1))
    elif suffix == "npy":
        np.testing.assert_array_equal(np.load(target), expected)
    else:
        with np.load(target) as loaded:
            np.testing.assert_array_equal(loaded["y" if command == "predict" else "jacobian"], expected)
    found = json.loads(cli(command, MIXED, "--input", source, "--output", target, "--json")[1])
    assert found["shape"] == list(expected.shape)


def test_csv_through_pipes(cli):
    status, out, err = cli("jacobian", QUESTION, stdin="0.5\n1\n\n")
    assert (status, err) == (0, "")
    net = refgrad.load(QUESTION)
    np.testing.assert_array_equal(np.float32(out.split()), net.gradient([0.5, 1])[:, 0])
    assert cli("jacobian", QUESTION, stdin="x\n0.5\n1\n")[1] == out, "a header is skipped"
    assert cli("jacobian", QUESTION, stdin="\ufeff0.5\n1\n")[1] == out, "so is the mark that Excel starts with"
    found = json.loads(cli("predict", QUESTION, "--json", stdin="0.5\n1\n")[1])
    np.testing.assert_array_equal(np.float32(found["y"]), net([0.5, 1]))
    assert (found["shape"], found["dtype"]) == ([2, 1], "float32")
    assert json.loads(cli("predict", QUESTION, "--json", stdin="nan\n")[1])["y"] == [[None]]


def test_float64_in_csv_is_exact(cli, tmp_path):
    path = tmp_path / "net.npz"
    refgrad.save(NET.astype("float64"), path)
    out = cli("predict", path, stdin="0.1,0.2,0.3\n")[1]
    np.testing.assert_array_equal([float(cell) for cell in out.split(",")], NET.astype("float64")([0.1, 0.2, 0.3]))


def test_many_samples_go_in_chunks(cli, tmp_path):
    x = np.random.default_rng(1).normal(size=(9001, 3)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    assert cli("jacobian", MIXED, "--input", tmp_path / "x.npy", "--output", tmp_path / "j.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "j.npy"), NET.jacobian(x))
    np.save(tmp_path / "x.npy", x[:0])
    assert cli("jacobian", MIXED, "--input", tmp_path / "x.npy", "--output", tmp_path / "j.npy")[0] == 0
    assert np.load(tmp_path / "j.npy").shape == (0, 2, 3)


def test_jacobian_options(cli, tmp_path):
    kink = refgrad.Network.sequential([(np.eye(1), None, "relu")])
    refgrad.save(kink, tmp_path / "net.npz")
    for policy, slope in (("keras", 0), ("left", 0), ("right", 1), ("mean", 0.5)):
        assert float(cli("jacobian", tmp_path / "net.npz", "--kink", policy, stdin="0\n")[1]) == slope
    status, out, err = cli("jacobian", tmp_path / "net.npz", "--kink", "raise", stdin="0\n")
    assert (status, out) == (2, "")
    assert re.fullmatch(r"refgrad: sample 0: unit dense_0/relu\[0\] is exactly on a kink.*\n", err)
    for mode in ("forward", "reverse"):
        assert float(cli("jacobian", tmp_path / "net.npz", "--mode", mode, "--engine", "numpy", stdin="2\n")[1]) == 1


def test_convert_writes_what_it_verifies(cli, tmp_path):
    target = tmp_path / "net.npz"
    status, out, err = cli("convert", MIXED, "-o", target, "--golden", 5)
    assert (status, err) == (0, "")
    assert "verified" in out
    assert refgrad.load(target).digest == NET.digest
    assert cli("convert", MIXED, "-o", target, "-q") == (0, "", "")
    assert cli("convert", MIXED, "-o", target, "--dtype", "float64")[0] == 0
    assert refgrad.load(target).dtype == "float64"
    weights = GOLDEN / "mixed-keras3.weights.h5"
    found = json.loads(cli("convert", weights, "--config", GOLDEN / "mixed-keras3.json", "-o", target, "--json")[1])
    assert found["verified"] is True
    assert found["digest"] == refgrad.load(target).digest


def bad_table(tmp_path):
    (tmp_path / "words.csv").write_text("a,b\nc,d\n")
    (tmp_path / "ragged.csv").write_text("1,2,3\n4,5\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "first.csv").write_text("1,2,\n4,5,6\n7,8,9\n")
    (tmp_path / "typo.csv").write_text("0,1O,3\n4,5,6\n")
    (tmp_path / "spaces.csv").write_text("x,y,z\n\n1 2 3\n")
    (tmp_path / "underscore.csv").write_text("1,2,3\n1_0,2,3\n")
    (tmp_path / "wide.csv").write_text("1,2,3,4\n")
    (tmp_path / "bad.npy").write_text("no")
    np.save(tmp_path / "object.npy", np.array([{}], object))
    np.savez(tmp_path / "two.npz", a=X, b=X)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:-30])


BAD = [
    ("inspect nowhere.keras", 2, "nowhere.keras: there is no such file"),
    ("inspect .", 2, "this is a directory"),
    ("inspect words.csv", 2, "no kind of file that holds a Keras model"),
    ("predict MIXED --input nowhere.npy", 2, "nowhere.npy: there is no such file"),
    ("predict MIXED --input words.csv", 2, "words.csv: line 2: c,d is not numbers separated by commas"),
    ("predict MIXED --input ragged.csv", 2, "ragged.csv: line 2: 4,5 is not 3 numbers separated by commas"),
    ("predict MIXED --input empty.csv", 2, "empty.csv: there are no rows of numbers"),
    ("predict MIXED --input first.csv", 2, "first.csv: line 1: 1,2, is not numbers separated by commas"),
    ("predict MIXED --input typo.csv", 2, "typo.csv: line 1: 0,1O,3 is not numbers"),
    ("predict MIXED --input spaces.csv", 2, "spaces.csv: line 3: 1 2 3 is not numbers"),
    ("predict MIXED --input underscore.csv", 2, "underscore.csv: line 2: 1_0,2,3 is not 3 numbers"),
    ("predict MIXED --input wide.csv", 2, "expected (batch, 3)"),
    ("predict MIXED --input bad.npy", 2, "bad.npy: cannot be read as .npy"),
    ("predict MIXED --input object.npy", 2, "object.npy: cannot be read as .npy"),
    ("predict MIXED --input cut.npz", 2, "cut.npz: cannot be read as .npz"),
    ("predict MIXED --input LONG.npy", 2, "cannot be read"),
    ("predict MIXED --input x.npy --output LONG.npy", 2, "cannot be written"),
    ("predict MIXED --input two.npz", 2, "name the inputs 'x'"),
    ("predict MIXED --input x.npy --output y.txt", 2, "the ending '.txt' says no format"),
    ("predict MIXED --input x.npy --output no/such/y.npy", 2, "cannot be written"),
    ("convert MIXED -o out.h5", 2, "out.h5: refgrad's files end in .npz"),
    ("convert MIXED -o out.npz --golden 0", 2, "at least one is needed"),
    ("audit MIXED --samples 0", 2, "at least 1 sample"),
    ("audit MIXED --seed -1", 2, "a seed from 0"),
]


@pytest.mark.parametrize(("line", "status", "message"), BAD)
def test_bad_input_is_one_line_on_stderr(cli, tmp_path, monkeypatch, line, status, message):
    monkeypatch.chdir(tmp_path)
    bad_table(tmp_path)
    np.save("x.npy", X)
    before = sorted(Path().iterdir())
    found, out, err = cli(*shlex.split(line.replace("MIXED", MIXED).replace("LONG", "a" * 300)))
    assert (found, out) == (status, "")
    assert err.startswith("refgrad: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(Path().iterdir()) == before, "a refused command leaves nothing behind"


def test_a_file_that_fails_verification_exits_with_1(cli, tmp_path):
    refgrad.save(NET, tmp_path / "net.npz")
    with zipfile.ZipFile(tmp_path / "net.npz") as whole, zipfile.ZipFile(tmp_path / "altered.npz", "w") as altered:
        for name in whole.namelist():
            altered.writestr(name, whole.read("op3/kernel.npy" if name == "op1/kernel.npy" else name))
    status, out, err = cli("inspect", tmp_path / "altered.npz")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"refgrad: .*altered.npz: its content has the digest .*it was altered\n", err)


def test_warnings_are_one_line_too(cli, tmp_path):
    path = tmp_path / "nan.h5"
    path.write_bytes((GOLDEN / "mixed-tf_keras.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file["model_weights/first/first/bias:0"][0] = np.nan
    status, _, err = cli("inspect", path)
    assert status == 0
    assert re.fullmatch(r"refgrad: warning: layer 'first': bias holds NaN or infinity\n", err)


@pytest.mark.parametrize("line", ["", "frobnicate", "inspect", "predict MIXED --engine fortran", "convert MIXED"])
def test_wrong_usage_exits_with_2(line, capsys):
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(line.replace("MIXED", MIXED)))
    assert caught.value.code == 2
    assert re.fullmatch(r"refgrad: .* \(see refgrad.* --help\)\n", capsys.readouterr().err)


@pytest.mark.tensorflow
def test_audit_passes_and_fails_by_its_exit_status(cli, tmp_path):
    pytest.importorskip("tensorflow")
    status, out, err = cli("audit", MIXED, "--samples", 50, "--seed", 3)
    assert (status, err) == (0, "")
    assert out.startswith("PASSED: refgrad against TensorFlow")
    np.save(tmp_path / "x.npy", X)
    found = json.loads(cli("audit", MIXED, "--input", tmp_path / "x.npy", "--dtype", "float64", "--json")[1])
    assert (found["passed"], found["counts"]["ok"], found["model"]["dtype"]) == (True, 7, "float64")
    refgrad.save(refgrad.load(GOLDEN / "mixed-tf_keras.keras"), tmp_path / "other.npz")
    status, out, _ = cli("audit", tmp_path / "other.npz", "--reference", GOLDEN / "mixed-tf_keras.h5", "--samples", 9)
    assert status == 0, out
    broken = refgrad.Network.sequential([(np.ones((3, 2), "f4"), None, "sigmoid")])
    refgrad.save(broken, tmp_path / "broken.npz")
    status, out, _ = cli("audit", tmp_path / "broken.npz", "--reference", MIXED, "--samples", 9)
    assert status == 1
    assert out.startswith("FAILED")
    assert cli("audit", MIXED, "--samples", 9, "-q") == (0, "", "")


def test_demo_prints_the_answer_and_draws_it(cli, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("refgrad.cli.demo.find_spec", lambda _: None)
    target = tmp_path / "plot.png"
    status, out, err = cli("demo", "--plot", target)
    assert (status, err) == (0, "")
    assert target.read_bytes().startswith(b"\x89PNG")
    assert str(target) in out
    for part in ("0.5000", "-0.3600", "µs a call", "staircase", "pip install tensorflow tf_keras"):
        assert part in out
    found = json.loads(cli("demo", "--plot", target, "--json")[1])
    assert all(abs(row["difference"]) <= 1e-6 for row in found["rows"])
    assert [row["true_slope"] for row in found["rows"] if row["x"] == 0.5] == [-0.36]


@pytest.mark.tensorflow
def test_demo_audits_itself_where_tensorflow_is(cli, tmp_path):
    pytest.importorskip("tensorflow")
    status, out, _ = cli("demo", "--plot", tmp_path / "plot.png")
    assert status == 0
    assert "PASSED: refgrad against TensorFlow" in out
    assert "1,001 of 1,001  ok" in out


def test_demo_that_cannot_draw_still_answers(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("refgrad.cli.demo.find_spec", lambda _: None)
    status, out, _ = cli("demo", "--plot", tmp_path / "no" / "such" / "plot.png")
    assert status == 0
    assert "true slope" in out
    assert "no plot: " in out


def test_demo_without_matplotlib_says_so(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("refgrad.cli.demo.find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, _ = cli("demo", "--plot", tmp_path / "plot.png")
    assert status == 0
    assert "no plot: the picture needs matplotlib" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_in_the_help_works(command, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    example = capsys.readouterr().out.split("example:\n")[1].strip()
    if command == "audit":
        pytest.importorskip("tensorflow")
    (tmp_path / "model.keras").write_bytes(Path(QUESTION).read_bytes())
    done = shell(example, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_command_is_listed_here():
    (subparsers,) = (action for action in build_parser()._actions if action.dest == "command")
    assert set(subparsers.choices) == set(COMMANDS)


def test_a_reader_that_goes_away_is_not_an_error(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((200_000, 3)))
    done = shell(f"refgrad jacobian {MIXED} --input {tmp_path}/x.npy --engine numpy | head -2")
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2


def test_an_interrupt_is_quiet(cli, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("refgrad.cli.commands.inspect", interrupt)
    assert cli("inspect", MIXED) == (130, "", "")


def test_python_m_refgrad_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "refgrad", "--version"], capture_output=True, text=True, check=False)
    assert done.stdout == f"refgrad {refgrad.__version__}\n"
