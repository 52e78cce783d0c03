"""The question this project was born from, answered: `python scripts/demo.py` from a fresh clone.

Makes `.venv` if need be, installs refgrad with Numba and matplotlib (not TensorFlow), and runs `refgrad demo`.
Arguments are passed on, as in `python scripts/demo.py --json`.
"""

from __future__ import annotations

import subprocess
import sys

from environment import ready

sys.exit(subprocess.run([ready("jit,plot"), "-m", "refgrad", "demo", *sys.argv[1:]], check=False).returncode)
