"""Break the mathematics in thousands of small ways and see the tests notice: `python scripts/mutate.py --sample 300`.

Runs in `.venv`, by hand: all mutants take an hour or two. The tests are collected and run once, which tells how long
each takes and which functions it calls. Every mutant then gets a forked child of this process, in which the mutated
function replaces the real one wherever it is held, and the tests that call it run until one fails. If none does, or if
the change is in what importing runs, an import hook serves the mutated module to a fresh import of everything. Nothing
on disk is changed. What survives is tried against the tests that need TensorFlow. Numba is hidden: the kernels would
compile anew for each mutant. The random graphs of `test_properties.py` are left out: a survivor would take minutes.

Mutants that no test could tell from the original are listed with a reason in `docs/data/mutants.json`; they are not
tried. The exit code is 1 if less than 95 % of the others were killed, or if that list is out of date.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import pytest
from children import in_children, say
from mutants import ROOMS, ROOT, Mutant, mutants
from mutating import Baseline, fresh

KNOWN = ROOT / "docs" / "data" / "mutants.json"
REPORT = ROOT / ".mutate.json"
ENOUGH = 0.95
TESTS = ("ops", "activations", "derivatives", "options", "network", "audit", "artifact")
Key = tuple[str, str, str, str]
WITH_TENSORFLOW = {"activations": "tests/test_activations.py", "ops": "tests/test_ops.py"}


def every_mutant() -> list[Mutant]:
    """Of all files of the rooms."""
    files = [path for room in ROOMS for path in sorted((ROOT / "refgrad" / room).glob("*.py"))]
    return [m for f in files for m in mutants(str(f.relative_to(ROOT)), f.read_text(encoding="utf-8"))]


def keys(path: Path) -> set[Key]:
    """Those of the mutants that a file lists."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {(row["file"], row["function"], row["before"], row["after"]) for row in rows}


def chosen(everything: Sequence[Mutant], arguments: argparse.Namespace) -> list[Mutant]:
    """What the arguments ask for, in an order that depends on the seed only."""
    path, _, line = (arguments.only or "").partition(":")
    wanted = [m for m in everything if m.path.startswith(path) and line in ("", str(m.line))]
    if arguments.again:
        survivors = keys(arguments.report)
        return [m for m in wanted if m.key in survivors]
    random.Random(arguments.seed).shuffle(wanted)
    return wanted if arguments.all or arguments.only else wanted[: arguments.sample]


def main() -> int:
    """Try the mutants that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=100, metavar="N", help="try N mutants, chosen at random (100)")
    parser.add_argument("--all", action="store_true", help="try all of them")
    parser.add_argument("--only", metavar="PATH[:LINE]", help="try all of a file, a folder, or a line")
    parser.add_argument("--again", action="store_true", help="try those that survived the last time")
    parser.add_argument("--known", action="store_true", help="try those that are listed as equivalent: none may die")
    parser.add_argument("--seed", type=int, default=0, help="of the random choice (0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="children at a time (1)")
    parser.add_argument("--list", action="store_true", help="say what would be tried, and stop")
    parser.add_argument("--report", type=Path, default=REPORT, help=f"where survivors are written ({REPORT.name})")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    everything = every_mutant()
    known = keys(KNOWN)
    wanted = chosen(everything, arguments)
    if arguments.list:
        for m in wanted:
            sys.stdout.write(f"{m.path}:{m.line}: {m.before}  →  {m.after}{'  (equivalent)' * (m.key in known)}\n")
        return 0
    if arguments.known:
        return check_known([m for m in everything if m.key in known], arguments.jobs)
    started = time.monotonic()
    tried = [mutant for mutant in wanted if mutant.key not in known]
    survivors = run(tried, arguments.jobs, arguments.report)
    say(f"{len(tried)} mutants in {time.monotonic() - started:.0f} s")
    return summary(everything, wanted, survivors, known)


def write(survivors: Sequence[Mutant], report: Path) -> None:
    """What survived, as the list of the equivalent has it but for the reason."""
    rows = [
        {"file": m.path, "line": m.line, "function": m.function, "before": m.before, "after": m.after}
        for m in survivors
    ]
    report.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class Progress:
    """What is told of every mutant."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.tried = 0
        self.survivors: list[Mutant] = []

    def __call__(self, mutant: Mutant, killer: str) -> None:
        """Say that it survived, and now and then how many did."""
        self.tried += 1
        if not killer:
            self.survivors.append(mutant)
            say(f"SURVIVED {mutant.path}:{mutant.line}: {mutant.before}  →  {mutant.after}")
        if self.tried % 25 == 0 or self.tried == self.total:
            killed = self.tried - len(self.survivors)
            say(f"{self.tried} of {self.total} tried: {killed} killed, {len(self.survivors)} survived")


