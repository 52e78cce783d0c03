"""Old spellings: each is one change to a file in Keras 2.4's words, and must give the very same network.

No Keras before 2.6 runs beside a current Python: these files are written from the formats' rules, by h5py and JSON, as
real ones were seen to be. What 2.6 and later wrote themselves is in `test_keras_writers.py`.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
import zipfile

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


def unnamed(weights):
    """As Keras 1 writes arrays that its backend gave no name."""
    return {name: {f"param_{k}": value for k, value in enumerate(arrays.values())} for name, arrays in weights.items()}


def called_variable(weights):
    """As TensorFlow calls arrays that nobody gave a name, the bias first; all of Dense layers."""
    return {
        name: {f"Variable{'_1' if array.ndim > 1 else ''}:0": array for array in reversed(arrays.values())}
        if max((array.ndim for array in arrays.values()), default=0) == 2
        else arrays
        for name, arrays in weights.items()
    }


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
    "roles met before": [renamed_weights("{0}/{1}_2:0".format)],
    "no names": [lambda file: file.update(weights=unnamed(file["weights"]))],
    "names of variables": [lambda file: file.update(weights=called_variable(file["weights"]))],
    "names of Theano": [renamed_weights("{0}/{1}".format), lambda file: file["attrs"].update(backend="theano")],
    "names of Keras 3": [renamed_weights("{1}".format)],
    "input_dim": [shape_said_by(input_dim=3)],
    "input_shape": [shape_said_by(input_shape=[3])],
    "batch_shape": [shape_said_by(batch_shape=[None, 3])],
    "build_input_shape": [shape_said_by_the_model],
    "build_config": [shape_said_by_the_build],
    "no shape at all": [shape_said_by()],
    "an open shape": [shape_said_by(batch_input_shape=[None, None])],
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
    "a map of policies that is empty": [
        policy({"class_name": "DTypePolicyMap", "config": {"default_policy": {"config": {"name": "float32"}}}})
    ],
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


@pytest.mark.parametrize("wrapped", [[[1.0, 2.0, 3.0]], [[[1.0, 2.0, 3.0]]]])
def test_moments_given_to_keras_2_may_have_a_batch_axis(wrapped, tmp_path):
    def model(moments):
        layers = [layer("Normalization", "n", axis=[-1], mean=moments, variance=moments, batch_input_shape=[None, 3])]
        return h5(tmp_path, {"class_name": "Sequential", "config": layers}, {"n": {}}, "2.11.0")

    assert model(wrapped).digest == model([1.0, 2.0, 3.0]).digest


STATED = {
    "input_dim": {"input_dim": 3},
    "input_dim and input_length": {"input_dim": 3, "input_length": 2},
    "input_shape": {"input_shape": [2, 3]},
    "batch_shape": {"batch_shape": [None, 3]},
    "batch_input_shape": {"batch_input_shape": [None, 2, 3], "input_dim": 3},
}


@pytest.mark.parametrize("name", STATED)
def test_an_input_shape_that_no_kernel_tells(name, tmp_path):
    shape = {"input_dim": (3,), "batch_shape": (3,)}.get(name, (2, 3))
    weights = {"flatten": {}, "dense": {"dense/kernel:0": array(int(np.prod(shape)), 1), "dense/bias:0": array(1)}}
    layers = [layer("Flatten", "flatten", **STATED[name]), layer("Dense", "dense", units=1)]
    net = h5(tmp_path, {"class_name": "Sequential", "config": layers}, weights, "2.1.0")
    assert net.input_shapes == (shape,)
    layers[0]["config"] = {"name": "flatten"}
    with pytest.raises(refgrad.UnsupportedError, match="neither an input shape nor a layer with weights to tell it"):
        h5(tmp_path, {"class_name": "Sequential", "config": layers}, weights, "2.1.0")


def test_a_layers_name_may_be_a_path_and_leads_nowhere_else(tmp_path):
    """An external link before the last part of a layer's name is not followed."""
    config = three_dense("here/a")
    weights = {"here/a": dense_weights("a", 3, 3)}
    assert pair(tmp_path, config, weights).input_shapes == ((3,),)
    with h5py.File(tmp_path / "linked.h5", "w") as out:
        out["here"] = h5py.ExternalLink("weights.h5", "here")
        out.attrs["layer_names"] = ["here/a"]
    with pytest.raises(refgrad.UnsupportedError, match="/here is a ExternalLink; links are not followed"):
        refgrad.load(tmp_path / "linked.h5", config=json.dumps(config))


