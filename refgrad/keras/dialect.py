"""From any version's config to one canonical config: every spelling that is understood, and no other.

What could change the output and is not understood is refused by name. A spelling of another version is one rule here,
in `calls`, in `values`, or one key in a layer's row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from refgrad.errors import FormatError, UnsupportedError, naming
from refgrad.keras.archive import DEEPEST, RawModel
from refgrad.keras.calls import Tensors, calls, ends
from refgrad.keras.canonical import LayerConfig, ModelConfig, Reference
from refgrad.keras.layers import LAYERS
from refgrad.keras.rows import Row, canonical
from refgrad.keras.values import OpenShape, open_shape
from refgrad.keras.wiring import connected

STORED_DTYPES = ("float16", "float32", "float64")
"""The dtypes that weights may be stored in."""

_SEQUENTIAL = Row(inert=frozenset({"layers", "build_input_shape"}))
_FUNCTIONAL = Row(inert=frozenset({"layers", "input_layers", "output_layers"}))
_ENTRY = {
    "class_name",
    "config",
    "module",
    "registered_name",
    "build_config",
    "compile_config",
    "name",
    "shared_object_id",
}


def _built_in(entry: Mapping[str, Any]) -> bool:
    """Whether an entry names Keras's own class: a user's class may have the same name and do something else.

    Keras has written a `module` since 2.12, and null for a class of the user's; before, it wrote nothing that tells.
    Functional models are registered by their own name.
    """
    if entry.get("registered_name") not in (None, *({"Functional"} & {entry["class_name"]})):
        return False
    return "module" not in entry or str(entry["module"]).split(".")[0] in {"keras", "tf_keras", "tensorflow"}


def _dtype(value: Any) -> str | None:
    """The dtype of a layer, be it absent, a name, or a policy object."""
    if value is None:
        return None
    policy = value.get("config") if isinstance(value, dict) else None
    name = policy.get("name") if isinstance(policy, dict) else value
    if name not in STORED_DTYPES:
        msg = f"dtype {name!r:.60} is not supported; these are: {', '.join(STORED_DTYPES)}"
        raise UnsupportedError(msg)
    return str(name)


def _entry(entry: Any) -> tuple[str, str]:
    """The class and the name of an entry of a model's layers, if it is one at all."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        msg = f"a layer of the config is no object with a 'class_name': {entry!r:.80}"
        raise FormatError(msg)
    class_name, given = entry["class_name"], entry.get("config")
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        msg = f"a layer of class {class_name} has no config with a 'name'"
        raise FormatError(msg)
    return class_name, given["name"]


def _layer(entry: Any, generation: int) -> LayerConfig:
    """A layer or a nested model, not yet called."""
    class_name, name = _entry(entry)
    given = entry["config"]
    with naming(f"layer {name!r} ({class_name})"):
        if not _built_in(entry):
            msg = "this is a custom class, not Keras's own: what it computes is not in the file"
            raise UnsupportedError(msg)
        if ".ops." in str(entry.get("module")):
            msg = "this is a bare operation of the functional API, which cannot be read yet; use the layer of that name"
            raise UnsupportedError(msg)
        if class_name not in LAYERS and class_name not in MODELS:
            msg = f"this layer class is not supported; these are: {', '.join(LAYERS)}"
            raise UnsupportedError(msg)
        if unknown := sorted(set(entry) - _ENTRY):
            msg = f"{unknown[0]!r} beside its config is not known and could change the output"
            raise UnsupportedError(msg)
        if class_name in MODELS:
            return LayerConfig(class_name, name, {}, None, None, (), _model(entry, generation))
        row = LAYERS[class_name]
        stated = given.get("batch_shape", given.get("batch_input_shape"))
        return LayerConfig(
            class_name,
            name,
            row.as_used(canonical(row, given), generation),
            _dtype(given.get("dtype")),
            None if stated is None else open_shape(stated),
            (),
        )


