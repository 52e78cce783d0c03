"""Measure everything that `docs/performance.md` reports, on a machine that does nothing else: table and JSON.

    python scripts/measure_performance.py [--seconds 3]     measure, write docs/data/performance.json and the page
    python scripts/measure_performance.py --page            write the page anew from what was measured

Each table is one run of `scripts/bench.py`. Other work on the machine is told by the load, which is recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cold import shown as cold_line
from scaling import shown as scaling_line

ROOT = Path(__file__).resolve().parents[1]
DATA, PAGE = ROOT / "docs" / "data" / "performance.json", ROOT / "docs" / "performance.md"
START, END = "<!-- measured: scripts/measure_performance.py writes this -->", "<!-- until here -->"

TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "jacobian": ("Value and Jacobian, float32, ReLU", ()),
    "values": ("Values alone, float32, ReLU", ("--values",)),
    "tanh": ("Value and Jacobian, float32, tanh", ("--activation", "tanh")),
    "float64": ("Value and Jacobian, float64, ReLU", ("--dtype", "float64")),
}
"""Name → heading, and the options of `bench.py`."""

LISTS = {"cold": ("Fresh processes", cold_line), "scaling": ("Growth", scaling_line)}


def measured(options: Iterable[str]) -> dict[str, Any]:
    """What `bench.py` writes as JSON; its lines are shown as they come."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        command = [sys.executable, str(Path(__file__).with_name("bench.py")), *options, "--json", str(file)]
        before = os.getloadavg()[0]
        subprocess.run(command, check=True)
        found: dict[str, Any] = json.loads(file.read_text())
    return found | {"load before": before}


def table(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Rows of a Markdown table: the best peer, and every peer's time over refgrad's."""
    lines = ["| network | batch | refgrad | best peer ÷ refgrad | each peer ÷ refgrad |", "|---|---|---|---|---|"]
    for row in rows:
        ratios = sorted(row["ratios"].items(), key=lambda pair: pair[1])
        name, best = ratios[0]
        widths = "-".join(map(str, row["widths"]))
        others = ", ".join(f"{peer} {ratio:.3g}" for peer, ratio in ratios)
        time = f"{row['seconds'] * 1e6:,.1f} µs"
        lines.append(f"| {row['network']} {widths} | {row['batch']:,} | {time} | **{best:.2f}** ({name}) | {others} |")
    return lines


def page(found: dict[str, Any]) -> str:
    """The measured part of the page."""
    lines, before = [START, ""], ""
    for name, part in found.items():
        about = ", ".join(f"{name} {value}" for name, value in part["machine"].items())
        on = [] if about == before else [f"Measured on: {about}.", ""]
        before = about
        if name in TABLES:
            load = f"Load of the machine before: {part['load before']:.1f}."
            lines += [f"### {TABLES[name][0]}", "", *on, load, "", *table(part["rows"]), ""]
        else:
            heading, line = LISTS[name]
            lines += [f"### {heading}", "", *on, *(f"- {line(row)}" for row in part["rows"]), ""]
    return "\n".join([*lines, END])


def main() -> None:
    """Measure, unless only the page is to be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", default="3", help="how long each row is measured")
    parser.add_argument("--table", action="append", choices=[*TABLES, *LISTS], help="only this one; the others stay")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    found = json.loads(DATA.read_text()) if DATA.exists() else {}
    for name in [] if arguments.page else arguments.table or [*TABLES, *LISTS]:
        options = TABLES[name][1] if name in TABLES else (f"--{name}",)
        found[name] = measured([*options, "--seconds", arguments.seconds])
        ordered = {key: found[key] for key in [*TABLES, *LISTS] if key in found}
        DATA.write_text(json.dumps(ordered, indent=1) + "\n")
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    PAGE.write_text(before + page(json.loads(DATA.read_text())) + rest.partition(END)[2])


if __name__ == "__main__":
    main()
