"""What is only asked of a file's outermost model: who wrote it, whose class it is, what the models in it are called."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from refgrad.errors import MismatchError, RefgradWarning, UnsupportedError
from refgrad.keras.archive import RawModel
from refgrad.keras.rewriting import rewritten


def generation(raw: RawModel) -> int:
    """Keras 3 from version 3 on; where no version is recorded, Keras 3 is known by the `module` beside a class."""
    if raw.writer is None:
        layers = raw.config["config"].get("layers") if isinstance(raw.config["config"], dict) else None
        first = layers[0] if isinstance(layers, list) and layers else {}
        return 3 if "module" in raw.config or (isinstance(first, dict) and "module" in first) else 2
    return 3 if int(raw.writer.split(".")[0]) >= 3 else 2


def by_shape(found: Mapping[str, Any]) -> str:
    """The class of models that a class of its author's has the config of."""
    class_name, config = found["class_name"], found["config"]
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        msg = f"the model is a {class_name:.60}, a custom class whose config lists no layers: what it computes is not "
        msg += "in the file; rebuild it as a Sequential or Functional model and save that"
        raise UnsupportedError(msg)
    shape = "Functional" if "input_layers" in config else "Sequential"
    msg = f"the model is a {class_name:.60}, a custom class: it is read as the {shape} model that its config describes"
    warnings.warn(msg, RefgradWarning, stacklevel=2)
    rewritten("models", f"the class {class_name:.60} is read as {shape}", "")
    return shape


def with_names(raw: RawModel) -> Any:
    """The model's config; where it is a bare list, with the names of the models in it.

    Such a list names no model, but the weights are listed in the same order by name.
    """
    config = raw.config["config"]
    if not isinstance(config, list) or all("name" in entry for entry in config if _nameless(entry)):
        return config
    stored = [layer.name for layer in raw.layers]
    entries = [entry for entry in config if len(config) == len(stored) or not _is_input(entry)]
    names = [None if _nameless(entry) else _entry_name(entry) for entry in entries]
    if len(names) != len(stored) or any(name not in (None, held) for name, held in zip(names, stored, strict=True)):
        msg = f"the config has the layers {names!s:.100}, the weights {stored!s:.100}: not the same in the same order"
        raise MismatchError(msg)
    found = dict(zip(map(id, entries), stored, strict=True))
    return [{**entry, "name": found[id(entry)]} if _nameless(entry) else entry for entry in config]


def _is_input(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("class_name") == "InputLayer"


def _entry_name(entry: Any) -> Any:
    given = entry.get("config") if isinstance(entry, dict) else None
    return given.get("name") if isinstance(given, dict) else None


def _nameless(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.get("class_name") != "Sequential":
        return False
    return isinstance(entry.get("config"), list) and "name" not in entry
