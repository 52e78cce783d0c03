"""The command line: what it prints, how it exits, and how quietly it ends."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import refgrad
from refgrad.cli import main
from refgrad.cli.parser import build_parser
from refgrad.graph import Graph, Node, Provenance
from refgrad.ops import Affine, Elementwise, Source
from tests.cases import GOLDEN

ROOT = Path(__file__).resolve().parents[1]
QUESTION = str(GOLDEN / "question-keras3.keras")
MIXED = str(GOLDEN / "mixed-keras3.keras")
NET = refgrad.load(MIXED)
X = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
COMMANDS = ("inspect", "convert", "predict", "jacobian", "audit", "warmup", "demo")


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run a command in this process; returns (status, stdout, stderr)."""

    def run(*words, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),  # the refgrad of this checkout, whichever is installed
}


def shell(command, **options):
    """Run a command line in a real shell, with the `refgrad` of this interpreter first on the path."""
    words = ["bash", "-c", command]
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, check=False, **options)


def critic():
    """Two inputs, state (3,) and action (2,); two outputs, q (1,) of the state and pi (2,) of the action."""
    rng = np.random.default_rng(5)
    w = [rng.normal(size=shape).astype("f4") for shape in ((3, 4), (4, 1), (2, 2))]
    nodes = (
        Node(Source((3,)), (), "state"),
        Node(Source((2,)), (), "action"),
        Node(Affine(w[0]), (0,), "hidden"),
        Node(Elementwise("relu", (np.inf, 0.0, 0.0)), (2,), "hidden/relu"),
        Node(Affine(w[1]), (3,), "q"),
        Node(Affine(w[2]), (1,), "policy"),
        Node(Elementwise("tanh"), (5,), "pi"),
    )
    return refgrad.Network(Graph(nodes, (0, 1), (4, 6), ("state", "action"), ("q", "pi"), np.dtype("f4"), Provenance()))


