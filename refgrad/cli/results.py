"""The results of a command: arrays to compute into, which then are a file, CSV or JSON."""

from __future__ import annotations

import math
import os
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.cli.say import numbers, say_json
from refgrad.cli.tables import text
from refgrad.errors import InputError
from refgrad.outfile import replacing

Tree = Any
"""One thing, or a dict of such trees by name: as results of a network come."""


@dataclass(frozen=True)
class Results:
    """What is to be computed: what one array is called, the tree of shapes, and the columns' titles in a table."""

    name: str
    shapes: Tree
    dtype: np.dtype[Any]
    titles: Callable[[], list[str]]

    @property
    def several(self) -> bool:
        """Whether they go by name."""
        return isinstance(self.shapes, dict)


def _map(function: Callable[[Any], Any], tree: Tree) -> Tree:
    return {name: _map(function, part) for name, part in tree.items()} if isinstance(tree, dict) else function(tree)


def _members(tree: Tree, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree by their names, joined by '/'."""
    if not isinstance(tree, dict):
        yield name, tree
        return
    for key, part in tree.items():
        yield from _members(part, f"{name}/{key}" if name else key)


def check(results: Results, target: str) -> None:
    """Refuse a target that cannot hold the results before they are computed."""
    suffix = Path(target).suffix
    if target != "-" and suffix not in {".npy", ".npz", ".csv"}:
        msg = f"--output {target}: the ending {suffix!r} says no format; .npy, .npz, .csv or '-' (CSV) can be written"
        raise InputError(msg)
    names = [name for name, _ in _members(results.shapes)]
    if suffix == ".npy" and results.several:
        msg = f"--output {target}: an .npy holds one array, not {', '.join(map(repr, names))}: choose one, or take .npz"
        raise InputError(msg)
    if suffix == ".npz" and len(set(names)) < len(names):
        msg = f"--output {target}: the names {', '.join(map(repr, names))} are not all different; choose one at a time"
        raise InputError(msg)


def _write_header(file: BinaryIO, shape: Shape, dtype: np.dtype[Any]) -> None:
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


@contextmanager
def npy(target: str, shape: Shape, dtype: np.dtype[Any]) -> Iterator[Array]:
    """An array to fill that becomes an .npy; a file is mapped into memory, so it may be larger than that."""
    size = math.prod(shape) * dtype.itemsize
    with replacing(target) as file:
        _write_header(file, shape, dtype)
        if not size or not file.seekable():
            array = np.empty(shape, dtype)
            yield array
            file.write(array.data)
            return
        if hasattr(os, "posix_fallocate"):  # a disk found full only when a page is written would kill the process
            os.posix_fallocate(file.fileno(), 0, file.tell() + size)
        mapped = np.memmap(file, dtype, "r+", file.tell(), shape)
        yield mapped
        mapped.flush()


def _write_npz(file: BinaryIO, arrays: dict[str, Array]) -> None:
    """As `np.savez`, which cannot write arrays that are called 'file'."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write(found: Tree, results: Results, arguments: Namespace) -> None:
    """Results to an .npz, to CSV, or as JSON to standard output."""
    target = arguments.output
    if target.endswith(".npz"):
        with replacing(target) as file:
            _write_npz(file, {name or results.name: array for name, array in _members(found)})
    elif target != "-" or not arguments.json:
        pieces = text([array for _, array in _members(found)], results.titles() if results.several else [])
        if target == "-":
            sys.stdout.writelines(pieces)
            return
        with replacing(target) as file:
            file.writelines(piece.encode() for piece in pieces)
    else:
        shapes = {"shape": _map(lambda array: array.shape, found), "dtype": results.dtype.name}
        say_json({results.name: _map(numbers, found), **shapes})


def give(results: Results, compute: Callable[[Tree], object], arguments: Namespace) -> None:
    """Have results computed into arrays made for them, and hand them over as the command line asks."""
    if arguments.output.endswith(".npy"):
        with npy(arguments.output, results.shapes, results.dtype) as array:
            compute(array)
    else:
        found = _map(lambda shape: np.empty(shape, results.dtype), results.shapes)
        compute(found)
        _write(found, results, arguments)
    if arguments.json and arguments.output != "-":
        say_json({"output": arguments.output, "shape": results.shapes, "dtype": results.dtype.name})
