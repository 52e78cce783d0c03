"""What a row of the table of layer classes is: all that refgrad knows of one class, in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from refgrad.arrays import Array, Shape
from refgrad.errors import FormatError, UnsupportedError, naming
from refgrad.keras.rewriting import rewritten
from refgrad.sequential import Steps

Config = Mapping[str, Any]
Arrays = Mapping[str, Array]
Roles = tuple[str, ...]

REQUIRED = object()
"""The default of a key that must be there."""

ANYTHING: Roles = ("*",)
"""The roles of a layer that takes whatever arrays the file has for it."""

_EVERYWHERE = frozenset({"name", "trainable", "dtype", "dynamic"})
_SHAPES = frozenset({"batch_input_shape", "batch_shape", "input_shape", "input_dim", "input_length", "input_dtype"})
"""What layers of every class may say of their input, as their shape is read elsewhere."""

_ENTRY = frozenset(
    {
        *("class_name", "config", "module", "registered_name"),
        *("build_config", "compile_config", "name", "shared_object_id"),
    }
)
"""What an entry of a model's layers may hold, beside whom it is called by."""


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


def initialized_by_keras_1(*arrays: str) -> frozenset[str]:
    """The same as Keras 1 calls them; an initializer may be the text of a lambda."""
    return frozenset({"init"}) | {
        f"{array}_{kind}" for array in arrays for kind in ("init", "regularizer", "constraint")
    }


@dataclass(frozen=True)
class Row:
    """A layer class.

    `steps`: the ops it becomes, one after the other, the first of which takes all inputs. `meaning`: key → (how its
    value is read, its default). `inert`: keys that cannot change the output of inference. `only`: keys that are
    understood at one value, which changes nothing. `renamed`: another version's key → the key of `meaning`. `roles`:
    its arrays in Keras's order, of which `unused` are never computed with, and `computed` are stored by Keras 2 in the
    dtype that a mixed policy computes in. `as_used`: what a generation of Keras makes
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
    computed: frozenset[str] = frozenset()
    as_used: Callable[[Config, int], Config] = as_given
    merges: bool = False
    pointwise: bool = False


def built_in(entry: Mapping[str, Any]) -> bool:
    """Whether an object names Keras's own class: a user's class may have the same name and do something else.

    Keras has written a `module` since 2.12, and null for a class of the user's; before, it wrote nothing that tells.
    Functional models are registered by their own name, and functions by their kind, from whatever module.
    """
    class_name, registered = entry.get("class_name"), entry.get("registered_name")
    own = {"Functional": ("Functional",), "function": ("function", entry.get("config"))}
    if registered is not None and registered not in own.get(str(class_name), ()):
        return False
    home = str(entry.get("module", "keras")).split(".")[0]
    return home in ("keras", "tf_keras", "tensorflow") or (class_name, home) == ("function", "builtins")


def check_entry(entry: Mapping[str, Any]) -> None:
    """Refuse what stands beside a layer's config and is not known."""
    if unknown := sorted(set(entry) - _ENTRY):
        msg = f"{unknown[0]!r} beside its config is not known and could change the output"
        raise UnsupportedError(msg)


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
        known = any(key in keys for keys in (_EVERYWHERE, _SHAPES, row.meaning, row.inert, row.only))
        # A key that later versions added and left unset changes nothing.
        if not known and value is not None:
            msg = f"the key {key!r:.60} (here {value!r:.60}) is not known and could change the output"
            raise UnsupportedError(msg)
    for key in row.renamed.keys() & stated.keys():
        rewritten("keys of other versions", f"{key} is {row.renamed[key]}")
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
