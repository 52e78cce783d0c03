"""From bytes to a `RawModel`: what each container holds, found by its content and not by the file's name."""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py

from refgrad.arrays import Array
from refgrad.errors import FormatError, InputError, LimitError, UnsupportedError, naming
from refgrad.graph import Files
from refgrad.keras import hdf5
from refgrad.keras.content import LARGEST_TEXT, kind, parse, read_bytes
from refgrad.paths import StrPath, as_path, is_json_text

DEEPEST = 32
"""How many models may lie one in the other."""


@dataclass(frozen=True, eq=False)
class RawLayer:
    """The arrays stored for one layer, in the file's order, under the names the file gives them.

    `name` is the layer's name in the config where the file records it; `group` is where in the file the arrays are. A
    nested model has `layers` of its own, or (Keras 1–2) the arrays of them all, under names with the layers' in them.
    """

    group: str
    name: str | None
    arrays: dict[str, Array]
    layers: tuple[RawLayer, ...] = ()


@dataclass(frozen=True, eq=False)
class RawModel:
    """All that a file says, in one shape for every container: nothing is interpreted yet."""

    config: dict[str, Any]
    layers: tuple[RawLayer, ...]
    writer: str | None
    container: str
    files: Files = field(default_factory=Files)


@dataclass(frozen=True, eq=False)
class _Weights:
    layers: tuple[RawLayer, ...]
    container: str
    config: str | None = None
    writer: str | None = None


def _legacy_layers(root: h5py.Group, budget: int) -> Iterator[RawLayer]:
    """Keras 1–2 layout: the order is that of `layer_names`, and within a layer that of `weight_names`."""
    names = hdf5.texts(root, "layer_names")
    if names is None:
        held = ", ".join(map(repr, sorted(root)[:4])) or "nothing"
        msg = f"the HDF5 file has neither 'layer_names' nor a 'layers' group but {held}: no layout that can be read yet"
        raise FormatError(msg)
    for name in names:
        group = hdf5.child(root, name)
        paths = None if group is None else hdf5.texts(group, "weight_names")
        if paths is None:
            msg = f"layer {name!r} is listed in 'layer_names' but has no group with 'weight_names'"
            raise FormatError(msg)
        arrays = {}
        for path in paths:
            dataset = hdf5.descend(group, path)
            if dataset is None:
                msg = f"layer {name!r}: weight {path!r} is listed but missing"
                raise FormatError(msg)
            arrays[path] = hdf5.array(dataset, budget)
        yield RawLayer(name, name, arrays)


def _numbered_layers(root: h5py.Group, budget: int, above: tuple[h5py.Group, ...] = ()) -> Iterator[RawLayer]:
    """Keras 3 layout: `layers/<class>[_k]/vars/<i>`, with the layer's name on `vars` from newer writers.

    A nested model is a group with `layers` of its own; `above` are the models that this one lies in.
    """
    layers = hdf5.child(root, "layers")
    if not isinstance(layers, h5py.Group):
        msg = "'layers' is no group: this holds no Keras weights"
        raise FormatError(msg)
    if len(above) > DEEPEST or layers in above:
        msg = f"{layers.name}: over {DEEPEST} models lie one in the other"
        raise FormatError(msg)
    for group in layers:
        variables, inner = (hdf5.descend(layers, f"{group}/{part}") for part in ("vars", "layers"))
        arrays, name = {}, None
        if isinstance(variables, h5py.Group):
            order = sorted(variables, key=lambda key: (len(key), key))
            arrays = {key: hdf5.array(hdf5.child(variables, key), budget) for key in order}
            name = hdf5.text(variables.attrs["name"]) if "name" in variables.attrs else None
        elif inner is None:
            msg = f"{layers.name}/{group} has neither 'vars' nor 'layers': this layout cannot be read yet"
            raise UnsupportedError(msg)
        nested = () if inner is None else tuple(_numbered_layers(layers[group], budget, (*above, layers)))
        yield RawLayer(group, name, arrays, nested)


def _weights(content: bytes) -> _Weights:
    """Arrays, and where the container has them config and version, out of an HDF5 file of either layout."""
    with hdf5.opened(content) as file:
        legacy = hdf5.texts(file, "layer_names") is not None
        if "layers" in file and not legacy:
            return _Weights(tuple(_numbered_layers(file, len(content))), "weights .h5 of Keras 3 layout")
        whole = "model_weights" in file and not legacy  # a layer may be called that
        root = hdf5.child(file, "model_weights") if whole else file
        config = file.attrs.get("model_config")
        writer = file.attrs.get("keras_version", root.attrs.get("keras_version"))
        return _Weights(
            tuple(_legacy_layers(root, len(content))),
            "legacy .h5" if whole else "legacy weights .h5",
            None if config is None else hdf5.text(config),
            _version(writer),
        )


