"""From any version's config to one canonical config: every spelling that is understood, and no other.

Canonical: a `ModelConfig` whose layers carry a class name, a name, and exactly the keys of their `KEYS` row, each with
a plain value: `activation` is a name of Keras 2's or 3's, numbers are numbers, `null` is resolved. What could change
the output and is not understood is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refgrad.activations.names import NAMES
from refgrad.arrays import Shape
from refgrad.errors import FormatError, UnsupportedError, naming
from refgrad.graph import SUPPORTED_DTYPES
from refgrad.keras.archive import RawModel


@dataclass(frozen=True)
class LayerConfig:
    """One layer in canonical spelling; `dtype` is what its weights are declared to be stored in, if it says."""

    class_name: str
    name: str
    config: Mapping[str, Any]
    dtype: str | None
    input_shape: Shape | None


@dataclass(frozen=True)
class ModelConfig:
    """A Sequential model in canonical spelling; `generation` is the Keras, 2 or 3, whose conventions it follows."""

    layers: tuple[LayerConfig, ...]
    input_shape: Shape | None
    generation: int


_LARGEST = float(np.finfo(np.float32).max)


def _whole_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"{value!r} is not a whole number above 0"
        raise FormatError(msg)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        msg = f"{value!r} is neither true nor false"
        raise FormatError(msg)
    return value


def _not_negative(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        msg = f"{value!r} is not a number from 0 to float32's largest"
        raise FormatError(msg)
    return float(value)


def _limit(value: Any) -> float:
    return float("inf") if value is None else _not_negative(value)


def _activation(value: Any) -> str:
    if value is None:
        return "linear"
    if not isinstance(value, str) or not any(value in names for names in NAMES.values()):
        what = value if isinstance(value, str) else f"a {type(value).__name__}"
        msg = f"the activation {what!r} is not supported; these are: {', '.join(NAMES[3])}"
        raise UnsupportedError(msg)
    return value


_REQUIRED = object()


@dataclass(frozen=True)
class Keys:
    """What may stand in a class's config.

    `meaning`: key → (how its value is read, its default). `inert`: keys that cannot change the output of inference.
    `only`: keys that are understood at one value, which changes nothing.
    """

    meaning: Mapping[str, tuple[Callable[[Any], Any], Any]] = field(default_factory=dict)
    inert: frozenset[str] = frozenset()
    only: Mapping[str, Any] = field(default_factory=dict)


def _relu_as_used(config: Mapping[str, Any], generation: int) -> Mapping[str, Any]:
    """A ReLU layer's parameters as Keras computes with them: in float32, whatever the model's dtype.

    Keras 3 alone keeps the slope as it was given, where there is a maximum or a threshold too.
    """
    plain = config["threshold"] == 0 and config["max_value"] == np.inf
    exact = {"negative_slope"} if generation == 3 and not plain else set()
    return {key: value if key in exact else float(np.float32(value)) for key, value in config.items()}


def _as_given(config: Mapping[str, Any], generation: int) -> Mapping[str, Any]:
    del generation
    return config


AS_USED: Mapping[str, Callable[[Mapping[str, Any], int], Mapping[str, Any]]] = {"ReLU": _relu_as_used}
"""What a generation of Keras makes of a class's parameters before it computes with them, where it makes something."""

_EVERYWHERE = frozenset({"name", "trainable", "dtype", "batch_input_shape", "batch_shape"})
_OF_WEIGHTS = frozenset(
    f"{array}_{what}"
    for array in ("kernel", "bias", "activity")
    for what in ("initializer", "regularizer", "constraint")
)

KEYS: Mapping[str, Keys] = {
    "InputLayer": Keys(inert=frozenset({"optional"}), only={"sparse": False, "ragged": False}),
    "Dense": Keys(
        meaning={
            "units": (_whole_number, _REQUIRED),
            "activation": (_activation, "linear"),
            "use_bias": (_flag, True),
        },
        inert=_OF_WEIGHTS,
        only={"quantization_config": None, "lora_rank": None, "lora_alpha": None},
    ),
    "Activation": Keys(meaning={"activation": (_activation, _REQUIRED)}),
    "ReLU": Keys(
        meaning={
            "max_value": (_limit, None),
            "negative_slope": (_not_negative, 0.0),
            "threshold": (_not_negative, 0.0),
        }
    ),
    "Dropout": Keys(inert=frozenset({"rate", "seed", "noise_shape"})),
}

_SEQUENTIAL = Keys(inert=frozenset({"layers", "build_input_shape"}))  # read by `translate`
_LAYER_KEYS = {"class_name", "config", "module", "registered_name", "build_config", "name", "shared_object_id"}


