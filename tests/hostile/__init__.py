"""A corpus of hostile files: `python -m tests.hostile FOLDER` writes each into a folder of its own."""

from __future__ import annotations

from tests.hostile import code, hdf5, operations, others, shared, texts, zips  # noqa: F401 - each fills the table
from tests.hostile.table import CASES, SAME, Hostile, canaries

__all__ = ["CASES", "SAME", "Hostile", "canaries"]
