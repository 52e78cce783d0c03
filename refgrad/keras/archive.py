"""From bytes to a `RawModel`: what each container holds, found by its content and not by the file's name."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from refgrad import zips
from refgrad.errors import FormatError, InputError, naming
from refgrad.graph import Files
from refgrad.keras import layout
from refgrad.keras.content import kind, parse
from refgrad.keras.hdf5 import Content, content
from refgrad.keras.layout import RawLayer, Stored, version
from refgrad.keras.rewriting import rewritten
from refgrad.limits import Limits
from refgrad.paths import Given, as_file, called, is_json_text, opened
from refgrad.texts import whole

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


@dataclass(frozen=True, eq=False)
class RawModel:
    """All that a file says, in one shape for every container: nothing is interpreted yet.

    `weights` is the HDF5 file that the arrays are in; they are read when they are asked for, so that what is wrong with
    the config can be said first. A live model has none: what its layers hold is `held`. `limits` bound what all of it
    may cost. `custom` are the user's own classes and what makes ops of them.
    """

    config: dict[str, Any]
    weights: Content | None
    writer: str | None
    container: str
    limits: Limits
    files: Files = field(default_factory=Files)
    held: tuple[RawLayer, ...] | None = None
    custom: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def layers(self) -> tuple[RawLayer, ...]:
        """The arrays of every layer, in the file's order."""
        if self.held is not None:
            return self.held
        assert self.weights is not None
        return layout.layers(self.weights, self.limits)


def _folder(archive: zipfile.ZipFile) -> str:
    """What the members' names begin with: nothing, unless a folder was zipped again as a whole."""
    found = [name.removesuffix(_CONFIG) for name in archive.namelist() if name.endswith(f"/{_CONFIG}")]
    return found[0] if len(found) == 1 and _CONFIG not in archive.namelist() else ""


def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A member by its exact name."""
    whole = _folder(archive) + name
    if whole not in archive.namelist():
        held = ", ".join(entry.filename for entry in archive.infolist()[:3])
        msg = f"the zip holds 0 members named {name!r}, a .keras file has one; this begins with {held:.80}"
        raise FormatError(msg)
    return archive.getinfo(whole)


def _text(archive: zipfile.ZipFile, name: str, limits: Limits) -> bytes:
    entry = _entry(archive, name)
    limits.check("json_bytes", entry.file_size, f"the zip's member {name!r} unpacked, in bytes")
    return zips.unpacked(archive, entry)


def _whole_zip(stream: BinaryIO, limits: Limits) -> RawModel:
    with zips.opened(stream, limits) as archive:
        config, metadata = (_text(archive, name, limits) for name in (_CONFIG, _METADATA))
        weights = _entry(archive, _WEIGHTS)
        content, stored = zips.unpacked(archive, weights), weights.compress_size
    return _whole(config, metadata, Content(io.BytesIO(content), stored), "Keras .keras", limits)


def _is_unpacked(path: Path) -> bool:
    try:
        return (path / _CONFIG).is_file()
    except OSError:
        return False


def _part(path: Path, name: str, limits: Limits) -> bytes:
    with naming(name), opened(path / name) as stream:
        return whole(stream, "json_bytes", name, limits)


def _whole_folder(path: Path, limits: Limits, opening: ExitStack) -> RawModel:
    """A .keras that was unpacked."""
    config, metadata = (_part(path, name, limits) for name in (_CONFIG, _METADATA))
    with naming(_WEIGHTS):
        weights = content(opening.enter_context(opened(path / _WEIGHTS)))
    return _whole(config, metadata, weights, "Keras .keras, unpacked", limits)


def _whole(config: bytes, metadata: bytes, weights: Content, container: str, limits: Limits) -> RawModel:
    recorded = parse(metadata, _METADATA, limits).get("keras_version")
    return RawModel(_model(config, limits), weights, version(recorded), container, limits)


def _model(config: bytes, limits: Limits) -> dict[str, Any]:
    found = parse(config, "the config", limits)
    if isinstance(found.get("layers"), list) and "class_name" not in found:
        # what get_config() gives
        rewritten("containers", "the JSON is the config of a model without its class", "")
        found = {"class_name": "Functional" if "input_layers" in found else "Sequential", "config": found}
    if not isinstance(found.get("config"), (dict, list)) or not isinstance(found.get("class_name"), str):
        msg = "the JSON is no Keras model: it has no 'class_name' and 'config'"
        raise FormatError(msg)
    return found


def _config_text(given: Given, limits: Limits) -> bytes:
    """The config's text, be it given as such or as a file."""
    if isinstance(given, str) and is_json_text(given):
        return given.encode()
    file = as_file(given, "config=")
    with naming(called(file)), opened(file) as stream:
        return whole(stream, "json_bytes", "the config", limits)


