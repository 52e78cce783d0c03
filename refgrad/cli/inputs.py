"""The inputs of a command: from files and pipes to a batch for each of the network's inputs."""

from __future__ import annotations

import io
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.cli.tables import Table, read, split
from refgrad.errors import FormatError, InputError, naming
from refgrad.inputs import as_batch, as_inputs
from refgrad.network import Network

_DAMAGE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def _from_stdin() -> Table:
    if sys.stdin is None:
        msg = "it is closed"
        raise FormatError(msg)
    if sys.stdin.isatty():
        sys.stderr.write("reading rows of numbers separated by commas; Ctrl-D ends them\n")
    return read(sys.stdin)


def _from_file(path: Path) -> Table | Array | dict[str, Array]:
    try:
        obstacle = "this is a directory" if path.is_dir() else "" if path.exists() else "there is no such file"
    except OSError as error:
        obstacle = f"cannot be read ({error.strerror})"
    if obstacle:
        raise FormatError(obstacle)
    if path.suffix not in {".npy", ".npz"}:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return read(file)
    try:
        with path.open("rb") as file:
            loaded: Any = np.load(file if file.seekable() else io.BytesIO(file.read()), allow_pickle=False)
            return dict(loaded) if isinstance(loaded, Mapping) else loaded
    except _DAMAGE as error:
        msg = f"cannot be read as {path.suffix} ({error})"
        raise FormatError(msg) from None


def _alone(found: dict[str, Array], name: str) -> Array:
    """The array for one input: called 'x' or as the input is, or the only one."""
    for called in ("x", name, *(found if len(found) == 1 else ())):
        if called in found:
            return found[called]
    msg = f"holds the arrays {', '.join(map(repr, found)) or 'none'}: name the inputs 'x' or {name!r}"
    raise FormatError(msg)


def _arrays(net: Network, source: str, places: list[int]) -> dict[str, Array]:
    """What a file or a pipe holds for some inputs, by name."""
    names, shapes = [net.input_names[place] for place in places], [net.input_shapes[place] for place in places]
    found = _from_stdin() if source == "-" else _from_file(Path(source))
    if isinstance(found, Table):
        return dict(zip(names, split(found, names, shapes), strict=True))
    if len(names) == 1:
        return {names[0]: _alone(found, names[0]) if isinstance(found, dict) else found}
    if isinstance(found, dict):
        if lacking := [name for name in names if name not in found]:
            msg = f"holds the arrays {', '.join(map(repr, found)) or 'none'}; {lacking[0]!r} is not among them"
            raise FormatError(msg)
        return {name: found[name] for name in names}
    msg = f"one array, and this network takes {', '.join(map(repr, names))}: give an .npz of these, or {_usage(net)}"
    raise FormatError(msg)


def _usage(net: Network) -> str:
    return " ".join(f"--input {name}=FILE" for name in net.input_names)


def _sources(net: Network, given: list[str]) -> list[tuple[str, list[int]]]:
    """Files, and the places of the inputs each is for: all inputs, or the one named before '='."""
    named = [
        (net.input_names.index(name), path)
        for name, _, path in (it.partition("=") for it in given)
        if path and name in net.input_names
    ]
    if len(given) == 1 and not named:
        name, _, path = given[0].partition("=")
        if path and not Path(given[0]).exists():
            msg = f"--input {given[0]}: there is no such file, and no input {name!r}: {_usage(net)}"
            raise InputError(msg)
        return [(given[0], list(range(len(net.input_names))))]
    if sorted(place for place, _ in named) != list(range(len(net.input_names))) or len(named) < len(given):
        msg = f"--input {' --input '.join(given)}: each input is needed once: {_usage(net)}"
        raise InputError(msg)
    if [path for _, path in named].count("-") > 1:
        msg = f"--input {' --input '.join(given)}: standard input can be read for one of them"
        raise InputError(msg)
    return [(path, [place]) for place, path in named]


def inputs(net: Network, given: list[str] | None) -> dict[str, Array]:
    """A batch for each input, by name, from what the command line says: standard input if nothing."""
    found: dict[str, Array] = {}
    for source, places in _sources(net, given or ["-"]):
        with naming("standard input" if source == "-" else f"--input {source}"):
            for name, array in _arrays(net, source, places).items():
                shape = net.input_shapes[net.input_names.index(name)]
                found[name] = as_batch(array, shape, net.dtype, name)[0]
    batches, _ = as_inputs(found, net.input_names, net.input_shapes, net.dtype)
    return dict(zip(net.input_names, batches, strict=True))