def _check_names(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            msg = f"two layers are named {name!r}"
            raise FormatError(msg)
        seen.add(name)


def _stated(config: Mapping[str, Any], layers: Sequence[LayerConfig]) -> OpenShape | None:
    """The input's shape of a Sequential without InputLayer: as its first layer or the model itself states it."""
    first = layers[0]
    if first.model is not None:
        return first.model.layers[first.model.inputs[0]].input_shape
    if first.input_shape is not None:
        return first.input_shape
    built = config.get("build_input_shape")
    return None if built is None else open_shape(built)


def _sequential(config: Any, generation: int) -> ModelConfig:
    """Each layer is called once, with what the one before it gives."""
    if isinstance(config, list):
        msg = "the Sequential is a bare list of layers, as Keras wrote it up to 2.2.2; that cannot be read yet"
        raise UnsupportedError(msg)
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        msg = "the Sequential's config has no list 'layers'"
        raise FormatError(msg)
    with naming("the Sequential"):
        canonical(_SEQUENTIAL, config)
        _dtype(config.get("dtype"))
    layers = [_layer(entry, generation) for entry in config["layers"]]
    _check_names([layer.name for layer in layers])
    if not layers or layers[0].class_name != "InputLayer":
        shape = _stated(config, layers) if layers else None
        layers.insert(0, LayerConfig("InputLayer", "input", {}, None, shape, ()))
    for layer in layers[1:]:
        ends_of = (1, 1) if layer.model is None else (len(layer.model.inputs), len(layer.model.outputs))
        if layer.class_name == "InputLayer" or ends_of != (1, 1):
            msg = f"layer {layer.name!r} ({layer.class_name}) in a Sequential must take one tensor and give one"
            raise FormatError(msg)
    chained = [replace(layer, calls=((Reference(index, 0, 0),),)) for index, layer in enumerate(layers[1:])]
    return ModelConfig((layers[0], *chained), (0,), (Reference(len(chained), 0, 0),), generation)


def _functional(config: Any, generation: int) -> ModelConfig:
    """Layers are called as their `inbound_nodes` say."""
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        msg = "the Functional model's config has no list 'layers'"
        raise FormatError(msg)
    with naming("the Functional model"):
        canonical(_FUNCTIONAL, config)
        _dtype(config.get("dtype"))
        inputs, outputs = (ends(key, config.get(key)) for key in ("input_layers", "output_layers"))
    layers: list[LayerConfig] = []
    called: list[tuple[Tensors, ...]] = []
    for entry in config["layers"]:
        class_name, name = _entry(entry)
        layers.append(_layer({key: entry[key] for key in entry if key != "inbound_nodes"}, generation))
        with naming(f"layer {name!r} ({class_name})"):
            if entry.get("name", name) != name:
                msg = f"its entry calls it {entry['name']!r:.60}, its config another name"
                raise FormatError(msg)
            called.append(calls(entry.get("inbound_nodes", [])))
    _check_names([layer.name for layer in layers])
    return connected(layers, called, inputs, outputs, generation)


MODELS: Mapping[str, Callable[[Any, int], ModelConfig]] = {
    "Sequential": _sequential,
    "Functional": _functional,
    "Model": _functional,
}
"""The classes of models, and how each one's config is read."""


def _check_depth(entry: Any) -> None:
    """Refuse models too deep in models, before anything follows them down."""
    waiting = [(entry, 1)]
    while waiting:
        found, depth = waiting.pop()
        config = found.get("config") if isinstance(found, dict) else None
        config = config if isinstance(config, dict) else {}
        layers = config.get("layers")
        if isinstance(layers, list):
            if depth > DEEPEST:
                msg = f"layer {config.get('name')!r:.60}: over {DEEPEST} models lie one in the other"
                raise FormatError(msg)
            waiting += [(layer, depth + 1) for layer in layers]


def _model(entry: Mapping[str, Any], generation: int) -> ModelConfig:
    """A model, by its class."""
    model = MODELS[entry["class_name"]](entry["config"], generation)
    model.order  # noqa: B018 - computed now, so that a cycle is refused here
    return model


def _generation(raw: RawModel) -> int:
    """Keras 3 from version 3 on; where no version is recorded, Keras 3 is known by the `module` beside the class."""
    if raw.writer is None:
        return 3 if "module" in raw.config else 2
    return 3 if int(raw.writer.split(".")[0]) >= 3 else 2


def translate(raw: RawModel) -> ModelConfig:
    """The canonical config of a raw model."""
    class_name = raw.config["class_name"]
    if class_name not in MODELS or not _built_in(raw.config):
        msg = f"the model is a {class_name:.60}; only Keras's own {', '.join(MODELS)} can be read yet"
        raise UnsupportedError(msg)
    _check_depth(raw.config)
    return _model(raw.config, _generation(raw))
