"""How kernels are compiled: with which options, once, and kept on disk under a name that changes with any source.

Modules that import this one import numba, so they are themselves imported only where a kernel is about to run.

Every cached function needs a name that no other function has in any process. The linker knows machine code by the
function's qualified name and a count of what its process had compiled before; two functions that different processes
compiled and cached can agree in both, and a third process that loads both then runs one's code for the other, without a
word: a sigmoid in the place of a tanh. So what is made from a template, such as the loop of an activation, carries the
activation and the dtype in its name, and all names carry the digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba.core.codegen import get_host_cpu_features
from numba.extending import register_jitable

import refgrad.activations

_ROOMS = (Path(refgrad.activations.__file__).parent, Path(__file__).parent)
_SOURCES = tuple(source for room in _ROOMS for source in sorted(room.glob("*.py")))

# No "fastmath": a sum must not change its order, nor NaN and infinity their meaning, nor two loops round differently.
OPTIONS: dict[str, Any] = {"nopython": True, "error_model": "numpy"}
jit: Any = partial(numba.njit, nogil=True, error_model="numpy")
# A called function counts references to every array it is given, which costs more than small layers do.
inline: Any = register_jitable(nogil=True, error_model="numpy", forceinline=True)


def features() -> str:
    """What the machine can do, as LLVM names it (+avx2,-avx512f,…), or what `NUMBA_CPU_FEATURES` says instead."""
    stated = numba.config.CPU_FEATURES
    return str(get_host_cpu_features() if stated is None else stated)


def _machine() -> str:
    return f"{numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name()} {features()}"


@cache
def digest() -> str:
    """Of all that ends up in the machine code: sources, compiler, NumPy, and what the machine can do."""
    texts = b"".join(source.read_bytes() for source in _SOURCES)
    versions = f"{numba.__version__} {llvmlite.__version__} {np.__version__} {_machine()}"
    return hashlib.sha256(texts + versions.encode()).hexdigest()[:16]


def cached(function: Callable[..., Any], compiled: Callable[..., Any]) -> Any:
    """Compile by `compiled(function, cache=…)` with Numba's disk cache, if there is a folder for one.

    Numba itself looks only at the file of the cached function: after an edit of a callee in another file, such as an
    activation, it would run stale code. The digest is part of the function's name and so of the cache file's.
    """
    function.__qualname__ = f"{function.__name__}-{digest()}"
    try:
        return compiled(function, cache=True)
    except RuntimeError:  # no folder for a cache can be written: compile anew in each process
        return compiled(function, cache=False)


def pointed(function: Callable[..., Any], signature: Any) -> Any:
    """A C function, which is called by its address; it raises nothing, and whoever has its address keeps it alive."""
    return cached(function, lambda body, cache: numba.cfunc(signature, cache=cache, **OPTIONS)(body))


def called(function: Callable[..., Any]) -> Any:
    """A function that kernels call, where `inline` would compile it in many places and the call costs little."""
    function.__qualname__ = f"{function.__name__}-{digest()}"
    return jit(function)


def kernel(function: Callable[..., Any]) -> Any:
    """A function that Python calls."""
    return cached(function, jit)
