"""Layers of a user's own classes, made by functions that the user gives, who names each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import InputError, MismatchError
from refgrad.keras.layers import LAYERS
from refgrad.keras.rows import ANYTHING, Given, Row
from refgrad.ops import Op
from refgrad.sequential import Steps, dense


@dataclass(frozen=True, eq=False)
class CustomLayer:
    """What a builder is told of a layer.

    `config` is what the file says, `weights` are its arrays in the order the layer made them, `names` what the file
    calls these. `shapes` are those of its inputs, without batch; `keras` is the generation, 2 or 3, of the file.
    """

    name: str
    config: Mapping[str, Any]
    weights: tuple[Array, ...]
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    keras: int


Part = Op | tuple[Any, Any, str]
"""An op of `refgrad.ops`, or (kernel, bias or None, the name of an activation)."""

Builder = Callable[[CustomLayer], Sequence[Part]]
"""Gives what a layer computes, one after the other; the first of them takes all inputs."""


class CustomClass(str):
    """The name of a class that there is a builder for; what a file says is never one."""

    row: Row
    __slots__ = ("row",)


def row(class_name: str) -> Row:
    """What is known of a class."""
    return class_name.row if isinstance(class_name, CustomClass) else LAYERS[class_name]


def check(custom: object) -> Mapping[str, Builder]:
    """The builders that were given, if they are that."""
    if not isinstance(custom, Mapping) or not all(isinstance(key, str) and callable(custom[key]) for key in custom):
        msg = f"custom={custom!r:.60} is no dict of class names and functions"
        raise InputError(msg)
    return custom


def _steps(class_name: str, builder: Builder, given: Given) -> Steps:
    arrays = tuple(given.arrays.values())
    told = CustomLayer(given.name, given.config, arrays, tuple(given.arrays), given.shapes, given.generation)
    made = builder(told)
    steps: Steps = []
    for part in made if isinstance(made, list | tuple) else [made]:
        if isinstance(part, Op):
            steps.append((given.name, part))
        elif isinstance(part, tuple) and len(part) == 3 and isinstance(part[2], str):
            kernel, bias = (None if array is None else _floats(array) for array in part[:2])
            if kernel is None or kernel.ndim != 2:
                msg = f"the builder of {class_name!r} gave a kernel that is no matrix (inputs, units)"
                raise MismatchError(msg)
            steps += dense(given.name, kernel, bias, part[2], given.generation)
        else:
            msg = f"the builder of {class_name!r} gave {part!r:.60}; a list of refgrad.ops and of triples "
            msg += "(kernel, bias or None, activation name) is needed"
            raise InputError(msg)
    return steps


def _floats(array: Any) -> Array:
    found = np.asarray(array)
    if found.dtype.kind != "f":
        msg = f"a builder gave {found.dtype} where an array of floats is needed"
        raise InputError(msg)
    return found


def _marked_class(entry: Mapping[str, Any], custom: Mapping[str, Builder]) -> Any:
    """The class of an entry, marked if there is a builder for it; Keras may put a package before it, as `pack>Name`."""
    class_name = entry.get("class_name")
    named = next((name for name in (class_name, str(class_name).rpartition(">")[2]) if name in custom), None)
    if not isinstance(class_name, str) or named is None:
        return class_name
    found, builder = CustomClass(named), custom[named]
    found.row = Row(
        lambda given: _steps(named, builder, given),
        roles=lambda _: ANYTHING,
        merges=True,
    )
    return found


def marked(entry: Any, custom: Mapping[str, Builder]) -> Any:
    """An entry of a model's layers, or a model, with the classes marked that there are builders for."""
    if not custom or not isinstance(entry, dict):
        return entry
    config = entry.get("config")
    found = {**entry, "class_name": _marked_class(entry, custom)} if "class_name" in entry else dict(entry)
    if isinstance(found.get("class_name"), CustomClass):
        return found
    if isinstance(config, list):
        found["config"] = [marked(layer, custom) for layer in config]
    elif isinstance(config, dict):
        layers, inner = config.get("layers"), config.get("layer")
        found["config"] = {
            **config,
            **({"layers": [marked(layer, custom) for layer in layers]} if isinstance(layers, list) else {}),
            **({"layer": marked(inner, custom)} if isinstance(inner, dict) else {}),
        }
    return found
