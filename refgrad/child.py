"""The child process of `load(isolate=True)`: it limits itself, reads one model, answers, and ends."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from refgrad import artifact
from refgrad.errors import LimitError, RefgradError, RefgradWarning
from refgrad.isolation import Task, framed, understood
from refgrad.loading import read

_MORE = 128 << 20
"""Address space beside three times the budget: the file's content, its arrays, and the answer."""


def _used() -> int:
    """How much address space this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _limit(task: Task, stored: int) -> None:
    """Let no more memory and time be had, no core be dumped and no file be written."""
    try:
        import resource

        used = _used()
    except (ImportError, OSError):
        return
    seconds = task.limits.seconds
    resource.setrlimit(resource.RLIMIT_AS, (used + stored + 3 * task.limits.budget(stored).memory + _MORE,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for nothing in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(nothing, (0, 0))


def _size(given: str | bytes | None) -> int:
    if isinstance(given, bytes) or given is None:
        return len(given or b"")
    try:
        return Path(given).stat().st_size
    except (OSError, ValueError):
        return 0


def _answer(task: Task) -> bytes:
    """The network as a refgrad file, or why there is none."""
    said: dict[str, Any] = {"error": None, "message": "", "keras": False, "rewritings": []}
    raw = b""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RefgradWarning)
        try:
            given: Any = task.files
            net = read(**given, verify=task.verify, limits=task.limits)
            origin = net.graph.provenance
            said["keras"], raw = origin.files.model is not None, artifact.pack(net)
            said["rewritings"] = [(one.rule, one.where, one.what) for one in origin.rewritings]
        except RefgradError as error:
            said |= {"error": type(error).__name__, "message": str(error)}
        except MemoryError:
            said |= {"error": LimitError.__name__, "message": "reading it needs more memory than its budget"}
    return framed({**said, "warnings": [str(it.message) for it in caught]}, raw)


def main() -> None:
    """Read a task from standard input, do it, answer on standard output."""
    from refgrad.keras import archive, build  # noqa: F401 - before memory is limited

    task = understood(sys.stdin.buffer.read())
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _limit(task, sum(map(_size, task.files.values())))
    with answers:
        answers.write(_answer(task))
    os._exit(0)
