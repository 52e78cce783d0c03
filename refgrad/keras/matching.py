"""Which stored arrays belong to which layer: by the names the file records, and by nothing looser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from refgrad.arrays import Array
from refgrad.errors import MismatchError
from refgrad.keras.archive import RawLayer, RawModel


@dataclass(frozen=True)
class Wanted:
    """What a layer of the config needs: its name, its class, and the roles of its arrays in Keras's own order."""

    name: str
    class_name: str
    roles: tuple[str, ...]


def snake_case(class_name: str) -> str:
    """Keras 3's name for a class's groups: `ReLU` → `re_lu`."""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _counter(group: str, stem: str) -> int | None:
    """Which of its class a group is: `dense` 0, `dense_1` 1; None for a group of another class."""
    found = re.fullmatch(rf"{re.escape(stem)}(?:_(\d+))?", group)
    return None if found is None else int(found.group(1) or 0)


def _by_class(wanted: Sequence[Wanted], stored: Sequence[RawLayer]) -> dict[str, RawLayer]:
    """Keras 3 groups are counted per class in the order of the layers, weightless layers included."""
    found: dict[str, RawLayer] = {}
    for class_name in dict.fromkeys(want.class_name for want in wanted):
        stem = snake_case(class_name)
        layers = [want for want in wanted if want.class_name == class_name]
        counted = sorted((k, layer) for layer in stored if (k := _counter(layer.group, stem)) is not None)
        if len(counted) not in (0, len(layers)):
            groups = ", ".join(layer.group for _, layer in counted)
            msg = f"the config has {len(layers)} {class_name} layers, the weights have {len(counted)}: {groups}"
            raise MismatchError(msg)
        found |= {want.name: layer for want, (_, layer) in zip(layers, counted, strict=False)}
    return found


def _by_name(stored: Sequence[RawLayer]) -> dict[str, RawLayer]:
    found: dict[str, RawLayer] = {}
    for layer in stored:
        if layer.name in found:
            msg = f"the weights file has two layers named {layer.name!r}"
            raise MismatchError(msg)
        if layer.name is not None:
            found[layer.name] = layer
    return found


def _check_numbers(wanted: Sequence[Wanted], stored: Sequence[RawLayer], named: dict[str, RawLayer]) -> None:
    """Where the groups are numbered as well as named, number and name must lead to the same arrays."""
    if all(layer.name == layer.group for layer in stored):
        return
    counted = _by_class(wanted, stored)
    for want in wanted:
        if want.roles and named[want.name] is not counted.get(want.name):
            msg = f"layer {want.name!r}: its name leads to group {named[want.name].group!r}, its number does not"
            raise MismatchError(msg)


def _roles(want: Wanted, layer: RawLayer) -> dict[str, Array]:
    """A layer's arrays by role: by the last part of their names, or by number where they are numbered."""
    stored = {re.sub(r":\d+$", "", name.rsplit("/", 1)[-1]): array for name, array in layer.arrays.items()}
    if len(stored) == len(layer.arrays) and set(stored) == set(want.roles):
        return stored
    if set(stored) == {str(index) for index in range(len(want.roles))}:
        return {role: stored[str(index)] for index, role in enumerate(want.roles)}
    msg = (
        f"layer {want.name!r} ({want.class_name}) needs {' and '.join(want.roles) or 'no weights'}; "
        f"the file has {', '.join(layer.arrays) or 'none for it: was the model saved before it was built?'}"
    )
    raise MismatchError(msg)


def assign(wanted: Sequence[Wanted], raw: RawModel) -> dict[str, dict[str, Array]]:
    """Every layer's arrays by role; a layer without its weights, or weights without a layer, are refused."""
    named = all(layer.name is not None for layer in raw.layers)
    found = _by_name(raw.layers) if named else _by_class(wanted, raw.layers)
    used = {id(found[want.name]) for want in wanted if want.name in found}
    left = [layer for layer in raw.layers if layer.arrays and id(layer) not in used]
    missing = [want for want in wanted if want.roles and want.name not in found]
    if missing or left:
        lacks = ", ".join(repr(want.name) for want in missing) or "none"
        extra = ", ".join(repr(layer.name or layer.group) for layer in left) or "none"
        needed, held = sum(bool(want.roles) for want in wanted), sum(bool(layer.arrays) for layer in raw.layers)
        msg = (
            f"the config has {needed} layers with weights and the weights file {held}: without weights {lacks}; "
            f"weights without a layer {extra}. Were they saved by different models?"
        )
        raise MismatchError(msg)
    if named:
        _check_numbers(wanted, raw.layers, found)
    return {want.name: _roles(want, found[want.name]) if want.name in found else {} for want in wanted}
