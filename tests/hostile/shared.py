"""Few weights in very many places: layers that are called again and again, names on names, scopes that look alike."""

from __future__ import annotations

import json

import h5py
import numpy as np

from tests.hostile import operations
from tests.hostile.table import hostile, model
from tests.hostile.texts import entry, graph

_X = [("x", 0)]


def weighed(name, outcome, message, make, groups):
    """A row that is a config, and arrays by the names of layers and what the layer calls each."""

    @hostile(name, outcome, message)
    def write(folder):
        path, config = folder / "weights.h5", folder / "model.json"
        config.write_text(json.dumps(make()))
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = np.array([layer.encode() for layer in groups])
            for layer, arrays in groups.items():
                group = file.create_group(layer)
                group.attrs["weight_names"] = [called.encode() for called in arrays]
                for called, array in arrays.items():
                    group[called] = array
        return path, {"config": config}


def _of_many_shapes():
    """A Dense on 2000 shapes, each from a layer of its own."""
    repeated = [entry("RepeatVector", f"r{k}", _X, n=k + 1) for k in range(2000)]
    called = entry("Dense", "d", *([(f"r{k}", 0)] for k in range(2000)), units=300, use_bias=False)
    return _wide(300, [*repeated, called], *[("d", k) for k in range(2000)])


def _again_and_again():
    """A Dense on what it has given, 7500 times."""
    calls = [_X, *([("d", k)] for k in range(7499))]
    return _wide(500, [entry("Dense", "d", *calls, units=500, use_bias=False)], ("d", 7499))


def _wide(features, layers, *ends):
    made = graph(layers, ends[0][0])
    made["config"]["output_layers"] = [[*end, 0] for end in ends]
    made["config"]["layers"][0]["config"]["batch_input_shape"] = [None, features]
    return made


def _within(depth, layers):
    """Layers in models with long names, one in the other."""
    for level in range(depth):
        name = f"{level:02}" + "x" * 900
        layers = [{"class_name": "Sequential", "config": {"name": name, "layers": layers}}]
    start = {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [None, 3]}}
    return {"class_name": "Sequential", "config": {"name": "o", "layers": [start, *layers]}}


def _alike(count):
    """Models side by side in a model, in each of which a Dense of the same name is."""
    inner = [
        {"class_name": "Sequential", "config": {"name": f"m{k}", "layers": [
            {"class_name": "Dense", "config": {"name": "d", "units": 1, "use_bias": False}},
        ]}} for k in range(count)
    ]  # fmt: skip
    start = {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [None, 1]}}
    outer = {"class_name": "Sequential", "config": {"name": "all", "layers": inner}}
    return {"class_name": "Sequential", "config": {"name": "o", "layers": [start, outer]}}


def _constants():
    """A model with a long constant in it, on 300 shapes."""
    numbers = [1.0] * 10**5
    inner = operations.graph((None, 10**5), [operations.operation("Multiply", "op", operations.tensor("x"), numbers)])
    calls = [[[f"r{k}", 0, 0, {}]] for k in range(300)]
    nested = {**inner, "config": {**inner["config"], "name": "m"}, "name": "m", "inbound_nodes": calls}
    repeated = [entry("RepeatVector", f"r{k}", _X, n=k + 1) for k in range(300)]
    return _wide(10**5, [*repeated, nested], *[("m", k) for k in range(300)])


_KERNEL = np.ones((300, 300), "f4")
weighed("shared: a Dense on 2000 shapes", "LimitError", "memory=", _of_many_shapes, {"d": {"d/kernel:0": _KERNEL}})
weighed("shared: a Dense 7500 times", 7501, "", _again_and_again, {"d": {"d/kernel:0": np.eye(500, dtype="f4")}})
weighed("shared: 1200 scopes that look alike", "MismatchError", "very many alike", lambda: _alike(1200), {
    "all": {f"z/m{k}/d/kernel:0": np.ones((1, 1), "f4") for k in range(1200)},
})  # fmt: skip
model("shared: 10 000 layers below 30 long names", "LimitError", "memory=", lambda: _within(
    30, [{"class_name": "ReLU", "config": {"name": f"r{k}"}} for k in range(10_000)]))  # fmt: skip
model("shared: 10 000 layers that do nothing below 30 long names", "LimitError", "memory=", lambda: _within(
    30, [{"class_name": "Dropout", "config": {"name": f"r{k}", "rate": 0.5}} for k in range(10_000)]))  # fmt: skip
model("shared: a long constant on 300 shapes", "LimitError", "constants of operations", _constants)
