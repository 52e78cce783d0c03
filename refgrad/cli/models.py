"""Opening the model of a command, and saying what is unusual about it, once."""

from __future__ import annotations

import warnings
from argparse import Namespace

from refgrad.cli.say import complain
from refgrad.errors import RefgradWarning
from refgrad.loading import load
from refgrad.network import Network
from refgrad.paths import StrPath


def opened(path: StrPath, arguments: Namespace) -> tuple[Network, list[str]]:
    """The network of a file, as a command's options say, and each of its warnings, which standard error has shown."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RefgradWarning)
        net = load(path, config=arguments.config, weights=arguments.weights, isolate=arguments.isolate)
    for other in caught:
        if not issubclass(other.category, RefgradWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    remarks = list(dict.fromkeys(str(it.message) for it in caught if issubclass(it.category, RefgradWarning)))
    for remark in remarks:
        complain(f"warning: {path}: {remark}")
    dtype = getattr(arguments, "dtype", None)
    return (net if dtype is None else net.astype(dtype)), remarks


def model(arguments: Namespace) -> Network:
    """The network that a command is about."""
    return opened(arguments.model, arguments)[0]
