"""Configs that cost much, say nothing, or say two things."""

from __future__ import annotations

import json

from tests.hostile.table import SAME, dense, edited, golden_config, hostile, layer, model, text


def _as_text(name, outcome, message, change):
    @hostile(f"json: {name}", outcome, message)
    def make(folder):
        return text(folder, change(json.dumps(golden_config())))


_as_text(
    "a key twice",
    "FormatError",
    "'units' is there twice",
    lambda it: it.replace('"units": 8', '"units": 8, "units": 8'),
)
_as_text(
    "100 000 levels",
    "LimitError",
    "json_levels",
    lambda it: it.replace("{", '{"a": ' + "[" * 10**5 + "]" * 10**5 + ", ", 1),
)
_as_text("unclosed levels", "LimitError", "json_levels", lambda it: '{"config": ' + '{"a": ' * 10**5)
_as_text("70 MB of blanks", "LimitError", "json_bytes", lambda it: it + " " * (70 << 20))
_as_text(
    "a string of 20 MB", "LimitError", "json_bytes", lambda it: it.replace("{", '{"a": "' + "x" * (20 << 20) + '", ', 1)
)
_as_text(
    "2 million objects",
    "LimitError",
    "json_values",
    lambda it: it.replace("{", '{"a": [' + "{}," * 2_000_000 + "0], ", 1),
)
_as_text(
    "a string of escapes",
    SAME,
    "",
    lambda it: it.replace("{", '{"a": "' + "\\\\" * (4 << 20) + '", ', 1),
)
_as_text("10 ** 10000", "FormatError", "10,001 digits", lambda it: it.replace('"units": 8', '"units": 1' + "0" * 10**4))
_as_text("units 1e999", "FormatError", "units: inf", lambda it: it.replace('"units": 8', '"units": 1e999'))
_as_text("units NaN", "FormatError", "units: nan", lambda it: it.replace('"units": 8', '"units": NaN'))
_as_text("units Infinity", "FormatError", "units: inf", lambda it: it.replace('"units": 8', '"units": Infinity'))
_as_text("no UTF-8", "FormatError", "not JSON", lambda it: it.encode().replace(b"mixed", b"mix\xff\xfe"))
_as_text("half a character", "FormatError", "not JSON", lambda it: it.replace('"mixed"', '"\\ud800"'))
_as_text("UTF-16", "FormatError", "", lambda it: it.encode("utf-16"))
_as_text("a byte order mark", SAME, "", lambda it: it.encode("utf-8-sig"))
_as_text("in JSON", SAME, "", json.dumps)
_as_text("in JSON in JSON", "FormatError", "", lambda it: json.dumps(json.dumps(it)))
_as_text("cut off", "FormatError", "not JSON", lambda it: it[:-40])
_as_text("two objects", "FormatError", "not JSON", lambda it: it + it)

dense("json: units 0", "FormatError", "units: 0 is not", units=0)
dense("json: units -8", "FormatError", "units: -8", units=-8)
dense("json: units 8.0", "FormatError", r"units: 8\.0", units=8.0)
dense("json: units true", "FormatError", "units: True", units=True)
dense("json: units 10**30", "MismatchError", r"\(3, 8\)", units=10**30)
dense("json: units null", "FormatError", "units: None", units=None)
dense("json: units a text", "FormatError", "units: '8'", units="8")
dense("json: use_bias 1", "FormatError", "use_bias", use_bias=1)
dense("json: a name of a megabyte", "LimitError", "name=", name="x" * (1 << 20), units=0)
dense("json: a name of control characters", "RefgradError", r"\\x1b", name="\x1b[2J\r\nfine: all is well\0")


@edited("json: an input of 10**12 features", "LimitError", r"Limits\(tensor=")
def _(config):
    layer(config, "input_layer")["config"]["batch_shape"] = [None, 10**12]


@edited("json: an input that multiplies to too much", "LimitError", r"Limits\(tensor=")
def _(config):
    layer(config, "input_layer")["config"]["batch_shape"] = [None, *[10**3] * 5]


def entry(class_name, name, *calls, **config):
    inbound = [[[source, call, 0, {}] for source, call in taken] for taken in calls]
    return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": inbound}


def graph(layers, end, call=0):
    layers = [entry("InputLayer", "x", batch_input_shape=[None, 3]), *layers]
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [[end, call, 0]]}
    return {"class_name": "Functional", "config": config}


def _doubled(levels):
    layers = [entry("Add", f"a{k}", [("x" if k == 0 else f"a{k - 1}", 0)] * 2) for k in range(levels)]
    return graph(layers, f"a{levels - 1}")


