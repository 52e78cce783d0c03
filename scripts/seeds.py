"""The good files that hostile ones are made from: of all containers and several writers, refgrad's, and new ones."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import refgrad
from refgrad.artifact import _golden, _members_of, _write
from refgrad.network import answer
from tests.cases import GOLDEN
from tests.hostile.operations import ALL, graph, operation, tensor
from tests.hostile.texts import entry

STEMS = [
    f"{name}-{writer}" for name in ("question", "mixed", "branches", "layers") for writer in ("keras3", "tf_keras")
]
WRITERS = ("keras-2.6", "tf-2.15", "keras-3.0", "keras-3.10")
"""Those of tests/golden/writers whose files are taken, the first and the last of each generation."""

_BESIDE = {
    ".keras": (),
    ".h5": (),
    ".json": (("weights", ".weights.h5"), ("weights", ".legacy_weights.h5")),
    ".weights.h5": (("config", ".json"),),
    ".legacy_weights.h5": (("config", ".json"),),
}
"""What is given beside a file of each ending."""


@dataclass(frozen=True)
class Seed:
    """A file, and what is given beside it."""

    kind: str
    content: bytes
    others: dict[str, bytes] = field(default_factory=dict)


def _of(stem: str, files: dict[str, bytes]) -> Iterator[Seed]:
    """The files of one model, by their endings."""
    for ending, ways in _BESIDE.items():
        for key, other in ways or [(None, None)]:
            if stem + ending in files and (other is None or stem + other in files):
                others = {} if key is None else {key: files[f"{stem}{other}"]}
                kind = {".keras": "zip", ".json": "json"}.get(ending, "h5")
                yield Seed(kind, files[stem + ending], others)


def saved(net: refgrad.Network) -> bytes:
    """A network as refgrad's own file, with two samples."""
    file, inputs = io.BytesIO(), _golden(net, 2)
    _write(file, net, _members_of(inputs, answer(net, inputs, engine="numpy")))
    return file.getvalue()


def _exported(net: refgrad.Network) -> Iterator[Seed]:
    with tempfile.TemporaryDirectory() as folder:
        for ending, kind in ((".keras", "zip"), (".h5", "h5")):
            place = Path(folder) / f"net{ending}"
            # the older format has no bare operations
            with suppress(refgrad.UnsupportedError):
                refgrad.to_keras(net, place)
                yield Seed(kind, place.read_bytes())


def _weights(layers: dict[str, dict[str, np.ndarray[Any, Any]]]) -> bytes:
    """A legacy weights file: arrays by layer, and by what the layer calls each."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [called.encode() for called in arrays]
            for called, array in arrays.items():
                group[called] = array
    return content.getvalue()


def _operations() -> Any:
    """Bare operations of most kinds, one on the other."""
    x, tanh, picked, summed = (tensor(name) for name in ("x", "tanh", "picked", "summed"))
    made = [
        operation("Multiply", "twice", x, 2.0),
        operation("Tanh", "tanh", tensor("twice")),
        operation("GetItem", "picked", tanh, [ALL, 1]),
        operation("Sum", "summed", tanh, axis=1, keepdims=False),
        operation("Max", "most", tanh, axis=[1], keepdims=False),
        operation("Concatenate", "joined", [picked, summed, tensor("most")], axis=-1),
        operation("Reshape", "laid", tensor("joined"), newshape=[-1, 3, 3]),
        operation("Matmul", "product", tensor("laid"), [[1.0, 0.5, 0.0]] * 3),
        operation("Transpose", "turned", tensor("product"), axes=[0, 2, 1]),
        operation("Clip", "clipped", tensor("turned"), -1.0, 1.0),
        operation("Softmax", "soft", tensor("clipped"), axis=-1, module="keras.src.ops.nn"),
        operation("Einsum", "square", tensor("soft"), tensor("turned"), subscripts="bij,bjk->bik"),
        operation("Subtract", "end", tensor("square"), tensor("laid")),
    ]
    return graph((4, 3), made, "end", "joined")


def _wrappers() -> Any:
    """Models and layers in wrappers and in each other."""

    def dense(name: str) -> Any:
        return {"class_name": "Dense", "config": {"name": name, "units": 3, "activation": "relu"}}

    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [dense("a"), dense("b")]}}
    outer = {"class_name": "Sequential", "config": {"name": "outer", "layers": [inner, dense("c")]}}
    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 4, 3]}},
        {"class_name": "TimeDistributed", "config": {"name": "each", "layer": dense("d")}},
        outer,
        entry("Flatten", "flat"),
    ]
    config = {"name": "m", "layers": [{key: it[key] for key in ("class_name", "config")} for it in layers]}
    return {"class_name": "Sequential", "config": config}


def _in_keras_2() -> Any:
    """Operations as tf.keras writes them, and a layer that is called twice."""
    twice = {"class_name": "TFOpLambda", "name": "op", "config": {"name": "op", "function": "math.multiply"}}
    layers = [
        entry("InputLayer", "x", batch_input_shape=[None, 3]),
        entry("Dense", "d", [("x", 0)], [("op", 0)], units=3, activation="tanh"),
        {**twice, "inbound_nodes": [["d", 0, 0, {"y": 2.0}]]},
    ]
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["d", 1, 0]]}
    return {"class_name": "Functional", "config": config}


def _put_together() -> Iterator[Seed]:
    def pair(name: str) -> dict[str, np.ndarray[Any, Any]]:
        return {f"{name}/kernel:0": np.eye(3, dtype="f4"), f"{name}/bias:0": np.ones(3, "f4")}

    arrays = {
        "operations": {"x": {}},
        "wrappers": {"each": pair("each"), "outer": {**pair("inner/a"), **pair("inner/b"), **pair("c")}},
        "in_keras_2": {"d": pair("d")},
    }
    for name, make in (("operations", _operations), ("wrappers", _wrappers), ("in_keras_2", _in_keras_2)):
        config, weights = json.dumps(make()).encode(), _weights(arrays[name])  # type: ignore[arg-type]
        yield Seed("json", config, {"weights": weights})
        yield Seed("h5", weights, {"config": config})


def seeds() -> list[Seed]:
    """All good files, those of one kind side by side."""
    files = {path.name: path.read_bytes() for path in GOLDEN.iterdir() if path.is_file()}
    found = [seed for stem in STEMS for seed in _of(stem, files)]
    for writer in WRITERS:
        with zipfile.ZipFile(GOLDEN / "writers" / f"{writer}.zip") as archive:
            written = {name: archive.read(name) for name in archive.namelist()}
        found += [seed for stem in ("branches", "chain", "kinds") for seed in _of(stem, written)]
    made = [*_put_together()]
    nets = [refgrad.load(GOLDEN / f"{stem}.keras") for stem in STEMS[::2]]
    nets += [refgrad.load(seed.content, **seed.others) for seed in made[::2]]  # type: ignore[arg-type]
    found += [*made, *(Seed("zip", saved(net)) for net in nets), *(seed for net in nets for seed in _exported(net))]
    return found
