"""From bytes to a `RawModel`: what each container holds, found by its content and not by the file's name."""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py

from refgrad.arrays import Array
from refgrad.errors import FormatError, InputError, LimitError, UnsupportedError, naming
from refgrad.graph import Files
from refgrad.keras import hdf5
from refgrad.keras.content import LARGEST_TEXT, kind, parse, read_bytes
from refgrad.keras.hdf5 import Folder
from refgrad.paths import Given, as_file, called, is_json_text

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

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
    """All that a file says, in one shape for every container: nothing is interpreted yet.

    `weights` is the HDF5 file that the arrays are in; they are read when they are asked for, so that what is wrong with
    the config can be said first.
    """

    config: dict[str, Any]
    weights: bytes
    writer: str | None
    container: str
    files: Files = field(default_factory=Files)

    @cached_property
    def layers(self) -> tuple[RawLayer, ...]:
        """The arrays of every layer, in the file's order."""
        with hdf5.opened(self.weights) as file:
            root = Folder(((file, ""),))
            if _is_legacy(file):
                return tuple(_legacy_layers(_legacy_root(file), len(self.weights)))
            own = root.folder("vars")
            if own is not None and list(own):
                msg = "the model has weights of its own beside those of its layers: what they do is not in the file"
                raise UnsupportedError(msg)
            return tuple(_numbered_layers(root, len(self.weights), set()))


@dataclass(frozen=True, eq=False)
class _Weights:
    content: bytes
    container: str
    config: str | None = None
    writer: str | None = None


def _is_legacy(file: h5py.File) -> bool:
    """Whether the layout is that of Keras 1–2, which lists its layers by name."""
    return hdf5.texts(file, "layer_names") is not None or "model_weights" in file


def _legacy_root(file: h5py.File) -> h5py.Group:
    """The group that lists the layers: a layer may be called model_weights as well."""
    return file if hdf5.texts(file, "layer_names") is not None else hdf5.child(file, "model_weights")


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


_LAYERS = ("layers", "_layer_checkpoint_dependencies")
"""Where a model's layers are; tf.keras 2.12 and 2.13 had a name of their own, where they count a layer twice."""


def _folder_of_layers(model: Folder) -> Folder:
    found = [name for name in _LAYERS if name in model]
    layers = model.folder(found[0]) if len(found) == 1 else None
    if layers is None:
        held = " and ".join(map(repr, found)) or ", ".join(map(repr, sorted(model)[:4])) or "nothing"
        msg = f"the weights have neither 'layer_names' nor one group 'layers' but {held}: no layout that can be read"
        raise FormatError(msg)
    return layers


def _numbered_layers(model: Folder, budget: int, above: set[Any], depth: int = 0) -> Iterator[RawLayer]:
    """Keras 3 layout: `layers/<class>[_k]/vars/<i>`, with the layer's name on `vars` from newer writers.

    A nested model is a group with `layers` of its own; `above` are those met so far, none of which may come again.
    """
    layers = _folder_of_layers(model)
    if depth > DEEPEST or not above.isdisjoint(layers.parts):
        msg = f"{layers.parts[0][0].name} is there twice, by links, or over {DEEPEST} models lie one in the other"
        raise FormatError(msg)
    above.update(layers.parts)
    for name in layers:
        group = layers.folder(name)
        variables = None if group is None else group.folder("vars")
        nested = group is not None and any(inner in group for inner in _LAYERS)
        yield RawLayer(
            name,
            None if variables is None else variables.text("name"),
            {} if variables is None else variables.arrays(budget),
            tuple(_numbered_layers(group, budget, above, depth + 1)) if group is not None and nested else (),
        )


def _weights(content: bytes) -> _Weights:
    """What an HDF5 file of either layout says beside its arrays."""
    with hdf5.opened(content) as file:
        if not _is_legacy(file):
            _folder_of_layers(Folder(((file, ""),)))
            return _Weights(content, "weights .h5 of Keras 3 layout")
        root = _legacy_root(file)
        config = file.attrs.get("model_config")
        writer = file.attrs.get("keras_version", root.attrs.get("keras_version"))
        return _Weights(
            content,
            "legacy weights .h5" if config is None else "legacy .h5",
            None if config is None else hdf5.text(config),
            _version(writer),
        )


def _version(recorded: object) -> str | None:
    found = hdf5.text(recorded)
    return found if re.fullmatch(r"\d+\.\d+[\w.+-]*", found) else None


