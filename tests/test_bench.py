"""The benchmark runs, against the one peer that is always there, and refuses to time what disagrees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "bench.py"), *options], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("options", [(), ("--values", "--dtype", "float64"), ("--activation", "tanh")])
def test_a_row(tmp_path, options):
    result = tmp_path / "rows.json"
    done = run("--network", "seed", "--peer", "numpy", "--seconds", "0", "--json", str(result), *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    assert [(row["network"], row["batch"]) for row in found["rows"]] == [("seed", n) for n in (1, 1_000, 100_000)]
    assert all(row["ratios"]["numpy"] > 0 and row["seconds"] > 0 for row in found["rows"])
    assert found["machine"]["threads"] >= 1
    assert "each peer ÷ refgrad" in done.stdout


def test_what_disagrees_is_not_timed(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench

    chain = bench.layers((3, 8, 2), "relu", "float32")
    x = np.random.default_rng(0).standard_normal((50, 3)).astype("float32")
    net, found = bench.ways(chain, x, False, ["numpy"])
    bench.check(found, x, chain, False, bench.AGREE["float32"])
    wrong = {"wrong": lambda: (net(x), 1.001 * net.jacobian(x))}
    with pytest.raises(SystemExit, match="wrong disagrees"):
        bench.check(wrong, x, chain, False, bench.AGREE["float32"])
