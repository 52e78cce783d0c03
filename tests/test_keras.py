"""Reading Keras files: the golden ones exactly, and the rest refused with file, layer, field, found and expected."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

import refgrad
from refgrad.agreement import Answer, compare
from refgrad.keras.matching import snake_case
from tests.cases import CONTAINERS, GOLDEN, STEMS, golden_arguments, golden_truth

ROOT = Path(__file__).resolve().parents[1]


def load_golden(stem, container):
    (path,), others = golden_arguments(stem, container)
    return refgrad.load(path, **others)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_every_golden_file_gives_what_tensorflow_said(stem, container, engine):
    """The issue's bar: 1e-6 of max|J| over the set in float32 and 1e-13 in float64; no golden sample is near a kink."""
    truth, net = golden_truth(stem), load_golden(stem, container)
    assert net.dtype == np.float32
    for dtype, bits, relative in (("float32", "32", 1e-6), ("float64", "64", 1e-13)):
        y, jacobian = net.astype(dtype).value_and_jacobian(truth["x"], engine=engine)
        for mine, theirs in ((y, truth[f"y{bits}"]), (jacobian, truth[f"j{bits}"])):
            assert mine.dtype == theirs.dtype == np.dtype(dtype)
            assert np.abs(mine - theirs).max() <= relative * np.abs(theirs).max()


@pytest.mark.parametrize("stem", STEMS)
def test_every_container_holds_the_same_network(stem):
    graphs = [load_golden(stem, container).graph for container in CONTAINERS]
    for graph in graphs[1:]:
        assert [(node.name, node.op.label, node.inputs) for node in graph.nodes[1:]] == [
            (node.name, node.op.label, node.inputs) for node in graphs[0].nodes[1:]
        ]
        for node, other in zip(graph.nodes, graphs[0].nodes, strict=True):
            for name, array in node.op.arrays().items():
                np.testing.assert_array_equal(array, other.op.arrays()[name])


@pytest.mark.parametrize("writer", ["keras3", "tf_keras"])
def test_the_question_is_answered(writer):
    """The curve's own slope at 0.5 is −0.36; 25 epochs of training get within 0.15 of it."""
    net = refgrad.load(GOLDEN / f"question-{writer}.keras")
    assert abs(net.gradient(0.5)[0] - -0.36) < 0.15


def test_no_framework_is_needed():
    """Every golden file in a process where importing TensorFlow or any Keras raises."""
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tensorflow", "keras", "tf_keras", "jax", "torch"}:
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
import numpy as np, refgrad
from tests.cases import CONTAINERS, STEMS, golden_arguments, golden_truth
for stem in STEMS:
    truth = golden_truth(stem)
    for container in CONTAINERS:
        (path,), others = golden_arguments(stem, container)
        net = refgrad.load(path, **others)
        for dtype, bits, bar in (("float32", "32", 1e-6), ("float64", "64", 1e-13)):
            y, jacobian = net.astype(dtype).value_and_jacobian(truth["x"])
            assert np.abs(jacobian - truth["j" + bits]).max() <= bar * np.abs(truth["j" + bits]).max()
            assert np.abs(y - truth["y" + bits]).max() <= bar * np.abs(truth["y" + bits]).max()
print("read", len(STEMS) * len(CONTAINERS))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == f"read {len(STEMS) * len(CONTAINERS)}\n", done.stderr


def test_provenance_names_writer_and_generation():
    for writer, generation in (("keras3", 3), ("tf_keras", 2)):
        versions = json.loads((GOLDEN / "golden.json").read_text())
        for container in ("keras", "h5", "json+legacy weights"):
            origin = load_golden(f"mixed-{writer}", container).graph.provenance
            assert (origin.keras, origin.writer) == (generation, versions[writer])
    # Keras 3 writes no version into its JSON or .weights.h5: the generation is known by the `module` beside the class.
    assert load_golden("mixed-keras3", "json+weights.h5").graph.provenance.keras == 3
    assert load_golden("mixed-tf_keras", "json+weights.h5").graph.provenance.keras == 2


def test_config_may_be_given_as_text():
    text = (GOLDEN / "mixed-keras3.json").read_text()
    by_text = refgrad.load(GOLDEN / "mixed-keras3.weights.h5", config=text)
    assert by_text.digest == load_golden("mixed-keras3", "json+weights.h5").digest


