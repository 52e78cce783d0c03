"""Files that name code: nothing of it runs, and no module is imported."""

from __future__ import annotations

import base64
import json
import marshal
import os
import pickle

import h5py

from tests.cases import GOLDEN
from tests.hostile.table import SAME, dense, edited, golden_config, hostile, layer, text

_CODE = base64.b64encode(marshal.dumps(compile("open('ran', 'w')", "x", "eval"))).decode()
_LAMBDA = {"class_name": "__lambda__", "config": {"code": _CODE, "defaults": None, "closure": None}}
_FUNCTION = {"module": "canary_module", "class_name": "function", "config": "f", "registered_name": "function"}


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch ran",)


def _instead(name, outcome, message, entry):
    @edited(f"code: {name}", outcome, message)
    def edit(config):
        place = config["config"]["layers"].index(layer(config, "dropout"))
        config["config"]["layers"][place] = {**entry, "config": {"name": "dropout", **entry["config"]}}


_KERAS = {"module": "keras.layers", "registered_name": None}
_instead("Lambda", "UnsupportedError", "Lambda", {**_KERAS, "class_name": "Lambda", "config": {"function": _LAMBDA}})
_instead(
    "Lambda in a model",
    "UnsupportedError",
    "Lambda",
    {
        "module": "keras",
        "class_name": "Sequential",
        "config": {
            "layers": [{**_KERAS, "class_name": "Lambda", "config": {"name": "l", "function": _LAMBDA}}],
        },
    },
)
_instead(
    "Lambda in a wrapper",
    "UnsupportedError",
    "layer",
    {
        **_KERAS,
        "class_name": "Bidirectional",
        "config": {"layer": {**_KERAS, "class_name": "Lambda", "config": {"function": _LAMBDA}}},
    },
)
_instead("os.system as a layer", "UnsupportedError", "custom class", {
    "module": "os", "class_name": "system", "config": {"command": "touch ran"}, "registered_name": None,
})  # fmt: skip
_instead("a class with a dotted name", "UnsupportedError", "not supported", {
    **_KERAS, "class_name": "canary_module.f", "config": {},
})  # fmt: skip
_instead("a module beside a known class", "UnsupportedError", "custom class", {
    "module": "canary_module", "class_name": "Dropout", "config": {"rate": 0.5}, "registered_name": None,
})  # fmt: skip
_instead("a registered class", "UnsupportedError", "custom class", {
    "module": None, "class_name": "Dropout", "config": {"rate": 0.5}, "registered_name": "canary_module>f",
})  # fmt: skip
_instead("TFSMLayer", "UnsupportedError", "TFSMLayer", {
    **_KERAS, "class_name": "TFSMLayer", "config": {"filepath": "canary.txt"},
})  # fmt: skip
_instead("a vocabulary in a file", "UnsupportedError", "StringLookup", {
    **_KERAS, "class_name": "StringLookup", "config": {"vocabulary": "canary.txt"},
})  # fmt: skip
_instead("get_file as a layer", "UnsupportedError", "not supported", {
    "module": "keras.utils", "class_name": "get_file", "registered_name": None,
    "config": {"fname": "x", "origin": "http://127.0.0.1/x"},
})  # fmt: skip

dense("code: a function as activation", "UnsupportedError", "activation", activation=_FUNCTION)
dense("code: a marshalled activation", "UnsupportedError", "activation", activation=_LAMBDA)
dense(
    "code: a custom activation object", "UnsupportedError", "activation",
    activation={"module": "canary_module", "class_name": "f", "config": {}, "registered_name": None},
)  # fmt: skip
dense("code: an activation with a module's name", "UnsupportedError", "activation", activation="canary_module:f")
dense("code: a key that is no key", "UnsupportedError", "__class__", **{"__class__": "canary_module"})
dense("code: an initializer of a module", SAME, kernel_initializer=_FUNCTION)
dense("code: a regularizer that is marshalled", SAME, kernel_regularizer=_LAMBDA)


@edited("code: a loss of a module", SAME)
def _(config):
    config["compile_config"] = {"loss": _FUNCTION, "optimizer": {"module": "os", "class_name": "system"}}


@edited("code: a build_config of a module", SAME)
def _(config):
    layer(config, "dropout")["build_config"] = {"module": "canary_module", "class_name": "f"}


@hostile("code: Lambda in a legacy file", "UnsupportedError", "Lambda")
def _(folder):
    path = folder / "model.h5"
    path.write_bytes((GOLDEN / "mixed-tf_keras.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"].insert(
            2, {"class_name": "Lambda", "config": {"name": "l", "function": [_CODE, None, None]}}
        )
        file.attrs["model_config"] = json.dumps(config)
    return path, {}


@hostile("code: a pickle", "FormatError", "never unpickles")
def _(folder):
    path = folder / "model.keras"
    path.write_bytes(pickle.dumps(_Bomb()))
    return path, {}


@hostile("code: a pickle as weights", "FormatError", "no HDF5 file|never unpickles")
def _(folder):
    path, others = text(folder, json.dumps(golden_config()))
    others["weights"].write_bytes(pickle.dumps(_Bomb()))
    return path, others
