"""A model read by a child process: the same network, the same refusals, and an end to whatever happens there."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

import refgrad
from refgrad import isolation
from refgrad.cli import main
from tests.cases import CONTAINERS, GOLDEN, golden_arguments


@pytest.mark.parametrize("container", CONTAINERS)
def test_it_is_the_same_network(container):
    (path,), others = golden_arguments("branches-keras3", container)
    isolated, here = refgrad.load(path, **others, isolate=True), refgrad.load(path, **others)
    assert isolated.digest == here.digest
    assert isolated.graph.provenance == here.graph.provenance


def test_what_was_read_as_something_else_comes_back():
    isolated, here = (refgrad.load(GOLDEN / "layers-tf_keras.h5", isolate=isolate) for isolate in (True, False))
    assert isolated.graph.provenance == here.graph.provenance
    assert here.graph.provenance.rewritings


def test_layers_of_ones_own_are_not_made_there():
    with pytest.raises(refgrad.InputError, match="custom= and isolate=True do not go together"):
        refgrad.load(GOLDEN / "mixed-keras3.keras", custom={"Mine": len}, isolate=True)


def test_content_goes_to_the_child_as_it_is():
    content = (GOLDEN / "mixed-keras3.weights.h5").read_bytes()
    others = {"config": (GOLDEN / "mixed-keras3.json").read_text()}
    with (GOLDEN / "mixed-keras3.weights.h5").open("rb") as file:
        net = refgrad.load(file, **others, isolate=True)
    assert net.digest == refgrad.load(content, **others).digest
    assert net.graph.provenance.files.model is None


def test_an_artifact_is_verified_there(tmp_path):
    net = refgrad.load(GOLDEN / "mixed-keras3.keras")
    refgrad.save(net, tmp_path / "net.npz")
    assert refgrad.load(tmp_path / "net.npz", isolate=True).digest == net.digest
    content = bytearray((tmp_path / "net.npz").read_bytes())
    content[content.index(b"NUMPY") + 200] ^= 1
    (tmp_path / "net.npz").write_bytes(content)
    with pytest.raises(refgrad.RefgradError, match=r"net\.npz: "):
        refgrad.load(tmp_path / "net.npz", isolate=True)


@pytest.mark.parametrize(
    ("path", "others", "error"),
    [
        ("nowhere.keras", {}, "FormatError"),
        ("mixed-keras3.json", {}, "InputError"),
        ("mixed-keras3.json", {"weights": "twelve-keras3.weights.h5"}, "MismatchError"),
    ],
)
def test_refusals_are_the_same(path, others, error):
    others = {key: GOLDEN / value for key, value in others.items()}
    said = []
    for isolate in (False, True):
        with pytest.raises(refgrad.RefgradError) as caught:
            refgrad.load(GOLDEN / path, **others, isolate=isolate)
        assert type(caught.value).__name__ == error
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_warnings_come_back(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes((GOLDEN / "mixed-keras3.legacy_weights.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file["first/mixed/first/kernel"][...] = np.nan
    with pytest.warns(refgrad.RefgradWarning, match="layer 'first': kernel holds NaN"):
        refgrad.load(path, config=GOLDEN / "mixed-keras3.json", isolate=True)


START = isolation._START.removesuffix("main()")
ENDS = {
    "crash": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "FormatError", "was ended by SIGSEGV"),
    "exit": ("raise SystemExit(3)", "FormatError", "ended with status 3"),
    "silence": ("pass", "FormatError", "ended with status 0"),
    "nonsense": ("print('A' * 100)", "FormatError", "no answer that makes sense"),
    "nonsense of one part": (
        "import sys, refgrad.isolation as i; said = {'warnings': [], 'rewritings': [3], 'keras': True};"
        "sys.stdout.buffer.write(i.framed({**said, 'error': None}))",
        "FormatError",
        "no answer that makes sense",
    ),
    "lies": (
        "import sys, refgrad.isolation as i; sys.path[:] = [];"
        "sys.stdout.buffer.write(i.framed({'warnings': [], 'rewritings': [], 'error': None, 'keras': True}, b'PK'))",
        "FormatError",
        "the zip is cut off",
    ),
    "another error": (
        "import sys, refgrad.isolation as i; said = {'warnings': [], 'rewritings': [], 'keras': True};"
        "sys.stdout.buffer.write(i.framed({**said, 'error': 'Iterator', 'message': 'm'}))",
        "FormatError",
        "m$",
    ),
    "sleep": ("import time; time.sleep(30)", "LimitError", "did not end within 2 seconds"),
    "talk": ("import os\nwhile True: os.write(1, b'x' * 65536)", "LimitError", "said too much"),
    "memory": (
        START + "import refgrad.child; refgrad.child.read = lambda **_: bytearray(2 << 30); main()",
        "LimitError",
        "needs more memory than its budget",
    ),
    "writing": (
        START + "import refgrad.child; refgrad.child.read = lambda **_: open(FILE, 'w').write('x'); main()",
        "FormatError",
        "was ended by SIGXFSZ|ended with status",
    ),
    "work": (
        START + "import itertools, refgrad.child\nrefgrad.child.read = lambda **_: all(itertools.count(1)); main()",
        "LimitError|FormatError",
        "did not end within 2 seconds|SIGXCPU",
    ),
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.skipif(sys.platform == "win32", reason="no signals, and no limits, there")
def test_whatever_happens_in_the_child_is_a_refusal(name, monkeypatch, tmp_path):
    script, error, message = ENDS[name]
    path = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    script = script if script.startswith(START) else path + script
    monkeypatch.setattr(isolation, "_START", script.replace("FILE", repr(str(tmp_path / "written"))))
    with pytest.raises(refgrad.RefgradError, match=message) as caught:
        refgrad.load(GOLDEN / "mixed-keras3.keras", isolate=True, limits=refgrad.Limits(seconds=2, memory=10**6))
    assert type(caught.value).__name__ in error.split("|")
    assert str(caught.value).startswith(f"{GOLDEN / 'mixed-keras3.keras'}: ")
    assert not (tmp_path / "written").exists() or not (tmp_path / "written").stat().st_size


def test_every_command_that_reads_a_model_can_isolate_it(tmp_path, monkeypatch):
    model, out = str(GOLDEN / "question-keras3.keras"), str(tmp_path / "out.npz")
    x, target = str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
    np.save(x, np.ones((2, 1), "f4"))
    started = []
    monkeypatch.setattr(isolation.subprocess, "Popen", Counted(started))
    for command in (
        ["inspect", model, "--json"],
        ["convert", model, "-o", out],
        ["predict", model, "--input", x, "-o", target],
        ["jacobian", model, "--input", x, "-o", target],
    ):
        assert main([*command, "--isolate"]) == 0
    assert len(started) == 4


class Counted:
    """subprocess.Popen, and what it was called with."""

    def __init__(self, started):
        self.started, self.start = started, isolation.subprocess.Popen

    def __call__(self, *arguments, **options):
        self.started.append(arguments)
        return self.start(*arguments, **options)
