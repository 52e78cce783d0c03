"""Make every fault in every test network and count what the audit finds, and how often clean networks alarm it.

    python scripts/fault_study.py [--quick] [--json FILE]

takes an hour or two, with `--quick` ten minutes, and writes `docs/data/fault_study.json`, of which
`scripts/make_docs.py` makes a page. TensorFlow and JAX take part where they are installed. `tests/fault_study.py` says
what is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from refgrad.auditing.provenance import gathered  # noqa: E402
from tests import fault_study as study  # noqa: E402

CLEAN = {
    "question 1-64-32-32-1": 24,
    "small 16-64-64-8": 1,
    "mid 10-256-256-256-10": 1,
    "tanh 8-32-32-4": 2,
    "smooth 6-24-24-24-3": 2,
    "normalised 5-32-32-3": 2,
    "branches (two in, two out)": 1,
    "layers (two in, two out)": 1,
}
"""How many batches of 10,000 clean samples of each network go to each framework."""

KINKS = ("question 1-64-32-32-1", "small 16-64-64-8", "normalised 5-32-32-3")
"""Networks audited beside their kinks."""


def rows(arguments: argparse.Namespace, frameworks: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables, a row at a time: of which table, and the row."""
    samples, most = (64, 2) if arguments.quick else (256, 4)
    for name in study.NETWORKS:
        made = study.Study(name, samples)
        for fault in study.CLASSES:
            for against in frameworks:
                row = made.row(fault, against, most)
                if row["made"]:
                    yield "faults", row
    batch = 200 if arguments.quick else 10_000
    for name, batches in CLEAN.items():
        for against in frameworks:
            for seed in range(1 if arguments.quick else batches):
                yield "clean", study.clean(name, against, batch, 100 + seed)
    for name in KINKS:
        for against in frameworks:
            yield "kinks", study.at_kinks(name, against, batch, 1000)


def merged(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each network and framework: counts added up."""
    total: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found:
        kept = total.setdefault((row["network"], row["against"]), {**row, "samples": 0, "alarms": 0, "verdicts": {}})
        kept["samples"] += row["samples"]
        kept["alarms"] += row["alarms"]
        for name, count in row["verdicts"].items():
            kept["verdicts"][name] = kept["verdicts"].get(name, 0) + count
    return list(total.values())


def main() -> None:
    """Measure, say it, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few samples of everything")
    parser.add_argument("--json", metavar="FILE", help="write there instead")
    arguments = parser.parse_args()
    frameworks = [name for name in study.ANSWERS if study.installed(name)]
    started = time.perf_counter()
    found: dict[str, list[dict[str, Any]]] = {"faults": [], "clean": [], "kinks": []}
    for table, row in rows(arguments, frameworks):
        found[table].append(row)
        print(f"{time.perf_counter() - started:8.1f} s", json.dumps(row, ensure_ascii=False), flush=True)
    found["clean"], found["kinks"] = merged(found["clean"]), merged(found["kinks"])
    net = study.network(KINKS[0])
    about = gathered(net, [], {"quick": arguments.quick, "seconds": round(time.perf_counter() - started)})
    about = {key: about[key] for key in ("date", "versions", "cpu", "options")}
    parts = [f'"about": {json.dumps(about)}']
    for table, lines in found.items():
        text = ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        parts.append(f'"{table}": [\n{text}\n]')
    path = Path(arguments.json) if arguments.json else ROOT / "docs" / "data" / "fault_study.json"
    path.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