def _stored(given: Given, limits: Limits, opening: ExitStack) -> Stored:
    """The weights in a file that was named for them."""
    file = as_file(given, "weights=")
    with naming(called(file)):
        stream = opening.enter_context(opened(file))
        if kind(stream) != "hdf5":
            msg = "the weights are no HDF5 file"
            raise FormatError(msg)
        return layout.stored(content(stream), limits)


def _pair(config: bytes, stored: Stored, limits: Limits) -> RawModel:
    """A config and weights that were saved apart; the config's version decides what its words mean.

    A config with modules beside its classes and no version is Keras 3's, whoever wrote the weights.
    """
    model = _model(config, limits)
    of_weights = stored.writer if "module" not in model or str(stored.writer).startswith("3.") else None
    writer = version(model.get("keras_version")) or of_weights
    return RawModel(model, stored.content, writer, f"JSON + {stored.container}", limits)


def _read(
    file: Path | bytes, config: Given | None, weights: Given | None, limits: Limits, opening: ExitStack
) -> RawModel:
    if isinstance(file, Path) and config is weights is None and _is_unpacked(file):
        return _whole_folder(file, limits, opening)
    stream = opening.enter_context(opened(file))
    found = kind(stream)
    if found == "json":
        if weights is None:
            msg = "this is a config without weights; pass weights= (on the command line --weights) as well"
            raise InputError(msg)
        return _pair(whole(stream, "json_bytes", "the config", limits), _stored(weights, limits, opening), limits)
    if weights is not None or (found == "zip" and config is not None):
        msg = f"this file holds {'the whole model' if found == 'zip' else 'weights'} itself: give it no other"
        raise InputError(msg)
    if found == "zip":
        return _whole_zip(stream, limits)
    stored = layout.stored(content(stream), limits)
    if config is not None:
        return _pair(_config_text(config, limits), stored, limits)
    if stored.config is None:
        msg = "this file holds weights only; pass the model's JSON as config= (on the command line --config)"
        raise InputError(msg)
    return RawModel(_model(stored.config.encode(), limits), stored.content, stored.writer, stored.container, limits)


def _absolute(given: Given | None) -> str | None:
    """A path that stays right when the working directory changes; the text of a JSON as it is."""
    if isinstance(given, str) and is_json_text(given):
        return given
    return str(Path(given).resolve()) if isinstance(given, str | os.PathLike) else None


def files(file: Path | bytes, *others: Given | None) -> Files:
    """Where all was read from; nothing, where something was given as content and could not be opened again."""
    given = (None if isinstance(file, bytes) else file, *others)
    paths = [_absolute(part) for part in given]
    lost = given[0] is None or any(part is not None and path is None for part, path in zip(given, paths, strict=True))
    return Files() if lost else Files(*paths)


@contextmanager
def read(
    file: Path | bytes, config: Given | None = None, weights: Given | None = None, limits: Limits | None = None
) -> Iterator[RawModel]:
    """All of a model, from a file that holds it whole or from a config and weights, for as long as they are open."""
    with ExitStack() as opening:
        raw = _read(file, config, weights, limits or Limits(), opening)
        yield replace(raw, files=files(file, config, weights))
