"""Old spellings: each is one change to a file in Keras 2.4's words, and must give the very same network.

No Keras before 2.14 can be installed beside a current Python: these files are written from the formats' rules, by h5py
and JSON, as real ones were seen to be.
"""

from __future__ import annotations

import copy
import json

import h5py
import numpy as np
import pytest

import refgrad

RNG = np.random.default_rng(5)


def array(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def layer(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, **config}}


def dense_weights(name, n_in, n_out):
    return {f"{name}/kernel:0": array(n_in, n_out), f"{name}/bias:0": array(n_out)}


def moments(name, size):
    roles = {"gamma": array(size), "beta": array(size), "moving_mean": array(size), "moving_variance": array(size) ** 2}
    return {f"{name}/{role}:0": value for role, value in roles.items()}


def sequential():
    """A Sequential in the words of Keras 2.4."""
    layers = [
        layer("InputLayer", "input", batch_input_shape=[None, 3], dtype="float32", sparse=False),
        layer("Dense", "dense_1", units=4, activation="tanh", use_bias=True),
        layer("BatchNormalization", "batchnormalization_1", axis=[1], epsilon=1e-3, momentum=0.9),
        layer("LeakyReLU", "leakyrelu_1", alpha=0.25),
        layer("Dropout", "dropout_1", rate=0.5),
        layer("PReLU", "prelu_1", shared_axes=None),
        layer("Dense", "dense_2", units=4, activation="hard_sigmoid", use_bias=True),
        layer("Dense", "dense_10", units=4, activation="linear", use_bias=False),
    ]
    weights = {
        "dense_1": dense_weights("dense_1", 3, 4),
        "batchnormalization_1": moments("batchnormalization_1", 4),
        "leakyrelu_1": {},
        "dropout_1": {},
        "prelu_1": {"prelu_1/alpha:0": array(4)},
        "dense_2": dense_weights("dense_2", 4, 4),
        "dense_10": {"dense_10/kernel:0": array(4, 4)},
    }
    config = {"class_name": "Sequential", "config": {"name": "sequential_1", "layers": layers}}
    return {"config": config, "weights": weights, "attrs": {"keras_version": "2.4.0", "backend": "tensorflow"}}


BASE = sequential()


def changed(*edits):
    file = copy.deepcopy(BASE)
    for edit in edits:
        edit(file)
    return file


def put(group, weights):
    """Layers with their weights as Keras 1 and 2 store them."""
    group.attrs["layer_names"] = [name.encode() for name in weights]
    for name, arrays in weights.items():
        inner = group.create_group(name)
        inner.attrs["weight_names"] = [path.encode() for path in arrays]
        for path, value in arrays.items():
            inner[path] = value


def written(file, path):
    with h5py.File(path, "w") as out:
        out.attrs.update(file["attrs"], model_config=json.dumps(file["config"]).encode())
        put(out.create_group("model_weights"), file["weights"])
        file.get("finish", lambda out: None)(out)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return refgrad.load(written(BASE, tmp_path_factory.mktemp("base") / "model.h5"))


def test_the_base_computes_what_it_says(base):
    """By hand, in float64: the words mean what they mean in Keras 2."""
    held = {name: [np.float64(value) for value in arrays.values()] for name, arrays in BASE["weights"].items()}
    x = RNG.normal(size=(20, 3))
    gamma, beta, mean, variance = held["batchnormalization_1"]
    y = np.tanh(x @ held["dense_1"][0] + held["dense_1"][1])
    y = gamma * (y - mean) / np.sqrt(variance + 1e-3) + beta
    y = np.where(y > 0, y, 0.25 * y)
    y = np.where(y > 0, y, held["prelu_1"][0] * y)
    y = np.clip(0.2 * (y @ held["dense_2"][0] + held["dense_2"][1]) + 0.5, 0, 1)
    np.testing.assert_allclose(base.astype("float64")(x), y @ held["dense_10"][0], rtol=1e-12)


def layers_of(file):
    config = file["config"]["config"]
    return config if isinstance(config, list) else config["layers"]


def found(file, name):
    return next(entry for entry in layers_of(file) if entry["config"]["name"] == name)["config"]


def renamed_weights(rename):
    """Every weight's path, by its layer and role."""

    def edit(file):
        for name, arrays in file["weights"].items():
            renamed = {rename(name, path.split("/")[-1].removesuffix(":0")): value for path, value in arrays.items()}
            file["weights"][name] = renamed

    return edit


def bare_list(file):
    """Up to 2.2.2."""
    file["config"]["config"] = layers_of(file)


def without_input(file):
    """The first layer states the shape."""
    source = layers_of(file).pop(0)
    found(file, "dense_1")["batch_input_shape"] = source["config"]["batch_input_shape"]


def rekeyed(file, name, **keys):
    config = found(file, name)
    for old, new in keys.items():
        config[new] = config.pop(old)


def keras_1(file):
    bare_list(file)
    file["attrs"] = {"keras_version": "1.2.2"}
    for name in ("dense_1", "dense_2", "dense_10"):
        rekeyed(file, name, units="output_dim", use_bias="bias")
        nothing = dict.fromkeys(("W_regularizer", "b_regularizer", "activity_regularizer", "W_constraint"))
        found(file, name).update(nothing, init="<lambda>", input_dim=3 if name == "dense_1" else 4, trainable=True)
    layers_of(file)[0]["config"].pop("dtype")
    layers_of(file)[0]["config"]["input_dtype"] = "float32"
    rekeyed(file, "dropout_1", rate="p")
    found(file, "batchnormalization_1").update(mode=0, axis=-1, gamma_regularizer=None, beta_regularizer=None)
    found(file, "prelu_1").update(init="zero")


