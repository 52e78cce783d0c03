"""Files that find new paths through the reader: `python scripts/guided.py FOLDER -max_total_time=600` with atheris.

libFuzzer changes the bytes of the good files, and keeps in FOLDER what reached new lines of refgrad. What does not give
a network or a `RefgradError`, takes 5 seconds or 2 GiB, or opens, runs or imports anything, is written to `crash-…`
and ends it. atheris is no dependency: it has wheels for some Pythons on Linux.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import atheris  # noqa: E402

with atheris.instrument_imports(include=["refgrad"]):
    from seeds import seeds

    import refgrad
    from tests.opening import FORBIDDEN, warm_up

watching = [False]


def _hook(event: str, arguments: Any) -> None:
    if watching[0] and event.startswith(FORBIDDEN):
        msg = f"{event} {arguments!s:.80}"
        raise AssertionError(msg)


def tried(content: bytes) -> None:
    """Open a file of which nothing is known."""
    beside = {"weights": EMPTY} if content[:1] == b"{" else {"config": CONFIG} if content[:4] == b"\x89HDF" else {}
    watching[0] = True
    try:
        refgrad.load(content, **beside)
    except refgrad.RefgradError:
        return
    finally:
        watching[0] = False


if __name__ == "__main__":
    GOOD, folder = seeds(), Path(sys.argv[1])
    EMPTY, CONFIG = next((it.others["weights"], it.content) for it in GOOD if it.kind == "json")
    folder.mkdir(parents=True, exist_ok=True)
    warm_up(folder)
    (folder / "warm.npz").unlink()
    for number, seed in enumerate(GOOD):
        (folder / f"{number}.{seed.kind}").write_bytes(seed.content)
    warnings.simplefilter("ignore")
    sys.addaudithook(_hook)
    atheris.Setup([*sys.argv, "-timeout=5", "-rss_limit_mb=2048", "-max_len=100000"], tried)
    atheris.Fuzz()
