"""Trained Keras networks as plain NumPy, with exact derivatives that are checked.

    >>> net = refgrad.load("model.keras")
    >>> net.gradient(0.5)

Importing this package loads nothing of weight; each name is found when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refgrad import exact
    from refgrad.artifact import save
    from refgrad.auditing.audit import audit
    from refgrad.auditing.report import Report
    from refgrad.errors import (
        FormatError,
        InputError,
        KinkError,
        LimitError,
        MismatchError,
        MissingExtraError,
        RefgradError,
        RefgradWarning,
        UnsupportedError,
        VerificationError,
    )
    from refgrad.keras.write import to_keras
    from refgrad.limits import Limits
    from refgrad.loading import from_keras, load
    from refgrad.network import Network
    from refgrad.options import Options

__version__ = "0.1.0"

_HOMES = {
    "Limits": "refgrad.limits",
    "Network": "refgrad.network",
    "Options": "refgrad.options",
    "Report": "refgrad.auditing.report",
    "audit": "refgrad.auditing.audit",
    "from_keras": "refgrad.loading",
    "load": "refgrad.loading",
    "save": "refgrad.artifact",
    "to_keras": "refgrad.keras.write",
}
"""The modules of the public names; all others are in `refgrad.errors`."""

__all__ = [
    "FormatError",
    "InputError",
    "KinkError",
    "LimitError",
    "Limits",
    "MismatchError",
    "MissingExtraError",
    "Network",
    "Options",
    "RefgradError",
    "RefgradWarning",
    "Report",
    "UnsupportedError",
    "VerificationError",
    "__version__",
    "audit",
    "exact",
    "from_keras",
    "load",
    "save",
    "to_keras",
]


def __getattr__(name: str) -> Any:
    """Find a public name in the module that defines it; `exact` is a room of its own."""
    if name not in __all__:
        msg = f"module 'refgrad' has no attribute {name!r}"
        raise AttributeError(msg)
    if name == "exact":
        return import_module("refgrad.exact")
    return getattr(import_module(_HOMES.get(name, "refgrad.errors")), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
