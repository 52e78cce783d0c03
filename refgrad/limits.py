"""How much of a file is believed: every bound on what opening it may cost, in one place, checked before it is paid."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from refgrad.errors import InputError, LimitError

SPARE = 64 << 20
"""What a file of any size may use beside four times the size of its weights."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What opening a file may cost; pass another to `load(limits=)` for a file that is trusted and larger.

    `memory` is how many bytes its arrays and unpacked members may take together: if None, four times the bytes that its
    weights are stored in, and 64 MiB. `members` of a zip; bytes, values and nested levels of a JSON. `layers` that a
    config lists, letters of a layer's `name`, `models` that lie one in the other, `calls` of layers once nested models
    are unfolded and operations are the ops they are made of, `merged` tensors of one call, numbers in one `tensor` of a
    sample, and entries of axes that are `picked` by all operations together. HDF5: `objects` that its groups list, or
    arrays that an `.npz` holds, bytes of an `attribute`, bytes of a `chunk`. `verified` is how many numbers a sample
    may have in all nodes of an `.npz` that is verified, `crossed` how many nodes are crossed to verify one, each once
    for each Jacobian of an output by an input, and `verifying` how many numbers are computed and multiplied for that,
    for each number that it holds. `seconds` is for `load(isolate=True)`.
    """

    memory: int | None = None
    members: int = 1000
    json_bytes: int = 16 << 20
    json_values: int = 10**6
    json_levels: int = 300
    layers: int = 12_000
    name: int = 1000
    models: int = 32
    calls: int = 25_000
    merged: int = 4096
    tensor: int = 10**8
    picked: int = 10**6
    objects: int = 100_000
    attribute: int = 16 << 20
    chunk: int = 32 << 20
    verified: int = 2**24
    crossed: int = 7000
    verifying: int = 2**14
    seconds: int = 60

    def __post_init__(self) -> None:
        """Check that each is a whole number above 0."""
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None and each.name == "memory":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                msg = f"Limits({each.name}={value!r:.40}): a whole number above 0 is expected"
                raise InputError(msg)

    def check(self, name: str, found: int, what: str) -> None:
        """Refuse more of something than its limit allows."""
        _check(name, found, getattr(self, name), what)

    def budget(self, stored: int) -> Budget:
        """What a file may use that holds this many bytes of weights."""
        return Budget(self, 4 * stored + SPARE if self.memory is None else self.memory)


TRUSTED = Limits(
    json_bytes=1 << 30,
    json_values=10**8,
    layers=10**6,
    calls=10**6,
    merged=10**6,
    tensor=10**9,
    picked=10**8,
    objects=10**7,
)
"""For what this process holds already: a model that is alive, or a file that it wrote itself."""


@dataclass(eq=False)
class Budget:
    """The bytes of memory that a file may still use, and how many objects of it were seen."""

    limits: Limits
    memory: int
    spent: int = 0
    objects: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def spend(self, count: int, what: str) -> None:
        """Take bytes, if there are as many left."""
        self.spent += count
        _check("memory", self.spent, self.memory, f"{what} and what was read before it, in bytes")

    def see(self, count: int, what: str) -> None:
        """Count objects that are about to be listed."""
        self.objects += count
        self.limits.check("objects", self.objects, f"{what} and what was listed before it, in HDF5 objects")

    def count(self, name: str, more: int, what: str) -> None:
        """Count what a limit is of, over the whole file."""
        self.counts[name] += more
        self.limits.check(name, self.counts[name], what)


def _check(name: str, found: int, most: int, what: str) -> None:
    if found > most:
        msg = f"{what}: {found:,} where at most {most:,} are allowed; "
        msg += f"if you trust the file, pass limits=refgrad.Limits({name}=…)"
        raise LimitError(msg)
