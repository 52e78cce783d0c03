"""Which stored arrays belong to which layer: by the names the file records, and by nothing looser.

Layers are named by their path: the names of the models they lie in, and their own.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from refgrad.arrays import Array
from refgrad.errors import MismatchError, RefgradWarning
from refgrad.keras.layout import RawLayer
from refgrad.keras.rewriting import rewritten
from refgrad.keras.rows import ANYTHING
from refgrad.keras.weight_names import plain, ranks, snake_case

Path = tuple[str, ...]

_MOST_COMPARED = 500_000
"""How often a layer's path may be compared with a weight's scope that does not simply end it."""


@dataclass(frozen=True)
class Wanted:
    """What a layer of the config needs: its path, its class, and the roles of its arrays in Keras's own order.

    A nested model needs what its `layers` do. A layer in wrappers is of the outermost one's class, the names
    below its name are `within`, and beside its arrays may lie `spare` ones.
    """

    path: Path
    class_name: str
    roles: tuple[str, ...] = ()
    layers: tuple[Wanted, ...] = ()
    within: Path = ()
    spare: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name as messages give it."""
        return "/".join(self.path)

    def leaves(self) -> Iterator[Wanted]:
        """The layers with arrays in it, itself included."""
        if self.roles:
            yield self
        for layer in self.layers:
            yield from layer.leaves()


def _numbered(stored: Sequence[RawLayer]) -> dict[str, list[tuple[int, RawLayer]]]:
    """The groups of each class with their numbers: `dense` is 0, `dense_1` is 1."""
    found: dict[str, list[tuple[int, RawLayer]]] = {}
    for layer in stored:
        stem, number = re.fullmatch(r"(.*?)(?:_(\d{1,9}))?", layer.group, re.DOTALL).groups()  # type: ignore[union-attr]
        found.setdefault(stem, []).append((int(number or 0), layer))
    return {stem: sorted(layers, key=lambda numbered: numbered[0]) for stem, layers in found.items()}


def _by_class(wanted: Sequence[Wanted], stored: Sequence[RawLayer]) -> dict[Path, RawLayer]:
    """Keras 3 groups are counted per class in the order of the layers, weightless layers included."""
    found: dict[Path, RawLayer] = {}
    groups = _numbered(stored)
    of_class: dict[str, list[Wanted]] = {}
    for want in wanted:
        of_class.setdefault(snake_case(want.class_name), []).append(want)
    for stem, layers in of_class.items():
        counted = groups.get(stem, [])
        if len(counted) not in (0, len(layers)):
            held = f"{len(counted)}: {', '.join(layer.group for _, layer in counted):.80}"
            msg = f"the config has {len(layers)} {layers[0].class_name} layers, the weights have {held}"
            raise MismatchError(msg)
        found |= {want.path: layer for want, (_, layer) in zip(layers, counted, strict=False)}
    return found


def _by_name(wanted: Sequence[Wanted], stored: Sequence[RawLayer]) -> dict[Path, RawLayer]:
    named: dict[str | None, RawLayer] = {}
    for layer in stored:
        if layer.name is not None and layer.name in named:
            msg = f"the weights file has two layers named {layer.name!r}"
            raise MismatchError(msg)
        named[layer.name] = layer
    return {want.path: named[want.path[-1]] for want in wanted if want.path[-1] in named}


def _check_numbers(wanted: Sequence[Wanted], stored: Sequence[RawLayer], named: Mapping[Path, RawLayer]) -> None:
    """Where the groups are numbered as well as named, number and name must lead to the same arrays."""
    if all(layer.name == layer.group for layer in stored):
        return
    counted = _by_class(wanted, stored)
    for want in wanted:
        if any(want.leaves()) and want.path in named and named[want.path] is not counted.get(want.path):
            msg = f"layer {want.name!r}: its name leads to group {named[want.path].group!r}, its number does not"
            raise MismatchError(msg)


