"""Make every fault in every test network and count what the audit finds, and how often clean networks alarm it.

    python scripts/fault_study.py [--quick] [--tables faults clean kinks] [--json FILE]

takes an hour or two, with `--quick` ten minutes, and writes `docs/data/fault_study.json`, of which
`scripts/make_docs.py` makes a page; tables that are not asked for stay as they are there. TensorFlow and
JAX take part where they are installed. `tests/fault_study.py` says what is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import product
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


def faults(quick: bool, frameworks: list[str]) -> Iterator[dict[str, Any]]:
    """Every class of faults in every network, a row for each framework."""
    samples, most = (64, 2) if quick else (256, 4)
    for name in study.NETWORKS:
        made = study.Study(name, samples)
        for fault, against in product(study.CLASSES, frameworks):
            row = made.row(fault, against, most)
            if row["made"]:
                yield row


def clean(quick: bool, frameworks: list[str]) -> Iterator[dict[str, Any]]:
    """Right answers, a row for each batch."""
    for (name, batches), against in product(CLEAN.items(), frameworks):
        for seed in range(1 if quick else batches):
            yield study.clean(name, against, 200 if quick else 10_000, 100 + seed)


def kinks(quick: bool, frameworks: list[str]) -> Iterator[dict[str, Any]]:
    """Right answers beside kinks."""
    for name, against in product(KINKS, frameworks):
        yield study.at_kinks(name, against, 200 if quick else 10_000, 1000)


TABLES = {"faults": faults, "clean": clean, "kinks": kinks}


def merged(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each network and framework: counts added up."""
    if not found or "samples" not in found[0]:
        return found
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
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="which to make (all)")
    parser.add_argument("--json", metavar="FILE", help="write there instead")
    arguments = parser.parse_args()
    frameworks = [name for name in study.ANSWERS if study.installed(name)]
    path = Path(arguments.json) if arguments.json else ROOT / "docs" / "data" / "fault_study.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"about": {}}
    for table in arguments.tables:
        started, found = time.perf_counter(), []
        for row in TABLES[table](arguments.quick, frameworks):
            found.append(row)
            print(f"{time.perf_counter() - started:8.1f} s", json.dumps(row, ensure_ascii=False), flush=True)
        seconds = round(time.perf_counter() - started)
        about = gathered(study.network(KINKS[0]), [], {"quick": arguments.quick, "seconds": seconds})
        kept["about"][table] = {key: about[key] for key in ("date", "versions", "cpu", "options")}
        kept[table] = merged(found)
    path.write_text(written(kept), encoding="utf-8")


def written(kept: dict[str, Any]) -> str:
    """As JSON, a row to a line."""
    lines = {name: [json.dumps(row, ensure_ascii=False) for row in kept[name]] for name in TABLES if name in kept}
    parts = [f'"{name}": [\n' + ",\n".join(rows) + "\n]" for name, rows in lines.items()]
    return "{" + ",\n".join([f'"about": {json.dumps(kept["about"])}', *parts]) + "}\n"


if __name__ == "__main__":
    main()
