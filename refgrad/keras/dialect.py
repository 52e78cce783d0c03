"""From any version's config to one canonical config: every spelling that is understood, and no other.

What could change the output and is not understood is refused by name. A spelling of another version is one rule here,
in `calls`, in `values`, or one key in a layer's row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refgrad.errors import FormatError, UnsupportedError, naming
from refgrad.keras.archive import RawModel
from refgrad.keras.bare import is_operation, operation
from refgrad.keras.branches import merged
from refgrad.keras.calls import Tensors, calls, ends, keys
from refgrad.keras.canonical import UNNAMED, LayerConfig, ModelConfig, Reference
from refgrad.keras.custom import CustomClass, marked
from refgrad.keras.layers import LAYERS
from refgrad.keras.outermost import by_shape, generation, with_names
from refgrad.keras.policies import policy
from refgrad.keras.refused import reason
from refgrad.keras.rewriting import rewritten, within
from refgrad.keras.rows import Row, built_in, canonical, check_entry
from refgrad.keras.values import OpenShape, open_shape
from refgrad.keras.wiring import connected
from refgrad.keras.wrapping import MEANING, WRAPPERS, wrapped, wrapped_entry
from refgrad.limits import Limits

_SEQUENTIAL = Row(inert=frozenset({"layers", "build_input_shape"}))
_FUNCTIONAL = Row(inert=frozenset({"layers", "input_layers", "output_layers"}))


def _entry(entry: Any) -> tuple[str, str]:
    """The class and the name of an entry of a model's layers, if it is one at all."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        msg = f"a layer of the config is no object with a 'class_name': {entry!r:.80}"
        raise FormatError(msg)
    class_name, given = entry["class_name"], entry.get("config")
    # A Sequential that is a bare list has its name beside it, if at all.
    bare = class_name == "Sequential" and isinstance(given, list)
    named = {"name": "sequential", **entry} if bare else given
    if not isinstance(named, dict) or not isinstance(named.get("name"), str):
        msg = f"a layer of class {class_name} has no config with a 'name'"
        raise FormatError(msg)
    return class_name, named["name"]


def _shape(entry: Mapping[str, Any]) -> OpenShape | None:
    """The input shape that a layer states: with its batch, without, as a number of features, or as it was built."""
    given, built = entry["config"], entry.get("build_config")
    for key in ("batch_shape", "batch_input_shape"):
        if given.get(key) is not None:
            return open_shape(given[key])
    if isinstance(given.get("input_shape"), list):
        return open_shape([None, *given["input_shape"]])
    if given.get("input_dim") is not None:
        length = () if given.get("input_length") is None else (given["input_length"],)
        return open_shape([None, *length, given["input_dim"]])
    shape = built.get("input_shape") if isinstance(built, dict) else None
    one = isinstance(shape, list) and len(shape) > 1 and not any(isinstance(size, list) for size in shape)
    return open_shape(shape) if one else None


def _layer(entry: Any, generation: int) -> LayerConfig:
    """A layer or a nested model, not yet called."""
    class_name, name = _entry(entry)
    given = entry["config"]
    with naming(f"layer {name!r} ({class_name})"), within(name):
        if isinstance(class_name, CustomClass):
            return LayerConfig(class_name, name, given, policy(given.get("dtype")), _shape(entry), ())
        if not built_in(entry) and not reason(class_name):
            msg = "this is a custom class, not Keras's own: what it computes is not in the file; say it with "
            msg += f"refgrad.load(…, custom={{{class_name!r:.60}: builder}})"
            raise UnsupportedError(msg)
        if class_name not in {*LAYERS, *WRAPPERS, *MODELS}:
            known = ", ".join((*LAYERS, *WRAPPERS))
            msg = f"this layer class is not supported{reason(class_name) or f'; these are: {known}'}"
            raise UnsupportedError(msg)
        check_entry(entry)
        if class_name in WRAPPERS:
            inner = _layer(wrapped_entry(given, class_name), generation)
            rewritten("layers around others", f"{class_name} of {inner.class_name}: {MEANING[class_name]}")
            return replace(wrapped(inner, class_name, name), input_shape=_shape(entry))
        if class_name in MODELS:
            return LayerConfig(class_name, name, {}, None, None, (), _model(entry, generation))
        row = LAYERS[class_name]
        stated = canonical(row, given)
        found = row.as_used(stated, generation)
        for key in (key for key in stated if not np.array_equal(stated[key], found[key])):
            rewritten("parameters as Keras computes with them", f"{key}={stated[key]!r:.40} is {found[key]!r:.40}")
        return LayerConfig(class_name, name, found, policy(given.get("dtype")), _shape(entry), ())


