"""One batch shared out among threads: who is next takes the next samples.

A thread that comes late, or never, is only missed by as much as it would have done.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.kernels import calling
from refgrad.kernels.atomic import add, read
from refgrad.kernels.calling import do, enter
from refgrad.kernels.compiling import kernel
from refgrad.kernels.header import ENTRY, J_BYTES, PLACES, X_BYTES, Y_BYTES
from refgrad.kernels.team import FIELDS, FUNCTION, ask, dismiss
from refgrad.kernels.windows import places_at

NETWORK, X, Y, JACOBIAN, BATCH, PIECE, FAILED = range(FIELDS, FIELDS + 7)
TAKEN, LONG = 16, 24
"""How many samples are taken, on a cache line of its own."""


def samples(job: Any, place: Any) -> Any:
    """Do samples that nobody else has taken, until there are none."""
    told = places_at(job, 1, LONG).reshape(-1)
    network, batch, piece = told[NETWORK], told[BATCH], told[PIECE]
    header = places_at(network, 1, PLACES).reshape(-1)
    start = add(told, TAKEN, piece)
    while start < batch:
        x, y = told[X] + start * header[X_BYTES], told[Y] + start * header[Y_BYTES]
        jacobian = told[JACOBIAN] + start * header[J_BYTES]
        if not enter(header[ENTRY], network, x, y, jacobian, min(piece, batch - start)):
            add(told, FAILED, 1)
            break
        start = add(told, TAKEN, piece)
    return 0


def address() -> int:
    """Where `samples` starts."""
    return calling.address(samples, 2)


@kernel
def share(network: Any, x: Any, y: Any, to: Any, piece: Any, function: Any, team: Any, helpers: Any) -> None:
    """What `plain` does, in pieces of so many samples, with so many helpers."""
    told = np.zeros(LONG, np.int64)
    job = told.ctypes.data
    told[FUNCTION], told[NETWORK], told[BATCH], told[PIECE] = function, network, len(x), piece
    told[X], told[Y], told[JACOBIAN] = x.ctypes.data, y.ctypes.data, to
    asked = ask(team, helpers, job)
    do(function, job, 0)
    dismiss(team, helpers, job, asked)
    if read(told, FAILED):
        raise MemoryError
