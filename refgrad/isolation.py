"""Reading a model in a child process: what libhdf5 does to that process, it does not do to this one.

The child gets its task on standard input and answers on standard output, both as a length, so many bytes of JSON, and
raw bytes. It answers with a refgrad file, which is read as carefully as any; nothing is unpickled. What the child may
use is limited, where the platform can: address space, processor time, and by this process the time on the clock.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

from refgrad import artifact, errors
from refgrad.errors import FormatError, InputError, LimitError, RefgradError, RefgradWarning
from refgrad.graph import Rewriting
from refgrad.limits import Limits
from refgrad.network import Network

_LENGTH = struct.Struct("<Q")
_LONGEST_ANSWER = 1 << 20
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from refgrad.child import main; main()"


@dataclass(frozen=True)
class Task:
    """What is to be read: each of the files as a path, or as its content."""

    files: dict[str, str | bytes | None]
    verify: bool
    limits: Limits


def framed(said: dict[str, Any], raw: bytes = b"") -> bytes:
    """A message."""
    text = json.dumps(said).encode()
    return _LENGTH.pack(len(text)) + text + raw


def heard(message: bytes) -> tuple[Any, bytes]:
    """What a message says, and its raw bytes."""
    (length,) = _LENGTH.unpack_from(message)
    return json.loads(message[_LENGTH.size : _LENGTH.size + length]), message[_LENGTH.size + length :]


def asked(task: Task) -> bytes:
    """The message that asks for a task."""
    contents = {name: given for name, given in task.files.items() if isinstance(given, bytes)}
    paths = {name: given for name, given in task.files.items() if name not in contents}
    sizes = {name: len(given) for name, given in contents.items()}
    said = {"paths": paths, "sizes": sizes, "verify": task.verify, "limits": asdict(task.limits)}
    return framed(said, b"".join(contents.values()))


def understood(message: bytes) -> Task:
    """The task that a message asks for."""
    said, raw = heard(message)
    files, at = dict(said["paths"]), 0
    for name, size in said["sizes"].items():
        files[name] = raw[at : at + size]
        at += size
    return Task(files, said["verify"], Limits(**said["limits"]))


def _stored(task: Task) -> int:
    """How many bytes all that is to be read is stored in."""
    sizes = [len(given) for given in task.files.values() if isinstance(given, bytes)]
    for given in task.files.values():
        with suppress(OSError, ValueError):
            sizes += [Path(given).stat().st_size] if isinstance(given, str) else []
    return sum(sizes)


def _answer(child: subprocess.Popen[bytes], question: bytes, most: int, seconds: int) -> bytes | None:
    """All that a child says, or None if it takes too long; a child that is not heard to the end is ended."""
    said: list[bytes] = []

    def talk(stream: BinaryIO) -> None:
        with suppress(OSError), stream:
            stream.write(question)

    def listen(stream: BinaryIO) -> None:
        with stream:
            said.append(stream.read(most + 1))

    parts = [Thread(target=talk, args=[child.stdin]), Thread(target=listen, args=[child.stdout])]
    try:
        for part in parts:
            part.start()
        parts[1].join(seconds)
        late = parts[1].is_alive() or len(said[0]) > most
        if not late:
            child.wait(1)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        child.kill()
        child.wait()
        for part in parts:
            part.join()
    return None if late else said[0]


def _how(status: int) -> str:
    """How a child ended that gave no answer."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def read(task: Task) -> tuple[Network, bool, tuple[Rewriting, ...]]:
    """The network that a child makes of a task, whether it is a Keras file's, and what was read as something else."""
    if not sys.executable:
        msg = "isolate=True needs a Python interpreter to start, and sys.executable names none"
        raise InputError(msg)
    budget = task.limits.budget(_stored(task)).memory
    command = [sys.executable, "-I", "-c", _START, json.dumps(sys.path)]
    quiet = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=quiet
    )
    message = _answer(child, asked(task), budget + _LONGEST_ANSWER, task.limits.seconds)
    if message is None:
        msg = f"the process that read it did not end within {task.limits.seconds} seconds, or said too much; "
        msg += "if you trust the file, pass limits=refgrad.Limits(seconds=…)"
        raise LimitError(msg)
    if child.returncode or len(message) < _LENGTH.size:
        msg = f"the file is damaged: the process that read it {_how(child.returncode)}"
        raise FormatError(msg)
    try:
        said, raw = heard(message)
        remarks, refusal = [str(remark) for remark in said["warnings"]], said["error"]
        rewritings = tuple(Rewriting(str(rule), str(where), str(what)) for rule, where, what in said["rewritings"])
    except (ValueError, TypeError, LookupError, struct.error, RecursionError):
        msg = "the file is damaged: the process that read it gave no answer that makes sense"
        raise FormatError(msg) from None
    for remark in remarks:
        warnings.warn(remark, RefgradWarning, stacklevel=4)
    if refusal is not None:
        found = getattr(errors, str(refusal), None)
        known = isinstance(found, type) and issubclass(found, RefgradError)
        raise (found if known else FormatError)(str(said["message"]))  # type: ignore[misc]
    return artifact.unpack(raw, task.limits), bool(said["keras"]), rewritings
