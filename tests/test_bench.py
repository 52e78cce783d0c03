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


def test_the_page_is_written_between_its_marks_and_names_the_best_peer(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import measure_performance as measure

    ratios = {"jax": 2.5, "torch": 1.25}
    row = {"network": "seed", "widths": [1, 4, 1], "batch": 1_000, "seconds": 2e-5, "ratios": ratios}
    found = {"machine": {"cpu": "a CPU"}, "rows": [row], "load before": 0.5}
    asked = []
    monkeypatch.setattr(measure, "measured", lambda options: asked.append(options) or found)
    monkeypatch.setattr(measure, "DATA", tmp_path / "data.json")
    monkeypatch.setattr(measure, "PAGE", tmp_path / "page.md")
    measure.PAGE.write_text(f"above\n{measure.START}\nold\n{measure.END}\nbelow\n")
    for given in (["--table", "values", "--seconds", "1"], ["--page"]):
        monkeypatch.setattr("sys.argv", ["measure_performance.py", *given])
        measure.main()
        text = measure.PAGE.read_text()
        assert text.startswith("above\n")
        assert text.endswith("\nbelow\n")
        assert "old" not in text
        assert "| seed 1-4-1 | 1,000 | 20.0 µs | **1.25** (torch) | torch 1.25, jax 2.5 |" in text
        assert "a CPU" in text
    assert asked == [["--values", "--seconds", "1"]]