# Models in models, and Merge: each is the Functional model of today's layers.


def entry(class_name, name, *taken, **config):
    """A layer of a Functional model, called once."""
    return {**layer(class_name, name, **config), "name": name, "inbound_nodes": [[[*one, {}] for one in taken]]}


def source(name, *shape):
    return {**entry("InputLayer", name, batch_input_shape=[None, *shape]), "inbound_nodes": []}


def functional(layers, inputs, outputs):
    ends = {"input_layers": [[name, 0, 0] for name in inputs], "output_layers": [[name, 0, 0] for name in outputs]}
    return {"class_name": "Functional", "config": {"name": "model_1", "layers": layers, **ends}}


def h5(folder, config, weights, version="2.4.0", **others):
    file = {"config": config, "weights": weights, "attrs": {"keras_version": version}, **others}
    return refgrad.load(written(file, folder / "model.h5"))


LEFT, RIGHT = dense_weights("left", 3, 4), dense_weights("right", 2, 4)
MODES = {
    "sum": ("Add", {}),
    "mul": ("Multiply", {}),
    "ave": ("Average", {}),
    "max": ("Maximum", {}),
    "concat": ("Concatenate", {"axis": -1}),
    "dot": ("Dot", {"axes": 1, "normalize": False}),
}


def merge(mode, **others):
    """A Merge as Keras 1 writes it."""
    rest = {"output_shape": None, "output_shape_type": "raw", "output_mask": None, "output_mask_type": "raw"}
    config = {"mode": mode, "mode_type": "raw", "concat_axis": -1, "dot_axes": 1, "arguments": {}, **rest}
    return layer("Merge", "merge_1", **{**config, **others})


def two_branches(merging):
    """x (3,) and z (2,), each through a Dense of its own, then what is given, in one of Functional's words."""
    layers = [
        source("left_input", 3),
        entry("Dense", "left", ("left_input", 0, 0), units=4, activation="tanh"),
        source("right_input", 2),
        entry("Dense", "right", ("right_input", 0, 0), units=4),
        {**merging, "inbound_nodes": [[["left", 0, 0, {"mask": None}], ["right", 0, 0, {"mask": None}]]]},
    ]
    return functional(layers, ["left_input", "right_input"], ["merge_1"])


@pytest.mark.parametrize("mode", MODES)
def test_merge_is_the_layer_of_its_mode(mode, tmp_path):
    weights = {"left": LEFT, "right": RIGHT}
    class_name, config = MODES[mode]
    today = h5(tmp_path, two_branches(layer(class_name, "merge_1", **config)), weights)
    assert h5(tmp_path, two_branches(merge(mode)), weights, "2.1.5").digest == today.digest


@pytest.mark.parametrize("version", ["1.2.2", "2.0.6"])
def test_a_sequential_may_begin_with_a_merge_of_models(version, tmp_path):
    """Its branches' layers are stored side by side with its own; one of the branches may be a layer alone."""
    branches = [
        {"class_name": "Sequential", "config": [layer("Dense", "left", output_dim=4, activation="tanh", input_dim=3)]},
        layer("Dense", "right", output_dim=4, batch_input_shape=[None, 2]),
    ]
    old = {
        "class_name": "Sequential",
        "config": [merge("sum", layers=branches), layer("Activation", "end", activation="elu")],
    }
    today = two_branches(layer("Add", "merge_1"))
    today["config"]["layers"].append(entry("Activation", "end", ("merge_1", 0, 0), activation="elu"))
    today["config"]["output_layers"] = [["end", 0, 0]]
    weights = {"left": LEFT, "right": RIGHT, "merge_1": {}, "end": {}}
    assert h5(tmp_path, old, weights, version).digest == h5(tmp_path, today, weights).digest


