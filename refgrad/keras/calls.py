"""Who calls what in a Functional model: the spellings of `inbound_nodes`, `input_layers` and `output_layers`.

Keras ≤ 2 writes a call as `[["dense", 0, 0, {}], …]`, Keras 3 as `{"args": […], "kwargs": {}}` with the tensors among
the args; a tensor is (layer, which call of it, which output of that call). The ends are one such triple, or a list or a
dict of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from refgrad.errors import FormatError, UnsupportedError


class Tensor(NamedTuple):
    """A tensor by the name of the layer that makes it, the layer's call, and the call's output."""

    layer: str
    call: int
    output: int


Tensors = tuple[Tensor, ...]


def _index(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{value!r:.40} is no index of a call or of an output"
        raise FormatError(msg)
    return value


def _leaves(value: Any) -> Iterator[Any]:
    """What lists and dicts hold, however they lie in each other; a list that begins with a name is a leaf."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict) and "class_name" not in found:
            # Keras orders the tensors of a dict by their keys.
            waiting += [found[key] for key in sorted(found, reverse=True)]
        elif isinstance(found, list) and not (found and isinstance(found[0], str)):
            waiting += reversed(found)
        else:
            yield found


def tensor(value: Any) -> Tensor:
    """A tensor by its triple."""
    if not isinstance(value, list) or len(value) != 3 or not isinstance(value[0], str):
        msg = f"{value!r:.80} is not [layer, call, output]"
        raise FormatError(msg)
    return Tensor(value[0], _index(value[1]), _index(value[2]))


def _check_keywords(keywords: Any) -> None:
    """A call's keywords must change nothing: unset, or `training` false."""
    if not isinstance(keywords, dict):
        msg = f"the keywords of a call are {keywords!r:.60}"
        raise FormatError(msg)
    for key, value in keywords.items():
        unset = all(leaf is None for leaf in _leaves(value))
        if not unset and not (key == "training" and value is False):
            msg = f"it is called with {key}={value!r:.60}, which could change the output"
            raise UnsupportedError(msg)


def _of_keras_2(call: list[Any]) -> Tensors:
    # A single tensor that a layer is called with may lack the list around it.
    entries = [call] if call and isinstance(call[0], str) else call
    found = []
    for entry in entries:
        with_keywords = isinstance(entry, list) and len(entry) == 4
        if with_keywords:
            _check_keywords(entry[3])
        if isinstance(entry, list) and entry[:1] == ["_CONSTANT_VALUE"]:
            msg = "it is called with a constant"
            raise UnsupportedError(msg)
        found.append(tensor(entry[:3] if with_keywords else entry))
    return tuple(found)


def _of_keras_3(call: dict[str, Any]) -> Tensors:
    args = call.get("args")
    if not isinstance(args, list) or set(call) - {"args", "kwargs"}:
        msg = f"the call {call!r:.80} is not {{args, kwargs}}"
        raise FormatError(msg)
    _check_keywords(call.get("kwargs", {}))
    if any(value is not None for value in args[1:]):
        msg = f"it is called with {len(args)} arguments; one tensor or one list of tensors is supported"
        raise UnsupportedError(msg)
    given = args[0] if args else None
    if isinstance(given, dict) and given.get("class_name") != "__keras_tensor__":
        msg = f"it is called with {given!r:.60}; one tensor or one list of tensors is supported"
        raise UnsupportedError(msg)
    found = []
    for value in _leaves(given):
        inner = value.get("config") if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__" else {}
        if not isinstance(inner, dict) or "keras_history" not in inner:
            msg = f"it is called with {value!r:.60}, which is no tensor of the model"
            raise UnsupportedError(msg)
        found.append(tensor(inner["keras_history"]))
    return tuple(found)


def calls(inbound_nodes: Any) -> tuple[Tensors, ...]:
    """Every call of a layer: the tensors it is called with, in order."""
    if not isinstance(inbound_nodes, list):
        msg = f"inbound_nodes is {inbound_nodes!r:.60}, no list of calls"
        raise FormatError(msg)
    found = []
    for call in inbound_nodes:
        if not isinstance(call, dict | list) or not call:
            msg = f"the call {call!r:.60} names no tensors"
            raise FormatError(msg)
        found.append(_of_keras_3(call) if isinstance(call, dict) else _of_keras_2(call))
        if not found[-1]:
            msg = "it is called with an empty list"
            raise FormatError(msg)
    return tuple(found)


def keys(value: Any) -> tuple[str, ...] | None:
    """What a dict calls each of a model's ends, in the order of the ends; None where a key does not stand for one."""
    if not isinstance(value, dict) or any(len(list(_leaves(entry))) != 1 for entry in value.values()):
        return None
    return tuple(sorted(value))


def ends(key: str, value: Any) -> Tensors:
    """The tensors that `input_layers` or `output_layers` name."""
    found = tuple(tensor(entry) for entry in _leaves(value))
    if not found:
        msg = f"{key} is empty"
        raise FormatError(msg)
    return found