def _renumbered(wanted: Sequence[Wanted], stored: Sequence[RawLayer]) -> dict[Path, RawLayer]:
    """Layers of which no name is the same, as another session of Keras numbered them: kinds, order and counts are."""
    wants = [want for want in wanted if any(want.leaves())]
    held = [layer for layer in stored if layer.holds_any]
    names, others = [want.path[-1] for want in wants], [str(layer.name) for layer in held]
    if not wants or len(wants) != len(held):
        return {}
    for named in (snake_case, str.lower):
        stems = [named(want.class_name) for want in wants]
        found = ranks(names, stems)
        if found is not None and found == ranks(others, stems):
            pairs = ", ".join(f"{name} is {other}" for name, other in zip(names, others, strict=True))
            msg = f"the weights are named as by another session of Keras, and taken in their order: {pairs:.200}"
            warnings.warn(msg, RefgradWarning, stacklevel=2)
            rewritten("names of weights", f"in the order of the layers: {pairs:.200}", "")
            return {want.path: layer for want, layer in zip(wants, held, strict=True)}
    return {}


def _nameless(want: Wanted, stored: Mapping[str, Array]) -> dict[str, Array]:
    """Of arrays that TensorFlow called `Variable` and `Variable_1`: a matrix is a kernel, and a vector its bias."""
    ranks = {array.ndim: array for array in stored.values()}
    unnamed = all(re.fullmatch(r"Variable(_\d+)?", plain(name)[-1]) for name in stored)
    if unnamed and len(ranks) == len(stored) and want.roles in (("kernel", "bias"), ("kernel",)):
        expected = dict(zip((2, 1), want.roles, strict=False))
        return {expected[rank]: ranks[rank] for rank in expected} if set(expected) == set(ranks) else {}
    return {}


def _roles(want: Wanted, layer: RawLayer) -> dict[str, Array]:
    """A layer's arrays by role: by the last part of their names, or by number where they are numbered."""
    own = {name: array for name, array in layer.arrays.items() if plain(name)[-1] not in want.spare}
    if want.roles == ANYTHING:
        return own
    stored = {plain(name)[-1]: array for name, array in own.items()}
    if len(stored) == len(own) and set(stored) == set(want.roles):
        for name in own:
            if (last := re.sub(r":\d+$", "", name.split("/")[-1])) != plain(name)[-1]:
                rewritten("names of weights", f"{last.replace(want.path[-1], '…')} is {plain(name)[-1]}", want.name)
        return stored
    if set(stored) == {str(index) for index in range(len(want.roles))}:
        return {role: stored[str(index)] for index, role in enumerate(want.roles)}
    if found := _nameless(want, own):
        rewritten("names of weights", "arrays called Variable are kernel and bias by their ranks", want.name)
        return found
    held = ", ".join(layer.arrays) or "none for it: was the model saved before it was built?"
    msg = (
        f"layer {want.name!r} ({want.class_name}) needs {' and '.join(want.roles) or 'no weights'}; "
        f"the file has {held:.200}"
    )
    raise MismatchError(msg)


def _unwrapped(want: Wanted, layer: RawLayer) -> RawLayer:
    """The stored layer inside of as many wrappers as there are around the one of the config.

    Keras 1–2 list a wrapper's arrays and those of the layer in it together.
    """
    found = layer
    for _ in want.within:
        found = found if found.inner is None else found.inner
    if found.inner is not None:
        msg = (
            f"layer {want.name!r} ({want.class_name}): the file has weights of a layer in it, the config has none there"
        )
        raise MismatchError(msg)
    return found


def _closeness(scope: Path, path: Path) -> tuple[bool, int]:
    """How well a weight's scope names a layer: whether all of it ends the layer's path, and how many parts do."""
    common = 0
    while common < min(len(scope), len(path)) and scope[-1 - common] == path[-1 - common]:
        common += 1
    return common == len(scope), common


