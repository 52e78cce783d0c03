"""Threads that wait in compiled code for work, and do the same as who asks for help, beside it.

Who has helped looks for more for about as long as it takes to wake up, and then sleeps, which is never much worse than
what would have been best. One that looks begins 0.2 µs after it is asked. To wake one takes the caller 1 µs, and the
other 2 to 5, where the system runs on the machine itself; 12 and 31 were measured on a virtual one. A thread that
sleeps in Python needs Python to itself to go on, and begins after 30 to 50.

They sleep on Python's own locks, which every system has, and which want nothing of Python. Who comes late, or never, is
only missed by what it would have done.

The state of a helper is one number: awake, asleep, or busy; the address of the job it is asked for; or that this was
called off before it began. Each is exchanged for the next in one step, by the helper or by who asks it.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import os
import threading
import time
from typing import Any

import numba
import numpy as np
from numba.core import types

from refgrad.kernels.atomic import add, exchange, pause, read
from refgrad.kernels.calling import do
from refgrad.kernels.compiling import inline, kernel
from refgrad.kernels.packing import LINE
from refgrad.kernels.windows import places_at

STATE, WAKE, LOOKS, HELPER = 0, 1, 2, 8
"""What is known of a helper, on a cache line of its own: its state, the lock it sleeps on, and how often it looks."""

AWAKE, ASLEEP, BUSY, CALLED_OFF, LEAVING = range(5)

MOST = 255
"""Helpers there may be."""

FUNCTION, ENDED, FIELDS = 0, 1, 2
"""A job begins with what is to be called with its address, and how many helpers have ended; its own numbers follow."""

AWAKE_FOR = 1e-4
"""Seconds that a helper looks for more work before it sleeps, longer than Python takes from one call to the next."""

PATIENCE = 4_000
"""How often who waits looks before it sleeps a while: 0.05 to 0.2 ms."""

ENOUGH = 1.0
"""Seconds to wait for a helper that is to leave."""

NAP = 50
"""Microseconds of such a sleep: who is waited for may need the core."""

_acquire: Any = types.ExternalFunction("PyThread_acquire_lock_timed", types.int32(types.intp, types.int64, types.int32))
_release: Any = types.ExternalFunction("PyThread_release_lock", types.void(types.intp))


@inline
def _next_job(helper: Any) -> Any:
    """Wait for a job, with which the helper is busy from then on, or for 0, to leave."""
    looks = 0
    while True:
        state = read(helper, STATE)
        if state == AWAKE and looks < helper[LOOKS]:
            looks += 1
            pause()
        elif state == AWAKE:
            if exchange(helper, STATE, AWAKE, ASLEEP):
                _acquire(helper[WAKE], -1, 0)
        elif state == CALLED_OFF:
            exchange(helper, STATE, CALLED_OFF, AWAKE)
        elif state == LEAVING:
            return 0
        elif state > LEAVING and exchange(helper, STATE, state, BUSY):
            return state


@kernel
def serve(helper: Any, place: Any) -> None:
    """What a helper does until it is to leave."""
    about = places_at(helper, 1, HELPER).reshape(-1)
    while True:
        job = _next_job(about)
        if job == 0:
            return
        told = places_at(job, 1, FIELDS).reshape(-1)
        do(told[FUNCTION], job, place)
        exchange(about, STATE, BUSY, AWAKE)
        add(told, ENDED, 1)  # the last that is done with the job


@kernel
def send_away(team: Any, helpers: Any) -> None:
    """Let so many helpers leave, when they are no more busy."""
    every = places_at(team, MOST + 1, HELPER)
    for place in range(helpers):
        helper = every[place]
        while read(helper, STATE) != LEAVING:
            if exchange(helper, STATE, ASLEEP, LEAVING):
                _release(helper[WAKE])
            elif not exchange(helper, STATE, AWAKE, LEAVING):
                exchange(helper, STATE, CALLED_OFF, LEAVING)
                pause()


@inline
def ask(team: Any, helpers: Any, job: Any) -> Any:
    """Ask so many helpers, if they are free; returns how many were."""
    every, asked = places_at(team, MOST + 1, HELPER), 0
    for place in range(helpers):
        helper = every[place]
        if exchange(helper, STATE, AWAKE, job) or exchange(helper, STATE, CALLED_OFF, job):
            asked += 1  # it is awake, or who asked it before has woken it
        elif exchange(helper, STATE, ASLEEP, job):
            _release(helper[WAKE])
            asked += 1
    return asked


@inline
def dismiss(team: Any, helpers: Any, job: Any, asked: Any) -> None:
    """Call off those who have not begun, and wait for the others."""
    every = places_at(team, MOST + 1, HELPER)
    for place in range(helpers):
        if exchange(every[place], STATE, job, CALLED_OFF):
            asked -= 1
    wait(team, places_at(job, 1, FIELDS).reshape(-1), ENDED, asked)


@inline
def patiently(numbers: Any, place: Any, amount: Any) -> Any:
    """Whether a number is as large as that, or is so soon."""
    for _ in range(PATIENCE):
        if read(numbers, place) >= amount:
            return True
        pause()
    return False


@inline
def wait(team: Any, numbers: Any, place: Any, amount: Any) -> None:
    """Wait until a number is as large as that."""
    while not patiently(numbers, place, amount):
        _acquire(places_at(team, MOST + 1, HELPER)[MOST, WAKE], NAP, 0)  # nobody ever releases it


@kernel
def look_in_vain(numbers: Any, place: Any) -> Any:
    """Look as long as patience lasts."""
    return patiently(places_at(numbers, 1, HELPER).reshape(-1), place, np.int64(1) << 62)


class _Team:
    """The helpers of one process, who are started when they are first asked for."""

    def __init__(self) -> None:
        numbers = np.zeros((MOST + 2) * HELPER, np.int64)
        first = -numbers.ctypes.data % LINE // 8
        self.helpers = numbers[first : first + (MOST + 1) * HELPER].reshape(MOST + 1, HELPER)
        self.helpers[MOST, WAKE] = _held()
        self.lock, self.count, self.threads, self.ended = threading.Lock(), 0, list[threading.Thread](), False

    def start(self, wanted: int) -> None:
        """Start threads until there are so many, or the system allows no more."""
        for called in (serve, send_away, look_in_vain):
            called.compile((types.intp, types.intp))
        if not self.lock.acquire(blocking=False):  # another thread starts them, or a signal's handler came between
            return
        try:
            while self.count < wanted and not self.ended:
                self._start_one(self.helpers[self.count])
        except RuntimeError:
            return
        finally:
            self.lock.release()

    def _start_one(self, about: Any) -> None:
        about[WAKE], about[LOOKS] = about[WAKE] or _held(), self.helpers[0, LOOKS] or self._looks(about)
        given, name = (about.ctypes.data, self.count + 1), f"refgrad_kernels_{self.count}"
        thread = threading.Thread(target=serve, args=given, name=name, daemon=True)
        self.threads.append(thread)  # Ctrl-C may come when it has started, and it is to have its place then
        self.count += 1
        try:
            thread.start()
        except RuntimeError:
            self.threads.pop()
            self.count -= 1
            raise

    def _looks(self, about: Any) -> int:
        """How often a thread looks in the time that helpers are to stay awake."""
        times = [time.perf_counter()]
        for _ in range(3):
            look_in_vain(about.ctypes.data, STATE)
            times.append(time.perf_counter())
        return int(PATIENCE * AWAKE_FOR / min(after - before for before, after in itertools.pairwise(times)))

    def end(self) -> None:
        """Let all leave: when Python ends it takes away the code under their feet."""
        with self.lock:
            count, self.count, self.ended = self.count, 0, True
            if count > 0:
                send_away(self.helpers.ctypes.data, count)
            for thread in self.threads:
                if thread.ident is not None:
                    thread.join(ENOUGH)


def _held() -> int:
    """A lock of Python's that whoever acquires it waits for."""
    allocate, acquire = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_acquire_lock
    allocate.restype, acquire.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)
    lock = allocate()
    acquire(lock, 1)
    return int(lock)


_team = _Team()
_KEPT = [_team]  # what threads, of a parent process too, may still look at


def _after_fork() -> None:
    """A child process has none of its parent's threads."""
    global _team
    _team = _Team()
    _KEPT.append(_team)


@atexit.register
def _at_exit() -> None:
    _team.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def helped(helpers: int) -> tuple[int, int]:
    """Where the team is, and how many helpers, of so many, can be asked."""
    team, wanted = _team, min(helpers, MOST)
    if numba.config.DISABLE_JIT:
        return 0, 0
    if team.count < wanted:
        team.start(wanted)
    return team.helpers.ctypes.data, min(team.count, wanted)
