"""Which inputs, outputs and features a caller means, and how results for several of them are handed back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Shape
from refgrad.errors import InputError

T = TypeVar("T")
Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ends:
    """Some of a network's inputs or outputs: their places, their names, and whether results go by name."""

    places: tuple[int, ...]
    names: tuple[str, ...]
    named: bool

    def pack(self, items: Sequence[T]) -> T | dict[str, T]:
        """One thing for each end: by name, or the only one itself."""
        return dict(zip(self.names, items, strict=True)) if self.named else items[0]

    def unpack(self, given: Any, what: str) -> list[Any]:
        """The inverse of `pack`, of what a caller gave for `what`; None for each if that was None."""
        if given is None:
            return [None] * len(self.names)
        if not self.named:
            return [given]
        if not isinstance(given, Mapping) or set(given) != set(self.names):
            msg = f"{what} must be a dict with the keys {', '.join(map(repr, self.names))}"
            raise InputError(msg)
        return [given[name] for name in self.names]


def choose(option: str, given: Any, names: tuple[str, ...]) -> Ends:
    """The ends that `outputs=` or `inputs=` asks for: all for None, one for a name or index, a dict for a list."""
    if given is None:
        return Ends(tuple(range(len(names))), names, named=len(names) > 1)
    several = isinstance(given, list | tuple)
    places = []
    for end in given if several else [given]:
        if isinstance(end, str) and end in names:
            places.append(names.index(end))
        elif isinstance(end, int | np.integer) and not isinstance(end, bool) and -len(names) <= end < len(names):
            places.append(int(end) % len(names))
        else:
            msg = f"{option}={given!r}: there is no {end!r}; there are {', '.join(map(repr, names))}, or their places"
            raise InputError(msg)
    if not places or len(set(places)) != len(places):
        msg = f"{option}={given!r}: each of {', '.join(map(repr, names))} can be asked for, once, and one at least"
        raise InputError(msg)
    return Ends(tuple(places), tuple(names[place] for place in places), named=several)


def features(option: str, given: Any, shapes: Sequence[Shape]) -> Positions | None:
    """The positions, among all numbers of a tensor, that an index of its feature axes picks; None picks all.

    `given` is anything that indexes an array of that shape in NumPy; the result has the shape of what it picks.
    """
    if given is None:
        return None
    if len(shapes) != 1:
        msg = f"{option} indexes one tensor; choose which with {option.split('_')[0]}s="
        raise InputError(msg)
    places = np.arange(int(np.prod(shapes[0])), dtype=np.intp).reshape(shapes[0])
    try:
        picked = places[tuple(given) if isinstance(given, tuple) else given]
    except (IndexError, ValueError, TypeError) as error:
        msg = f"{option}={given!r} does not index features of shape {shapes[0]}: {error}"
        raise InputError(msg) from None
    return np.array(picked, dtype=np.intp)
