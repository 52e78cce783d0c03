"""Fresh processes: what importing, loading and the first Jacobian cost, and how much memory that takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import refgrad

REPEATS = 5

_FRAME = """
import json, resource, sys, time
start = time.perf_counter()
import numpy as np
numpy_done = time.perf_counter()
{imports}
imported = time.perf_counter()
{work}
done = time.perf_counter()
scale = 1 if sys.platform == "darwin" else 1024
print(json.dumps([numpy_done - start, imported - numpy_done, done - imported,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale]))
"""

_PEER = "weights = np.load(PATH); chain = [(weights[f'w{i}'], weights[f'b{i}'], a) for i, a in enumerate(ACTIVATIONS)]"
_X = "x = np.full((1, 1), 0.5, 'float32')"
_FROM_SCRIPTS = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import peers"

PROCESSES: dict[str, tuple[str, str, str]] = {
    "refgrad, NumPy": ("refgrad", "import refgrad", f"{_X}; refgrad.load(MODEL).jacobian(x, engine='numpy')"),
    "refgrad, auto": ("refgrad", "import refgrad", f"{_X}; refgrad.load(MODEL).jacobian(x)"),
    "refgrad, Numba": ("numba", "import refgrad", f"{_X}; refgrad.load(MODEL).jacobian(x, engine='numba')"),
    "jax": ("jax", f"import jax; {_FROM_SCRIPTS}", f"{_PEER}; {_X}; peers.jax(chain, False)['jax rev'](x)"),
    "tf.function": (
        "tensorflow",
        f"import tensorflow; {_FROM_SCRIPTS}",
        f"{_PEER}; {_X}; peers.tensorflow(chain, False)['tf.function'](x)",
    ),
    "torch": ("torch", f"import torch; {_FROM_SCRIPTS}", f"{_PEER}; {_X}; peers.torch(chain, False)['torch rev'](x)"),
}
"""Name → the package it needs, its imports, and what it does then: the seed's network from a file, one Jacobian."""


def _process(imports: str, work: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", _FRAME.format(imports=imports, work=work)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return [float(number) for number in json.loads(done.stdout.splitlines()[-1])]


def rows() -> Iterator[dict[str, Any]]:
    """Medians of fresh processes that take turns; the first turn, which fills caches, is not counted."""
    from importlib.util import find_spec

    from bench import NETWORKS, layers

    chain = layers(NETWORKS["seed"][0], "relu", "float32")
    with tempfile.TemporaryDirectory() as folder:
        model, arrays = Path(folder, "seed.npz"), Path(folder, "arrays.npz")
        refgrad.save(refgrad.Network.sequential(chain), model)
        np.savez(arrays, **{f"{part}{i}": layer[j] for i, layer in enumerate(chain) for j, part in enumerate("wb")})
        given = f"MODEL = {str(model)!r}; PATH = {str(arrays)!r}; ACTIVATIONS = {[layer[2] for layer in chain]!r}; "
        there = {name: way for name, way in PROCESSES.items() if find_spec(way[0])}
        found: dict[str, list[list[float]]] = {name: [] for name in there}
        for turn in range(REPEATS + 1):
            for name, (_, imports, work) in there.items():
                measured = _process(imports, given + work)
                if turn:
                    found[name].append(measured)
    for name, measured in found.items():
        numpy, imports, first, peak = (statistics.median(column) for column in zip(*measured, strict=True))
        yield {"way": name, "import numpy": numpy, "import": imports, "load and first": first, "peak": peak}


def shown(row: dict[str, Any]) -> str:
    """A row as a line of the table."""
    return (
        f"{row['way']:<16} import {row['import'] * 1e3:>7,.0f} ms over NumPy's {row['import numpy'] * 1e3:,.0f}, "
        f"load and first Jacobian {row['load and first'] * 1e3:>7,.0f} ms, peak {row['peak'] / 2**20:,.0f} MiB"
    )