def _of_nested(model: Wanted, stored: RawLayer) -> dict[Path, RawLayer]:
    """The layers of a nested model whose arrays all lie in one group, trainable ones first: by the names' scopes.

    A scope is the layer's name, with names of the models around it before it, or without; it may lack altogether.
    TensorFlow 1 put a number after a name that it had met before.
    """
    own = {name for leaf in model.leaves() for name in (leaf.path[-1], *leaf.within[-1:])}
    named: dict[Path, dict[str, Array]] = {}
    by_role: dict[tuple[str, str], set[Path]] = {}
    for name, array in stored.arrays.items():
        parts = plain(name)
        scope, role = parts[:-1], parts[-1]
        if role in named.setdefault(scope, {}):
            msg = f"layer {model.name!r} ({model.class_name}): two weights are named {'/'.join(parts)!r}"
            raise MismatchError(msg)
        named[scope][role] = array
        last = scope[-1] if scope else ""
        met_before = re.fullmatch(r"(.+)_\d+", last)
        if last not in own and met_before is not None and met_before[1] in own:
            last = met_before[1]
        by_role.setdefault((last, role), set()).add(scope)
    found: dict[Path, RawLayer] = {}
    taken: dict[Path, Wanted] = {}
    compared = 0
    for leaf in model.leaves():
        ways = {leaf.path, (*leaf.path, *leaf.within)}
        alike = [by_role.get((way[-1], leaf.roles[0]), set()) for way in ways]
        # a scope that the whole of ends a layer's path is closer than any other
        scopes = {way[k:] for way in ways for k in range(len(way)) if any(way[k:] in scopes for scopes in alike)}
        scopes = scopes or set().union(*alike) or by_role.get(("", leaf.roles[0]), set())
        if leaf.roles == ANYTHING:
            scopes = {scope for (last, _), named in by_role.items() if last == leaf.path[-1] for scope in named}
            if not scopes:
                continue
        compared += len(scopes)
        if compared > _MOST_COMPARED:
            msg = f"layer {leaf.name!r} ({leaf.class_name}): no weights are surely its own among very many alike"
            raise MismatchError(msg)
        ranked = sorted(((max(_closeness(scope, way) for way in ways), scope) for scope in scopes), reverse=True)
        if not ranked or (len(ranked) > 1 and ranked[0][0] == ranked[1][0]) or ranked[0][1] in taken:
            held = ", ".join(stored.arrays)
            msg = f"layer {leaf.name!r} ({leaf.class_name}): no weights are surely its own among {held:.200}"
            raise MismatchError(msg)
        scope = ranked[0][1]
        taken[scope] = leaf
        found[leaf.path] = RawLayer(stored.group, leaf.path[-1], named[scope])
    if left := [scope for scope in named if scope not in taken]:
        msg = (
            f"layer {model.name!r} ({model.class_name}): the weights {'/'.join(left[0])!r} belong to none of its layers"
        )
        raise MismatchError(msg)
    return found


def assign(wanted: Sequence[Wanted], stored: Sequence[RawLayer]) -> dict[Path, dict[str, Array]]:
    """The arrays by role of layers that lie side by side, and of those nested in them.

    A layer without its weights, or weights without a layer, are refused.
    """
    by_names = all(layer.name is not None for layer in stored if layer.holds_any)
    found = _by_name(wanted, stored) or _renumbered(wanted, stored) if by_names else _by_class(wanted, stored)
    used = {id(layer) for layer in found.values()}
    left = [layer for layer in stored if layer.holds_any and id(layer) not in used]
    missing = [
        want for want in wanted if any(leaf.roles != ANYTHING for leaf in want.leaves()) and want.path not in found
    ]
    if missing or left:
        lacks = ", ".join(repr(want.name) for want in missing) or "none"
        extra = ", ".join(repr(layer.name or layer.group) for layer in left) or "none"
        needed = sum(any(want.leaves()) for want in wanted)
        held = sum(layer.holds_any for layer in stored)
        msg = (
            f"the config has {needed} layers with weights and the weights file {held}: without weights {lacks:.100}; "
            f"weights without a layer {extra:.100}. Were they saved by different models?"
        )
        raise MismatchError(msg)
    if by_names:
        _check_numbers(wanted, stored, found)
    arrays: dict[Path, dict[str, Array]] = {}
    for want in wanted:
        layer = found.get(want.path)
        if layer is None:
            continue
        layer = _unwrapped(want, layer)
        if not want.layers:
            arrays[want.path] = _roles(want, layer)
        elif layer.arrays and not layer.layers:
            leaves = {leaf.path: leaf for leaf in want.leaves()}
            arrays |= {path: _roles(leaves[path], found) for path, found in _of_nested(want, layer).items()}
        else:
            if layer.arrays:
                msg = f"layer {want.name!r} ({want.class_name}) has arrays of its own beside those of its layers"
                raise MismatchError(msg)
            arrays |= assign(want.layers, layer.layers)
    return arrays
