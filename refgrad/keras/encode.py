"""From the layers of a Functional model to the bytes of a file: `.keras`, or `.h5` as older Kerases wrote it.

The same model gives the same bytes: there are no time stamps.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from refgrad.arrays import Array
from refgrad.errors import UnsupportedError
from refgrad.keras.arguments import Slot
from refgrad.keras.functional import Layer, Model, Tensor
from refgrad.keras.layers import LAYERS
from refgrad.keras.order import ordered
from refgrad.keras.rows import canonical
from refgrad.keras.weight_names import snake_case

VERSION = "3.15.1"
"""The Keras whose format and conventions are written."""

_NAME = "model"
_ATTRIBUTE = 64512
"""The most bytes of names that Keras puts into one attribute: HDF5 has no room for more in a header."""


def _arrays(layer: Layer) -> dict[str, Array]:
    """A layer's arrays in Keras's order."""
    row = LAYERS[layer.step.class_name]
    return {role: layer.step.arrays[role] for role in row.roles(canonical(row, layer.step.config))}


def _tensor(model: Model, tensor: Tensor) -> dict[str, Any]:
    history = [model.layers[tensor.layer].name, tensor.call, 0]
    config = {"shape": [None, *tensor.shape], "dtype": model.dtype, "keras_history": history}
    return {"class_name": "__keras_tensor__", "config": config}


def _call_of_keras_3(model: Model, layer: Layer, call: tuple[Tensor, ...]) -> Any:
    given = [_tensor(model, tensor) for tensor in call]
    if layer.is_operation:
        args = [given[each.place] if isinstance(each, Slot) else each for each in layer.step.arguments]
    else:
        args = [given if LAYERS[layer.step.class_name].merges else given[0]]
    return {"args": args, "kwargs": {}}


def _call_of_keras_2(model: Model, layer: Layer, call: tuple[Tensor, ...]) -> Any:
    del layer
    return [[model.layers[tensor.layer].name, tensor.call, 0, {}] for tensor in call]


def _layer(model: Model, layer: Layer, shape_key: str, spelled: Callable[..., Any]) -> dict[str, Any]:
    """A layer's entry."""
    of_layers = {} if layer.is_operation else {"trainable": True, "dtype": model.dtype}
    config = {"name": layer.name, **of_layers, **layer.step.config}
    if layer.shape is not None:
        config = {"name": layer.name, shape_key: [None, *layer.shape], "dtype": model.dtype, "sparse": False}
    calls = [spelled(model, layer, call) for call in layer.calls]
    return {"class_name": layer.step.class_name, "config": config, "name": layer.name, "inbound_nodes": calls}


def _ends(model: Model, tensors: tuple[Tensor, ...]) -> list[Any]:
    """A list of ends, or one alone as it is: Keras then takes, and gives, a tensor and no list."""
    found = [[model.layers[tensor.layer].name, tensor.call, 0] for tensor in tensors]
    return found if len(found) > 1 else found[0]


def _functional(model: Model, entries: list[dict[str, Any]]) -> dict[str, Any]:
    ends = {"input_layers": _ends(model, model.inputs), "output_layers": _ends(model, model.outputs)}
    return {"name": _NAME, "trainable": True, "layers": entries, **ends}


def _entry_of_keras_3(model: Model, layer: Layer) -> dict[str, Any]:
    """A layer's entry with its module; an operation is registered by its class's name, a layer by none."""
    class_name = layer.step.class_name
    home = {"module": layer.step.home or "keras.layers", "registered_name": class_name if layer.is_operation else None}
    return {**home, **_layer(model, layer, "batch_shape", _call_of_keras_3)}


def _in_order(model: Model) -> list[Layer]:
    return [model.layers[place] for place in ordered(model)]


def _numbered(layers: list[Layer]) -> Iterator[tuple[str, Layer]]:
    """Each layer with its group in Keras 3's layout: counted per class, without weights too, but no operations."""
    counts: dict[str, int] = {}
    for layer in layers:
        if layer.is_operation:
            continue
        stem = snake_case(layer.step.class_name)
        count = counts[stem] = counts.get(stem, -1) + 1
        yield f"{stem}_{count}" if count else stem, layer


def _member(archive: zipfile.ZipFile, name: str, content: bytes | str) -> None:
    """A member without the time of its making."""
    archive.writestr(zipfile.ZipInfo(name), content)


def keras(model: Model) -> bytes:
    """A `.keras` file: a zip of the config, the version, and an HDF5 file of weights."""
    layers = _in_order(model)
    entries = [_entry_of_keras_3(model, layer) for layer in layers]
    config = {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": _functional(model, entries),
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
    }
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for name, layer in _numbered(layers):
            arrays = _arrays(layer)
            group = file.create_group(f"layers/{name}/vars")
            group.attrs["name"] = layer.name
            for place, array in enumerate(arrays.values()):
                group.create_dataset(str(place), data=array)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        _member(archive, "metadata.json", json.dumps({"keras_version": VERSION}))
        _member(archive, "config.json", json.dumps(config))
        _member(archive, "model.weights.h5", weights.getvalue())
    return whole.getvalue()


def _names(group: h5py.Group, key: str, names: list[str]) -> None:
    """An attribute that lists names, in as many parts as it takes."""
    array = np.asarray([name.encode() for name in names], None if names else "S1")
    parts = max(1, -(-array.nbytes // _ATTRIBUTE))
    if parts == 1:
        group.attrs[key] = array
        return
    for place, part in enumerate(np.array_split(array, parts + 1)):
        group.attrs[f"{key}{place}"] = part


def hdf5(model: Model) -> bytes:
    """A whole-model `.h5` file: the config as an attribute, and the weights by the layers' names."""
    layers = _in_order(model)
    for layer in layers:
        if layer.is_operation:
            msg = f"layer {layer.name!r}: it is Keras 3's operation {layer.step.class_name}, which Keras cannot open "
            msg += "from the older format; write a .keras file"
            raise UnsupportedError(msg)
    entries = [_layer(model, layer, "batch_input_shape", _call_of_keras_2) for layer in layers]
    config = {"class_name": "Functional", "config": _functional(model, entries)}
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        stored = file.create_group("model_weights")
        for holder in (file, stored):
            holder.attrs["keras_version"] = VERSION.encode()
            holder.attrs["backend"] = b"tensorflow"
        _names(stored, "layer_names", [layer.name for layer in layers])
        for layer in layers:
            group = stored.create_group(layer.name)
            arrays = {f"{layer.name}/{role}": array for role, array in _arrays(layer).items()}
            _names(group, "weight_names", list(arrays))
            for name, array in arrays.items():
                group.create_dataset(name, data=array)
    return content.getvalue()


ENCODERS: Mapping[str, Callable[[Model], bytes]] = {".keras": keras, ".h5": hdf5, ".hdf5": hdf5}
"""What the ending of a file's name says it is."""
