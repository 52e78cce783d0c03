"""The truth about a network of floats: its value and Jacobian at a float, correctly rounded, and proved to be."""

from __future__ import annotations

from refgrad.exact.flips import flips
from refgrad.exact.truth import Exact, value_and_jacobian

__all__ = ["Exact", "flips", "value_and_jacobian"]
