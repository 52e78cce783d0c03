"""Opens files one by one, each in a fork that is watched: what it runs, imports and opens, and what it costs.

`python -m tests.opening` reads a task a line, `{"folder", "path", "others", "named"}`, and answers each with one line.
Python's audit events tell of what Python does. What HDF5's C code opens, the kernel tells: every file in the folder but
those named is watched by inotify.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

import refgrad
from tests.cases import CONTAINERS, GOLDEN, STEMS, golden_arguments

FORBIDDEN = (
    "exec", "compile", "import", "marshal.", "pickle.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn",
    "subprocess.", "socket.", "ctypes.", "code.__new__", "urllib.", "os.remove", "os.rename", "os.mkdir", "os.link",
    "os.symlink", "os.truncate", "shutil.", "tempfile.", "os.listdir", "os.scandir", "webbrowser.", "open",
)  # fmt: skip
OPENED = 0x1 | 0x2 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x4
"""inotify: read, written, opened, moved, made, removed, or changed in its attributes."""


def warm_up(folder):
    """Everything that is imported on the way is imported now."""
    import refgrad.keras.archive
    import refgrad.keras.build

    for stem in STEMS:
        for container in CONTAINERS:
            (path,), others = golden_arguments(stem, container)
            net = refgrad.load(path, **others)
    refgrad.save(net, folder / "warm.npz")
    refgrad.load(folder / "warm.npz")
    for path in (folder / "nowhere", GOLDEN / "golden.json", b"{", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"):
        with suppress(refgrad.RefgradError):
            refgrad.load(path)


def _is_read(path, mode, flags, named):
    """Whether one of the named files is opened, and not to be written."""
    writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if mode is None else set(mode) & set("wax+")
    return str(path) in named and not writing


def look(task):
    """Open what a task names, and say what came of it."""
    named, events = set(task["named"]), []
    os.chdir(task["folder"])
    sys.path.insert(0, task["folder"])

    def hook(event, arguments):
        if event == "open" and (isinstance(arguments[0], int) or _is_read(*arguments, named)):
            return
        if event.startswith(FORBIDDEN):
            events.append(f"{event} {arguments!s:.80}")

    said = {}
    before = resource.getrusage(resource.RUSAGE_SELF)
    sys.addaudithook(hook)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            net = refgrad.load(task["path"], **task["others"])
            digest, nodes = net.digest, len(net.graph.nodes)
        said = {"outcome": "network", "digest": digest, "nodes": nodes, "warnings": [str(it.message) for it in caught]}
    except refgrad.RefgradError as error:
        said = {"outcome": type(error).__name__, "message": str(error)}
    except BaseException as error:
        said = {"outcome": f"{type(error).__name__}: {error!s:.300}"}
    found = list(events)
    after = resource.getrusage(resource.RUSAGE_SELF)
    said["events"] = found
    said["seconds"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said["mebibytes"] = (after.ru_maxrss - before.ru_maxrss) >> 10
    return said


class Watch:
    """What the kernel sees happen in a folder."""

    def __init__(self, folder):
        self.libc = ctypes.CDLL(None)
        self.descriptor = self.libc.inotify_init1(os.O_NONBLOCK)
        self.libc.inotify_add_watch(self.descriptor, os.fsencode(folder), OPENED)

    def seen(self, named):
        """The names of files that something happened to, those named left out if they were only read."""
        found, names = [], {Path(path).name for path in named}
        try:
            while content := os.read(self.descriptor, 1 << 16):
                at = 0
                while at < len(content):
                    _, mask, _, length = struct.unpack_from("iIII", content, at)
                    name = content[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                    at += 16 + length
                    if name and (name not in names or mask & ~0x21):
                        found.append(f"{name} {mask:#x}")
        except BlockingIOError:
            pass
        os.close(self.descriptor)
        return found


def watched(task):
    """What a fork says of a task."""
    watch = Watch(task["folder"])
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            signal.alarm(30)
            resource.setrlimit(resource.RLIMIT_AS, (6 << 30,) * 2)
            os.write(write, json.dumps(look(task)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        text = stream.read()
    _, status = os.waitpid(pid, 0)
    said = json.loads(text) if text else {"outcome": f"crash or hang, status {status}", "events": []}
    said["touched"] = watch.seen(task["named"])
    return said


def main():
    warm_up(Path(sys.argv[1]))
    np.linalg.norm(np.ones(3))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        start = time.monotonic()
        said = watched(json.loads(line))
        said["wall"] = time.monotonic() - start
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