CRITIC = critic()
AT = {name: np.random.default_rng(6).normal(size=(5, n)).astype("f4") for name, n in (("state", 3), ("action", 2))}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory that the examples in the help are written for."""
    monkeypatch.chdir(tmp_path)
    for suffix in (".keras", ".json", ".weights.h5", ".h5"):
        Path(f"model{suffix}").write_bytes((GOLDEN / f"question-keras3{suffix}").read_bytes())
    np.savetxt("x.csv", np.linspace(-2, 3, 7))
    np.save("x.npy", np.linspace(-2, 3, 7))
    refgrad.save(CRITIC, "critic.npz")
    np.save("s.npy", AT["state"])
    np.save("a.npy", AT["action"])
    np.savez("sa.npz", **AT)
    np.savetxt("sa.csv", np.hstack([AT["state"], AT["action"]]), delimiter=",", fmt="%.9g")
    return tmp_path


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
        "takes": ["input_layer"],
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
    expected = (NET if command == "predict" else NET.jacobian)(X, engine="numpy")
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
    np.testing.assert_array_equal(np.float32(out.split()), net.gradient([0.5, 1], engine="numpy")[:, 0])
    assert cli("jacobian", QUESTION, stdin="x\n0.5\n1\n")[1] == out, "a header is skipped"
    assert cli("jacobian", QUESTION, stdin="\ufeff0.5\n1\n")[1] == out, "so is the mark that Excel starts with"
    found = json.loads(cli("predict", QUESTION, "--json", stdin="0.5\n1\n")[1])
    np.testing.assert_array_equal(np.float32(found["y"]), net([0.5, 1], engine="numpy"))
    assert (found["shape"], found["dtype"]) == ([2, 1], "float32")
    assert json.loads(cli("predict", QUESTION, "--json", stdin="nan\n")[1])["y"] == [[None]]


def test_float64_in_csv_is_exact(cli, tmp_path):
    path = tmp_path / "net.npz"
    refgrad.save(NET.astype("float64"), path)
    out = cli("predict", path, stdin="0.1,0.2,0.3\n")[1]
    expected = NET.astype("float64")([0.1, 0.2, 0.3], engine="numpy")
    np.testing.assert_array_equal([float(cell) for cell in out.split(",")], expected)


def test_many_samples_go_in_chunks(cli, tmp_path):
    x = np.random.default_rng(1).normal(size=(9001, 3)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    assert cli("jacobian", MIXED, "--input", tmp_path / "x.npy", "--output", tmp_path / "j.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "j.npy"), NET.jacobian(x, engine="numpy"))
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
    config = GOLDEN / "mixed-keras3.json"
    (found,) = json.loads(cli("convert", weights, "--config", config, "-o", target, "--json")[1])
    assert found["result"] == "converted"
    assert (found["digest"], found["bytes"]) == (refgrad.load(target).digest, target.stat().st_size)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
def test_convert_writes_keras_files(cli, tmp_path, suffix):
    target = tmp_path / f"new{suffix}"
    status, out, err = cli("convert", MIXED, "-o", target)
    assert (status, err) == (0, "")
    assert re.fullmatch(rf"{MIXED} → {target}: [\d,]+ bytes, verified, digest \w{{16}}…\n", out)
    np.testing.assert_allclose(refgrad.load(target)(X), NET(X), rtol=1e-5)
    before = target.read_bytes()
    assert cli("convert", MIXED, "-o", target, "-q") == (0, "", "")
    assert target.read_bytes() == before


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
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "s.npy", AT["state"])
    np.save(tmp_path / "a.npy", AT["action"][:4])
    np.savez(tmp_path / "sa.npz", **AT)
    (tmp_path / "odd.csv").write_text("\nstat,state[1],state[2],action[0],action[1]\n1,2,3,4,5\n")
    refgrad.save(CRITIC, tmp_path / "critic.npz")
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
    ("predict MIXED --input wide.csv", 2, "--input wide.csv: line 1 has 4 numbers; expected are 3"),
    ("predict MIXED --input bad.npy", 2, "bad.npy: cannot be read as .npy"),
    ("predict MIXED --input object.npy", 2, "object.npy: cannot be read as .npy"),
    ("predict MIXED --input cut.npz", 2, "cut.npz: cannot be read as .npz"),
    ("predict MIXED --input LONG.npy", 2, "cannot be read"),
    ("predict MIXED --input x.npy --output LONG.npy", 2, "cannot be written"),
    ("predict MIXED --input two.npz", 2, "holds the arrays 'a', 'b': name the inputs 'x'"),
    ("predict MIXED --input .", 2, "--input .: this is a directory"),
    ("predict MIXED --input y=x.npy", 2, "there is no such file, and no input 'y'"),
    ("predict MIXED --input x.npy --of nothing", 2, "--of nothing: there is no 'nothing'"),
    ("jacobian MIXED --input x.npy --of 2", 2, "--of 2: there is no '2'"),
    ("jacobian MIXED --input x.npy --wrt [3]", 2, "--wrt [3]: index=3 does not index features of shape (3,)"),
    ("jacobian MIXED --input x.npy --wrt [len]", 2, "[len] is no index of features"),
    ("jacobian MIXED --input x.npy --wrt 0 --wrt [1]", 2, "features can be chosen where it is given once"),
    ("jacobian MIXED --input x.npy --wrt 0 --wrt 0", 2, "can be asked for, once"),
    ("jacobian CRITIC --input s.npy", 2, "this network takes 'state', 'action'"),
    ("jacobian CRITIC --input state=s.npy", 2, "each input is needed once: --input state=FILE --input action=FILE"),
    ("jacobian CRITIC --input state=s.npy --input state=s.npy", 2, "each input is needed once"),
    ("jacobian CRITIC --input state=- --input action=-", 2, "standard input can be read for one of them"),
    ("jacobian CRITIC --input state=s.npy --input action=x.npy", 2, "--input x.npy: input 'action' has shape (7, 3)"),
    ("jacobian CRITIC --input state=s.npy --input action=a.npy", 2, "('state': 5, 'action': 4)"),
    ("jacobian CRITIC --input two.npz", 2, "'state' is not among them"),
    ("jacobian CRITIC --input sa.npz -o J.npy", 2, "an .npy holds one array, not 'q/state'"),
    ("predict CRITIC --input odd.csv", 2, "odd.csv: line 2: title 'stat' is not"),
    ("convert MIXED -o no/such/m.keras", 2, "cannot be written (No such file"),
    ("convert MIXED -o m.npz --to keras", 2, "its name says another format than --to keras"),
    ("convert MIXED CRITIC -o out.npz", 2, "--output out.npz: not a directory"),
    ("convert MIXED CRITIC --config c.json -o out", 2, "--config and --weights belong to one model"),
    ("convert MIXED no/such/mixed-keras3.h5 -o out", 2, "would both be written to out/mixed-keras3.npz"),
    ("convert MIXED -o no/such/out.npz", 2, "cannot be written (No such file"),
    ("predict MIXED --input x.npy --output y.txt", 2, "the ending '.txt' says no format"),
    ("predict MIXED --input x.npy --output no/such/y.npy", 2, "cannot be written"),
    ("convert MIXED -o out.onnx", 2, "the ending '.onnx' is none of .npz, .keras, .h5"),
]


@pytest.mark.parametrize(("line", "status", "message"), BAD)
def test_bad_input_is_one_line_on_stderr(cli, tmp_path, monkeypatch, line, status, message):
    monkeypatch.chdir(tmp_path)
    bad_table(tmp_path)
    before = sorted(Path().iterdir())
    found, out, err = cli(
        *shlex.split(line.replace("MIXED", MIXED).replace("CRITIC", "critic.npz").replace("LONG", "a" * 300))
    )
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
    status, out, err = cli("inspect", path)
    assert status == 0
    said = "layer 'first': bias holds NaN or infinity"
    assert out.endswith(f"\nwarnings:\n  {said}\n")
    assert err == f"refgrad: warning: {path}: {said}\n"
    status, out, err = cli("inspect", path, "--json")
    assert json.loads(out)["warnings"] == [said]
    status, _, err = cli("convert", path, MIXED, path, "-o", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1), "refused before anything is read"
    assert cli("convert", path, MIXED, "-o", tmp_path / "out")[2] == f"refgrad: warning: {path}: {said}\n"


WRONG = [
    "",
    "frobnicate",
    "inspect",
    "predict MIXED --engine fortran",
    "convert MIXED",
    "convert MIXED -o out.npz --golden 0",
    "audit MIXED --samples 0",
    "audit MIXED --samples ten",
    "audit MIXED --seed -1",
    "audit MIXED --samples 3 --input x.npy",
    "audit MIXED --html",
    "jacobian MIXED --threads 0",
    "jacobian MIXED --max-bytes 0",
    "jacobian MIXED --max-bytes 1T",
    "jacobian MIXED --thr 2",
]


@pytest.mark.parametrize("line", WRONG)
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


@pytest.mark.tensorflow
def test_audit_of_several_inputs_and_outputs(cli, folder):
    """The same network built in Keras: passes on given and on drawn inputs; with another kernel it fails."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    state, action = (keras.Input((n,), name=name) for name, n in (("state", 3), ("action", 2)))
    q = keras.layers.Dense(1, use_bias=False)(keras.layers.Dense(4, "relu", use_bias=False)(state))
    pi = keras.layers.Dense(2, "tanh", use_bias=False)(action)
    twin = keras.Model([state, action], [q, pi])
    kernels = {array.shape: array for node in CRITIC.graph.nodes for array in node.op.arrays().values()}
    twin.set_weights([kernels[tuple(weight.shape)] for weight in twin.weights])
    twin.save("twin.keras")
    words = ("audit", "critic.npz", "--reference", "twin.keras", "--engine", "numpy")
    for more in (("--samples", 50), ("--input", "sa.npz"), ("--input", "state=s.npy", "--input", "action=a.npy")):
        status, out, err = cli(*words, *more)
        assert (status, err) == (0, ""), out
    twin.set_weights([weight * 1.001 for weight in twin.get_weights()])
    twin.save("twin.keras")
    found = json.loads(cli(*words, "--input", "sa.npz", "--json")[1])
    assert (found["passed"], found["counts"]["discrepant_proved"]) == (False, 5)


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


