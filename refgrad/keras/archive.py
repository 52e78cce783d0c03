"""From bytes to a `RawModel`: what each container holds, found by its content and not by the file's name."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from refgrad.errors import FormatError, InputError, LimitError, UnsupportedError, naming
from refgrad.graph import Files
from refgrad.keras import layout
from refgrad.keras.content import LARGEST_TEXT, kind, parse, read_bytes
from refgrad.keras.layout import RawLayer, Stored, version
from refgrad.keras.rewriting import rewritten
from refgrad.paths import Given, as_file, called, is_json_text

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


@dataclass(frozen=True, eq=False)
class RawModel:
    """All that a file says, in one shape for every container: nothing is interpreted yet.

    `weights` is the HDF5 file that the arrays are in; they are read when they are asked for, so that what is wrong with
    the config can be said first. `custom` are the user's own classes and what makes ops of them.
    """

    config: dict[str, Any]
    weights: bytes
    writer: str | None
    container: str
    files: Files = field(default_factory=Files)
    custom: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def layers(self) -> tuple[RawLayer, ...]:
        """The arrays of every layer, in the file's order."""
        return layout.layers(self.weights)


def _folder(archive: zipfile.ZipFile) -> str:
    """What the members' names begin with: nothing, unless a folder was zipped again as a whole."""
    found = [name.removesuffix(_CONFIG) for name in archive.namelist() if name.endswith(f"/{_CONFIG}")]
    return found[0] if len(found) == 1 and _CONFIG not in archive.namelist() else ""


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A member by its exact name; what it declares is checked before it is unpacked."""
    whole = _folder(archive) + name
    entries = [entry for entry in archive.infolist() if entry.filename == whole]
    if len(entries) != 1:
        held = ", ".join(entry.filename for entry in archive.infolist()[:3])
        msg = f"the zip holds {len(entries)} members named {name!r}, a .keras file has one; this begins with {held:.80}"
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
    recorded = parse(metadata, _METADATA).get("keras_version")
    return RawModel(_model(config), weights, version(recorded), container)


def _model(config: str | bytes) -> dict[str, Any]:
    found = parse(config, "the config")
    if isinstance(found.get("layers"), list) and "class_name" not in found:
        # what get_config() gives
        rewritten("containers", "the JSON is the config of a model without its class", "")
        found = {"class_name": "Functional" if "input_layers" in found else "Sequential", "config": found}
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


def _stored(given: Given) -> Stored:
    """The weights in a file that was named for them."""
    file = as_file(given, "weights=")
    with naming(called(file)):
        content = read_bytes(file)
        if kind(content) != "hdf5":
            msg = "the weights are no HDF5 file"
            raise FormatError(msg)
        return layout.stored(content)


def _pair(config: bytes, stored: Stored) -> RawModel:
    """A config and weights that were saved apart; the config's version decides what its words mean.

    A config with modules beside its classes and no version is Keras 3's, whoever wrote the weights.
    """
    model = _model(config)
    of_weights = stored.writer if "module" not in model or str(stored.writer).startswith("3.") else None
    writer = version(model.get("keras_version")) or of_weights
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
    stored = layout.stored(content)
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
