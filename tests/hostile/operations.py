"""Bare operations, and layers beside them, of which a few letters ask for much, or that no table has thought of."""

from __future__ import annotations

import json
from itertools import pairwise

from tests.hostile.table import model

ALL = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}


def _array(value):
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": "float32"}}


def tensor(name):
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}


def operation(class_name, name, *args, kwargs=None, module="keras.src.ops.numpy", **config):
    return {
        "module": module,
        "class_name": class_name,
        "registered_name": class_name if "ops" in module else None,
        "config": {"name": name, **config},
        "inbound_nodes": [{"args": list(args), "kwargs": kwargs or {}}],
    }


def graph(shape, operations, *ends):
    config = {"name": "x", "batch_shape": [None, *shape]}
    source = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None, "config": config}
    ends = ends or (operations[-1]["config"]["name"],)
    return {
        "module": "keras",
        "class_name": "Functional",
        "registered_name": "Functional",
        "config": {
            "name": "m",
            "layers": [{**source, "inbound_nodes": []}, *operations],
            "input_layers": [["x", 0, 0]],
            "output_layers": [[end, 0, 0] for end in ends],
        },
    }


def one(name, outcome, message, shape, class_name, *args, **options):
    made = operation(class_name, "op", tensor("x"), *args, **options)
    model(f"ops: {name}", outcome, message, lambda: graph(shape, [made]))


def row(name, outcome, message, shape, count, class_name, *args, **options):
    """One after the other."""

    def make():
        names = ["x", *(f"op{k}" for k in range(count))]
        made = [operation(class_name, new, tensor(old), *args, **options) for old, new in pairwise(names)]
        return graph(shape, made)

    model(f"ops: {name}", outcome, message, make)


def beside(name, outcome, message, shape, count, class_name, **options):
    """Each of the input itself."""
    names = [f"op{k}" for k in range(count)]
    model(
        f"ops: {name}",
        outcome,
        message,
        lambda: graph(shape, [operation(class_name, each, tensor("x"), **options) for each in names], *names),
    )


LAYER = {"module": "keras.layers"}
one("a repetition of 10**8 once", "LimitError", "picked=", (10**8,), "Repeat", repeats=1, axis=1)
one("a repetition of 10**15", "LimitError", "picked=", (3,), "Repeat", repeats=10**15, axis=1)
one("tiles of 10**15", "LimitError", "picked=", (3,), "Tile", repeats=[1, 10**15])
one("a roll of 10**8", "LimitError", "picked=", (10**8,), "Roll", shift=1, axis=1)
one("parts of 10**8", "LimitError", "picked=", (10**8,), "Split", indices_or_sections=2, axis=1)
one("an index of 10**400", "RefgradError", "", (3,), "Take", [10**400], axis=1)
one("an outer product of 10**10", "LimitError", "tensor=", (10**5, 1), "Multiply", _array([1.0] * 10**5))
one("a product of 200 000", "LimitError", "calls=", (200_000,), "Prod", axis=1)
one("NaN for a constant", "FormatError", "not a number", (3,), "Add", float("nan"))
one("1e999 for a constant", "FormatError", "not a number", (3,), "Power", float("inf"))
one("texts among numbers", "FormatError", "not a number", (3,), "Add", ["x" * 10**5] + [0] * 10**5)
one("a text of 10**5 among a layer's numbers", "FormatError", "scale", (3,), "Rescaling", **LAYER,
    scale=["x" * 10**5] + [0] * 10**4)  # fmt: skip
one("moments of 10**8", 2, "", (10**8,), "Normalization", **LAYER, mean=0.0, variance=1.0, axis=-1)
one("a kink at each of 10**8 numbers", 2, "", (10**8,), "ReLU", **LAYER)
one("an array for an order", "UnsupportedError", "ord=", (3,), "Norm", axis=1, kwargs={"ord": _array([1, 2])})
one("an array for a number of parts", "FormatError", "num=", (3,), "Unstack", axis=1, kwargs={"num": _array([1, 2])})
one("a name that takes long to understand", "UnsupportedError", "not supported", (3,), "Conv" * 50_000 + "!")
one("an index with 10**5 new axes", "UnsupportedError", "axes a sample", (3,), "GetItem", [ALL, *[None] * 10**5])
one("axes that have no letters", "UnsupportedError", "30 axes", (1,) * 28 + (2,), "Tensordot", [1.0, 2.0],
    axes=[[29], [0]])  # fmt: skip
one("a tensor of 16 axes, contracted along one", 2, "", (2,) * 15, "Tensordot", [[1.0, 2.0]] * 2, axes=[[15], [0]])
one("an equation of 10**6 letters", "UnsupportedError", "letters", (3,), "Einsum", subscripts="a" * 10**6 + "->a")
one("a constant's lists in lists", "FormatError", "not a number", (3,), "Add", json.loads("[" * 80 + "1.0" + "]" * 80))
row("20 flips of 10**6", "LimitError", "picked=", (10**6,), 20, "Flip", axis=1)
row("100 more axes", "UnsupportedError", "axes a sample", (3,), 100, "ExpandDims", axis=1)
row("40 times twice as long", "LimitError", "tensor=|picked=", (3,), 40, "Tile", repeats=[1, 2])
row("11 900 sums, one after the other", 11_901, "", (3,), 11_900, "Add", 1.0)
beside("20 products of 30 000", "LimitError", "calls=", (30_000,), 20, "Prod", axis=1)
beside("500 entries of 10**6", 1001, "", (10**6,), 500, "GetItem", kwargs={"key": [ALL, 5]})


@lambda make: model("ops: 50 times x + x", 51, "", make)
def _():
    names = ["x", *(f"op{k}" for k in range(50))]
    return graph((3,), [operation("Add", new, tensor(old), tensor(old)) for old, new in pairwise(names)])


@lambda make: model("json: a long name around 1000 layers", "LimitError", "name=", make)
def _():
    layers = [{"class_name": "ReLU", "config": {"name": f"r{k}"}} for k in range(1000)]
    inner = {"class_name": "Sequential", "config": {"name": "x" * 10**6, "layers": layers}}
    start = {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [None, 3]}}
    return {"class_name": "Sequential", "config": {"name": "o", "layers": [start, inner]}}