def _built_in(entry: Mapping[str, Any]) -> bool:
    """Whether an entry names Keras's own class: a user's class may have the same name and do something else.

    Keras has written a `module` since 2.12, and null for a class of the user's; before, it wrote nothing that tells.
    """
    if entry.get("registered_name") is not None:
        return False
    return "module" not in entry or str(entry["module"]).split(".")[0] in {"keras", "tf_keras", "tensorflow"}


def _dtype(value: Any) -> str | None:
    """The dtype of a layer, be it absent, a name, or a policy object."""
    if value is None:
        return None
    policy = value.get("config") if isinstance(value, dict) else None
    name = policy.get("name") if isinstance(policy, dict) else value
    if name not in SUPPORTED_DTYPES:
        msg = f"dtype {name!r} is not supported; these are: {', '.join(SUPPORTED_DTYPES)}"
        raise UnsupportedError(msg)
    return str(name)


def _shape(value: Any) -> Shape:
    """A shape without its batch axis."""
    if not isinstance(value, list) or len(value) < 2:
        msg = f"input shape {value!r} is not [batch, features, …]"
        raise FormatError(msg)
    if None in value[1:]:
        msg = f"input shape {value!r} leaves a feature axis open; fixed shapes are supported"
        raise UnsupportedError(msg)
    return tuple(_whole_number(size) for size in value[1:])


def _canonical(keys: Keys, given: Mapping[str, Any]) -> dict[str, Any]:
    """A config with exactly the keys that mean something."""
    for key, value in given.items():
        if key in keys.only and value not in (None, keys.only[key]):
            msg = f"{key}={value!r} is not supported; only {keys.only[key]!r} is"
            raise UnsupportedError(msg)
        known = key in _EVERYWHERE or key in keys.meaning or key in keys.inert or key in keys.only
        # A key that later versions added and left unset changes nothing.
        if not known and value is not None:
            msg = f"the key {key!r} (here {value!r}) is not known and could change the output"
            raise UnsupportedError(msg)
    found = {}
    for key, (read, default) in keys.meaning.items():
        if key not in given and default is _REQUIRED:
            msg = f"the key {key!r} is missing"
            raise FormatError(msg)
        with naming(key):
            found[key] = read(given.get(key, default))
    return found


def _layer(entry: Any, generation: int) -> LayerConfig:
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        msg = f"a layer of the config is no object with a 'class_name': {entry!r:.80}"
        raise FormatError(msg)
    class_name, given = entry["class_name"], entry.get("config")
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        msg = f"a layer of class {class_name} has no config with a 'name'"
        raise FormatError(msg)
    with naming(f"layer {given['name']!r} ({class_name})"):
        if not _built_in(entry):
            msg = "this is a custom class, not Keras's own: what it computes is not in the file"
            raise UnsupportedError(msg)
        if class_name not in KEYS:
            msg = f"this layer class is not supported; these are: {', '.join(KEYS)}"
            raise UnsupportedError(msg)
        if unknown := sorted(set(entry) - _LAYER_KEYS):
            msg = f"{unknown[0]!r} beside its config is not known and could change the output"
            raise UnsupportedError(msg)
        stated = given.get("batch_shape", given.get("batch_input_shape"))
        return LayerConfig(
            class_name,
            given["name"],
            AS_USED.get(class_name, _as_given)(_canonical(KEYS[class_name], given), generation),
            _dtype(given.get("dtype")),
            None if stated is None else _shape(stated),
        )


def _generation(raw: RawModel) -> int:
    """Keras 3 from version 3 on; where no version is recorded, Keras 3 is known by the `module` beside the class."""
    if raw.writer is None:
        return 3 if "module" in raw.config else 2
    return 3 if int(raw.writer.split(".")[0]) >= 3 else 2


def translate(raw: RawModel) -> ModelConfig:
    """The canonical config of a raw model."""
    class_name, config = raw.config["class_name"], raw.config["config"]
    if class_name != "Sequential" or not _built_in(raw.config):
        msg = f"the model is a {class_name}; only Keras's Sequential can be read yet"
        raise UnsupportedError(msg)
    if isinstance(config, list):
        msg = "the Sequential is a bare list of layers, as Keras wrote it up to 2.2.2; that cannot be read yet"
        raise UnsupportedError(msg)
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        msg = "the Sequential's config has no list 'layers'"
        raise FormatError(msg)
    with naming("the Sequential"):
        _canonical(_SEQUENTIAL, config)
    generation = _generation(raw)
    layers = tuple(_layer(entry, generation) for entry in config["layers"])
    names = [layer.name for layer in layers]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        msg = f"two layers are named {repeated[0]!r}"
        raise FormatError(msg)
    stated = [layer.input_shape for layer in layers[:1] if layer.input_shape is not None]
    if not stated and config.get("build_input_shape") is not None:
        stated = [_shape(config["build_input_shape"])]
    return ModelConfig(layers, stated[0] if stated else None, generation)
