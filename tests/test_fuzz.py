"""A short slice of scripts/fuzz.py, the same in every run; and that the fuzzer notices what it is there for."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.cases import GOLDEN

ROOT = GOLDEN.parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is opened is watched by inotify")


def fuzz(folder, script="main()", most=400):
    """What the fuzzer says, in a process in which `script` may break something before."""
    begin = "import sys; sys.path.insert(0, 'scripts'); sys.argv[1:] = sys.argv[2:]; import refgrad, fuzz\n"
    arguments = ["--", "--seed", "7", "--most", str(most), "--keep", str(folder)]
    command = [sys.executable, "-c", begin + script.replace("main()", "sys.exit(fuzz.main())"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_nothing_happens_to_whoever_opens_damaged_files(tmp_path):
    done = fuzz(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {said: int(count) for said, count in re.findall(r"([A-Za-z]+) ([0-9]+)\b", done.stdout.replace(",", ", "))}
    assert counts["files"] == 400
    assert counts["network"] > 60
    assert counts["FormatError"] > 120
    assert list(tmp_path.iterdir()) == []


BROKEN = {
    "crash": ("import os, signal; refgrad.load = lambda *_, **__: os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "another error": ("refgrad.load = lambda *_, **__: 1 / 0", "ZeroDivisionError"),
    "time": (
        "import time; refgrad.load = lambda *_, **__: spend() or refused()",
        " s, ",
    ),
    "reading": ("refgrad.load = lambda *_, **__: open('canary.txt').close() or refused()", "canary"),
    "importing": ("sys.path.insert(0, ''); refgrad.load = lambda *_, **__: __import__('canary_module')", "import"),
    "another network": (
        "load = refgrad.load; net = load('tests/golden/twelve-keras3.keras'); fuzz.Seeds()\n"
        "fuzz.warm_up = lambda _: setattr(refgrad, 'load', lambda *_, **__: net)",
        "another network",
    ),
    "a long message": ("refgrad.load = lambda *_, **__: refused('x' * 3000)", "message"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_fuzzer_notices(name, tmp_path):
    script, complaint = BROKEN[name]
    if not script.startswith("load ="):
        # broken only after the good files were read
        before, _, broken = script.rpartition("refgrad.load = ")
        script = f"{before}\nbroken = {broken}\nfuzz.warm_up = lambda _: setattr(refgrad, 'load', broken)"
    refused = "def refused(said='x'): raise refgrad.FormatError(said)\n"
    refused += "def spend():\n    end = time.process_time() + 2.5\n    while time.process_time() < end: pass\n"
    done = fuzz(tmp_path, f"{refused}{script}\nmain()", most=1 if name == "time" else 4)
    assert complaint in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) != []


def test_a_file_is_made_again_from_its_number(tmp_path):
    """By chance or by hypothesis, which make every other batch: else `--only` would open another one."""
    script = "one, other = fuzz.Seeds(), fuzz.Seeds()\n"
    script += "for number in (7, 107): assert one.made(3, number) == other.made(3, number) != one.made(4, number)\n"
    done = fuzz(tmp_path, f"{script}print('the same')")
    assert done.stdout == "the same\n", done.stderr
