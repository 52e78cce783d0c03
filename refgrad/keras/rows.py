"""What a row of the table of layer classes is: all that refgrad knows of one class, in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from refgrad.arrays import Array, Shape
from refgrad.errors import FormatError, UnsupportedError, naming
from refgrad.sequential import Steps

Config = Mapping[str, Any]
Arrays = Mapping[str, Array]
Roles = tuple[str, ...]

REQUIRED = object()
"""The default of a key that must be there."""

_EVERYWHERE = frozenset({"name", "trainable", "dtype", "batch_input_shape", "batch_shape"})


@dataclass(frozen=True)
class Given:
    """What a layer becomes ops from: its name, canonical config, arrays by role, and the shapes it is called with.

    `generation` is the Keras, 2 or 3, whose conventions hold.
    """

    name: str
    config: Config
    arrays: Arrays
    shapes: tuple[Shape, ...]
    generation: int

    @property
    def shape(self) -> Shape:
        """The shape of the only input."""
        (found,) = self.shapes
        return found


def no_steps(given: Given) -> Steps:
    """A layer that hands on what it is given."""
    del given
    return []


def no_roles(config: Config) -> Roles:
    """A layer without arrays."""
    del config
    return ()


def as_given(config: Config, generation: int) -> Config:
    """Parameters that Keras computes with as they stand."""
    del generation
    return config


def initialized(*arrays: str) -> frozenset[str]:
    """The keys that say how arrays were started and held in training."""
    kinds = ("initializer", "regularizer", "constraint")
    return frozenset(f"{array}_{kind}" for array in (*arrays, "activity") for kind in kinds)


@dataclass(frozen=True)
class Row:
    """A layer class.

    `steps`: the ops it becomes, one after the other, the first of which takes all inputs. `meaning`: key → (how its
    value is read, its default). `inert`: keys that cannot change the output of inference. `only`: keys that are
    understood at one value, which changes nothing. `renamed`: another version's key → the key of `meaning`. `roles`:
    its arrays in Keras's order, of which `unused` are never computed with. `as_used`: what a generation of Keras makes
    of the parameters before it computes with them. `merges`: whether it takes a list of tensors. `pointwise`: whether
    its output has the shape of its input.
    """

    steps: Callable[[Given], Steps] = no_steps
    meaning: Mapping[str, tuple[Callable[[Any], Any], Any]] = field(default_factory=dict)
    inert: frozenset[str] = frozenset()
    only: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    roles: Callable[[Config], Roles] = no_roles
    unused: frozenset[str] = frozenset()
    as_used: Callable[[Config, int], Config] = as_given
    merges: bool = False
    pointwise: bool = False


def canonical(row: Row, stated: Config) -> dict[str, Any]:
    """A config with exactly the keys that mean something."""
    given = {row.renamed.get(key, key): value for key, value in stated.items()}
    if len(given) < len(stated):
        msg = f"one thing is said twice: {' and '.join(sorted({*row.renamed, *row.renamed.values()} & set(stated)))}"
        raise FormatError(msg)
    for key, value in given.items():
        if key in row.only and value is not None and not _is(value, row.only[key]):
            msg = f"{key}={value!r:.60} is not supported; only {row.only[key]!r} is"
            raise UnsupportedError(msg)
        known = key in _EVERYWHERE or key in row.meaning or key in row.inert or key in row.only
        # A key that later versions added and left unset changes nothing.
        if not known and value is not None:
            msg = f"the key {key!r:.60} (here {value!r:.60}) is not known and could change the output"
            raise UnsupportedError(msg)
    found = {}
    for key, (read, default) in row.meaning.items():
        if key not in given and default is REQUIRED:
            msg = f"the key {key!r} is missing"
            raise FormatError(msg)
        with naming(key):
            found[key] = read(given.get(key, default))
    return found


def _is(value: Any, expected: Any) -> bool:
    """Equality that tells false from 0."""
    return type(value) is type(expected) and bool(value == expected)
