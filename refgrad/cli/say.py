"""What commands print, and when they may show progress."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from typing import Any

import numpy as np

from refgrad.arrays import Array


def say(text: str) -> None:
    """A line, or several, of the result."""
    sys.stdout.write(text + "\n")


def say_json(data: Any) -> None:
    """The result as JSON."""
    say(json.dumps(data, indent=1, allow_nan=False))


def numbers(array: Array) -> Any:
    """Nested lists; JSON has no NaN and no infinity, so they become null."""
    return np.where(np.isfinite(array), array, np.array(None)).tolist()


def complain(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"refgrad: {' '.join(text.split())}\n")


def shows_progress(arguments: Namespace) -> bool:
    """Whether somebody looks on who would like to see a bar."""
    return not arguments.quiet and sys.stderr is not None and sys.stderr.isatty()


def shows_colour() -> bool:
    """Whether standard output is a terminal whose user has not said no to colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
