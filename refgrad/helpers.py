"""Threads that help a caller: they do the same work beside it, and share it out among themselves.

A pool's futures cost 0.03 ms for each call, as much as a hundred samples of a small network. Here whoever takes the
work out of a task does it, and one lock says that it has ended.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class _Task:
    """Work that either a helper begins or the caller takes back."""

    __slots__ = ("_ended", "_over", "_tried", "_work", "error")

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work, self._ended = [work], threading.Lock()
        self._tried = self._over = False
        self.error: BaseException | None = None
        self._ended.acquire()

    def run(self) -> None:
        """Do it, unless it was taken back."""
        self._tried = True
        try:
            work = self._taken()
            if work is not None:
                work()
        except BaseException as error:
            self.error = error
        finally:
            self._over = True
            self._ended.release()

    def _taken(self) -> Callable[[], Any] | None:
        try:
            return self._work.pop()
        except IndexError:  # it was taken back
            return None

    def take_back(self) -> None:
        """Nobody who has not begun it will do so, and what it holds is let go of."""
        self._work.clear()

    def wait(self) -> None:
        """Wait for whoever has begun it, once it was taken back; whatever interrupts this may do it again."""
        while self._tried and not self._over:
            self._ended.acquire(timeout=0.1)


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
                try:
                    threading.Thread(target=_serve, args=(_asked,), name=f"refgrad_{_helpers}", daemon=True).start()
                except RuntimeError:  # the system allows no more, or Python is ending: the caller does it alone
                    return
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
        _end(tasks, done, stop)
    for task in tasks:
        if not done and task.error is not None:
            raise task.error


def _end(tasks: list[_Task], done: bool, stop: Callable[[], Any]) -> None:
    """Take back what nobody has begun, and wait for the rest; Ctrl-C meanwhile is heard afterwards."""
    interrupt: KeyboardInterrupt | None = None
    ended = False
    while not ended:
        try:
            stop()
            for task in tasks:
                task.take_back()
            for task in () if done else tasks:
                task.wait()
            ended = True
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