def examples(command):
    """The lines that a command's help shows."""
    (subparsers,) = (action for action in build_parser()._actions if action.dest == "command")
    return subparsers.choices[command].format_help().split("examples:\n")[1].strip().splitlines()


EXAMPLES = [(command, line.strip()) for command in COMMANDS for line in examples(command)]
README = (ROOT / "README.md").read_text(encoding="utf-8").split("## On the command line")[1].split("\n## ")[0]


@pytest.mark.parametrize(("command", "line"), EXAMPLES)
def test_examples_of_the_help_work(cli, folder, command, line):
    if command == "audit":
        pytest.importorskip("tensorflow")
    if "|" in line:
        done = shell(line)
        status, out, err = done.returncode, done.stdout, done.stderr
    else:
        status, out, err = cli(*shlex.split(line)[1:])
    assert (status, err) == (0, "")
    assert out or " -o " in line


def test_the_readme_shows_every_command():
    assert set(re.findall(r"(?m)^\$ refgrad (\w+)", README)) == set(COMMANDS)  # tests/test_docs.py runs the lines


def test_every_command_is_listed_here():
    (subparsers,) = (action for action in build_parser()._actions if action.dest == "command")
    assert set(subparsers.choices) == set(COMMANDS)


def test_a_reader_that_goes_away_is_not_an_error(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((200_000, 3)))
    done = shell(f"refgrad jacobian {MIXED} --input {tmp_path}/x.npy --engine numpy | head -2")
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2


