"""The project's virtual environment: made, mended and filled as needed, with the standard library only."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PACKAGES = ["refgrad", "numpy", "h5py", "tqdm", "numba", "matplotlib"]
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _passes(script: str) -> bool:
    return subprocess.run([str(PYTHON), "-c", script], capture_output=True, check=False).returncode == 0


def _works() -> bool:
    """Whether the environment has an interpreter with a working pip, and the packages it was once filled with.

    A half-made one may lack either; and pip trusts its own records: what has vanished it does not install again.
    """
    if not PYTHON.exists() or not _passes("import sys, pip; sys.exit(sys.version_info < (3, 11))"):
        return False
    filled = any(VENV.glob("*.stamp"))
    return not filled or _passes(f"from importlib.util import find_spec as f; assert all(map(f, {PACKAGES!r}))")


def _run(what: str, *command: str) -> None:
    sys.stderr.write(f"{what} …\n")
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(f"{what} failed (exit {done.returncode}): {' '.join(command)}")


def ready(extras: str) -> Path:
    """The environment's Python, with refgrad and the given extras installed; fast where nothing has changed."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python is just who should be told
        sys.exit(f"refgrad needs Python 3.11 or newer; this is {sys.version.split()[0]} at {sys.executable}")
    if VENV.exists() and not VENV.is_dir():
        sys.exit(f"{VENV} is in the way: it is no folder; remove it")
    if not _works():
        _run(f"making {VENV}", sys.executable, "-m", "venv", "--clear", str(VENV))
    stamp = VENV / f"refgrad-{extras.replace(',', '-')}.stamp"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        quiet = ("--quiet", "--disable-pip-version-check")
        _run(f"installing refgrad[{extras}]", str(PYTHON), "-m", "pip", "install", *quiet, "--editable", f".[{extras}]")
        stamp.write_text(wanted)
    return PYTHON
