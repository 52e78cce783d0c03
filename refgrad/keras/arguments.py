"""What a bare operation is called with, beside tensors of the model: constants, options, slices.

Keras 3 writes `{"args": [tensor, 2.0], "kwargs": {}}`, and arrays, slices and the like as objects with a class name.
tf_keras, since 2.4, writes the first argument as a layer's call, `["dense", 0, 0, {"y": 2.0}]` with all other arguments
as keywords, and a constant in its place as `["_CONSTANT_VALUE", -1, 2.0, {…}]`; a list of tensors is a list of such
calls, each with the keywords.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras.calls import Tensor, Tensors, tensor
from refgrad.keras.values import numbers

_DEEPEST = 8
"""The most lists that may lie in each other around a tensor; deeper ones are a constant's."""


@dataclass(frozen=True)
class Slot:
    """Where a tensor of the call belongs, by its place among them."""

    place: int


@dataclass(frozen=True, eq=False)
class Arguments:
    """Positional and named arguments of a call, with a slot for every tensor."""

    positional: tuple[Any, ...]
    named: Mapping[str, Any]


def _part(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        msg = f"{value!r:.40} is no whole number, as a slice's start, stop and step are"
        raise FormatError(msg)
    return value


def _slice(config: Any) -> slice:
    if not isinstance(config, dict) or set(config) != {"start", "stop", "step"}:
        msg = f"{config!r:.60} is no slice with start, stop and step"
        raise FormatError(msg)
    return slice(*(_part(config[key]) for key in ("start", "stop", "step")))


_OBJECTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "__numpy__": lambda value: numbers({**value, "class_name": "__numpy__"}).tolist(),
    "__tensor__": lambda value: numbers({**value, "class_name": "__numpy__"}).tolist(),
    "__slice__": lambda value: _slice(value.get("config")),
    "__ellipsis__": lambda value: ...,
}
"""What objects among the arguments stand for, by their class name."""


@dataclass(eq=False)
class _Reading:
    """The tensors met so far in a call."""

    is_tensor: Callable[[Any], bool]
    tensor: Callable[[Any], Tensor]
    tensors: list[Tensor]

    def slot(self, value: Any) -> Slot:
        self.tensors.append(self.tensor(value))
        return Slot(len(self.tensors) - 1)

    def read(self, value: Any, depth: int = 0) -> Any:
        """An argument, with slots for tensors."""
        if self.is_tensor(value):
            return self.slot(value)
        if isinstance(value, list):
            return [self.read(entry, depth + 1) for entry in value] if depth < _DEEPEST else value
        if not isinstance(value, dict):
            return value
        if set(value) == {"start", "stop", "step"}:
            return _slice(value)
        class_name = value.get("class_name")
        if class_name == "__tuple__" and isinstance(value.get("items"), list) and depth < _DEEPEST:
            return [self.read(entry, depth + 1) for entry in value["items"]]
        if not isinstance(class_name, str) or class_name not in _OBJECTS:
            msg = f"it is called with {value!r:.60}, which is neither a tensor of the model nor a constant"
            raise UnsupportedError(msg)
        return _OBJECTS[class_name](value)


def _of_keras_3(call: Any) -> tuple[Tensors, Arguments]:
    def keras_tensor(value: Any) -> Tensor:
        config = value.get("config")
        return tensor(config.get("keras_history") if isinstance(config, dict) else None)

    found = _Reading(lambda v: isinstance(v, dict) and v.get("class_name") == "__keras_tensor__", keras_tensor, [])
    args, kwargs = call.get("args"), call.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict) or set(call) - {"args", "kwargs"}:
        msg = f"the call {call!r:.80} is not {{args, kwargs}}"
        raise FormatError(msg)
    positional = tuple(found.read(value) for value in args)
    named = {key: found.read(value) for key, value in kwargs.items()}
    return tuple(found.tensors), Arguments(positional, named)


def _is_reference(value: Any) -> bool:
    """A name and two numbers, which no constant is."""
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int)


def _first(entry: Any, found: _Reading) -> Any:
    """The first argument, or one of a list of them: a tensor, or a constant in place of one."""
    if isinstance(entry, list) and len(entry) in (3, 4) and entry[0] == "_CONSTANT_VALUE":
        return found.read(entry[2])
    return found.slot(entry[:3] if isinstance(entry, list) and len(entry) == 4 else entry)


def _of_keras_2(call: Any) -> tuple[Tensors, Arguments]:
    alone = isinstance(call, list) and bool(call) and isinstance(call[0], str)
    entries = [call] if alone else call
    if not isinstance(entries, list) or not entries:
        msg = f"the call {call!r:.60} names no tensors"
        raise FormatError(msg)
    found = _Reading(_is_reference, tensor, [])
    keywords = [entry[3] if isinstance(entry, list) and len(entry) == 4 else {} for entry in entries]
    if not all(isinstance(given, dict) and given == keywords[0] for given in keywords):
        msg = f"the keywords of a call are {keywords!r:.60}"
        raise FormatError(msg)
    first = [_first(entry, found) for entry in entries]
    named = {key: found.read(value) for key, value in keywords[0].items()}
    return tuple(found.tensors), Arguments((first[0] if len(first) == 1 else first,), named)


def operated(inbound_nodes: Any) -> tuple[tuple[Tensors, Arguments], ...]:
    """Every call of an operation: the tensors it is called with, and where they stand among the arguments."""
    if not isinstance(inbound_nodes, list):
        msg = f"inbound_nodes is {inbound_nodes!r:.60}, no list of calls"
        raise FormatError(msg)
    found = tuple(_of_keras_3(call) if isinstance(call, dict) else _of_keras_2(call) for call in inbound_nodes)
    if not all(tensors for tensors, _ in found):
        msg = "it is called with no tensor of the model"
        raise UnsupportedError(msg)
    return found
