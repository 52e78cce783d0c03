"""Files by the thousand, made from good ones: `python scripts/fuzz.py --minutes 10` in .venv.

Each is opened in a child with limits and an audit hook. It must give a network that computes, or a `RefgradError`,
within 2 seconds and 300 MiB, and run, import and open nothing; a zip or an .npz of which only bytes were changed gives
the network it was made from or none. Whatever else happens is kept in a folder, with its number: `--only N` does it
again in this process. Linux only.
"""

from __future__ import annotations

import argparse
import io
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import numpy as np  # noqa: E402
from mutations import bytes_changed, hdf5_changed, json_changed, zip_changed  # noqa: E402

import refgrad  # noqa: E402
from tests.cases import GOLDEN  # noqa: E402
from tests.hostile.table import canaries  # noqa: E402
from tests.opening import FORBIDDEN, Watch, warm_up  # noqa: E402

STEMS = [
    f"{name}-{writer}" for name in ("question", "mixed", "branches", "layers") for writer in ("keras3", "tf_keras")
]
BATCH = 100
Arguments = tuple[bytes, dict[str, bytes], str | None]
"""What is given to `load`, and the digest that a network of it must have, if it must have one."""


def _saved(stem: str) -> bytes:
    from refgrad.artifact import _golden, _members_of, _write
    from refgrad.network import answer

    net, file = refgrad.load(GOLDEN / f"{stem}.keras"), io.BytesIO()
    inputs = _golden(net, 2)
    _write(file, net, _members_of(inputs, answer(net, inputs, engine="numpy")))
    return file.getvalue()


class Seeds:
    """The good files by kind, and what is made of them."""

    def __init__(self) -> None:
        kinds = (".keras", ".h5", ".json", ".weights.h5", ".legacy_weights.h5")
        self.files = {kind: {stem: (GOLDEN / f"{stem}{kind}").read_bytes() for stem in STEMS} for kind in kinds}
        self.files[".npz"] = {stem: _saved(stem) for stem in STEMS}
        self.digests = {stem: refgrad.load(GOLDEN / f"{stem}.keras").digest for stem in STEMS}

    def made(self, seed: int, number: int) -> Arguments:
        """The file of a number."""
        rng = random.Random(f"{seed}/{number}")
        stem, other = rng.choice(STEMS), rng.choice(STEMS)
        kind = rng.choice((".keras", ".keras", ".h5", ".json", ".weights.h5", ".legacy_weights.h5", ".npz"))
        content, lent = self.files[kind][stem], self.files[kind][other]
        if kind in (".keras", ".npz"):
            if rng.random() < 0.4:
                return bytes_changed(content, lent, rng), {}, self.digests[stem]
            return zip_changed(content, lent, rng), {}, None
        if kind == ".json":
            weights = rng.choice((".weights.h5", ".legacy_weights.h5"))
            made = (json_changed if rng.random() < 0.8 else bytes_changed)(content, lent, rng)
            return made, {"weights": self.files[weights][stem]}, None
        made = (hdf5_changed if rng.random() < 0.5 else bytes_changed)(content, lent, rng)
        return made, {} if kind == ".h5" else {"config": self.files[".json"][stem]}, None


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


def _watched(seeds: Seeds, seed: int, numbers: range, place: mmap.mmap, answers: int) -> None:
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
        signal.alarm(60)
        try:
            arguments = seeds.made(seed, number)
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


def _batch(seeds: Seeds, seed: int, numbers: range) -> list[tuple[int, str]]:
    """What came of some files, up to the first that ends the child."""
    place = mmap.mmap(-1, 8)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            _watched(seeds, seed, numbers, place, write)
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
    seeds, counts, number, end = Seeds(), Counter[str](), 0, time.monotonic() + seconds
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        warm_up(Path(folder))
        canaries(Path(folder))
        os.chdir(folder)
        while number < most and time.monotonic() < end:
            watch = Watch(folder)
            found = _batch(seeds, seed, range(number, min(number + BATCH, most)))
            touched = watch.seen([])
            counts.update(said if not said.startswith("!") else said[:40] for _, said in found)
            for place, said in [*found, *[(number, f"!touched {name}") for name in touched]]:
                if said.startswith("!"):
                    counts["complaints"] += 1
                    content, others, _ = seeds.made(seed, place)
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
