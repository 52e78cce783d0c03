"""How each framework is asked for a value and a Jacobian: one file each, and the table that names them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refgrad.auditing.frameworks import differences, jax, tensorflow, torch
from refgrad.auditing.frameworks.reference import Question, Reference

FRAMEWORKS: Mapping[str, Callable[[Question], Reference]] = {
    "tensorflow": tensorflow.eager,
    "tensorflow-function": tensorflow.function,
    "xla": tensorflow.xla,
    "jax": jax.ask,
    "torch": torch.ask,
    "finite-differences": differences.finite,
    "complex-step": differences.complex_step,
}
"""The functions that ask a framework, by its name; each imports its framework only when it is called."""
