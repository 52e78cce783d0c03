"""Which slope each framework takes exactly on a kink: a table that `scripts/measure_conventions.py` measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from refgrad.errors import InputError

Key = tuple[str, tuple[float, ...]]
"""A row of the activation table and its parameters; or what it says of another op, and ()."""


@cache
def measured() -> dict[str, Any]:
    """The table: versions, and rows with their slopes by framework."""
    text = (files("refgrad") / "data" / "conventions.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def conventions(framework: str) -> Mapping[Key, Mapping[float, float]]:
    """A framework's slopes: activation and parameters → place of the kink → slope, to six digits.

    "maximum(x, 0)", "minimum(x, 0)" and "prelu(0.25)" are there too, and "relu of a subnormal number", which is 0 where
    the framework flushes these to zero and 1 where it does not.
    """
    known = list(measured()["rows"][0]["slopes"])
    if framework not in known:
        msg = f"no slopes on kinks are known of {framework!r}; these are: {', '.join(known)}"
        raise InputError(msg)
    found: dict[Key, dict[float, float]] = {}
    for row in measured()["rows"]:
        key = row["row"], tuple(map(float, row["parameters"]))
        found.setdefault(key, {})[row["z"]] = row["slopes"][framework]
    return found
