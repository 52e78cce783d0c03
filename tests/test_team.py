"""Threads that help kernels: who is asked begins, who has not begun is called off, and results are those of one."""

import itertools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from numba.core.config import DISABLE_JIT

import refgrad
from refgrad.kernels import run
from refgrad.kernels.header import ENTRY
from tests.chains import chained, every_chain, every_dtype

pytestmark = pytest.mark.skipif(DISABLE_JIT, reason="helpers are compiled")

JOB = 8
DONE, OPEN, AT = 2, 3, 4
"""Of the jobs of these tests: how many have been there, whether they may go, and who was there."""


@pytest.fixture(scope="module")
def asking():
    """A kernel that has a job done which ends when it is opened: by how many helpers, if so many are asked."""
    from refgrad.kernels import calling
    from refgrad.kernels.atomic import add, read
    from refgrad.kernels.calling import do
    from refgrad.kernels.compiling import jit
    from refgrad.kernels.team import ask, dismiss
    from refgrad.kernels.windows import places_at

    def stay(job, place):
        told = places_at(job, 1, JOB).reshape(-1)
        add(told, DONE, 1)
        add(told, AT + place, 1)
        while place > 0 and read(told, OPEN) == 0:
            pass
        return 0

    @jit
    def asked(told, function, team, helpers, patience):
        told[0] = function
        begun = ask(team, helpers, told.ctypes.data)
        for _ in range(patience):
            if read(told, DONE) == begun:
                break
        add(told, OPEN, 1)
        do(function, told.ctypes.data, 0)
        dismiss(team, helpers, told.ctypes.data, begun)
        return begun

    function = calling.address(stay, 2)
    helped = run._compiled("team").helped
    return lambda told, helpers, patience=10**10: asked(told, function, *helped(helpers), patience)


def job():
    return np.zeros(JOB, np.int64)


@pytest.mark.parametrize("rest", [0, 0.05], ids=["awake", "asleep"])
def test_all_who_are_asked_come_and_the_caller_waits_for_them(asking, rest):
    asking(job(), 3)
    for _ in range(20):
        time.sleep(rest)
        told = job()
        assert asking(told, 3) == 3
        assert told[DONE] == 4
        assert told[AT : AT + 4].tolist() == [1, 1, 1, 1]
        assert told[1] == 3  # helpers have ended


def test_who_has_not_begun_is_called_off_and_does_nothing_later(asking):
    asking(job(), 3)
    for _ in range(50):
        time.sleep(0.002)  # they sleep
        told = job()
        asking(told, 3, patience=0)
        before = told.copy()
        time.sleep(0.002)
        np.testing.assert_array_equal(told, before)
        assert told[DONE] == 1 + told[1]
    told = job()
    assert asking(told, 3) == 3  # they come again


def test_busy_helpers_are_not_asked(asking):
    asking(job(), 2)
    time.sleep(0.05)  # they sleep, and do not look at what is written here
    team, told = run._compiled("team"), job()
    states = team._team.helpers[:2, team.STATE]
    states[:] = team.BUSY
    assert asking(told, 2) == 0
    assert told[DONE] == 1
    states[:] = team.ASLEEP
    assert asking(job(), 2) == 2


@every_dtype
@every_chain
def test_one_tile_is_shared_by_layers_and_changes_no_bit(name, dtype):
    net, x = chained(name, dtype)
    runner = net._engines.runner
    for samples in (1, 5, 17, runner.panel):
        few = np.ascontiguousarray(x[:samples].reshape(samples, -1))
        alone = np.full((samples, runner.program.widths[-1]), np.nan, dtype)
        runner.value(few, alone)
        for threads in (2, 5, 2, 5, 3):
            shared = np.full_like(alone, np.nan)
            runner.value(few, shared, threads)
            assert shared.tobytes() == alone.tobytes()


def wide(dtype="float32", activation="tanh"):
    rng = np.random.default_rng(4)
    widths = (40, 300, 200, 260, 70)
    return refgrad.Network.sequential(
        [(rng.normal(size=pair).astype(dtype) / 9, rng.normal(size=pair[1]).astype(dtype), activation)
         for pair in itertools.pairwise(widths)]
    )  # fmt: skip