def _version(recorded: object) -> str | None:
    found = hdf5.text(recorded)
    return found if re.fullmatch(r"\d+\.\d+[\w.+-]*", found) else None


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A member by its exact name; what it declares is checked before it is unpacked."""
    entries = [entry for entry in archive.infolist() if entry.filename == name]
    if len(entries) != 1:
        msg = f"the zip holds {len(entries)} members named {name!r}, a .keras file has one"
        raise FormatError(msg)
    if entries[0].flag_bits & 1:
        msg = f"the zip's member {name!r} is encrypted"
        raise UnsupportedError(msg)
    if entries[0].file_size > limit:
        msg = f"the zip's member {name!r} unpacks to {entries[0].file_size:,} bytes; at most {limit:,} are read"
        raise LimitError(msg)
    with archive.open(entries[0]) as member:
        return member.read(limit)


def _whole_zip(content: bytes) -> RawModel:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            config = _member(archive, "config.json", LARGEST_TEXT)
            metadata = _member(archive, "metadata.json", LARGEST_TEXT)
            weights = _member(archive, "model.weights.h5", 4 * len(content) + LARGEST_TEXT)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        msg = f"the zip is damaged or cut off ({error})"
        raise FormatError(msg) from None
    version = parse(metadata, "metadata.json").get("keras_version")
    return RawModel(_model(config), _weights(weights).layers, _version(version), "Keras .keras")


def _model(config: str | bytes) -> dict[str, Any]:
    found = parse(config, "the config")
    if not isinstance(found.get("config"), (dict, list)) or not isinstance(found.get("class_name"), str):
        msg = "the JSON is no Keras model: it has no 'class_name' and 'config'"
        raise FormatError(msg)
    return found


def _config_text(given: StrPath) -> bytes:
    """The config's text, be it given as such or as the path of a file."""
    if isinstance(given, str) and is_json_text(given):
        return given.encode()
    path = as_path(given, "config=")
    with naming(path):
        return read_bytes(path)


def _stored(path: Path) -> _Weights:
    """The weights in a file that was named for them."""
    with naming(path):
        content = read_bytes(path)
        if kind(content) != "hdf5":
            msg = "the weights are no HDF5 file"
            raise FormatError(msg)
        return _weights(content)


def _pair(config: bytes, stored: _Weights) -> RawModel:
    """A config and weights that were saved apart; the config's version decides what its words mean."""
    model = _model(config)
    writer = _version(model.get("keras_version")) or stored.writer
    return RawModel(model, stored.layers, writer, f"JSON + {stored.container}")


def _read(path: Path, config: StrPath | None, weights: StrPath | None) -> RawModel:
    content = read_bytes(path)
    found = kind(content)
    if found == "json":
        if weights is None:
            msg = "this is a config without weights; pass weights= (on the command line --weights) as well"
            raise InputError(msg)
        return _pair(content, _stored(as_path(weights, "weights=")))
    if weights is not None or (found == "zip" and config is not None):
        msg = f"this file holds {'the whole model' if found == 'zip' else 'weights'} itself: give it no other"
        raise InputError(msg)
    if found == "zip":
        return _whole_zip(content)
    stored = _weights(content)
    if config is not None:
        return _pair(_config_text(config), stored)
    if stored.config is None:
        msg = "this file holds weights only; pass the model's JSON as config= (on the command line --config)"
        raise InputError(msg)
    return RawModel(_model(stored.config), stored.layers, stored.writer, stored.container)


def _absolute(given: StrPath | None) -> str | None:
    """A path that stays right when the working directory changes; the text of a JSON as it is."""
    if given is None:
        return None
    return os.fspath(given) if is_json_text(given) else str(Path(given).resolve())


def read(path: Path, config: StrPath | None = None, weights: StrPath | None = None) -> RawModel:
    """All of a model, from a file that holds it whole or from a config and weights."""
    raw = _read(path, config, weights)
    return replace(raw, files=Files(_absolute(path), _absolute(config), _absolute(weights)))
