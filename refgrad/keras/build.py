"""From a canonical config and its arrays to a graph: every call of every layer becomes nodes, models lie flat."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from refgrad.arrays import Shape
from refgrad.errors import (
    MismatchError,
    RefgradError,
    RefgradWarning,
    UnsupportedError,
    naming,
)
from refgrad.graph import Graph, Provenance, widest
from refgrad.keras.archive import RawModel
from refgrad.keras.canonical import LayerConfig, ModelConfig
from refgrad.keras.custom import row
from refgrad.keras.dialect import translate
from refgrad.keras.matching import Path, Wanted, assign
from refgrad.keras.policies import POLICIES, check_stored, widened
from refgrad.keras.rewriting import rewritten, so_far
from refgrad.keras.rows import Arrays
from refgrad.keras.unfolding import Unfolding, named
from refgrad.keras.values import bounded
from refgrad.keras.wrapping import WRAPPERS
from refgrad.limits import Limits
from refgrad.ops import Source
from refgrad.paths import is_json_text


def _wanted(model: ModelConfig, above: Path = ()) -> tuple[Wanted, ...]:
    """What each layer needs from the weights file; operations have nothing there."""
    return tuple(_needed((*above, layer.name), layer) for layer in model.layers if layer.operation is None)


def _needed(path: Path, layer: LayerConfig) -> Wanted:
    class_name = (*layer.wrappers, layer.class_name)[0]
    if layer.model is not None:
        return Wanted(path, class_name, layers=_wanted(layer.model, path), within=layer.within)
    spare = frozenset().union(*(WRAPPERS[wrapper].unused for wrapper in layer.wrappers))
    return Wanted(path, class_name, row(layer.class_name).roles(layer.config), (), layer.within, spare)


def _layers(model: ModelConfig, above: Path = ()) -> Iterator[tuple[Path, LayerConfig]]:
    """Every layer or operation that is no model, by its path."""
    for layer in model.layers:
        if layer.model is not None:
            yield from _layers(layer.model, (*above, layer.name))
        else:
            yield (*above, layer.name), layer


def _checked(path: Path, layer: LayerConfig, arrays: Arrays) -> Arrays:
    """The arrays that are computed with, if they are numbers of the declared dtype."""
    known = row(layer.class_name)
    used = {role: array for role, array in arrays.items() if role not in known.unused}
    for role, array in used.items():
        check_stored(role, array, layer.policy, role in known.computed)
        used[role] = widened(array)
        if not np.isfinite(used[role]).all():
            warnings.warn(f"layer {'/'.join(path)!r}: {role} holds NaN or infinity", RefgradWarning, stacklevel=2)
    return used


_TELLING = {
    "Dense": "kernel",
    "Normalization": "mean",
    "BatchNormalization": "moving_mean",
    "LayerNormalization": "gamma",
}
"""The arrays whose first axis is as long as the last one of what their layer takes, unless it works on another axis."""


def _told_by_weights(model: ModelConfig, arrays: dict[Path, Arrays], rank: int) -> int:
    """The last size of an input: what the first layer with weights takes, if nothing before it changes shapes."""
    for path, layer in _layers(model):
        if layer.distributed or layer.operation is not None:
            break
        array = arrays[path].get(_TELLING.get(layer.class_name, ""))
        axis = layer.config.get("axis", -1)
        if array is not None and axis in (-1, rank, (-1,), (rank,)):
            return int(array.shape[0])
        if not row(layer.class_name).pointwise:
            break
    msg = "the model has neither an input shape nor a layer with weights to tell it"
    raise UnsupportedError(msg)


def _input_shape(model: ModelConfig, layer: LayerConfig, arrays: dict[Path, Arrays], limits: Limits) -> Shape:
    stated = (None,) if layer.input_shape is None else layer.input_shape
    if stated[-1] is None and None not in stated[:-1]:
        stated = (*stated[:-1], _told_by_weights(model, arrays, len(stated)))
        rewritten("input shapes", f"{stated} as the first weights tell", layer.name)
    shape = tuple(size for size in stated if size is not None)
    if len(shape) < len(stated):
        msg = f"its shape {list(stated)} leaves a feature axis open; fixed shapes are supported"
        raise UnsupportedError(msg)
    return bounded(shape, limits)


def _dtype(model: ModelConfig, arrays: dict[Path, Arrays]) -> np.dtype[Any]:
    """The widest dtype that weights are stored in or layers declared in."""
    declared = {layer.policy for _, layer in _layers(model) if layer.policy is not None}
    stored = {array.dtype for held in arrays.values() for array in held.values()}
    dtype = widest([*stored, *(np.dtype(POLICIES[policy][-1]) for policy in declared)])
    for narrow in sorted({held.name for held in stored} - {dtype.name}):
        rewritten("dtypes", f"{narrow} weights are computed with in {dtype.name}", "")
    if declared - {dtype.name}:
        msg = f"the model's layers are declared in {' and '.join(sorted(declared))}: all is computed in {dtype.name}"
        warnings.warn(msg, RefgradWarning, stacklevel=2)
    return dtype


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names made different as Keras does: the second `shared` is `shared_1`."""
    found: dict[str, None] = {}
    counts: dict[str, int] = {}
    for name in names:
        proposal = name
        while proposal in found:
            counts[name] = counts.get(name, 0) + 1
            proposal = f"{name}_{counts[name]}"
        found[proposal] = None
    return tuple(found)


@contextmanager
def _blaming(raw: RawModel) -> Iterator[None]:
    """Where config and weights came apart, name the file that a refusal is about; a text has no name."""
    try:
        yield
    except RefgradError as error:
        file = raw.files.weights if isinstance(error, MismatchError) else raw.files.config
        if file is None:
            raise
        msg = f"{'the config given as text' if is_json_text(file) else file}: {error}"
        raise type(error)(msg) from None


def build(raw: RawModel) -> Graph:
    """The graph of a raw model."""
    with _blaming(raw):
        model = translate(raw)
    with nullcontext() if raw.files.weights is None else naming(raw.files.weights):
        layers = raw.layers
    with _blaming(raw):
        stored = assign(_wanted(model), layers)
        arrays: dict[Path, Arrays] = {}
        for path, layer in _layers(model):
            if layer.operation is not None:
                continue
            with naming(named(path, layer)):
                arrays[path] = _checked(path, layer, stored.get(path, {}))
        held = sum({id(array): array.nbytes for of in arrays.values() for array in of.values()}.values())
        unfolding = Unfolding(arrays, _dtype(model, arrays), raw.limits.budget(held))
        for index in model.inputs:
            layer = model.layers[index]
            with naming(named((layer.name,), layer)):
                unfolding.add(Source(_input_shape(model, layer, arrays, raw.limits)), (), layer.name)
        outputs = unfolding.unfold(model, range(len(model.inputs)))
    names = model.output_keys or unique([model.layers[end.layer].name for end in model.outputs])
    provenance = Provenance(model.generation, raw.writer, raw.container, raw.files, so_far())
    inputs = tuple(range(len(model.inputs)))
    sources = model.input_keys or tuple(model.layers[index].name for index in model.inputs)
    return Graph(tuple(unfolding.nodes), inputs, outputs, sources, names, unfolding.dtype, provenance)
