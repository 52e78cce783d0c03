"""How each framework is asked for a value and a Jacobian: one file each, and the table that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refgrad.auditing.frameworks import tensorflow
from refgrad.auditing.frameworks.reference import Question, Reference

FRAMEWORKS: Mapping[str, Callable[[Question], Reference]] = {"tensorflow": tensorflow.ask}
"""The functions that ask a framework, by its name; each imports its framework only when it is called."""