def run(tried: Sequence[Mutant], jobs: int, report: Path) -> list[Mutant]:
    """The mutants that no test kills."""
    sys.path.insert(0, str(ROOT))
    sys.modules["numba"] = None  # type: ignore[assignment]
    progress = Progress(len(tried))
    files = [f"tests/test_{name}.py" for name in TESTS if (ROOT / f"tests/test_{name}.py").exists()]
    baseline = Baseline(tried, jobs, progress)
    pytest.main(["-q", "-s", "-p", "no:cacheprovider", "-m", "not tensorflow and not long", *files], plugins=[baseline])
    if progress.tried != len(tried):
        sys.exit(f"broke off after {progress.tried} of {len(tried)} mutants")
    write(progress.survivors, report)
    left = with_tensorflow(progress.survivors, jobs)
    write(left, report)
    return left


def check_known(listed: Sequence[Mutant], jobs: int) -> int:
    """Name those that are listed as equivalent and are not."""
    survivors = run(listed, jobs, Path(os.devnull))
    wrong = [mutant for mutant in listed if mutant not in survivors]
    for m in wrong:
        sys.stdout.write(f"{KNOWN.name} lists what a test kills: {m.path}:{m.line}: {m.before}  →  {m.after}\n")
    return int(bool(wrong))


def with_tensorflow(survivors: Sequence[Mutant], jobs: int) -> list[Mutant]:
    """Of those, the ones that the tests with TensorFlow do not kill either: it is imported once, before the forks."""

    def task(mutant: Mutant | None) -> str:
        room = mutant.path.split("/")[1] if mutant else ""
        files = [WITH_TENSORFLOW[room]] if mutant else [*WITH_TENSORFLOW.values()]
        return fresh(mutant, files, (), "-m", "tensorflow")

    judged = [mutant for mutant in survivors if mutant.path.split("/")[1] in WITH_TENSORFLOW]
    if not judged:
        return list(survivors)
    say(f"{len(judged)} survivors against the tests with TensorFlow")
    for name in ("tensorflow", "keras", "tf_keras"):
        importlib.import_module(name)
    if control := next(in_children([None], task, 600, 1))[1]:
        sys.exit(f"with no mutant at all a test fails: {control}")
    progress = Progress(len(judged))
    for mutant, killer in in_children(judged, task, 600, jobs):
        progress(mutant, killer)
    return [mutant for mutant in survivors if mutant in progress.survivors or mutant not in judged]


def summary(
    everything: Sequence[Mutant], wanted: Sequence[Mutant], survivors: Sequence[Mutant], known: set[Key]
) -> int:
    """Print the table, and the exit code."""
    rows = {f"refgrad/{room}": f"refgrad/{room}/" for room in ROOMS} | {m.path: m.path for m in sorted(wanted, key=str)}
    sys.stdout.write(f"{'':44}{'mutants':>8}{'chosen':>8}{'equivalent':>11}{'killed':>8}{'survived':>9}\n")
    for name, start in {**rows, "all": ""}.items():
        total, chosen, left = (
            [m for m in group if m.path.startswith(start)] for group in (everything, wanted, survivors)
        )
        same = sum(m.key in known for m in chosen)
        killed = len(chosen) - same - len(left)
        sys.stdout.write(f"{name:44}{len(total):8}{len(chosen):8}{same:11}{killed:8}{len(left):9}\n")
    stale = known - {mutant.key for mutant in everything}
    for file, function, before, after in sorted(stale):
        sys.stdout.write(f"{KNOWN.name} lists what is no mutant: {file} {function}: {before}  →  {after}\n")
    judged = sum(m.key not in known for m in wanted)
    share = 1 - len(survivors) / judged if judged else 1.0
    sys.stdout.write(f"{share:.1%} of those that are not equivalent were killed; {ENOUGH:.0%} are needed\n")
    return int(share < ENOUGH or bool(stale))


if __name__ == "__main__":
    sys.exit(main())
