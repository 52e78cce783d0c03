"""Everything that must hold: `python scripts/test.py` from a fresh clone.

Makes `.venv` if need be, installs refgrad with all that the tests need, TensorFlow included, and runs ruff, mypy, the
import contract, a strict build of the documentation (into a folder that is thrown away), the tests in as many processes
as there are processors (4 at most), and the kernels' tests once more as plain Python, so that their lines are seen by
the coverage report, which comes last. With arguments it runs only pytest, with them: `python scripts/test.py -k vjp`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from environment import ROOT, ready

Command = tuple[str, ...]

CHECKS: dict[str, Command] = {
    "ruff check": ("-m", "ruff", "check", "."),
    "ruff format": ("-m", "ruff", "format", "--check", "."),
    "mypy": ("-m", "mypy"),
    "import contract": ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
}
DOCUMENTATION: Command = ("-m", "mkdocs", "build", "--strict", "--site-dir")  # with --quiet nothing would be strict
WORKERS = str(min(4, os.cpu_count() or 1))
PARALLEL = ("-n", WORKERS, "--dist", "worksteal")
MEASURED = ("--cov=refgrad", "--cov-branch", "--cov-report=", "--cov-append", "--cov-fail-under=0")
COVERED: dict[str, Command] = {
    "pytest": ("-m", "pytest", "-q", *MEASURED, *PARALLEL),
    "pytest of the kernels without compilation": (
        *("-m", "pytest", "-q", *MEASURED, *PARALLEL),
        *("tests/test_kernels.py", "-k", "as_numpy or with_numpy"),
    ),
    "coverage": ("-m", "coverage", "report"),
}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")
"""Several processes of several threads each would wait for each other."""


def _passes(python: Path, name: str, command: Command) -> bool:
    sys.stderr.write(f"== {name}\n")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "NO_MKDOCS_2_WARNING": "1"}
    if "without compilation" in name:
        environment["NUMBA_DISABLE_JIT"] = "1"
    if "-n" in command:
        environment |= ONE_THREAD
    return subprocess.run([python, *command], cwd=ROOT, env=environment, check=False).returncode == 0


def main() -> int:
    """Run it all, and name what failed."""
    python, chosen = ready("dev"), sys.argv[1:]
    for old in () if chosen else ROOT.glob(".coverage*"):
        old.unlink()
    with TemporaryDirectory() as site:
        everything = {**CHECKS, "documentation": (*DOCUMENTATION, site), **COVERED}
        wanted = {"pytest": ("-m", "pytest", *chosen)} if chosen else everything
        failed = [name for name, command in wanted.items() if not _passes(python, name, command)]
    if failed:
        sys.stderr.write(f"FAILED: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
