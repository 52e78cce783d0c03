"""How each framework is asked for a value and a Jacobian: one file each, and the table that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from refgrad.auditing.frameworks.reference import Question, Reference

_HOMES: Mapping[str, str] = {"tensorflow": "refgrad.auditing.frameworks.tensorflow"}

FRAMEWORKS = tuple(_HOMES)
"""The frameworks that can be asked, by name."""


def adapter(name: str) -> Callable[[Question], Reference]:
    """The function that asks a framework; imported only now, so that only the one that is asked has to be installed."""
    ask: Callable[[Question], Reference] = import_module(_HOMES[name]).ask
    return ask