def _check_names(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            msg = f"two layers are named {name!r}"
            raise FormatError(msg)
        seen.add(name)


def _stated(config: Mapping[str, Any], first: LayerConfig) -> OpenShape | None:
    """The input's shape of a Sequential without InputLayer: as its first layer or the model itself states it."""
    if first.model is not None:
        return first.model.layers[first.model.inputs[0]].input_shape
    if first.input_shape is not None:
        return first.input_shape
    built = config.get("build_input_shape")
    if built is not None:
        rewritten("input shapes", f"{built!s:.60} from build_input_shape", first.name)
    return None if built is None else open_shape(built)


def _entries(config: Any, what: str) -> list[Any]:
    """The layers of a model's config: a Sequential is a bare list of them up to Keras 2.2.2."""
    found = config.get("layers") if isinstance(config, dict) else config
    if isinstance(config, list):
        rewritten("models", f"{what} is a bare list of layers, as Keras wrote it up to 2.2.2", "")
    if not isinstance(found, list):
        msg = f"{what}'s config has no list 'layers'"
        raise FormatError(msg)
    return found


def _merging(entry: Any) -> bool:
    """Whether an entry is the Merge of models that Keras 1 began a Sequential with."""
    given = entry.get("config") if isinstance(entry, dict) else None
    return isinstance(given, dict) and entry.get("class_name") == "Merge" and isinstance(given.get("layers"), list)


def _merged(entry: Mapping[str, Any], generation: int) -> ModelConfig:
    """What a Merge of models begins; a single layer stands for a model of itself."""
    given, alone = entry["config"], {"class_name": "Sequential"}
    rewritten("models", "a Sequential that begins with a Merge of models is one graph of all their layers", "")
    merge = _layer({**entry, "config": {key: given[key] for key in given if key != "layers"}}, generation)
    branches = [
        branch if isinstance(branch, dict) and branch.get("class_name") in MODELS else {**alone, "config": [branch]}
        for branch in given["layers"]
    ]
    found = merged([_model(branch, generation) for branch in branches], merge, generation)
    _check_names([layer.name for layer in found.layers])
    return found


def _in_a_row(layer: LayerConfig, place: int) -> LayerConfig:
    """A layer that is called with what the one before it gives."""
    ends_of = (1, 1) if layer.model is None else (len(layer.model.inputs), len(layer.model.outputs))
    if layer.class_name == "InputLayer" or ends_of != (1, 1):
        msg = f"layer {layer.name!r} ({layer.class_name}) in a Sequential must take one tensor and give one"
        raise FormatError(msg)
    return replace(layer, calls=((Reference(place - 1, 0, 0),),))


def _sequential(config: Any, generation: int) -> ModelConfig:
    """Each layer is called once, with what the one before it gives."""
    entries = _entries(config, "the Sequential")
    stated = config if isinstance(config, dict) else {}
    with naming("the Sequential"):
        canonical(_SEQUENTIAL, stated)
        policy(stated.get("dtype"))
    _check_names([_entry(entry)[1] for entry in entries])
    layers: list[LayerConfig] = []
    inputs: tuple[int, ...] = (0,)
    for entry in entries:
        if not layers and _merging(entry):
            begun = _merged(entry, generation)
            layers, inputs = [*begun.layers], begun.inputs
            continue
        layer = _layer(entry, generation)
        if not layers and layer.class_name == "InputLayer":
            layers.append(layer)
            continue
        if not layers:
            layers.append(LayerConfig("InputLayer", UNNAMED, {}, None, _stated(stated, layer), ()))
        layers.append(_in_a_row(layer, len(layers)))
    if not layers:
        layers.append(LayerConfig("InputLayer", UNNAMED, {}, None, None, ()))
    return ModelConfig(tuple(layers), inputs, (Reference(len(layers) - 1, 0, 0),), generation)


def _functional(config: Any, generation: int) -> ModelConfig:
    """Layers are called as their `inbound_nodes` say."""
    entries = _entries(config if isinstance(config, dict) else None, "the Functional model")
    with naming("the Functional model"):
        canonical(_FUNCTIONAL, config)
        policy(config.get("dtype"))
        inputs, outputs = (ends(key, config.get(key)) for key in ("input_layers", "output_layers"))
    layers: list[LayerConfig] = []
    called: list[tuple[Tensors, ...]] = []
    for entry in entries:
        class_name, name = _entry(entry)
        bare = is_operation(entry, generation)
        alone = {key: entry[key] for key in entry if key != "inbound_nodes"}
        layer = LayerConfig(class_name, name, {}, None, None, ()) if bare else _layer(alone, generation)
        with naming(f"layer {name!r} ({class_name})"):
            if entry.get("name", name) != name:
                msg = f"its entry calls it {entry['name']!r:.60}, its config another name"
                raise FormatError(msg)
            if bare:
                layer, tensors = operation(alone, name, entry.get("inbound_nodes", []))
                called.append(tensors)
            else:
                called.append(calls(entry.get("inbound_nodes", [])))
        layers.append(layer)
    _check_names([layer.name for layer in layers])
    model = connected(layers, called, inputs, outputs, generation)
    return replace(model, input_keys=keys(config["input_layers"]), output_keys=keys(config["output_layers"]))


MODELS: Mapping[str, Callable[[Any, int], ModelConfig]] = {
    "Sequential": _sequential,
    "Functional": _functional,
    "Model": _functional,
}
"""The classes of models, and how each one's config is read."""


def _check_size(entry: Any, limits: Limits) -> None:
    """Refuse too many layers, or models too deep in models, before anything follows them down."""
    waiting, count = [(entry, 1)], 0
    while waiting:
        found, depth = waiting.pop()
        config = found.get("config") if isinstance(found, dict) else None
        config = config if isinstance(config, dict | list) else {}
        name = (config if isinstance(config, dict) else found).get("name")
        limits.check("name", len(name) if isinstance(name, str) else 0, f"layer {name!r:.60}, in letters of its name")
        layers = config if isinstance(config, list) else config.get("layers", config.get("layer"))
        layers = [layers] if isinstance(layers, dict) else layers
        if isinstance(layers, list):
            limits.check("models", depth, f"layer {name!r:.60}: models one in the other")
            count += len(layers)
            limits.check("layers", count, "layers")
            waiting += [(layer, depth + 1) for layer in layers]


def _model(entry: Mapping[str, Any], generation: int) -> ModelConfig:
    """A model, by its class."""
    model = MODELS[entry["class_name"]](entry["config"], generation)
    model.order  # noqa: B018 - computed now, so that a cycle is refused here
    return model


def translate(raw: RawModel) -> ModelConfig:
    """The canonical config of a raw model."""
    _check_size(raw.config, raw.limits)
    own = raw.config["class_name"] in MODELS and built_in(raw.config)
    class_name = raw.config["class_name"] if own else by_shape(raw.config)
    return _model(marked({"class_name": class_name, "config": with_names(raw)}, raw.custom), generation(raw))
