"""Forked children that each do one task, a few at a time."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any


def say(text: str) -> None:
    """A line on the terminal, whatever pytest does with its streams."""
    os.write(2, f"{text}\n".encode())


def _start(task: Callable[[], str], limit: float) -> tuple[int, int]:
    """A child that does a task: its process and where it writes the result. Its processor time is limited."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1,) * 2)
        signal.alarm(int(10 * limit) + 1)
        os.write(write, json.dumps([task(), ""]).encode())
    except BaseException as error:
        os.write(write, json.dumps(["", repr(error)]).encode())
    finally:
        os._exit(0)


def _result(read: int) -> str:
    with os.fdopen(read, "rb") as stream:
        text = stream.read()
    result, broken = json.loads(text) if text else ("it took too long, or crashed", "")
    if broken:
        sys.exit(f"a child failed, but no test in it: {broken}")
    return str(result)


def in_children(
    wanted: Iterable[Any], task: Callable[[Any], str], limit: float, jobs: int
) -> Iterator[tuple[Any, str]]:
    """Everything that is wanted and the result of the task on it, in the order in which they end."""
    running: dict[int, tuple[Any, int]] = {}
    waiting, more = iter(wanted), True
    while more or running:
        while more and len(running) < jobs:
            for thing in waiting:
                pid, read = _start(partial(task, thing), limit)
                running[pid] = thing, read
                break
            else:
                more = False
        if running:
            pid, _ = os.wait()
            if pid in running:
                thing, read = running.pop(pid)
                yield thing, _result(read)