@pytest.mark.parametrize("samples", [1, 32, 200])
def test_many_callers_at_once_have_results_of_their_own(samples):
    net = wide()
    given = [np.random.default_rng(seed).normal(size=(samples, 40)).astype("f4") for seed in range(6)]
    wanted = [net.value_and_jacobian(x, threads=1) for x in given]
    wrong = []

    def call(place):
        for _ in range(15):
            y, jacobian = net.value_and_jacobian(given[place], threads=3)
            same = y.tobytes() == wanted[place][0].tobytes() == net(given[place], threads=3).tobytes()
            if not same or jacobian.tobytes() != wanted[place][1].tobytes():
                wrong.append(place)

    callers = [threading.Thread(target=call, args=(place,)) for place in range(len(given))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@every_dtype
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_products_are_shared_and_change_no_bit(dtype, direction):
    net, rng = wide(dtype), np.random.default_rng(5)
    for samples, k in ((200, 1), (200, 5), (40, 30)):
        x = rng.normal(size=(samples, 40)).astype(dtype)
        call, n = (net.jvp, 40) if direction == "forward" else (net.vjp, 70)
        vectors = rng.normal(size=(k, samples, n)).astype(dtype)
        one, three = (call(x, vectors, threads=threads) for threads in (1, 3))
        for alone, shared in zip(one, three, strict=True):
            assert shared.tobytes() == alone.tobytes()


def test_what_has_no_memory_says_so(monkeypatch):
    from refgrad.kernels import calling

    def fail(network, x, y, jacobian, batch):
        return 0

    net = wide()
    runner, failing = net._engines.runner, calling.address(fail, 5)
    x, y = np.zeros((100, 40), "f4"), np.zeros((100, 70), "f4")
    monkeypatch.setattr(run.Runner, "_entry", lambda *_: failing)
    for threads in (1, 3):
        with pytest.raises(MemoryError):
            runner.value(x, y, threads)
    assert runner.values_header()[0][ENTRY] == failing


def test_a_helper_leaves_when_python_ends():
    """Awake or asleep: the code it runs is taken away then."""
    code = """
import sys, time, numpy as np, refgrad
net = refgrad.Network.sequential([(np.ones((300, 300), "f4"), None, "tanh")] * 3)
net(np.ones((64, 300), "f4"), threads=3)
from refgrad.kernels import team
import atexit
@atexit.register
def say():
    team._at_exit()
    print([thread.is_alive() for thread in team._team.threads], team.helped(2)[1])
time.sleep(float(sys.argv[1]))
"""
    for rest in ("0", "0.05"):
        done = subprocess.run([sys.executable, "-c", code, rest], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "[False, False] 0\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_process_has_helpers_of_its_own():
    code = """
import os, numpy as np, refgrad
net, x = refgrad.Network.sequential([(np.ones((300, 300), "f4") / 300, None, "tanh")] * 3), np.ones((64, 300), "f4")
wanted = net(x, threads=3)
from refgrad.kernels import team
count = team._team.count
child = os.fork()
fine = team._team.count == (count if child else 0) and (net(x, threads=3) == wanted).all() and team._team.count == 2
if child == 0:
    os._exit(0 if fine else 1)
print(fine, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True 0\n", done.stderr


def test_an_interrupted_start_does_not_give_two_helpers_one_place():
    """Ctrl-C comes while Python waits for the new thread to say that it runs."""
    code = """
import threading, time, numpy as np, refgrad
net = refgrad.Network.sequential([(np.ones((300, 300), "f4") / 300, None, "tanh")] * 3)
runner, x = net._engines.runner, np.ones((1, 300), "f4")
start, interrupted = threading.Thread.start, []
def once(thread):
    start(thread)
    if not interrupted:
        interrupted.append(thread)
        raise KeyboardInterrupt
threading.Thread.start = once
wanted, y = net(x, threads=1), np.empty((1, 300), "f4")
for _ in range(20_000):
    try:
        runner.value(x, y, 2)
    except KeyboardInterrupt:
        continue
    assert (y == wanted).all()
print(len(interrupted), sum(thread.name.startswith("refgrad_kernels") for thread in threading.enumerate()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1 1\n"), done.stderr
