"""Measure which slope each framework takes on each kink of each activation, and whether it flushes subnormal numbers.

    python scripts/measure_conventions.py

needs TensorFlow, JAX and torch, and rewrites `refgrad/data/conventions.json`; a test measures again what is installed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.conventions import FRAMEWORKS, measured  # noqa: E402

if __name__ == "__main__":
    found = {name: measured(name) for name in FRAMEWORKS}
    lines = []
    for key in next(iter(found.values())):
        row, parameters, z = key
        slopes = {name: rows[key] for name, rows in found.items()}
        lines.append(json.dumps({"row": row, "parameters": list(parameters), "z": z, "slopes": slopes}))
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "jax", "torch")}
    text = f'{{"versions": {json.dumps(versions)}, "rows": [\n' + ",\n".join(lines) + "\n]}\n"
    (ROOT / "refgrad" / "data" / "conventions.json").write_text(text, encoding="utf-8")