ROLES_OF_KERAS_1 = {
    "kernel": "W",
    "bias": "b",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "running_mean",
    "moving_variance": "running_std",
    "alpha": "alphas",
}


def old_names(pattern):
    return renamed_weights(lambda name, role: pattern.format(name=name, role=ROLES_OF_KERAS_1[role]))


def shape_said_by(**keys):
    def edit(file):
        without_input(file)
        found(file, "dense_1").pop("batch_input_shape")
        found(file, "dense_1").update(keys)

    return edit


def shape_said_by_the_model(file):
    shape_said_by()(file)
    file["config"]["config"]["build_input_shape"] = {"class_name": "TensorShape", "items": [None, 3]}


def shape_said_by_the_build(file):
    shape_said_by()(file)
    layers_of(file)[0]["build_config"] = {"input_shape": [None, 3]}


def batch_of_a_tuple(file):
    layers_of(file)[0]["config"]["batch_input_shape"] = {"class_name": "__tuple__", "items": [None, 3]}


def slope_of_an_array(file):
    found(file, "leakyrelu_1")["alpha"] = {"type": "ndarray", "value": 0.25}


def config_as(kind):
    def finish(out):
        text = out.attrs["model_config"]
        out.attrs["model_config"] = kind(text.decode() if isinstance(text, bytes) else text)

    return lambda file: file.update(finish=finish)


def split(file):
    """Lists over 64 kB are stored in pieces."""

    def finish(out):
        for group in (out["model_weights"], out["model_weights/batchnormalization_1"]):
            key = "layer_names" if "layer_names" in group.attrs else "weight_names"
            names = list(group.attrs.pop(key))
            group.attrs.update({f"{key}0": names[:1], f"{key}1": names[1:]})

    file["finish"] = finish


def names_as_text(file):
    def finish(out):
        for group in (out["model_weights"], *out["model_weights"].values()):
            for key in ("layer_names", "weight_names"):
                if key in group.attrs:
                    names = [name if isinstance(name, str) else name.decode() for name in group.attrs[key]]
                    group.attrs[key] = np.array(names, dtype=h5py.string_dtype())

    file["finish"] = finish


def weights_at_the_root(file):
    def finish(out):
        del out["model_weights"]
        put(out, file["weights"])

    file["finish"] = finish


def more_groups(file):
    """An optimizer's state, and what later tf.keras adds for weights of the model's own."""

    def finish(out):
        out.create_group("optimizer_weights").attrs["weight_names"] = [b"training/Adam/iterations:0"]
        out.create_group("model_weights/top_level_model_weights").attrs["weight_names"] = np.zeros(0)

    file["finish"] = finish


def input_listed(file):
    file["weights"] = {"input": {}, **file["weights"]}


def policy(value):
    def edit(file):
        for entry in layers_of(file):
            entry["config"]["dtype"] = value

    return edit


def version(text):
    return lambda file: file["attrs"].update(keras_version=text)


def version_beside_the_weights(file):
    file["attrs"] = {}
    file["finish"] = lambda out: out["model_weights"].attrs.update(keras_version="2.0.6")


def activation_by_layer(file):
    """The slope of a layer given as activation, and the ReLU that comes to the same."""
    found(file, "dense_10")["activation"] = {"class_name": "function", "config": "linear", "module": "builtins"}


SAME = {
    "a bare list": [bare_list],
    "no InputLayer": [bare_list, without_input],
    "Keras 1": [keras_1],
    "Keras 1 without InputLayer": [keras_1, without_input],
    "Keras 1, names of Theano": [keras_1, old_names("{name}_{role}")],
    "Keras 1, names of TensorFlow": [keras_1, old_names("{name}_{role}:0")],
    "Keras 1, names met before": [keras_1, old_names("{name}_{role}_1:0")],
    "Keras 1, names in scopes": [keras_1, old_names("global/shared/{name}_{role}:0")],
    "names in scopes": [renamed_weights("sequential_1/{0}/{1}:0".format)],
    "names in numbered scopes": [renamed_weights("{0}_1/{1}:0".format)],
    "names of Theano": [renamed_weights("{0}/{1}".format), lambda file: file["attrs"].update(backend="theano")],
    "names of Keras 3": [renamed_weights("{1}".format)],
    "input_dim": [shape_said_by(input_dim=3)],
    "input_shape": [shape_said_by(input_shape=[3])],
    "batch_shape": [shape_said_by(batch_shape=[None, 3])],
    "build_input_shape": [shape_said_by_the_model],
    "build_config": [shape_said_by_the_build],
    "no shape at all": [shape_said_by()],
    "a tuple": [batch_of_a_tuple],
    "a slope as an array": [slope_of_an_array],
    "config as text": [config_as(str)],
    "config as bytes": [config_as(lambda text: np.bytes_(text.encode()))],
    "config in an array": [config_as(lambda text: [text.encode()])],
    "config encoded twice": [config_as(json.dumps)],
    "names in pieces": [split],
    "names as text": [names_as_text],
    "weights at the root": [weights_at_the_root],
    "more groups": [more_groups],
    "the input among the weights": [input_listed],
    "a policy": [policy({"class_name": "Policy", "config": {"name": "float32"}})],
    "a policy of TensorFlow 2.0": [policy({"class_name": "PolicyV1", "config": {"name": "infer"}})],
    "an activation as a function": [activation_by_layer],
    "2.4.3-tf": [version("2.4.3-tf")],
    "no version": [lambda file: file["attrs"].clear()],
    "the version beside the weights": [version_beside_the_weights],
}


@pytest.mark.parametrize("name", SAME)
def test_other_words_for_the_same_network(name, base, tmp_path):
    net = refgrad.load(written(changed(*SAME[name]), tmp_path / "model.h5"))
    assert net.digest == base.digest