BAD_MERGES = {
    "cos": ({"mode": "cos"}, "mode: 'cos' is none of the modes that can be read: sum, mul, ave, max, concat, dot"),
    "lambda": ({"mode": "<lambda>", "mode_type": "lambda"}, "mode_type='lambda' is not supported"),
    "arguments": ({"mode": "sum", "arguments": {"a": 1}}, "arguments={'a': 1} is not supported"),
}


@pytest.mark.parametrize("name", BAD_MERGES)
def test_merges_that_are_refused(name, tmp_path):
    config, message = BAD_MERGES[name]
    with pytest.raises(refgrad.UnsupportedError, match=rf"layer 'merge_1' \(Merge\): {message}"):
        h5(tmp_path, two_branches(merge(**config)), {"left": LEFT, "right": RIGHT}, "1.2.2")


def test_branches_of_one_name_are_refused(tmp_path):
    branches = [{"class_name": "Sequential", "config": [layer("Dense", "left", output_dim=4, input_dim=3)]}] * 2
    old = {"class_name": "Sequential", "config": [merge("sum", layers=branches)]}
    with pytest.raises(refgrad.FormatError, match="two layers are named 'left"):
        h5(tmp_path, old, {"left": LEFT, "merge_1": {}}, "1.2.2")


INNER = [
    layer("Dense", "dense_1", units=4, activation="relu", batch_input_shape=[None, 3]),
    layer("Dense", "dense_2", units=4),
]
NESTED = {
    "Keras 2.4": "block/{name}/{role}:0",
    "Keras 2": "{name}/{role}:0",
    "Theano": "{name}/{role}",
    "a name met before": "{name}_1/{role}:0",
    "Keras 1": "{name}_{old}:0",
    "Keras 1, Theano": "{name}_{old}",
    "Keras 1, a name met before": "{name}_{old}_2:0",
}


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("listed", [False, True])
def test_nested_weights_are_found_under_every_name(name, listed, tmp_path):
    """Up to 2.2.2 a Sequential in a Sequential has no name in the config: the list of the weights gives it."""
    held = {"dense_1": LEFT, "dense_2": {"left/kernel:0": array(4, 4), "left/bias:0": array(4)}}

    def model(pattern, bare):
        inner = {"class_name": "Sequential", "config": INNER if bare else {"name": "block", "layers": INNER}}
        layers = [inner, layer("Activation", "end", activation="tanh")]
        weights = {
            pattern.format(name=of, role=role, old=ROLES_OF_KERAS_1[role]): value
            for of, arrays in held.items()
            for role, value in zip(("kernel", "bias"), arrays.values(), strict=True)
        }
        config = layers if bare else {"name": "outer", "layers": layers}
        return h5(tmp_path, {"class_name": "Sequential", "config": config}, {"block": weights, "end": {}})

    assert model(NESTED[name], listed).digest == model("block/{name}/{role}:0", False).digest


@pytest.mark.parametrize("class_name", ["Dense", "InputLayer", "Model"])
def test_only_a_sequential_may_be_a_bare_list(class_name, tmp_path):
    config = {"class_name": "Sequential", "config": [{"class_name": class_name, "config": INNER}]}
    with pytest.raises(refgrad.FormatError, match=f"a layer of class {class_name} has no config with a 'name'"):
        h5(tmp_path, config, {"block": {}}, "2.1.0")


def test_a_nameless_model_needs_its_place_in_the_list_of_weights(tmp_path):
    config = {"class_name": "Sequential", "config": [{"class_name": "Sequential", "config": INNER}]}
    with pytest.raises(refgrad.MismatchError, match="not the same in the same order"):
        h5(tmp_path, config, {"block": {}, "other": {}}, "2.1.0")


# A config and weights of two sessions, classes of authors', and what is refused.


def pair(folder, config, weights, **attrs):
    with h5py.File(folder / "weights.h5", "w") as out:
        out.attrs.update(attrs)
        put(out, weights)
    return refgrad.load(folder / "weights.h5", config=json.dumps(config))