def _in_a_row(count):
    return graph([entry("ReLU", f"a{k}", [("x" if k == 0 else f"a{k - 1}", 0)]) for k in range(count)], f"a{count - 1}")


def _unfolding(depth):
    inner = graph([entry("ReLU", "r", [("x", 0)])], "r")["config"]
    for level in range(depth):
        nested = {"class_name": "Functional", "name": f"n{level}", "config": {**inner, "name": f"n{level}"}}
        nested["inbound_nodes"] = [[["x", 0, 0, {}]], [[f"n{level}", 0, 0, {}]]]
        inner = graph([nested], f"n{level}", 1)["config"]
    return {"class_name": "Functional", "config": inner}


def _nested(depth):
    inner = '{"class_name": "ReLU", "config": {"name": "r"}}'
    begin = "".join(f'{{"class_name": "Sequential", "config": {{"name": "s{k}", "layers": [' for k in range(depth))
    return begin + inner + "]}}" * depth


_X = [("x", 0)]
model("json: 50 times x + x", 51, "", lambda: _doubled(50))
model("json: 10**5 layers", "LimitError", "layers|json_values", lambda: _in_a_row(10**5))
model("json: 10**4 layers", 10**4 + 1, "", lambda: _in_a_row(10**4))
model("json: a merge of 50 000", "LimitError", "merged", lambda: graph([entry("Add", "a", _X * 50_000)], "a"))
model("json: a merge of 1000", 2, "", lambda: graph([entry("Add", "a", _X * 1000)], "a"))
model("json: models that unfold to 2**20", "LimitError", "calls", lambda: _unfolding(20))
model("json: 60 models in each other", "LimitError", "models", lambda: _nested(60))
model("json: 10**5 models in each other", "LimitError", "json_levels", lambda: _nested(10**5))
model(
    "json: a cycle",
    "FormatError",
    "cycle",
    lambda: graph([entry("ReLU", "a", [("b", 0)]), entry("ReLU", "b", [("a", 0)])], "b"),
)
model("json: a layer of itself", "FormatError", "cycle", lambda: graph([entry("ReLU", "a", [("a", 0)])], "a"))
model("json: no such layer", "FormatError", "'nobody'", lambda: graph([entry("ReLU", "a", [("nobody", 0)])], "a"))
model("json: a call before the first", "FormatError", "index", lambda: graph([entry("ReLU", "a", [("x", -1)])], "a"))
model("json: a call after the last", "FormatError", "call 7", lambda: graph([entry("ReLU", "a", [("x", 7)])], "a"))
model("json: a call that is true", "FormatError", "True", lambda: graph([entry("ReLU", "a", [("x", True)])], "a"))
model(
    "json: a thousand copies of too much",
    "LimitError",
    "tensor",
    lambda: graph([entry("RepeatVector", "a", _X, n=10**9)], "a"),
)
model("json: an axis of 10**30", "FormatError", "axis", lambda: graph([entry("Softmax", "a", _X, axis=10**30)], "a"))
model(
    "json: a shape of 10**5 axes",
    "FormatError",
    "",
    lambda: graph([entry("Reshape", "a", _X, target_shape=[1] * 10**5)], "a"),
)
model(
    "json: slope NaN",
    "FormatError",
    "",
    lambda: json.dumps(graph([entry("ReLU", "a", _X, negative_slope=float("nan"))], "a")),
)
model(
    "json: dropout that drops",
    "UnsupportedError",
    "training=True",
    lambda: json.loads(
        json.dumps(graph([entry("Dropout", "a", _X, rate=0.5)], "a")).replace("{}]]", '{"training": true}]]', 1)
    ),
)
model(
    "json: layers that are no list",
    "FormatError",
    "",
    lambda: {"class_name": "Sequential", "config": {"name": "s", "layers": {"a": 1}}},
)
model(
    "json: a layer that is null",
    "FormatError",
    "",
    lambda: {"class_name": "Sequential", "config": {"name": "s", "layers": [None]}},
)
model(
    "json: a class that is an object",
    "FormatError",
    "",
    lambda: {"class_name": "Sequential", "config": {"name": "s", "layers": [{"class_name": {}}]}},
)
model(
    "json: 20 000 ends of one name",
    2,
    "",
    lambda: {
        **graph([entry("ReLU", "a", _X)], "a"),
        "config": {**graph([entry("ReLU", "a", _X)], "a")["config"], "output_layers": [["a", 0, 0]] * 20_000},
    },
)