def test_an_interrupt_is_quiet(cli, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("refgrad.cli.models.load", interrupt)
    assert cli("inspect", MIXED) == (130, "", "")


def test_ctrl_c_while_waiting_for_a_pipe_is_quiet(tmp_path):
    os.mkfifo(tmp_path / "x")
    words = [sys.executable, "-m", "refgrad", "predict", MIXED, "--input", tmp_path / "x"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        end = None
        while end is None and process.poll() is None:
            try:
                end = os.open(tmp_path / "x", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # the process has not opened its end yet
                time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
        assert (process.returncode, *said) == (130, b"", b"")
        os.close(end)


def test_pipes_on_both_sides(folder):
    command = """mkfifo p.npy q.npy; timeout 60 cat p.npy > out.npy & timeout 60 sh -c 'cat x.npy > q.npy' &
        refgrad jacobian model.keras --input <(cat x.csv) -o p.npy; refgrad predict model.keras --input q.npy | wc -l
        wait"""
    done = shell(command, timeout=90)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "7", "")
    np.testing.assert_array_equal(
        np.load("out.npy"), refgrad.load(QUESTION).jacobian(np.loadtxt("x.csv"), engine="numpy")
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(folder):
    done = shell("refgrad inspect model.keras > /dev/full")
    assert (done.returncode, done.stderr) == (2, "refgrad: the output: No space left on device\n")
    before = sorted(folder.iterdir())
    for target in ("J.npy", "J.npz", "J.csv"):
        np.save("many.npy", np.zeros((9000, 1)))
        done = shell(f"ulimit -f 8; refgrad jacobian model.keras --input many.npy --engine numpy -o {target}")
        assert (done.returncode, done.stderr) == (2, "refgrad: the output: File too large\n")
        Path("many.npy").unlink()
        assert sorted(folder.iterdir()) == before


def test_a_jacobian_may_be_larger_than_memory(tmp_path):
    """300 MB of it with 200 MB more than the process needs; temporaries are bounded too."""
    kernel = np.random.default_rng(0).normal(size=(1000, 750)).astype("f4")
    net = refgrad.Network.sequential([(kernel, None, "tanh")])
    refgrad.save(net, tmp_path / "net.npz", golden=1)
    x = np.random.default_rng(1).normal(size=(100, 1000)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    script = """
import resource, sys
from refgrad.cli import main
import refgrad, numpy as np
refgrad.Network.sequential([(np.ones((50, 40)), None, "tanh")]).jacobian(np.ones((9, 50)), engine="numpy")
data = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (data + 200_000_000,) * 2)
sys.exit(main("jacobian net.npz --input x.npy --engine numpy --max-bytes 40M -o".split() + sys.argv[1:]))
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run([*words, "J.npz"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), "in memory there is no room for it"
    assert "refgrad: not enough memory" in done.stderr
    done = subprocess.run([*words, "J.npy"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found = np.load(tmp_path / "J.npy", mmap_mode="r")
    assert (found.shape, found.dtype) == ((100, 750, 1000), "float32")
    np.testing.assert_allclose(found[::33], net.jacobian(x[::33], engine="numpy"), rtol=1e-2)


def test_several_inputs_from_everywhere(cli, folder):
    """One .npz, several files, CSV in order and under titles in any order: all the same."""
    expected = CRITIC(AT, engine="numpy")
    header = "action[1],state[2],action[0],state[0],state[1]\n"
    mixed = np.hstack([AT["action"], AT["state"]])[:, [1, 4, 0, 2, 3]]
    lines = "".join(",".join(f"{number:.9g}" for number in row) + "\n" for row in mixed)
    Path("titled.csv").write_text(header + lines)
    np.savetxt("s.csv", AT["state"], delimiter=",", fmt="%.9g")
    ways = ("sa.npz", "sa.csv", "titled.csv", "state=s.npy action=a.npy", "action=a.npy state=s.csv")
    for way in ways:
        words = [word for source in way.split() for word in ("--input", source)]
        assert cli("predict", "critic.npz", *words, "-o", "y.npz") == (0, "", "")
        with np.load("y.npz") as found:
            assert set(found) == {"q", "pi"}
            for name in found:
                np.testing.assert_array_equal(found[name], expected[name], err_msg=way)


def test_several_results_by_name(cli, folder):
    y, jacobian = CRITIC.value_and_jacobian(AT, engine="numpy")
    title, *rows = cli("predict", "critic.npz", "--input", "sa.npz")[1].splitlines()
    assert title == "q,pi[0],pi[1]"
    found = np.float32([row.split(",") for row in rows])
    np.testing.assert_array_equal(found, np.hstack([y["q"], y["pi"]]))
    found = json.loads(cli("predict", "critic.npz", "--input", "sa.npz", "--json")[1])
    assert found["shape"] == {"q": [5, 1], "pi": [5, 2]}
    np.testing.assert_array_equal(np.float32(found["y"]["pi"]), y["pi"])

    assert cli("jacobian", "critic.npz", "--input", "sa.npz", "-o", "J.npz") == (0, "", "")
    with np.load("J.npz") as loaded:
        assert set(loaded) == {"q/state", "q/action", "pi/state", "pi/action"}
        for name in loaded:
            of, wrt = name.split("/")
            np.testing.assert_array_equal(loaded[name], jacobian[of][wrt])
    title, *rows = cli("jacobian", "critic.npz", "--input", "sa.npz")[1].splitlines()
    places = dict(zip(title.split(","), np.float32([row.split(",") for row in rows]).T, strict=True))
    assert len(places) == 15
    np.testing.assert_array_equal(places["dpi[1]/daction[0]"], jacobian["pi"]["action"][:, 1, 0])
    np.testing.assert_array_equal(places["dq/dstate[2]"], jacobian["q"]["state"][:, 0, 2])


CHOICES = [
    ("--of q --wrt state", lambda j: j["q"]["state"]),
    ("--of 1 --wrt 1", lambda j: j["pi"]["action"]),
    ("--of pi[1] --wrt action", lambda j: j["pi"]["action"][:, 1]),
    ("--of pi[::-1] --wrt action[1]", lambda j: j["pi"]["action"][:, ::-1, 1]),
    ("--of q --wrt state[[2,0]]", lambda j: j["q"]["state"][:, :, [2, 0]]),
    ("--of q --wrt state[-2:]", lambda j: j["q"]["state"][:, :, -2:]),
]


@pytest.mark.parametrize(("words", "expected"), CHOICES)
def test_chosen_jacobians(cli, folder, words, expected):
    assert cli("jacobian", "critic.npz", "--input", "sa.npz", *words.split(), "-o", "J.npy") == (0, "", "")
    np.testing.assert_array_equal(np.load("J.npy"), expected(CRITIC.jacobian(AT, engine="numpy")))


@pytest.mark.parametrize("first", ["1.0O", "0.5;", "0.5 m", "1_0", "'0.5", '"0.5"', "2nd", "0.5\t1"])
def test_a_misspelt_number_is_no_title(cli, first):
    status, out, err = cli("predict", QUESTION, stdin=f"{first}\n2\n3\n")
    assert (status, out) == (2, "")
    assert "standard input: line 1: " in err
    assert "is not numbers separated by commas" in err


def test_titles_of_several_inputs_must_be_theirs(cli, folder):
    """Anything else would be read by place: the numbers of one input as those of another."""
    Path("other.csv").write_text("State[0],State[1],State[2],Action[0],Action[1]\n1,2,3,4,5\n")
    status, out, err = cli("predict", "critic.npz", "--input", "other.csv")
    assert (status, out) == (2, "")
    assert "title 'State[0]' is not, or not alone, one of this network's: state[0], state[1]" in err


def test_chosen_titles_and_values(cli, folder):
    words = ("critic.npz", "--input", "sa.npz", "--of", "pi")
    out = cli("jacobian", *words, "--wrt", "action", "--wrt", "state")[1]
    assert out.startswith("dpi[0]/daction[0],dpi[0]/daction[1],dpi[1]/daction[0],dpi[1]/daction[1],dpi[0]/dstate[0],")
    assert cli("jacobian", *words[:-1], "pi[1]")[1].startswith(
        "dpi[1]/dstate[0],dpi[1]/dstate[1],dpi[1]/dstate[2],dpi[1]"
    )
    y = CRITIC(AT, engine="numpy")
    np.testing.assert_array_equal(np.float32(cli("predict", *words[:-1], "pi[1]")[1].split()), y["pi"][:, 1])
    assert cli("predict", *words[:-1], "pi", "--of", "q")[1].startswith("pi[0],pi[1],q\n")
    assert cli("predict", "model.keras", "--input", "x.csv", "--of", "[0]")[0] == 0, "the only output needs no name"


def test_options_reach_the_library(cli, folder, monkeypatch):
    seen = {}
    real = refgrad.Network.jacobian
    monkeypatch.setattr(refgrad.Network, "jacobian", lambda *a, **k: (seen.update(k), real(*a, **k))[1])
    line = "jacobian model.keras --input x.csv --mode split --kink left --engine numpy --threads 2 --max-bytes 3K"
    assert cli(*shlex.split(line))[0] == 0
    expected = {"mode": "split", "kink": "left", "engine": "numpy", "threads": 2, "max_bytes": 3072, "progress": False}
    assert {name: seen[name] for name in expected} == expected


@pytest.mark.parametrize("command", ["predict", "jacobian"])
def test_a_bar_only_on_a_terminal_and_not_when_quiet(cli, folder, monkeypatch, command):
    monkeypatch.setattr("refgrad.chunks.DELAY", 0)
    words = (command, "model.keras", "--input", "x.csv", "-o", "out.npy")
    assert cli(*words)[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli(*words)[2].startswith(f"\r{command}")
    assert cli(*words, "-q")[2] == ""


def test_convert_goes_on_after_a_refusal(cli, folder):
    Path("bad.h5").write_text("no")
    words = ("convert", "model.keras", "bad.h5", "critic.npz", "-o", "out/")
    status, out, err = cli(*words)
    assert (status, err) == (2, "refgrad: 1 of 3 models could not be converted\n")
    assert re.fullmatch(
        r"model +result +bytes +digest\nmodel.keras +→ out/model.npz +[\d,]+ +\w{16}…\n"
        r"bad.h5 +refused: \S.*\ncritic.npz +→ out/critic.npz +[\d,]+ +\w{16}…\n",
        out,
    )
    assert sorted(path.name for path in Path("out").iterdir()) == ["critic.npz", "model.npz"]
    assert refgrad.load("out/critic.npz").digest == CRITIC.digest
    status, out, err = cli(*words, "-q")
    assert (status, out) == (2, "")
    assert re.fullmatch(r"refgrad: bad.h5: .*\n", err)
    found = json.loads(cli(*words, "--json")[1])
    assert [it["result"] for it in found] == ["converted", "refused", "converted"]
    assert found[1]["reason"].startswith("bad.h5: ")
    assert cli("convert", "model.keras", "model.h5", "-o", "out")[0] == 2, "both would be model.npz"


def test_convert_writes_a_directory_of_keras_files(cli, folder):
    Path("bad.h5").write_text("no")
    words = ("convert", "model.h5", "bad.h5", "critic.npz", "-o", "new", "--to", "keras")
    status, out, err = cli(*words)
    assert (status, err) == (2, "refgrad: 1 of 3 models could not be converted\n")
    assert re.search(r"^model.h5 +→ new/model.keras +[\d,]+ +\w{16}…$", out, re.MULTILINE)
    assert re.search(r"^bad.h5 +refused: \S", out, re.MULTILINE)
    assert sorted(path.name for path in Path("new").iterdir()) == ["critic.keras", "model.keras"]
    found = json.loads(cli(*words, "--json")[1])
    assert [it["result"] for it in found] == ["converted", "refused", "converted"]
    assert refgrad.load("new/critic.keras").output_names == CRITIC.output_names


def test_convert_that_fails_verification_leaves_what_was_there(cli, folder, monkeypatch):
    Path("out.npz").write_text("earlier")
    before = sorted(folder.iterdir())
    monkeypatch.setattr("refgrad.cli.convert.artifact.load", lambda _: CRITIC)
    status, out, err = cli("convert", "model.keras", "-o", "out.npz")
    assert (status, out) == (1, "")
    assert err == "refgrad: out.npz: read back, it is not the network that was written\n"
    assert (sorted(folder.iterdir()), Path("out.npz").read_text()) == (before, "earlier")
    assert cli("convert", "model.keras", "no.h5", "-o", "out")[0] == 1, "graver than a refusal"


def test_inspect_says_where_kinks_are(cli, folder):
    assert "kinks: 4 units have one, in hidden/relu (4)\n" in cli("inspect", "critic.npz")[1]
    found = json.loads(cli("inspect", "critic.npz", "--json")[1])
    assert found["kinks"] == {"hidden/relu": 4}
    assert (found["inputs"], found["outputs"]) == ({"state": [3], "action": [2]}, {"q": [1], "pi": [2]})
    smooth = refgrad.Network.sequential([(np.eye(2), None, "tanh")])
    refgrad.save(smooth, "smooth.npz")
    assert cli("inspect", "smooth.npz")[1].endswith("kinks: none\n")


def test_text_that_a_terminal_cannot_show_is_no_error():
    done = shell(f"PYTHONIOENCODING=ascii refgrad convert {MIXED} -o /dev/null/x.npz")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "?" in shell("PYTHONIOENCODING=ascii refgrad jacobian --help").stdout
    done = shell(f"refgrad inspect {MIXED} >&-")
    assert (done.returncode, done.stderr) == (0, "")
    done = shell(rf"printf '1,\xff,3\n' | refgrad predict {MIXED}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_python_m_refgrad_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "refgrad", "--version"], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.stdout == f"refgrad {refgrad.__version__}\n"


def test_convert_does_not_overwrite_the_model_itself(tmp_path, capsys):
    model, before = tmp_path / "model.keras", (GOLDEN / "question-keras3.keras").read_bytes()
    model.write_bytes(before)
    assert main(["convert", str(model), "-o", str(model)]) == 2
    assert "this is the model itself" in capsys.readouterr().err
    assert model.read_bytes() == before


@pytest.mark.parametrize("command", ["predict", "jacobian"])
@pytest.mark.parametrize(("samples", "imported"), [(2, False), (70_000, True)])
def test_a_small_job_does_not_import_numba(command, samples, imported, tmp_path):
    """Half a second for two numbers would be most of the command's time; `--engine numba` imports it all the same."""
    pytest.importorskip("numba")
    np.save(tmp_path / "x.npy", np.linspace(-10, 20, samples, dtype="float32")[:, None])
    said = "import sys; from refgrad.cli import main; s = main(sys.argv[1:]); print('numba' in sys.modules, s)"
    words = (command, str(QUESTION), "--input", str(tmp_path / "x.npy"), "-o", str(tmp_path / "out.npy"), "-q")
    for more, expected in (((), imported), (("--engine", "numba"), True)):
        done = subprocess.run([sys.executable, "-c", said, *words, *more], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [str(expected), "0"]
