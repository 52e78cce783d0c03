"""Measure the activation table: its accuracy against mpmath, and where eager TensorFlow says something else.

    python scripts/measure_activations.py

needs the `dev` extra. It rewrites `docs/data/accuracy.json` (worst errors in units of roundoff: "absolute" ones of
max(1, |truth|), "relative" ones of |truth|) and `docs/data/divergences.json`. The tests measure again and compare.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.accuracy import ROWS, measure  # noqa: E402
from tests.eager import divergences  # noqa: E402


def write(name: str, rows: Iterable[dict[str, Any]]) -> None:
    """One row a line, so that a difference is one line too."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = ROOT / "docs" / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write("divergences.json", divergences())
    write("accuracy.json", (measure(*row, dtype) for row in ROWS for dtype in ("float32", "float64")))
