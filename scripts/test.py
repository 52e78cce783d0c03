"""Everything that must hold: `python scripts/test.py` from a fresh clone.

Makes `.venv` if need be, installs refgrad with all that the tests need, TensorFlow included, and runs ruff, mypy, the
import contract and the tests. With arguments it runs only pytest, with them: `python scripts/test.py -k vjp`.
"""

from __future__ import annotations

import os
import subprocess
import sys

from environment import ROOT, ready

CHECKS = {
    "ruff check": ("-m", "ruff", "check", "."),
    "ruff format": ("-m", "ruff", "format", "--check", "."),
    "mypy": ("-m", "mypy"),
    "import contract": ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
}


def main() -> int:
    """Run it all, and name what failed."""
    python = str(ready("dev"))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    checks = {} if sys.argv[1:] else CHECKS
    failed = []
    for name, command in {**checks, "pytest": ("-m", "pytest", *sys.argv[1:])}.items():
        sys.stderr.write(f"== {name}\n")
        if subprocess.run([python, *command], cwd=ROOT, check=False).returncode != 0:
            failed.append(name)
    if failed:
        sys.stderr.write(f"FAILED: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
