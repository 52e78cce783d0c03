"""`refgrad warmup`: compile the kernels now, so that no later process has to."""

from __future__ import annotations

import time
from argparse import Namespace

import numpy as np

from refgrad.cli.say import complain, say, say_json
from refgrad.errors import MissingExtraError
from refgrad.kernels import run


def warmup(arguments: Namespace) -> int:
    """Compile every kernel and activation for one dtype or both, and say how long it took and where they are kept."""
    if missing := run.unavailable():
        raise MissingExtraError(missing)
    seconds = {}
    for dtype in (arguments.dtype,) if arguments.dtype else ("float32", "float64"):
        start = time.perf_counter()
        run.warm_up(np.dtype(dtype))
        seconds[dtype] = round(time.perf_counter() - start, 3)
    folder = run.cache_folder()
    if folder is None:
        complain("no folder can be written that Numba would keep a cache in: every process will compile anew")
    if arguments.json:
        say_json({"seconds": seconds, "cache": folder})
    else:
        for dtype, took in seconds.items():
            say(f"{dtype}: {took:.1f} s")
        say(f"kept in {folder or 'no file: set NUMBA_CACHE_DIR to a folder that can be written'}")
    return 0
