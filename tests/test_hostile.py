"""No file of the corpus runs, imports, opens or writes anything, takes long, or gives anything but what it should."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

import refgrad
from refgrad.cli import main
from tests.cases import GOLDEN
from tests.hostile import CASES, SAME, canaries

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is opened is watched by inotify")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What comes of a task, done in a process that is watched."""
    root = GOLDEN.parents[1]
    command = [sys.executable, "-m", "tests.opening", str(tmp_path_factory.mktemp("warm"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout.readline() == "ready\n"

        def open_(task):
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield open_
        process.stdin.close()


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_gives_what_it_holds_or_a_refusal(name, opened, tmp_path):
    case = CASES[name]
    canaries(tmp_path)
    path, others = case.make(tmp_path)
    files = [path, *(other for other in others.values() if not isinstance(other, bool))]
    inside = list(path.glob("*.json")) if path.is_dir() and not path.is_symlink() else []
    others = {key: other if isinstance(other, bool) else str(other) for key, other in others.items()}
    named = [str(file) for file in (*files, *inside)]
    found = opened({"folder": str(tmp_path), "path": str(path), "others": others, "named": named})
    assert found["events"] == []
    assert found["touched"] == []
    assert found["seconds"] < 2
    assert found["mebibytes"] < 300
    if case.outcome == SAME:
        assert found.get("digest") == refgrad.load(GOLDEN / "mixed-keras3.keras").digest, found
    elif isinstance(case.outcome, int):
        assert found.get("nodes") == case.outcome, found
        assert any(case.message in remark for remark in found["warnings"]) or not case.message
    else:
        expected = case.outcome.split("|")
        assert found["outcome"] in expected or (expected == ["RefgradError"] and hasattr(refgrad, found["outcome"])), (
            found
        )
        assert re.search(case.message, found["message"]), found["message"]
        assert found["message"].startswith(str(path))
        assert len(found["message"]) < 2000
        assert found["message"].count("\n") < 4


def _said(capsys, arguments):
    """What a command's status is and what it says to standard error."""
    capsys.readouterr()
    status = main(arguments)
    return status, capsys.readouterr().err


@pytest.mark.parametrize("kind", sorted({name.partition(":")[0] for name in CASES}))
def test_commands_refuse_in_a_line_or_a_few(kind, tmp_path, capsys):
    """The first row of each kind that is refused, by every command that only reads, in this process and in another."""
    refused = [name for name in CASES if name.startswith(f"{kind}:") and str(CASES[name].outcome).endswith("Error")]
    canaries(tmp_path)
    path, others = CASES[refused[0]].make(tmp_path)
    given = [part for key, other in others.items() if key != "verify" for part in (f"--{key}", str(other))]
    for command in (["inspect", str(path)], ["convert", str(path), "-o", str(tmp_path / "out.npz")]):
        for isolated in ([], ["--isolate"]):
            status, said = _said(capsys, [*command, *given, *isolated])
            assert status == 2
            assert said.startswith(f"refgrad: {path}: ")
            assert 0 < said.count("\n") < 4
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("name", ["shared: a Dense 7500 times", "json: 20 000 ends of one name"])
def test_nothing_is_computed_to_convert_what_would_be_refused(name, tmp_path, capsys):
    """A file that `load` would take too long to verify, or has too many members."""
    path, others = CASES[name].make(tmp_path)
    given = [part for key, other in others.items() for part in (f"--{key}", str(other))]
    start = time.process_time()
    status, said = _said(capsys, ["convert", str(path), *given, "-o", str(tmp_path / "out.npz")])
    assert time.process_time() < start + 1
    assert status == 2
    assert re.search(r"pass limits=refgrad\.Limits\((crossed|objects)=", said)


@pytest.mark.parametrize("name", ["ops: moments of 10**8", "ops: a kink at each of 10**8 numbers"])
def test_nothing_is_computed_to_inspect_what_is_wide(name, tmp_path, capsys):
    """10⁸ numbers of a sample, of which no array is made to say what the layers are."""
    path, others = CASES[name].make(tmp_path)
    start = time.process_time()
    assert _said(capsys, ["inspect", str(path), "--weights", str(others["weights"])]) == (0, "")
    assert _said(capsys, ["convert", str(path), "--weights", str(others["weights"]), "-o", str(tmp_path / "o.npz")])[0]
    assert time.process_time() < start + 0.5
