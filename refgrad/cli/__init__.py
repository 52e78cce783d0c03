"""The command line: `refgrad COMMAND …`, exit 0 passed, 1 audit or verification failed, 2 bad input."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from refgrad.errors import RefgradError, VerificationError

_INTERRUPTED = 130  # what a shell reports after Ctrl-C, and
_CLOSED_PIPE = 141  # after a reader such as `head` has closed the pipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        from refgrad.cli.parser import build_parser  # here, so that Ctrl-C is quiet while modules load, too

        arguments = build_parser().parse_args(argv)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except RefgradError as error:
        return _refused(str(error), 1 if isinstance(error, VerificationError) else 2)
    except MemoryError as error:
        return _refused(f"not enough memory: {error or 'even for a little more'}", 2)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return _CLOSED_PIPE
    except OSError as error:
        if error.filename is None:
            _discard_output()
        return _refused(f"{error.filename or 'the output'}: {error.strerror or error}", 2)
    return status


def _refused(message: str, status: int) -> int:
    sys.stderr.write(f"refgrad: {' '.join(message.split())}\n")
    return status


def _discard_output() -> None:
    """Python flushes stdout once more on exit: give what is left somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run() -> None:
    """The console script."""
    if sys.stdout is None:  # closed by whoever started this: nobody wants the result, only the exit status
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process lives
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever the terminal's encoding cannot say becomes a question mark
            stream.reconfigure(errors="replace")
    sys.exit(main())
