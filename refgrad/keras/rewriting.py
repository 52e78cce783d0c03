"""What was read as something else than the file says, and by which rule: noted where it happens, shown by `inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from refgrad.graph import Rewriting

MOST = 10_000
"""The most rewritings that are noted: a file may have a hundred thousand layers."""

_noted: ContextVar[dict[Rewriting, None] | None] = ContextVar("noted", default=None)
_place: ContextVar[str] = ContextVar("place", default="")


@contextmanager
def noting() -> Iterator[None]:
    """Begin with nothing noted; without this, nothing is."""
    token = _noted.set({})
    try:
        yield
    finally:
        _noted.reset(token)


@contextmanager
def within(layer: str) -> Iterator[None]:
    """Say of which layer what is noted inside is."""
    token = _place.set(layer)
    try:
        yield
    finally:
        _place.reset(token)


def rewritten(rule: str, what: str, where: str | None = None) -> None:
    """Note that a rule has changed something, of this layer or the one that is being read."""
    noted = _noted.get()
    if noted is not None and len(noted) < MOST:
        noted[Rewriting(rule, _place.get() if where is None else where, what)] = None


def so_far() -> tuple[Rewriting, ...]:
    """All that was noted, each once, in order."""
    return tuple(_noted.get() or ())
