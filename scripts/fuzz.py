"""Files by the thousand, made from good ones: `python scripts/fuzz.py --minutes 10` in .venv.

Each is opened in a child with limits and an audit hook. It must give a network that computes, or a `RefgradError`,
within 2 seconds and 300 MiB, and run, import and open nothing; a zip or an .npz of which only bytes were changed gives
the network it was made from or none. Whatever else happens is kept in a folder, with its number: `--only N` does it
again in this process. Linux only.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
from mutations import bytes_changed, hdf5_changed, json_changed, zip_changed  # noqa: E402
from seeds import seeds  # noqa: E402
from structures import edited  # noqa: E402

import refgrad  # noqa: E402
from tests.hostile.table import canaries  # noqa: E402
from tests.opening import FORBIDDEN, Watch, warm_up  # noqa: E402

BATCH = 100
Arguments = tuple[bytes, dict[str, bytes], str | None]
"""What is given to `load`, and the digest that a network of it must have, if it must have one."""


class Seeds:
    """The good files, and what is made of them: every other batch by hypothesis."""

    def __init__(self) -> None:
        self.files = seeds()
        self.digests = {id(it): refgrad.load(it.content).digest for it in self.files if it.kind == "zip"}
        self.batches: dict[tuple[int, int], list[Arguments]] = {}

    def made(self, seed: int, number: int) -> Arguments:
        """The file of a number."""
        if number // BATCH % 2:
            return self._drawn(seed, number // BATCH)[number % BATCH]
        rng = random.Random(f"{seed}/{number}")
        kind = rng.choice(("zip", "zip", "zip", "h5", "h5", "h5", "json"))
        one, other = (rng.choice([it for it in self.files if it.kind == kind]) for _ in range(2))
        if kind == "zip":
            if rng.random() < 0.4:
                return bytes_changed(one.content, other.content, rng), {}, self.digests[id(one)]
            return zip_changed(one.content, other.content, rng), {}, None
        change = {"json": json_changed, "h5": hdf5_changed}[kind]
        change = change if rng.random() < (0.8 if kind == "json" else 0.5) else bytes_changed
        return change(one.content, other.content, rng), one.others, None

    def _drawn(self, seed: int, batch: int) -> list[Arguments]:
        """What hypothesis makes for a batch; it likes to make the same thing again."""
        if (seed, batch) not in self.batches:
            found: dict[Any, Arguments] = {}

            @hypothesis.seed(f"{seed}/{batch}")
            @hypothesis.settings(
                max_examples=3 * BATCH // 2,
                database=None,
                deadline=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(edited(lambda: self.files))
            def draw(arguments: Arguments) -> None:
                found[arguments[0], *arguments[1].values()] = arguments

            # what memory there is may decide what can be drawn
            with warnings.catch_warnings(action="ignore"), suppress(hypothesis.errors.Flaky):
                draw()
            self.batches = {(seed, batch): [*islice(cycle(found.values()), BATCH)]}
        return self.batches[seed, batch]


def tried(arguments: Arguments) -> str:
    """What came of a file: "network" or the name of the refusal, or a complaint that begins with "!"."""
    content, others, digest = arguments
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", refgrad.RefgradWarning)
            net = refgrad.load(content, **others)
    except refgrad.RefgradError as error:
        text = str(error)
        return f"!message {text:.200}" if len(text) > 2000 or text.count("\n") > 3 else type(error).__name__
    if digest is not None and net.digest != digest:
        return "!another network than the one in the file"
    if sum(np.prod(shape) for shape in net.graph.shapes) < 10**5:
        with np.errstate(all="ignore"):
            net(
                {name: np.ones((1, *shape)) for name, shape in zip(net.input_names, net.input_shapes, strict=True)},
                engine="numpy",
            )
    return "network"


def _watched(good: Seeds, seed: int, numbers: range, place: mmap.mmap, answers: int) -> None:
    """In a child: try each file, and write a line about each."""
    events: list[str] = []

    def hook(event: str, arguments: Any) -> None:
        if event.startswith(FORBIDDEN) and armed:
            events.append(f"{event} {arguments!s:.80}")

    armed = False
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30,) * 2)
    sys.addaudithook(hook)
    for number in numbers:
        struct.pack_into("<q", place, 0, number)
        signal.alarm(600)  # hypothesis makes a batch at once, on a busy machine in minutes
        try:
            arguments = good.made(seed, number)
        except MemoryError:
            os.write(answers, f"{number} unmade\n".encode())
            continue
        before = resource.getrusage(resource.RUSAGE_SELF)
        signal.alarm(10)
        armed = True
        try:
            said = tried(arguments)
        except BaseException as error:
            said = f"!{type(error).__name__}: {error!s:.200}"
        armed = False
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        memory = (after.ru_maxrss - before.ru_maxrss) >> 10
        if seconds > 2 or memory > 300:
            said = f"!{seconds:.1f} s, {memory} MiB, then {said}"
        if events:
            said = f"!{events[0]}"
            events.clear()
        os.write(answers, f"{number} {' '.join(said.split())}\n".encode())


def _batch(good: Seeds, seed: int, numbers: range) -> list[tuple[int, str]]:
    """What came of some files, up to the first that ends the child."""
    place = mmap.mmap(-1, 8)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            _watched(good, seed, numbers, place, write)
            os._exit(0)
        except BaseException as error:
            os.write(write, f"{numbers[0]} !the child: {error!r}\n".encode())
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as stream:
        lines = [line.rstrip("\n").split(" ", 1) for line in stream]
    _, status = os.waitpid(pid, 0)
    found = [(int(number), said) for number, said in lines]
    if os.WIFSIGNALED(status):
        ended = (
            "a hang"
            if os.WTERMSIG(status) == signal.SIGALRM
            else f"a crash, {signal.Signals(os.WTERMSIG(status)).name}"
        )
        found.append((struct.unpack_from("<q", place)[0], f"!{ended} in libhdf5 or NumPy"))
    return found


def fuzz(seed: int, seconds: float, most: int, keep: Path) -> Counter[str]:
    """How often what came of the files; complaints are said, and their files kept."""
    made_from, counts, number, end = Seeds(), Counter[str](), 0, time.monotonic() + seconds
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        warm_up(Path(folder))
        canaries(Path(folder))
        os.chdir(folder)
        while number < most and time.monotonic() < end:
            watch = Watch(folder)
            found = _batch(made_from, seed, range(number, min(number // BATCH * BATCH + BATCH, most)))
            if found[-1][1].startswith("!a hang"):  # by the wall's clock: the machine may have slept
                found[-1:] = _batch(made_from, seed, range(found[-1][0], found[-1][0] + 1))
            touched = watch.seen([])
            counts.update(said if not said.startswith("!") else said[:40] for _, said in found)
            for place, said in [*found, *[(number, f"!touched {name}") for name in touched]]:
                if said.startswith("!"):
                    counts["complaints"] += 1
                    content, others, _ = made_from.made(seed, place)
                    (keep / f"{seed}-{place}.bin").write_bytes(content)
                    sys.stdout.write(f"{seed}/{place}: {said[1:]} (beside {', '.join(others) or 'nothing'})\n")
                    sys.stdout.flush()
            number = found[-1][0] + 1
        os.chdir(ROOT)
    counts["files"] = number
    return counts


def main() -> int:
    """Parse the command line, and try files until the time is over."""
    parser = argparse.ArgumentParser(description="Open files made from good ones, and see that nothing happens.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--most", type=int, default=10**9, help="how many files at most")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "refgrad-fuzz")
    parser.add_argument("--only", type=int, help="open the file of this number of the seed, here")
    arguments = parser.parse_args()
    if arguments.only is not None:
        sys.stdout.write(f"{tried(Seeds().made(arguments.seed, arguments.only))}\n")
        return 0
    counts = fuzz(arguments.seed, 60 * arguments.minutes, arguments.most, arguments.keep.resolve())
    sys.stdout.write(
        f"seed {arguments.seed}: {', '.join(f'{said} {count:,}' for said, count in sorted(counts.items()))}\n"
    )
    return 1 if counts["complaints"] else 0


if __name__ == "__main__":
    sys.exit(main())
