"""What the rows of a report come to: groups of samples, the outputs they are about, and the worst of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array
from refgrad.auditing.verdicts import OK, VERDICTS

Rows = npt.NDArray[np.void]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Group(Generic[Key]):
    """Samples that share a key: how many, of which verdicts, how many of them fail, and the worst of them."""

    key: Key
    count: int
    failing: int
    verdicts: dict[str, int]
    worst: int


def kind(verdict: str) -> str:
    """Whether a verdict is good, bad, or neither: a difference that has a reason."""
    return "bad" if verdict in VERDICTS and VERDICTS[verdict].fails else "good" if verdict == OK.name else "odd"


def severity(samples: Rows) -> Array:
    """Error ÷ noise of each sample, of its Jacobian or its value, whichever is more; -1 where neither is a number."""
    most: Array = np.nan_to_num(np.fmax(samples["ratio"], samples["value_ratio"]), nan=-1.0, posinf=np.inf)
    return most


def _codes(keys: Iterable[Key], count: int) -> tuple[list[Key], npt.NDArray[np.intp]]:
    """Different keys in the order they come, and which of them each sample has."""
    seen: dict[Key, int] = {}
    codes = np.fromiter((seen.setdefault(key, len(seen)) for key in keys), np.intp, count)
    return list(seen), codes


def fails(samples: Rows) -> npt.NDArray[np.bool_]:
    """Which samples have a verdict that fails an audit."""
    names, codes = _codes(samples["verdict"].tolist(), len(samples))
    return np.array([kind(name) == "bad" for name in names], np.bool_)[codes]


def worst(samples: Rows, most: int) -> npt.NDArray[np.intp]:
    """The samples to look at first: those that fail, then those whose errors are largest for their noise."""
    return np.lexsort((-severity(samples), ~fails(samples)))[:most]


def grouped(samples: Rows, of: npt.NDArray[np.intp], keys: Iterable[Key]) -> list[Group[Key]]:
    """Samples `of` a report by their keys: groups of which most fail first, then those of the largest errors."""
    found, group = _codes(keys, len(of))
    names, verdict = _codes(samples["verdict"][of].tolist(), len(of))
    table = np.bincount(group * len(names) + verdict, minlength=len(found) * len(names)).reshape(len(found), len(names))
    bad = np.array([kind(name) == "bad" for name in names], np.bool_)
    size = severity(samples)[of]
    order = np.lexsort((-size, ~bad[verdict], group))
    worst_ones = order[np.searchsorted(group[order], np.arange(len(found)))]
    made = [
        Group(
            key,
            count=int(row.sum()),
            failing=int(row[bad].sum()),
            verdicts={name: int(number) for name, number in zip(names, row, strict=True) if number},
            worst=int(of[place]),
        )
        for key, row, place in zip(found, table, worst_ones, strict=True)
    ]
    ranks = sorted(range(len(made)), key=lambda place: (-made[place].failing, -size[worst_ones[place]]))
    return [made[place] for place in ranks]


def reasons(samples: Rows) -> list[Group[tuple[str, ...]]]:
    """Samples that are not simply right, by verdict, side, layer and fault."""
    of = np.flatnonzero(samples["verdict"] != OK.name)
    fields = ("verdict", "side", "layer", "fault")
    return grouped(samples, of, zip(*(samples[field][of].tolist() for field in fields), strict=True))


def by_layer(samples: Rows) -> list[Group[str]]:
    """Samples by the layer that their verdict is about; those about none are left out."""
    of = np.flatnonzero(samples["layer"] != "")
    return grouped(samples, of, samples["layer"][of].tolist())


def by_output(samples: Rows) -> list[Group[str]]:
    """Samples by the output that their worst entry is of: `y[0]` for `y[0]` and for `dy[0]/dx[3]`."""
    return grouped(samples, np.arange(len(samples)), map(_output, samples["where"].tolist()))


def _output(where: str) -> str:
    entry, bracket, rest = where.partition("]")
    return (entry[1:] if rest.startswith("/d") else entry) + bracket
