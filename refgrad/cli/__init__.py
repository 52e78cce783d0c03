"""The command line: `refgrad COMMAND …`, exit 0 passed, 1 audit or verification failed, 2 bad input."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from refgrad.cli.parser import build_parser
from refgrad.errors import RefgradError, RefgradWarning, VerificationError

_INTERRUPTED = 130  # what a shell reports after Ctrl-C, and
_CLOSED_PIPE = 141  # after a reader such as `head` has closed the pipe


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del category, filename, lineno, file, line
    sys.stderr.write(f"refgrad: warning: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RefgradWarning)
            warnings.showwarning = _say_warning
            status: int = arguments.run(arguments)
            sys.stdout.flush()
    except RefgradError as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"refgrad: {message}\n")
        return 1 if isinstance(error, VerificationError) else 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more on exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE
    return status


def run() -> None:
    """The console script."""
    sys.exit(main())
