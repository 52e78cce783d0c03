"""Everything that must hold: `python scripts/test.py` from a fresh clone.

Makes `.venv` if need be, installs refgrad with all that the tests need, TensorFlow included, and runs ruff, mypy, the
import contract, a strict build of the documentation (into a folder that is thrown away), the tests, and the kernels'
tests once more as plain Python, so that their lines are seen by the coverage report, which comes last. With arguments
it runs only pytest, with them: `python scripts/test.py -k vjp`.
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
PYTEST = ("-m", "coverage", "run", "-m", "pytest")
COVERED: dict[str, Command] = {
    "pytest": PYTEST,
    "pytest of the kernels without compilation": (*PYTEST, "tests/test_kernels.py", "-k", "as_numpy or with_numpy"),
    "collecting coverage": ("-m", "coverage", "combine", "--quiet"),
    "coverage": ("-m", "coverage", "report"),
}


def _passes(python: Path, name: str, command: Command) -> bool:
    sys.stderr.write(f"== {name}\n")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "NO_MKDOCS_2_WARNING": "1"}
    if "without compilation" in name:
        environment["NUMBA_DISABLE_JIT"] = "1"
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