def three_dense(*names):
    layers = [layer("Dense", name, units=3, activation="tanh") for name in names]
    layers[0]["config"]["batch_input_shape"] = [None, 3]
    return {"class_name": "Sequential", "config": {"name": "s", "layers": layers}, "keras_version": "2.3.1"}


@pytest.mark.parametrize(
    ("names", "accepted"),
    [
        (("dense_4", "dense_5", "dense_6"), True),
        (("dense_9", "dense_10", "dense_11"), True),
        (("dense_6", "dense_5", "dense_4"), False),
        (("dense_2", "dense_3", "dense_4"), False),
        (("dense_4", "dense_5"), False),
        (("a", "b", "c"), False),
    ],
)
def test_weights_of_another_session_are_taken_in_their_order(names, accepted, tmp_path):
    """Keras numbers automatic names by session; it takes them in their order whatever they are. We ask for more."""
    values = [dense_weights("x", 3, 3).values() for _ in names]
    stored = {
        name: dict(zip((f"{name}/kernel:0", f"{name}/bias:0"), value, strict=True))
        for name, value in zip(names, values, strict=True)
    }
    config = three_dense("dense_1", "dense_2", "dense_3")
    if not accepted:
        with pytest.raises(refgrad.MismatchError, match="without weights 'dense_1'"):
            pair(tmp_path, config, stored)
        return
    with pytest.warns(refgrad.RefgradWarning, match=f"taken in their order: dense_1 is {names[0]}, dense_2 is"):
        net = pair(tmp_path, config, stored)
    own = dict(zip(("dense_1", "dense_2", "dense_3"), stored.values(), strict=True))
    assert net.digest == pair(tmp_path, config, own).digest


@pytest.mark.parametrize(
    ("config", "weights", "generation"),
    [
        ({"keras_version": "2.1.5"}, {"keras_version": "3.4.0"}, 2),
        ({"keras_version": "3.4.0", "module": "keras"}, {"keras_version": "2.1.5"}, 3),
        ({"module": "keras"}, {"keras_version": "2.1.5"}, 3),
        ({"module": "keras"}, {"keras_version": "3.4.0"}, 3),
        ({}, {"keras_version": "3.4.0"}, 3),
        ({}, {"keras_version": "1.2.2"}, 2),
        ({}, {}, 2),
    ],
)
def test_the_config_says_whose_words_it_is_in(config, weights, generation, tmp_path):
    """hard_sigmoid is another function in each generation."""
    model = {"class_name": "Sequential", "config": three_dense("a")["config"], **config}
    model["config"]["layers"][0]["config"]["activation"] = "hard_sigmoid"
    net = pair(tmp_path, model, {"a": {"a/kernel:0": np.eye(3, dtype="f4"), "a/bias:0": np.zeros(3, "f4")}}, **weights)
    np.testing.assert_allclose(net.jacobian(np.zeros(3)), np.eye(3) * {2: 0.2, 3: 1 / 6}[generation], rtol=1e-6)


def test_a_config_may_be_what_get_config_gives(base, tmp_path):
    config = BASE["config"]["config"]
    assert pair(tmp_path, config, BASE["weights"], keras_version="2.4.0").digest == base.digest
    ends = two_branches(layer("Add", "merge_1"))["config"]
    assert pair(tmp_path, ends, {"left": LEFT, "right": RIGHT}).input_names == ("left_input", "right_input")


@pytest.mark.parametrize("shape", ["Sequential", "Functional"])
def test_a_class_of_its_authors_is_read_by_its_configs_shape(shape, base, tmp_path):
    if shape == "Sequential":
        config, weights, same = copy.deepcopy(BASE["config"]), BASE["weights"], base
    else:
        config, weights = two_branches(layer("Add", "merge_1")), {"left": LEFT, "right": RIGHT}
        same = h5(tmp_path, config, weights)
    config["class_name"] = "MyNet"
    with pytest.warns(refgrad.RefgradWarning, match=f"MyNet, a custom class: it is read as the {shape} model"):
        assert h5(tmp_path, config, weights).digest == same.digest


