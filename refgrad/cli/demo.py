"""The question this project was born from, answered on the network it asks about."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.auditing.audit import audit
from refgrad.cli.silence import silenced
from refgrad.cli.staircase import staircase
from refgrad.errors import RefgradError
from refgrad.loading import load
from refgrad.network import Network

_PLACES = (-10.0, -5.0, -2.0, 0.0, 0.5, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0)
_QUESTION = """A Keras Sequential (Dense 1→64 ReLU, 64→32 ReLU, 32→32 ReLU, 32→1) was trained on y = (x − 5)²/25.
What is its dy/dx, say at x = 0.5?

    net = refgrad.load("question.keras")
    net.gradient(0.5)
"""
_STAIRCASE = """
Why a staircase: between two kinks of its ReLUs the network is a straight line, so its derivative is constant there
and jumps at each kink, up and down around the slope of the curve it was trained on. On a kink itself the derivative is
a choice between the steps on either side, so two right answers can differ there: refgrad takes the one Keras takes.
"""


def _microseconds(net: Network, x: Array) -> float:
    """Median time of one call of `value_and_jacobian` on one sample."""
    net.value_and_jacobian(x)
    times = []
    for _ in range(25):
        start = perf_counter()
        for _ in range(20):
            net.value_and_jacobian(x)
        times.append((perf_counter() - start) / 20)
    return float(np.median(times)) * 1e6


def _rows(net: Network, recorded: Any) -> list[dict[str, float]]:
    """The table: what refgrad says, what TensorFlow said of the same float32 inputs, and the true curve's slope."""
    rows = []
    for place in _PLACES:
        k = int(np.abs(recorded["x"][:, 0] - place).argmin())
        x = recorded["x"][k : k + 1]
        y, jacobian = net.value_and_jacobian(x)
        rows.append(
            {
                "x": float(x[0, 0]),
                "y": float(y[0, 0]),
                "dy_dx": float(jacobian[0, 0, 0]),
                "tensorflow": float(recorded["j32"][k, 0, 0]),
                "difference": float(jacobian[0, 0, 0]) - float(recorded["j32"][k, 0, 0]),
                "true_slope": 2 * (float(x[0, 0]) - 5) / 25,
                "microseconds": _microseconds(net, x),
            }
        )
    return rows


def _table(rows: list[dict[str, float]], versions: dict[str, str]) -> str:
    heads = ("x", "y", "dy/dx", "TensorFlow", "difference", "true slope", "µs a call")
    lines = ["".join(f"{head:>12}" for head in heads)]
    lines += [
        f"{row['x']:12.4f}{row['y']:12.6f}{row['dy_dx']:12.7f}{row['tensorflow']:12.7f}{row['difference']:12.1e}"
        f"{row['true_slope']:12.4f}{row['microseconds']:12.1f}"
        for row in rows
    ]
    said = f"(TensorFlow {versions['tensorflow']} with Keras {versions['keras3']} said so when the network was trained)"
    return "\n".join([*lines, said])


def _plot(net: Network, target: str) -> tuple[str | None, str]:
    """Draw it if that can be done; where it is, and what to say."""
    try:
        drawn = str(staircase(net, Path(target)).resolve())
    except RefgradError as error:
        return None, f"no plot: {error}"
    return drawn, f"plot: {drawn}"


def demo(arguments: Namespace) -> int:
    """Print the table, explain it, plot it, and with TensorFlow installed audit it on the spot."""
    data = files("refgrad") / "data"
    versions = json.loads((data / "versions.json").read_text(encoding="utf-8"))
    with as_file(data / "question.keras") as model, as_file(data / "question.npz") as truth:
        net = load(model)
        with np.load(truth) as recorded:
            rows, x = _rows(net, recorded), recorded["x"]
        plot, remark = _plot(net, arguments.plot)
        live = find_spec("tensorflow") is not None and find_spec("keras") is not None
        with silenced():
            report = audit(net, x, "tensorflow", model=model) if live else None
    if arguments.json:
        found = {"rows": rows, "versions": versions, "engine": net.engine, "plot": plot}
        found["audit"] = None if report is None else {"passed": report.passed, "counts": report.counts}
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        audited = (
            report.summary()
            if report is not None
            else "TensorFlow is not installed here; after pip install tensorflow tf_keras this demo audits itself live."
        )
        text = (_QUESTION, _table(rows, versions), f"engine: {net.engine}", _STAIRCASE, remark, audited)
        sys.stdout.write("\n".join(text) + "\n")
    return 0 if report is None or report.passed else 1