def _folder(archive: zipfile.ZipFile) -> str:
    """What the members' names begin with: nothing, unless a folder was zipped again as a whole."""
    found = [name.removesuffix(_CONFIG) for name in archive.namelist() if name.endswith(f"/{_CONFIG}")]
    return found[0] if len(found) == 1 and _CONFIG not in archive.namelist() else ""


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A member by its exact name; what it declares is checked before it is unpacked."""
    whole = _folder(archive) + name
    entries = [entry for entry in archive.infolist() if entry.filename == whole]
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
            config = _member(archive, _CONFIG, LARGEST_TEXT)
            metadata = _member(archive, _METADATA, LARGEST_TEXT)
            weights = _member(archive, _WEIGHTS, 4 * len(content) + LARGEST_TEXT)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        msg = f"the zip is damaged or cut off ({error})"
        raise FormatError(msg) from None
    return _whole(config, metadata, weights, "Keras .keras")


def _is_unpacked(path: Path) -> bool:
    try:
        return (path / _CONFIG).is_file()
    except OSError:
        return False


def _part(path: Path, name: str) -> bytes:
    with naming(name):
        return read_bytes(path / name)


def _whole_folder(path: Path) -> RawModel:
    """A .keras that was unpacked."""
    return _whole(_part(path, _CONFIG), _part(path, _METADATA), _part(path, _WEIGHTS), "Keras .keras, unpacked")


def _whole(config: bytes, metadata: bytes, weights: bytes, container: str) -> RawModel:
    version = parse(metadata, _METADATA).get("keras_version")
    return RawModel(_model(config), weights, _version(version), container)


def _model(config: str | bytes) -> dict[str, Any]:
    found = parse(config, "the config")
    if not isinstance(found.get("config"), (dict, list)) or not isinstance(found.get("class_name"), str):
        msg = "the JSON is no Keras model: it has no 'class_name' and 'config'"
        raise FormatError(msg)
    return found


def _config_text(given: Given) -> bytes:
    """The config's text, be it given as such or as a file."""
    if isinstance(given, str) and is_json_text(given):
        return given.encode()
    file = as_file(given, "config=")
    with naming(called(file)):
        return read_bytes(file)


def _stored(given: Given) -> _Weights:
    """The weights in a file that was named for them."""
    file = as_file(given, "weights=")
    with naming(called(file)):
        content = read_bytes(file)
        if kind(content) != "hdf5":
            msg = "the weights are no HDF5 file"
            raise FormatError(msg)
        return _weights(content)


def _pair(config: bytes, stored: _Weights) -> RawModel:
    """A config and weights that were saved apart; the config's version decides what its words mean.

    A config with modules beside its classes and no version is Keras 3's, whoever wrote the weights.
    """
    model = _model(config)
    of_weights = stored.writer if "module" not in model or str(stored.writer).startswith("3.") else None
    writer = _version(model.get("keras_version")) or of_weights
    return RawModel(model, stored.content, writer, f"JSON + {stored.container}")


def _read(file: Path | bytes, config: Given | None, weights: Given | None) -> RawModel:
    if isinstance(file, Path) and config is weights is None and _is_unpacked(file):
        return _whole_folder(file)
    content = read_bytes(file)
    found = kind(content)
    if found == "json":
        if weights is None:
            msg = "this is a config without weights; pass weights= (on the command line --weights) as well"
            raise InputError(msg)
        return _pair(content, _stored(weights))
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
    return RawModel(_model(stored.config), content, stored.writer, stored.container)


def _absolute(given: Given | None) -> str | None:
    """A path that stays right when the working directory changes; the text of a JSON as it is."""
    if isinstance(given, str) and is_json_text(given):
        return given
    return str(Path(given).resolve()) if isinstance(given, str | os.PathLike) else None


def _files(file: Path | bytes, *others: Given | None) -> Files:
    """Where all was read from; nothing, where something was given as content and could not be opened again."""
    given = (None if isinstance(file, bytes) else file, *others)
    paths = [_absolute(part) for part in given]
    lost = given[0] is None or any(part is not None and path is None for part, path in zip(given, paths, strict=True))
    return Files() if lost else Files(*paths)


def read(file: Path | bytes, config: Given | None = None, weights: Given | None = None) -> RawModel:
    """All of a model, from a file that holds it whole or from a config and weights."""
    return replace(_read(file, config, weights), files=_files(file, config, weights))
