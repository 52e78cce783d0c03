"""What is asked of a network most, with as little as can be said: where it is, and the arrays."""

from __future__ import annotations

from typing import Any

from refgrad.kernels.calling import enter
from refgrad.kernels.compiling import kernel
from refgrad.kernels.header import ENTRY, PLACES
from refgrad.kernels.windows import places_at


@kernel
def plain(network: Any, x: Any, y: Any, to: Any) -> None:
    """y (batch, n_out) for x (batch, n_in), by what the header at an address says, and whatever goes to another."""
    entry = places_at(network, 1, PLACES)[0, ENTRY]
    if not enter(entry, network, x.ctypes.data, y.ctypes.data, to, len(x)):
        raise MemoryError


@kernel
def plain_rows(network: Any, x: Any, y: Any, jacobian: Any) -> None:
    """The same with a jacobian (batch, n_out, n_in), whose address Python would take long to find out."""
    entry = places_at(network, 1, PLACES)[0, ENTRY]
    if not enter(entry, network, x.ctypes.data, y.ctypes.data, jacobian.ctypes.data, len(x)):
        raise MemoryError