@pytest.mark.parametrize(
    ("name", "expected"), [("Dense", "dense"), ("ReLU", "re_lu"), ("InputLayer", "input_layer"), ("PReLU", "p_re_lu")]
)
def test_snake_case_is_keras_own(name, expected):
    assert snake_case(name) == expected


# Files made wrong on purpose. Each row: what is done to the golden "mixed" network, and what must be said.


def config_of(stem="mixed-keras3"):
    return json.loads((GOLDEN / f"{stem}.json").read_text())


def layer(config, name):
    return next(entry for entry in config["config"]["layers"] if entry["config"]["name"] == name)


def edited_layer(name, /, **changes):
    def edit(config):
        layer(config, name)["config"].update(changes)

    return edit


def edited_entry(name, /, **changes):
    def edit(config):
        layer(config, name).update(changes)

    return edit


def without(name, key):
    return lambda config: layer(config, name)["config"].pop(key)


def added(entry):
    return lambda config: config["config"]["layers"].append(entry)


LAMBDA = {
    "class_name": "Lambda",
    "config": {"name": "f", "function": ["4wEAAAA", None, None]},
    "module": "keras.layers",
}
NESTED = {"class_name": "Sequential", "config": {"name": "inner", "layers": "dense"}, "module": "keras"}

BAD_CONFIGS = {
    "lambda": (added(LAMBDA), "UnsupportedError", r"layer 'f' \(Lambda\): this layer class is not supported"),
    "nested": (added(NESTED), "FormatError", r"layer 'inner' \(Sequential\): the Sequential's config has no list"),
    "conv": (
        edited_entry("first", class_name="Conv1D"),
        "UnsupportedError",
        r"layer 'first' \(Conv1D\).*it convolves; save the part",
    ),
    "custom module": (edited_entry("first", module="mine"), "UnsupportedError", r"\(Dense\): this is a custom class"),
    "custom class of a known name": (
        edited_entry("first", module=None, registered_name="Dense"),
        "UnsupportedError",
        "this is a custom class",
    ),
    "custom class, unregistered": (edited_entry("first", module=None), "UnsupportedError", "this is a custom class"),
    "registered name": (edited_entry("first", registered_name="mine>Dense"), "UnsupportedError", "this is a custom"),
    "beside the config": (
        edited_entry("first", inbound_nodes=[1]),
        "UnsupportedError",
        "'inbound_nodes' beside its config",
    ),
    "unknown key": (
        edited_layer("first", twist=2),
        "UnsupportedError",
        r"layer 'first' \(Dense\): the key 'twist' \(here 2",
    ),
    "lora": (edited_layer("first", lora_rank=4), "UnsupportedError", "lora_rank=4 is not supported; only None is"),
    "quantised": (edited_layer("first", quantization_config={"a": 1}), "UnsupportedError", "quantization_config="),
    "activation": (
        edited_layer("first", activation="swoosh"),
        "UnsupportedError",
        "activation 'swoosh' is not supported",
    ),
    "activation object": (
        edited_layer("first", activation={"class_name": "Mine", "config": {}}),
        "UnsupportedError",
        "activation: the activation 'Mine' is not supported",
    ),
    "threshold": (edited_layer("activation", activation="threshold"), "UnsupportedError", "layer 'activation'"),
    "quarter": (edited_layer("first", dtype="float8"), "UnsupportedError", "dtype 'float8' is not supported"),
    "quantised policy": (
        edited_layer("first", dtype={"class_name": "DTypePolicy", "config": {"name": "int8_from_float32"}}),
        "UnsupportedError",
        "dtype 'int8_from_float32' is not supported",
    ),
    "strange policy": (edited_layer("first", dtype={"class_name": "Q"}), "UnsupportedError", "dtype"),
    "float64 over float32": (
        edited_layer("first", dtype="float64"),
        "MismatchError",
        "stored as float32.*says float64",
    ),
    "sparse": (edited_layer("input_layer", sparse=True), "UnsupportedError", "sparse=True is not supported"),
    "negative slope": (
        edited_layer("re_lu", negative_slope=-1),
        "FormatError",
        "negative_slope: -1 is not a number from 0",
    ),
    "slope of words": (edited_layer("re_lu", negative_slope="1"), "FormatError", "negative_slope: '1'"),
    "infinite threshold": (edited_layer("re_lu", threshold=float("inf")), "FormatError", "threshold: inf"),
    "no units": (without("first", "units"), "FormatError", r"layer 'first' \(Dense\): the key 'units' is missing"),
    "units 0": (edited_layer("first", units=0), "FormatError", "units: 0 is not a whole number above 0"),
    "units -1": (edited_layer("first", units=-8), "FormatError", "units: -8"),
    "units 8.0": (edited_layer("first", units=8.0), "FormatError", "units: 8.0"),
    "units true": (edited_layer("first", units=True), "FormatError", "units: True"),
    "units huge": (edited_layer("first", units=10**30), "MismatchError", "units=1000000"),
    "bias maybe": (edited_layer("first", use_bias="yes"), "FormatError", "use_bias: 'yes' is neither"),
    "units too many": (
        edited_layer("first", units=9),
        "MismatchError",
        r"kernel has shape \(3, 8\); units=9 needs \(inputs, 9\)",
    ),
    "no bias": (
        edited_layer("first", use_bias=False),
        "MismatchError",
        r"layer 'first' \(Dense\) needs kernel; the file has",
    ),
    "bias": (edited_layer("dense", use_bias=True), "MismatchError", r"layer 'dense' \(Dense\) needs kernel and bias"),
    "renamed": (
        edited_layer("first", name="other"),
        "MismatchError",
        "without weights 'other'; weights without a layer 'first'",
    ),
    "named twice": (edited_layer("first", name="dense"), "FormatError", "two layers are named 'dense'"),
    "no name": (without("first", "name"), "FormatError", "a layer of class Dense has no config with a 'name'"),
    "open axis": (
        edited_layer("input_layer", batch_shape=[None, None, 3]),
        "UnsupportedError",
        "leaves a feature axis open",
    ),
    "other input": (
        edited_layer("input_layer", batch_shape=[None, 4]),
        "MismatchError",
        r"layer 'first'.*takes 3 features.*\(4,\)",
    ),
    "no features": (edited_layer("input_layer", batch_shape=[None]), "FormatError", r"input shape \[None\]"),
    "a layer too many": (
        added({"class_name": "Dense", "config": {"name": "extra", "units": 2}, "module": "keras.layers"}),
        "MismatchError",
        "without weights 'extra'",
    ),
    "a layer too few": (
        lambda config: config["config"]["layers"].pop(),
        "MismatchError",
        "weights without a layer 'dense_1'",
    ),
    "a layer of text": (
        added("Dense"),
        "FormatError",
        "a layer of the config is no object with a 'class_name': 'Dense'",
    ),
    "functional": (
        lambda config: config.update(class_name="Functional"),
        "UnsupportedError",
        "the Functional model: the key 'build_input_shape'",
    ),
    "subclass": (
        lambda config: config.update(class_name="Mine", config={"units": 3}),
        "UnsupportedError",
        "the model is a Mine, a custom class whose config lists no layers",
    ),
    "no layers": (lambda config: config["config"].pop("layers"), "FormatError", "no list 'layers'"),
    "model key": (
        lambda config: config["config"].update(twist=1),
        "UnsupportedError",
        "the Sequential: the key 'twist'",
    ),
    "no config": (lambda config: config.pop("config"), "FormatError", "no Keras model"),
    "no class": (lambda config: config.update(class_name=3), "FormatError", "no Keras model"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
@pytest.mark.parametrize("weights", ["weights.h5", "legacy_weights.h5"])
def test_configs_that_are_refused(name, weights, tmp_path):
    edit, error, message = BAD_CONFIGS[name]
    config = config_of()
    edit(config)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    with pytest.raises(refgrad.RefgradError, match=message) as caught:
        refgrad.load(path, weights=GOLDEN / f"mixed-keras3.{weights}")
    assert type(caught.value).__name__ == error
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 600


def test_what_changes_nothing_is_let_pass(tmp_path):
    """Keys that are inert, keys that a later Keras might add and leave unset, and the wrapping of older ones."""
    config = config_of()
    layer(config, "first")["config"].update(
        kernel_regularizer={"class_name": "L2"}, some_later_key=None, trainable=False
    )
    layer(config, "dropout")["config"].update(rate=0.9, seed=7)
    layer(config, "first").pop("module")
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    other = refgrad.load(path, weights=GOLDEN / "mixed-keras3.weights.h5")
    assert other.digest == load_golden("mixed-keras3", "json+weights.h5").digest


def test_without_an_input_shape_the_kernel_tells_it(tmp_path):
    config = config_of()
    config["config"]["layers"].pop(0)
    for holder in (config, config["config"]):
        holder.pop("build_input_shape", None)
        holder.pop("build_config", None)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    assert refgrad.load(path, weights=GOLDEN / "mixed-keras3.weights.h5").input_shapes == ((3,),)


def h5_copy(tmp_path, edit, source="mixed-keras3.legacy_weights.h5"):
    path = tmp_path / "weights.h5"
    path.write_bytes((GOLDEN / source).read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def replaced(path, **dataset):
    def edit(file):
        del file[path]
        file.create_dataset(path, **dataset)

    return edit


KERNEL = "first/mixed/first/kernel"


def soft_link(file):
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/dense/mixed/dense/kernel")


def external_link(file):
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("/etc/hostname", "x")


def external_storage(file):
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 8), "f4", external=[("/etc/hostname", 0, 96)])


def virtual(file):
    del file[KERNEL]
    layout = h5py.VirtualLayout((3, 8), "f4")
    layout[...] = h5py.VirtualSource("/etc/hostname", "x", (3, 8))
    file.create_virtual_dataset(KERNEL, layout)


def swapped(file):
    file.move("first/mixed/first/kernel", "kept")
    file.move("first/mixed/first/bias", "first/mixed/first/kernel")
    file.move("kept", "first/mixed/first/bias")


BAD_WEIGHTS = {
    "soft link": (soft_link, "UnsupportedError", "kernel is a SoftLink; links are not followed"),
    "external link": (external_link, "UnsupportedError", "kernel is a ExternalLink; links are not followed"),
    "external storage": (external_storage, "UnsupportedError", "virtual or stored outside the file"),
    "virtual": (virtual, "UnsupportedError", "virtual or stored outside the file"),
    "lzf": (replaced(KERNEL, data=np.ones((3, 8), "f4"), compression="lzf"), "UnsupportedError", "by filter 32000"),
    "huge": (replaced(KERNEL, shape=(10**6, 10**6), dtype="f4"), "LimitError", r"Limits\(memory="),
    "integers": (
        replaced(KERNEL, data=np.ones((3, 8), "i4")),
        "UnsupportedError",
        r"layer 'first' \(Dense\): kernel is stored as int32",
    ),
    "halves": (replaced(KERNEL, data=np.ones((3, 8), "f2")), "MismatchError", "kernel is stored as float16, its"),
    "complex": (replaced(KERNEL, data=np.ones((3, 8), complex)), "UnsupportedError", "no plain numbers"),
    "strings": (replaced(KERNEL, data=np.array([b"x"] * 3)), "UnsupportedError", "no plain numbers"),
    "opaque": (replaced(KERNEL, data=np.zeros((3, 8), "V4")), "UnsupportedError", "no plain numbers"),
    "bfloat16": (replaced(KERNEL, data=np.zeros((3, 8), "V2")), "MismatchError", "stored as bfloat16, its config says"),
    "float64": (replaced(KERNEL, data=np.ones((3, 8))), "MismatchError", "stored as float64, its config says float32"),
    "transposed": (
        replaced(KERNEL, data=np.ones((8, 3), "f4")),
        "MismatchError",
        r"kernel has shape \(8, 3\); units=8",
    ),
    "flat": (replaced(KERNEL, data=np.ones(24, "f4")), "MismatchError", r"kernel has shape \(24,\)"),
    "a bias to broadcast": (
        replaced(KERNEL.replace("kernel", "bias"), data=np.ones(1, "f4")),
        "MismatchError",
        r"layer 'first' \(Dense\): bias has shape \(1,\); the kernel \(3, 8\) needs \(8,\)",
    ),
    "wrong inputs": (replaced(KERNEL, data=np.ones((4, 8), "f4")), "MismatchError", "takes 4 features"),
    "swapped": (swapped, "MismatchError", r"kernel has shape \(8,\)"),
    "missing": (
        lambda file: file.pop(KERNEL),
        "FormatError",
        "layer 'first': weight 'mixed/first/kernel' is listed but missing",
    ),
    "group": (lambda file: (file.pop(KERNEL), file.create_group(KERNEL)), "FormatError", "is a group where an array"),
    "no such layer": (lambda file: file.pop("first"), "FormatError", "layer 'first' is listed in 'layer_names'"),
    "no names": (
        lambda file: file.attrs.pop("layer_names"),
        "FormatError",
        "no layout that can be read",
    ),
    "unlisted layer": (
        lambda file: file.attrs.update(layer_names=[n for n in file.attrs["layer_names"] if n != "first"]),
        "MismatchError",
        "without weights 'first'",
    ),
    "unlisted weight": (
        lambda file: file["first"].attrs.update(weight_names=["mixed/first/kernel"]),
        "MismatchError",
        r"layer 'first' \(Dense\) needs kernel and bias; the file has mixed/first/kernel",
    ),
    "unknown weight": (
        lambda file: (
            file.move(KERNEL, "first/mixed/first/kern"),
            file["first"].attrs.update(weight_names=["mixed/first/kern", "mixed/first/bias"]),
        ),
        "MismatchError",
        "the file has mixed/first/kern, mixed/first/bias",
    ),
    "listed twice": (
        lambda file: file.attrs.update(layer_names=[*file.attrs["layer_names"], "first"]),
        "MismatchError",
        "two layers named 'first'",
    ),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_weights_that_are_refused(name, tmp_path):
    edit, error, message = BAD_WEIGHTS[name]
    path = h5_copy(tmp_path, edit)
    with pytest.raises(refgrad.RefgradError, match=message) as caught:
        refgrad.load(path, config=GOLDEN / "mixed-keras3.json")
    assert type(caught.value).__name__ == error
    assert str(caught.value).startswith(f"{path}: ")


def split_names(file):
    """As Keras does with lists over 64 KB: layer_names0, layer_names1, and so on."""
    names = list(file.attrs.pop("layer_names"))
    file.attrs.update(layer_names0=names[:3], layer_names1=names[3:])
    weights = list(file["first"].attrs.pop("weight_names"))
    file["first"].attrs.update(weight_names0=weights[:1], weight_names1=weights[1:])


@pytest.mark.parametrize("edit", [split_names, lambda file: file.create_group("model_weights")])
def test_other_ways_to_say_the_same(edit, tmp_path):
    path = h5_copy(tmp_path, edit)
    original = load_golden("mixed-keras3", "legacy weights+json")
    assert refgrad.load(path, config=GOLDEN / "mixed-keras3.json").digest == original.digest


def test_layers_of_different_dtypes_are_computed_in_the_widest(tmp_path):
    config = config_of()
    layer(config, "input_layer")["config"]["dtype"] = "float64"
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    with pytest.warns(refgrad.RefgradWarning, match="declared in float32 and float64: all is computed in float64"):
        assert refgrad.load(path, weights=GOLDEN / "mixed-keras3.weights.h5").dtype == np.float64


def test_a_model_without_weights_has_the_dtype_it_declares(tmp_path):
    config = config_of()
    config["config"]["layers"] = [layer(config, "input_layer"), layer(config, "re_lu")]
    for entry in config["config"]["layers"]:
        entry["config"]["dtype"] = "float64"
    (tmp_path / "model.json").write_text(json.dumps(config))
    with h5py.File(tmp_path / "none.weights.h5", "w") as file:
        file.create_group("layers/re_lu/vars").attrs["name"] = "re_lu"
    net = refgrad.load(tmp_path / "model.json", weights=tmp_path / "none.weights.h5")
    assert net.dtype == np.float64
    np.testing.assert_array_equal(net([1.0, 3.0, -1.0]), [1.0, np.float32(1.4), 0.2 * -1])


def renamed_groups(file):
    """Give two numbered groups each other's names: what a name says and what counting says are then two things."""
    one, other = file["layers/dense/vars"], file["layers/dense_2/vars"]
    one.attrs["name"], other.attrs["name"] = other.attrs["name"], one.attrs["name"]


NUMBERED = {
    "names against numbers": (
        renamed_groups,
        "MismatchError",
        "its name leads to group 'dense_2', its number does not",
    ),
    "one name twice": (
        lambda file: file["layers/dense/vars"].attrs.update(name="dense_1"),
        "MismatchError",
        "two layers named 'dense_1'",
    ),
    "a group too few": (lambda file: file.pop("layers/dense_1"), "MismatchError", "without weights 'dense'"),
    "a group too many": (
        lambda file: file.create_dataset("layers/dense_9/vars/0", data=np.ones(3, "f4")),
        "MismatchError",
        "4 Dense layers, the weights have 5|without a layer 'dense_9'",
    ),
    "an array too many": (
        lambda file: file.create_dataset("layers/dense/vars/2", data=np.ones(3, "f4")),
        "MismatchError",
        "needs kernel and bias; the file has 0, 1, 2",
    ),
    "an array too few": (lambda file: file.pop("layers/dense/vars/1"), "MismatchError", "the file has 0$"),
    "no vars": (lambda file: file["layers/dense"].pop("vars"), "MismatchError", "without weights 'first'"),
    "layers is no group": (
        lambda file: (file.pop("layers"), file.create_dataset("layers", data=1.0)),
        "FormatError",
        "neither 'layer_names' nor one group 'layers' but 'layers'",
    ),
    "two groups of layers": (
        lambda file: file.create_group("_layer_checkpoint_dependencies"),
        "FormatError",
        "nor one group 'layers' but 'layers' and '_layer_checkpoint_dependencies'",
    ),
    "weights of the model's own": (
        lambda file: file.create_dataset("vars/0", data=np.ones(3, "f4")),
        "UnsupportedError",
        "the model has weights of its own",
    ),
}


@pytest.mark.parametrize("name", NUMBERED)
def test_numbered_weights_that_are_refused(name, tmp_path):
    edit, error, message = NUMBERED[name]
    path = h5_copy(tmp_path, edit, "mixed-keras3.weights.h5")
    with pytest.raises(refgrad.RefgradError, match=message) as caught:
        refgrad.load(path, config=GOLDEN / "mixed-keras3.json")
    assert type(caught.value).__name__ == error


def test_big_endian_weights_are_numbers_too(tmp_path):
    original = load_golden("mixed-keras3", "legacy weights+json")
    kernel = original.graph.nodes[1].op.kernel
    path = h5_copy(tmp_path, replaced(KERNEL, data=kernel.astype(">f4")))
    assert refgrad.load(path, config=GOLDEN / "mixed-keras3.json").digest == original.digest


def test_nan_weights_load_with_a_warning_and_propagate(tmp_path):
    path = h5_copy(tmp_path, replaced(KERNEL, data=np.full((3, 8), np.nan, "f4")))
    with pytest.warns(refgrad.RefgradWarning, match="layer 'first': kernel holds NaN"):
        net = refgrad.load(path, config=GOLDEN / "mixed-keras3.json")
    assert np.isnan(net.jacobian(np.ones(3))).all()


def test_names_decide_where_the_numbers_do_not(tmp_path):
    """The golden 'mixed' network has a layer named dense_1 stored in group dense_3, and a dense in dense_1."""
    with h5py.File(GOLDEN / "mixed-keras3.weights.h5") as file:
        stored = {file[f"layers/{group}/vars"].attrs["name"]: group for group in file["layers"]}
        assert stored["dense_1"] == "dense_3"
        kernel = file["layers/dense_3/vars/0"][()]
    net = load_golden("mixed-keras3", "json+weights.h5")
    np.testing.assert_array_equal(net.graph.nodes[-2].op.kernel, kernel)


# Files that are no models at all.


def lfs(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")


def npy(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def bad_zip(**members):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name.replace("__", "."), content)

    return make


def zip_twice(path):
    path.write_bytes((GOLDEN / "mixed-keras3.keras").read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")


def zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b"{" + b" " * (65 << 20) + b"}")


FILES = {
    "missing": (lambda path: None, "there is no such file"),
    "directory": (lambda path: path.mkdir(), "this is a directory"),
    "link to nowhere": (lambda path: path.symlink_to("nowhere"), "there is no such file"),
    "fifo": (lambda path: os.mkfifo(path), "no regular file"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text": (lambda path: path.write_text("hello"), "no kind of file that holds a Keras model"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps([1])), "a Python pickle; refgrad never unpickles"),
    "npy": (npy, "a NumPy array"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08\x00"), "gzip-compressed"),
    "lfs": (lfs, "a Git LFS pointer"),
    "zip magic only": (lambda path: path.write_bytes(b"PK\x03\x04"), "the zip is cut off"),
    "hdf5 magic only": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "the HDF5 data is damaged or cut off"),
    "other zip": (bad_zip(readme__txt="hello"), "0 members named 'config.json'"),
    "npz": (bad_zip(x__npy="", y__npy=""), "0 members named 'config.json'"),
    "keras without weights": (bad_zip(config__json="{}", metadata__json="{}"), "0 members named 'model.weights.h5'"),
    "weights of text": (
        bad_zip(config__json="{}", metadata__json="{}", model__weights__h5="hello"),
        "model.weights.h5: .*no kind of file|no Keras model",
    ),
    "a member twice": (zip_twice, "2 members named 'config.json'"),
    "a bomb": (zip_bomb, r"'config\.json' and what was read before it, in bytes: 68,.*Limits\(memory="),
    "hdf5 of something else": (
        lambda path: h5py.File(path, "w").close(),
        "no layout that can be read",
    ),
    "config only": (lambda path: path.write_bytes((GOLDEN / "mixed-keras3.json").read_bytes()), "pass weights="),
    "weights only": (
        lambda path: path.write_bytes((GOLDEN / "mixed-keras3.weights.h5").read_bytes()),
        "pass the model's JSON",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_models_are_refused(name, tmp_path):
    make, message = FILES[name]
    path = tmp_path / "model.keras"
    make(path)
    with pytest.raises(refgrad.RefgradError, match=message) as caught:
        refgrad.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


BAD_JSON = {
    "no json": ("{", "not JSON"),
    "an array": ("[1]", "no kind of file|an object is expected"),
    "no model": ('{"a": 1}', "no Keras model"),
    "deep": ('{"config": ' + "[" * 100_000 + "]" * 100_000 + "}", r"Limits\(json_levels="),
    "not utf-8": (b'{"config": "\xff"}', "not JSON"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_json_that_is_refused(name, tmp_path):
    content, message = BAD_JSON[name]
    path = tmp_path / "model.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(refgrad.RefgradError, match=message):
        refgrad.load(path, weights=GOLDEN / "mixed-keras3.weights.h5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mixed-keras3.keras", {"config": "mixed-keras3.json"}), "holds the whole model itself"),
        (("mixed-keras3.keras", {"weights": "mixed-keras3.h5"}), "holds the whole model itself"),
        (("mixed-keras3.h5", {"weights": "mixed-keras3.h5"}), "holds weights itself"),
        (
            ("mixed-keras3.json", {"weights": "mixed-keras3.json"}),
            "json: .*json: the weights are no HDF5 file",
        ),
        (("mixed-keras3.json", {"weights": "nowhere.h5"}), "nowhere.h5: there is no such file"),
        (("mixed-keras3.weights.h5", {"config": "nowhere.json"}), "nowhere.json: there is no such file"),
        (
            ("mixed-keras3.weights.h5", {"config": "twelve-keras3.json"}),
            "config has 12 layers with weights",
        ),
    ],
)
def test_files_that_do_not_go_together(arguments, message):
    path, others = arguments
    with pytest.raises(refgrad.RefgradError, match=message):
        refgrad.load(GOLDEN / path, **{key: GOLDEN / value for key, value in others.items()})


def test_of_two_files_the_one_that_is_wrong_is_named(tmp_path):
    config = config_of()
    edited_layer("first", twist=2)(config)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(config))
    weights = GOLDEN / "mixed-keras3.weights.h5"
    with pytest.raises(refgrad.UnsupportedError, match=rf"{weights}: {bad}: layer 'first'"):
        refgrad.load(weights, config=bad)
    with pytest.raises(refgrad.UnsupportedError, match=rf"{weights}: the config given as text: layer 'first'"):
        refgrad.load(weights, config=bad.read_text())
    transposed = h5_copy(tmp_path, replaced(KERNEL, data=np.ones((8, 3), "f4")))
    with pytest.raises(refgrad.MismatchError, match=rf"mixed-keras3.json: {transposed}: layer 'first'"):
        refgrad.load(GOLDEN / "mixed-keras3.json", weights=transposed)


@pytest.mark.parametrize("path", [None, 3, Path])
def test_what_is_no_path_is_refused(path):
    for argument in ("config", "weights"):
        suffix = {"config": "weights.h5", "weights": "json"}[argument]
        with pytest.raises(refgrad.RefgradError, match=f"{argument}= is the path|pass "):
            refgrad.load(GOLDEN / f"mixed-keras3.{suffix}", **{argument: path})
    with pytest.raises(refgrad.InputError, match="the model is the path of a file, not a"):
        refgrad.load(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_files_are_refused_or_read_exactly(suffix, damage, tmp_path):
    """Cut off anywhere, or one byte changed: never a traceback of h5py's or zipfile's."""
    content = (GOLDEN / f"mixed-keras3{suffix}").read_bytes()
    config = {"config": GOLDEN / "mixed-keras3.json"} if suffix == ".weights.h5" else {}
    path = tmp_path / f"model{suffix}"
    messages = []
    for place in range(0, len(content), 997):
        flipped = bytearray(content)
        flipped[place] ^= 0x5A
        path.write_bytes(content[:place] if damage == "cut" else bytes(flipped))
        with suppress(refgrad.RefgradError) if damage == "flip" else pytest.raises(refgrad.RefgradError) as caught:
            refgrad.load(path, **config)
        messages += [str(caught.value)] if damage == "cut" else []
    assert all(message.startswith(str(path)) for message in messages)


def test_a_name_that_is_too_long_is_refused():
    with pytest.raises(refgrad.FormatError, match="cannot be read"):
        refgrad.load("a" * 5000)
    with pytest.raises(refgrad.FormatError, match="cannot be read"):
        refgrad.load(GOLDEN / "mixed-keras3.json", weights="a" * 5000)


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize("registered", [True, False])
def test_a_users_class_of_a_known_name_is_refused(generation, registered, tmp_path):
    """Keras itself writes class_name "Dense" for it, beside a null module: what it computes is anybody's guess."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    impostor = type("Dense", (keras.layers.Dense,), {"call": lambda self, x: 2 * x})
    if registered:
        impostor = keras.saving.register_keras_serializable("mine")(impostor)
    model = keras.Sequential([keras.layers.Input((2,)), impostor(2, name="impostor")])
    model.save(tmp_path / "model.keras")
    with pytest.raises(refgrad.UnsupportedError, match=r"layer 'impostor' \(Dense\): this is a custom class"):
        refgrad.load(tmp_path / "model.keras")


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize(
    "parameters",
    [(None, 0.1, 0), (1.4, 0, 0), (1.4, 0.1, 0), (None, 0, 0.3), (1.4, 0, 0.3), (None, 0.1, 0.3), (1.4, 0.1, 0.3)],
    ids=str,
)
def test_relu_parameters_are_what_keras_computes_with(generation, parameters, tmp_path):
    """None of these numbers is exactly representable: each Keras rounds some to float32 in float64 models too."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    layers = [keras.layers.Input((1,), dtype="float64"), keras.layers.ReLU(*parameters, dtype="float64")]
    model = keras.Sequential(layers)
    model.save(tmp_path / "model.keras")
    x = np.linspace(-3, 3, 101)[:, None]
    np.testing.assert_allclose(refgrad.load(tmp_path / "model.keras")(x), model(x).numpy(), rtol=1e-15)


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize("seed", range(9))
def test_models_that_keras_writes_here_and_now_are_read_exactly(generation, seed, tmp_path):
    """Small random models of all the layers, in all containers, with names, shapes and dtypes by chance."""
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    dtype = ("float32", "float64")[seed % 2]
    names = iter(rng.permutation(np.arange(1000, 2000)))  # beyond what Keras's own counters reach
    makers = [
        lambda: keras.layers.Dense(int(rng.integers(1, 9)), rng.choice(["relu", "tanh", "sigmoid"]), dtype=dtype),
        lambda: keras.layers.Dense(4, use_bias=False, bias_regularizer="l2", dtype=dtype),
        lambda: keras.layers.Dense(3, "relu", name=f"dense_{next(names)}", dtype=dtype),
        lambda: keras.layers.Activation("tanh", dtype=dtype),
        lambda: keras.layers.ReLU(float(rng.uniform(1, 2)), float(rng.uniform()), dtype=dtype),
        lambda: keras.layers.ReLU(negative_slope=float(rng.uniform()), dtype=dtype),
        lambda: keras.layers.ReLU(max_value=float(rng.uniform(1, 2)), threshold=float(rng.uniform()), dtype=dtype),
        lambda: keras.layers.Dropout(0.3, seed=3, dtype=dtype),
    ]
    layers = [makers[k]() for k in rng.integers(0, len(makers), size=8)] + [keras.layers.Dense(2, dtype=dtype)]
    model = keras.Sequential(layers if seed % 3 == 0 else [keras.layers.Input((3,), dtype=dtype), *layers])
    x = tf.constant(rng.normal(size=(20, 3)), dtype)
    model(x)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.7))
    (tmp_path / "model.json").write_text(model.to_json())
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both Kerases advise against the legacy container
        model.save(tmp_path / "model.h5")
    model.save_weights(tmp_path / "model.weights.h5")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    jacobian = tape.batch_jacobian(y, x)
    for path, others in (
        ("model.keras", {}),
        ("model.h5", {}),
        ("model.json", {"weights": tmp_path / "model.weights.h5"}),
    ):
        net = refgrad.load(tmp_path / path, **others)
        assert net.dtype == dtype
        ours = net.value_and_jacobian(x.numpy())
        agreement = compare(
            net.graph, [x.numpy()], Answer(ours[:1], (ours[1:],)), Answer((y.numpy(),), ((jacobian.numpy(),),))
        )
        assert agreement.agrees.all()
        assert not agreement.vacuous
