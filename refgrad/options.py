"""What a derivative may be asked to do, checked once: the options of `jacobian` and its kin."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from refgrad.errors import InputError

Mode = Literal["auto", "forward", "reverse", "split"]
Kink = Literal["keras", "left", "right", "mean", "raise"]
Engine = Literal["auto", "numpy", "numba"]
Algorithm = Literal["chain", "staircase"]
Method = TypeVar("Method", bound=Callable[..., Any])
MAX_BYTES = 256 * 2**20


class Request(TypedDict, total=False):
    """The options as keyword arguments; `Options` says what each means."""

    outputs: str | int | Sequence[str | int] | None
    inputs: str | int | Sequence[str | int] | None
    output_index: Any
    input_index: Any
    mode: Mode
    kink: Kink
    engine: Engine
    algorithm: Algorithm | None
    threads: int | None
    max_bytes: int | None
    out: npt.NDArray[Any] | dict[str, Any] | tuple[Any, Any] | None
    progress: bool


@dataclass(frozen=True)
class Options:
    """How a Jacobian is computed, and what of it.

    `outputs`, `inputs`: which tensors, by name or place; a list gives a dict. `output_index`, `input_index`: which of
    their features, as NumPy indexes them: J is `(batch, *y[0][output_index].shape, *x[0][input_index].shape)`.

    `mode`: the end the chain is multiplied from: "forward" pushes unit tangents from the input, "reverse" pulls unit
    cotangents from the output, "split" does both to a tensor that all paths pass, and multiplies there (where there is
    none, it does what "auto" does without it). "auto" takes what needs fewest multiply–adds.

    `algorithm`: "chain" multiplies from layer to layer; "staircase" looks value and slope up in a table of the
    intervals between breakpoints, which continuous piecewise-linear networks of one input number have, and asks the
    chain near a breakpoint. None takes the table for batches that are worth making it, unless engine="numpy".

    `kink`: a unit's slope exactly on a kink. `engine`: what computes; "numba" runs a plain chain, or the chains that
    are in a graph with NumPy between them. `threads`: how many at most; None for
    `REFGRAD_NUM_THREADS` or all allowed. `max_bytes` bounds temporaries, None at 256 MiB: the batch is worked in
    chunks, which NumPy has smaller than that, for it is faster so. `out`: arrays to write into. `progress`: show a bar
    on standard error once the work takes over a second.
    """

    outputs: Any = None
    inputs: Any = None
    output_index: Any = None
    input_index: Any = None
    mode: Mode = "auto"
    kink: Kink = "keras"
    engine: Engine = "auto"
    algorithm: Algorithm | None = None
    threads: int | None = None
    max_bytes: int | None = None
    out: Any = None
    progress: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not one of the alternatives."""
        check("mode", self.mode, _MODES)
        check("kink", self.kink, _KINKS)
        check("engine", self.engine, ENGINES)
        if self.algorithm is not None:
            check("algorithm", self.algorithm, _ALGORITHMS)
        if self.max_bytes is not None:
            check_count("max_bytes", self.max_bytes)
        check_threads(self.threads)
        if not isinstance(self.progress, bool | np.bool_):
            msg = f"progress={self.progress!r} is neither True nor False"
            raise InputError(msg)


_KNOWN = frozenset(field.name for field in fields(Options))


def asked(given: dict[str, Any]) -> Options:
    """The options given by keyword, if there are such."""
    for name in given:
        if name not in _KNOWN:
            msg = f"there is no option {name!r}; there are {', '.join(sorted(_KNOWN))}"
            raise InputError(msg)
    return Options(**given)


def takes_options(method: Method) -> Method:
    """Let a method with `**options` show them all to `help()` and to completion."""
    seen = inspect.signature(method)
    named = [parameter for parameter in seen.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    shown = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Options)
    ]
    method.__signature__ = seen.replace(parameters=[*named, *shown])  # type: ignore[attr-defined]
    return method


_MODES, _KINKS, ENGINES, _ALGORITHMS = map(get_args, (Mode, Kink, Engine, Algorithm))


def check(option: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse a value that is not one of those allowed."""
    if not isinstance(value, str) or value not in allowed:
        msg = f"{option}={value!r} is not one of {', '.join(map(repr, allowed))}"
        raise InputError(msg)


def check_count(option: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number, or less than `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        msg = f"{option}={value!r} is not a whole number above {least - 1}"
        raise InputError(msg)


def check_threads(threads: Any) -> None:
    """Refuse a number of threads that is none."""
    if threads is not None:
        check_count("threads", threads)


def check_samples(samples: Any) -> None:
    """Refuse a number of samples that is none."""
    if not isinstance(samples, int | np.integer) or isinstance(samples, bool) or samples < 0:
        msg = f"{samples!r} is no number of samples"
        raise InputError(msg)


def check_product(kink: Any, threads: Any) -> None:
    """Refuse options that `jvp` and `vjp` cannot follow."""
    check("kink", kink, _KINKS)
    check_threads(threads)
