"""Threads that help a caller: they do the same work beside it, and share it out among themselves.

A pool's futures cost 0.03 ms for each call, as much as a hundred samples of a small network. Here one lock says who
does a task, and another that it has ended.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class _Task:
    """Work that either a helper begins or the caller takes back."""

    __slots__ = ("ended", "error", "turn", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work: Callable[[], Any] | None = work
        self.turn, self.ended = threading.Lock(), threading.Lock()
        self.error: BaseException | None = None
        self.ended.acquire()

    def run(self) -> None:
        """Do it, unless it was taken back."""
        if self.turn.acquire(blocking=False):
            try:
                assert self.work is not None
                self.work()
            except BaseException as error:
                self.error = error
            finally:
                self.ended.release()

    def taken_back(self) -> bool:
        """Whether nobody has begun it; then nobody will, and what it holds is let go of."""
        free = self.turn.acquire(blocking=False)
        if free:
            self.work = None
        return free


_asked: SimpleQueue[_Task] = SimpleQueue()
_helpers = 0
_lock = threading.Lock()


def _after_fork() -> None:
    """A child process has none of its parent's threads, and perhaps locks that nobody will release."""
    global _asked, _helpers, _lock
    _asked, _helpers, _lock = SimpleQueue(), 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _serve(asked: SimpleQueue[_Task]) -> None:
    while True:
        asked.get().run()


def _there_are(helpers: int) -> None:
    """Start threads until there are so many."""
    global _helpers
    while _helpers < helpers:
        with _lock:
            if _helpers < helpers:
                threading.Thread(target=_serve, args=(_asked,), name=f"refgrad_{_helpers}", daemon=True).start()
                _helpers += 1


def with_help(
    mine: Callable[[], Any], theirs: Callable[[], Any], helpers: int, stop: Callable[[], Any] = lambda: None
) -> None:
    """Do `mine`, and meanwhile `theirs` in up to so many other threads, as far as they are free.

    It ends when all who began have ended, or as soon as `mine` says, by True, that nothing is left to wait for. If it
    fails, or Ctrl-C comes, `stop` is called, and nobody works any more once the error is raised; else what a helper
    raised is.
    """
    tasks: list[_Task] = []
    done = False
    try:
        _there_are(helpers)
        for _ in range(helpers):  # inside, for Ctrl-C may come before the last is asked
            tasks.append(_Task(theirs))
            _asked.put(tasks[-1])
        done = mine() is True
    finally:
        stop()
        begun = [task for task in tasks if not task.taken_back() and not done]
        for task in begun:
            task.ended.acquire()
    for task in begun:
        if task.error is not None:
            raise task.error
