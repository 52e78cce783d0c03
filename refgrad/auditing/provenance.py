"""What a report is a report of: which network and inputs, who computed it with what, on which machine, and when."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from refgrad import __version__
from refgrad.arrays import Array
from refgrad.network import Network
from refgrad.paths import is_json_text

_PACKAGES = ("numpy", "numba", "flint", "tensorflow", "keras", "tf_keras", "jax", "torch")
"""What numbers of an audit may come from."""


def digest(inputs: Sequence[Array]) -> str:
    """SHA-256 of arrays: of each one its dtype, its shape, and its numbers in little-endian order."""
    found = hashlib.sha256()
    for array in inputs:
        found.update(f"{array.dtype.name}{array.shape}".encode())
        found.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return found.hexdigest()


def _processor() -> str:
    """The name that the processor gives itself, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _versions() -> dict[str, str]:
    """Versions of Python, refgrad, and those of the packages that this process has loaded."""
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in _PACKAGES}
    found = {name: str(version) for name, version in loaded.items() if version is not None}
    return {"refgrad": __version__, "python": platform.python_version(), **found}


def gathered(net: Network, inputs: Sequence[Array], options: Mapping[str, Any]) -> dict[str, Any]:
    """All of it as plain data; `options` are those that the audit was given, its seeds among them."""
    origin = net.graph.provenance
    given = {"model": origin.files.model, "config": origin.files.config, "weights": origin.files.weights}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "cpu": {"name": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "digests": {"network": net.digest, "inputs": digest(inputs)},
        "files": {role: "its text" if is_json_text(file) else file for role, file in given.items()},
        "options": dict(options),
        "command": None,
    }