def test_an_input_that_feeds_nothing_has_a_derivative_of_zero(tmp_path):
    config = two_branches(layer("Add", "merge_1"))
    config["config"]["output_layers"] = [["left", 0, 0]]
    net = h5(tmp_path, config, {"left": LEFT, "right": RIGHT})
    jacobian = net.jacobian([np.ones((5, 3)), np.ones((5, 2))])
    assert net.input_names == ("left_input", "right_input")
    np.testing.assert_array_equal(jacobian["right_input"], np.zeros((5, 4, 2)))
    assert np.abs(jacobian["left_input"]).max() > 0


# Containers of tf.keras 2.12 to 2.15: zips with weights in groups named in several ways.


def numbered(weights, group_of):
    """The weights as the HDF5 file of a .keras, each layer's arrays in the group that its name leads to."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as out:
        out.create_group("vars")
        out["optimizer/vars/0"] = np.int64(7)
        for name, arrays in weights.items():
            inner = out.create_group(group_of(name)).create_group("vars")
            for index, value in enumerate(arrays.values()):
                inner[str(index)] = value
    return buffer.getvalue()


def zipped(path, config, weights, version="2.13.1", folder=""):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}metadata.json", json.dumps({"keras_version": version}))
        archive.writestr(f"{folder}config.json", json.dumps(config))
        archive.writestr(f"{folder}model.weights.h5", weights)
    return path


TWELVE = {f"layer_{place}": dense_weights("x", 3, 3) for place in range(12)}
"""Twelve layers of one shape: only their order tells them apart."""


TWELVE_BY_NAME = {
    name: dict(zip((f"{name}/kernel:0", f"{name}/bias:0"), arrays.values(), strict=True))
    for name, arrays in TWELVE.items()
}


def of_twelve():
    layers = [layer("Dense", name, units=3, activation="tanh", batch_input_shape=[None, 3]) for name in TWELVE]
    return {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}


def counted(step, pattern):
    """The groups of the twelve, counted as tf.keras does: dense, dense_1, … or, where each counts twice, dense_2, …"""

    def group(name):
        number = step * int(name.removeprefix("layer_"))
        return pattern.format(f"dense_{number}" if number else "dense")

    return group


GROUPS = {
    "layers": counted(1, "layers/{}"),
    "layers, counted twice": counted(2, "layers/{}"),
    "dependencies": counted(1, "_layer_checkpoint_dependencies/{}"),
    "dependencies, counted twice": counted(2, "_layer_checkpoint_dependencies/{}"),
    "Windows": counted(1, "layers\\{}"),
    "Windows, dependencies, counted twice": counted(2, "_layer_checkpoint_dependencies\\{}"),
}


@pytest.mark.parametrize("name", GROUPS)
def test_twelve_layers_are_in_order_in_every_layout(name, tmp_path):
    same = h5(tmp_path, of_twelve(), TWELVE_BY_NAME, "2.13.1")
    path = zipped(tmp_path / "model.keras", of_twelve(), numbered(TWELVE, GROUPS[name]))
    assert refgrad.load(path).digest == same.digest


@pytest.mark.parametrize(
    "pattern",
    [
        "layers/sequential/layers/{}",
        "layers\\sequential\\layers\\{}",
        "layers\\sequential/layers\\{}",
        "_layer_checkpoint_dependencies/sequential/_layer_checkpoint_dependencies/{}",
    ],
)
def test_nested_models_are_found_in_every_layout(pattern, tmp_path):
    config = {"class_name": "Sequential", "config": {"name": "outer", "layers": [of_twelve()]}}
    path = zipped(tmp_path / "model.keras", config, numbered(TWELVE, counted(1, pattern)))
    weights = {"s": {path: value for arrays in TWELVE_BY_NAME.values() for path, value in arrays.items()}}
    assert refgrad.load(path).digest == h5(tmp_path, config, weights, "2.13.1").digest


def test_a_group_of_both_separators_is_read_once_and_no_more(tmp_path):
    def both(out):
        with h5py.File(out, "r+") as file:
            file["layers\\dense/vars/0"] = array(3, 3)

    buffer = io.BytesIO(numbered(TWELVE, GROUPS["layers"]))
    both(buffer)
    path = zipped(tmp_path / "model.keras", of_twelve(), buffer.getvalue())
    with pytest.raises(refgrad.FormatError, match="is there twice: in a group and with a backslash in its name"):
        refgrad.load(path)


ZIP = zipped(io.BytesIO(), of_twelve(), numbered(TWELVE, GROUPS["layers"])).getvalue()


def unpacked(folder):
    with zipfile.ZipFile(io.BytesIO(ZIP)) as archive:
        archive.extractall(folder / "model.keras")
    return folder / "model.keras"


def zipped_again(folder):
    return zipped(folder / "again.zip", of_twelve(), numbered(TWELVE, GROUPS["layers"]), folder="model.keras/")


def hdf5_called_keras(folder):
    attrs = {"keras_version": "2.13.1"}
    return written({"config": of_twelve(), "weights": TWELVE_BY_NAME, "attrs": attrs}, folder / "really_h5.keras")


def zip_called_h5(folder):
    (folder / "model.h5").write_bytes(ZIP)
    return folder / "model.h5"


GIVEN = {
    "bytes": lambda folder: ZIP,
    "a bytearray": lambda folder: bytearray(ZIP),
    "a memoryview": lambda folder: memoryview(ZIP),
    "a file object": lambda folder: io.BytesIO(ZIP),
    "a folder": unpacked,
    "a folder by text": lambda folder: str(unpacked(folder)),
    "a folder zipped again": zipped_again,
    "HDF5 called .keras": hdf5_called_keras,
    "a zip called .h5": zip_called_h5,
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_model_may_be_given_as(name, tmp_path):
    net = refgrad.load(GIVEN[name](tmp_path))
    assert net.digest == refgrad.load(ZIP).digest
    given_as_content = name in ("bytes", "a bytearray", "a memoryview", "a file object")
    assert (net.graph.provenance.files.model is None) == given_as_content


def test_config_and_weights_may_be_content_too(base, tmp_path):
    config, weights = json.dumps(BASE["config"]).encode(), io.BytesIO()
    with h5py.File(weights, "w") as out:
        put(out, BASE["weights"])
        out.attrs.update(keras_version="2.4.0")
    for one, others in (
        (weights.getvalue(), {"config": config}),
        (config, {"weights": weights.getvalue()}),
        (io.BytesIO(json.dumps(config.decode()).encode()), {"weights": io.BytesIO(weights.getvalue())}),
        (weights.getvalue(), {"config": json.dumps(config.decode())}),
    ):
        assert refgrad.load(one, **others).digest == base.digest
    (tmp_path / "weights.h5").write_bytes(weights.getvalue())
    assert refgrad.load(tmp_path / "weights.h5", config=config).graph.provenance.files.model is None
    assert refgrad.load(tmp_path / "weights.h5", config=config.decode()).graph.provenance.files.model is not None


def test_an_artifact_may_be_given_as_bytes(base, tmp_path):
    refgrad.save(base, tmp_path / "net.npz")
    content = (tmp_path / "net.npz").read_bytes()
    assert refgrad.load(content).digest == refgrad.load(io.BytesIO(content)).digest == base.digest


NO_MODELS = {
    "web page": (b"<!DOCTYPE html><html>", "a web page: the download went wrong"),
    "web page, late": (b"\n\n  <HTML lang=en>", "a web page: the download went wrong"),
    "YAML": (b"backend: tensorflow\nclass_name: Sequential\n", "a YAML config; write it as JSON"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "text": (b"model.keras", "no kind of file that holds a Keras model"),
    "a quotation": (b'"Hello"', "the config is not JSON"),
}


@pytest.mark.parametrize("name", NO_MODELS)
def test_content_that_is_no_model_is_called_what_it_is(name):
    content, message = NO_MODELS[name]
    with pytest.raises(refgrad.RefgradError, match=f"^the bytes given: .*{message}"):
        refgrad.load(content, weights=numbered(TWELVE, GROUPS["layers"]) if name == "a quotation" else None)


def test_folders_and_text_files_are_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(refgrad.FormatError, match="a TensorFlow SavedModel, which holds no config; save the model as"):
        refgrad.load(tmp_path)
    with pytest.raises(refgrad.InputError, match="opened as text; open it as binary"):
        refgrad.load(io.StringIO("{}"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with (
        (tmp_path / "binary").open(encoding="utf-8") as text,
        pytest.raises(refgrad.InputError, match="opened as text; open it as binary"),
    ):
        refgrad.load(text)
    (unpacked(tmp_path) / "model.weights.h5").unlink()
    with pytest.raises(refgrad.FormatError, match=r"model.keras: model.weights.h5: there is no such file"):
        refgrad.load(tmp_path / "model.keras")


def test_weights_of_the_models_own_are_refused(tmp_path):
    def finish(out):
        out.create_group("model_weights/top_level_model_weights").attrs["weight_names"] = [b"scale:0"]

    with pytest.raises(refgrad.UnsupportedError, match="the model has weights of its own beside those of its layers"):
        refgrad.load(written(changed(lambda file: file.update(finish=finish)), tmp_path / "model.h5"))


# Activations that are objects.


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize("name", ["LeakyReLU", "ReLU", "ELU", "Softmax"])
def test_a_layer_as_an_activation_is_that_layer(generation, name, tmp_path):
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    made = {"LeakyReLU": (0.17,), "ReLU": (1.3, 0.1, 0.2), "ELU": (0.6,), "Softmax": ()}[name]
    layers = [keras.layers.Dense(4, activation=getattr(keras.layers, name)(*made)), keras.layers.Dense(2)]
    model = keras.Sequential([keras.layers.Input((3,)), *layers])
    (tmp_path / "model.json").write_text(model.to_json())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both Kerases advise against the legacy container
        for file in ("model.keras", "model.h5"):
            model.save(tmp_path / file)
    model.save_weights(tmp_path / "model.weights.h5")
    x = 3 * RNG.normal(size=(50, 3)).astype("f4")
    for file, others in (
        ("model.keras", {}),
        ("model.h5", {}),
        ("model.json", {"weights": tmp_path / "model.weights.h5"}),
    ):
        net = refgrad.load(tmp_path / file, **others)
        np.testing.assert_allclose(net(x), model(x).numpy(), rtol=1e-5, atol=1e-5)
        assert net.graph.nodes[2].name == f"{model.layers[0].name}/{name}"


def activated_by(activation):
    return changed(lambda file: found(file, "dense_10").update(activation=activation))


@pytest.mark.parametrize(
    "given",
    [
        {"class_name": "function", "config": "relu"},
        {"class_name": "function", "config": "relu", "module": "builtins", "registered_name": "function"},
        {"class_name": "function", "config": "relu", "module": "keras.activations", "registered_name": "relu"},
    ],
)
def test_a_function_as_an_object_is_the_activation_of_its_name(given, tmp_path):
    named = refgrad.load(written(activated_by("relu"), tmp_path / "named.h5"))
    assert refgrad.load(written(activated_by(given), tmp_path / "object.h5")).digest == named.digest


BAD_ACTIVATIONS = {
    "a class of the author's": ({"class_name": "Mine", "config": {}}, "the activation 'Mine' is not supported"),
    "a function of the author's": ({"class_name": "function", "config": "mine"}, "the activation 'mine' is not"),
    "a registered function": (
        {"class_name": "function", "config": "relu", "module": "builtins", "registered_name": "Mine>relu"},
        "the activation 'function' is not supported",
    ),
    "a registered layer": (
        {"class_name": "ReLU", "config": {"name": "r"}, "module": "mine", "registered_name": "Mine>ReLU"},
        "the activation 'ReLU' is not supported",
    ),
    "a layer with weights": ({"class_name": "PReLU", "config": {"name": "p"}}, "a PReLU, whose weights the file does"),
    "a layer that is none": ({"class_name": "Dense", "config": {"units": 3}}, "the activation 'Dense' is not"),
    "an unknown key": ({"class_name": "ReLU", "config": {"twist": 1}}, "ReLU: the key 'twist' .* is not known"),
    "in each other": (
        {"class_name": "Activation", "config": {"activation": {"class_name": "ReLU", "config": {}}}},
        "the activation 'Activation' is not",
    ),
    "a lambda": ("<lambda>", "the activation '<lambda>' is not supported"),
    "a list": (["relu"], "the activation 'a list' is not supported"),
    "a name that is a list": ({"class_name": ["ReLU"], "config": {}}, "is not supported"),
}


@pytest.mark.parametrize("name", BAD_ACTIVATIONS)
def test_activations_that_are_refused(name, tmp_path):
    given, message = BAD_ACTIVATIONS[name]
    with pytest.raises(refgrad.UnsupportedError, match=rf"layer 'dense_10' \(Dense\): activation: .*{message}"):
        refgrad.load(written(activated_by(given), tmp_path / "model.h5"))


# Layers of Keras that no refgrad reads, and values of keys that are read at one.

NOT_READ = {
    "Convolution1D": "it convolves; save the part of the model before or after it",
    "SeparableConv2D": "it convolves",
    "Conv2DTranspose": "it convolves",
    "GlobalAveragePooling1D": "it pools",
    "ZeroPadding2D": "it works on images or series",
    "LSTM": "it is recurrent",
    "CuDNNGRU": "it is recurrent",
    "Embedding": "it looks values up in a table",
    "StringLookup": "it looks values up in a table",
    "MultiHeadAttention": "attention is no map",
    "Masking": "a mask that changes what the layers after it do",
    "Lambda": "it holds Python code, which is never run; write it with Keras's own layers$",
    "TensorFlowOpLayer": "a bare operation as TensorFlow 2.0 to 2.3 wrote it; a later one reads and saves it anew$",
    "MaxoutDense": "these are: InputLayer",
    "MyLSTM": "these are: InputLayer",
}


@pytest.mark.parametrize("class_name", NOT_READ)
def test_a_layer_that_is_not_read_is_named_with_the_reason(class_name, tmp_path):
    """Before its weights are looked at, which may be in no layout that is known."""
    file = changed(lambda file: layers_of(file).insert(3, layer(class_name, "odd", units=3)))
    file["weights"]["odd"] = {"odd/table": np.array(["a", "b"], dtype="S1")}
    with pytest.raises(refgrad.UnsupportedError, match=rf"layer 'odd' \({class_name}\): .*{NOT_READ[class_name]}"):
        refgrad.load(written(file, tmp_path / "model.h5"))


BAD_KEYS = {
    "moments of the batch": ("batchnormalization_1", {"mode": 2}, r"\(BatchNormalization\): mode=2 is not supported"),
    "moments of a sample": ("batchnormalization_1", {"mode": 1}, r"\(BatchNormalization\): mode=1 is not supported"),
    "units twice": ("dense_2", {"output_dim": 4}, "one thing is said twice"),
    "whole numbers": ("dense_2", {"dtype": "int32"}, "dtype 'int32' is not supported: Keras cuts off fractions"),
    "a map of policies": (
        "dense_2",
        {
            "dtype": {
                "class_name": "DTypePolicyMap",
                "config": {"default_policy": "float32", "policy_map": {"a/b": "x"}},
            }
        },
        "dtype is a map of policies for a/b",
    ),
    "an unknown policy": ("dense_2", {"dtype": {"class_name": "DTypePolicyMap", "config": {}}}, "dtype None is not"),
    "an unknown key": ("dense_2", {"projection": 3}, r"\(Dense\): the key 'projection' \(here 3\) is not known"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_keys_that_are_refused(name, tmp_path):
    layer_name, keys, message = BAD_KEYS[name]
    with pytest.raises(refgrad.RefgradError, match=f"layer '{layer_name}' .*{message}"):
        refgrad.load(written(changed(lambda file: found(file, layer_name).update(keys)), tmp_path / "model.h5"))
