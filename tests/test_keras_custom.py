"""Layers of a user's own classes: `refgrad.load(…, custom=…)`."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

import refgrad
from refgrad.ops import Add, Rescaling
from tests.test_keras_graphs import X, entry, functional, inside, one, randomized, saved_everywhere, source


def classes(keras):
    """A gate with weights that are trained and one that is not, and a sum of two tensors without any."""

    class Gate(keras.layers.Layer):
        def __init__(self, factor, **options):
            super().__init__(**options)
            self.factor = factor

        def build(self, shape):
            self.fixed = self.add_weight(shape=(shape[-1],), name="fixed", trainable=False)
            self.mix = self.add_weight(shape=(shape[-1], 2), name="mix")
            self.shift = self.add_weight(shape=(2,), name="shift")

        def call(self, x):
            return keras.activations.tanh((self.factor * self.fixed * x) @ self.mix + self.shift)

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    class Plus(keras.layers.Layer):
        def call(self, inputs):
            return inputs[0] + inputs[1]

    return Gate, Plus


def gate(layer):
    mix, shift, fixed = layer.weights
    return [Rescaling(layer.config["factor"] * fixed, 0 * fixed), (mix, shift, "tanh")]


BUILDERS = {"Gate": gate, "Plus": lambda layer: [Add()]}


def model_of(keras):
    gates, plus = classes(keras)
    layers = keras.layers
    x = layers.Input((3,))
    inner = keras.Sequential([layers.Input((3,)), gates(3.0, name="g"), layers.Dense(3, name="d")], name="inner")
    y = plus(name="sum")([inner(x), layers.Dense(3)(x)])
    return keras.Model(x, gates(2.0, name="last")(y))


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_a_custom_layer_computes_what_its_builder_says(generation, tmp_path):
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip(generation)
    model = randomized(model_of(keras), np.random.default_rng(2))
    x = np.random.default_rng(3).normal(size=(4, 3)).astype("float32")
    with tf.GradientTape() as tape:
        given = tf.constant(x)
        tape.watch(given)
        y = model(given)
    jacobian = tape.batch_jacobian(y, given).numpy()
    for path, others in saved_everywhere(model, tmp_path):
        net = refgrad.load(path, custom=BUILDERS, **others)
        np.testing.assert_allclose(net(x), y.numpy(), rtol=0, atol=4e-6)
        np.testing.assert_allclose(net.jacobian(x), jacobian, rtol=0, atol=4e-6 * np.abs(jacobian).max())
        with pytest.raises(refgrad.UnsupportedError, match=r"layer 'g' \(\S*Gate\): .*"):
            refgrad.load(path, custom={"Plus": BUILDERS["Plus"]}, **others)


def custom_model():
    own = {"module": "mine", "registered_name": "mine>Mine"}
    return functional([source("x"), {**entry("Mine", "a", [X], size=3), **own}], [list(X)], [["a", 0, 0]])


def loaded(model, folder, custom, *arrays):
    (folder / "model.json").write_text(json.dumps(model))
    with h5py.File(folder / "model.weights.h5", "w") as file:
        file.create_group("layers")
        for index, array in enumerate(arrays):
            file[f"layers/mine/vars/{index}"] = array
    return refgrad.load(folder / "model.json", weights=folder / "model.weights.h5", custom=custom)


def test_a_builder_is_told_all_of_its_layer(tmp_path):
    told = []

    def builder(layer):
        told.append(layer)
        return [(layer.weights[1], None, "relu")]

    arrays = [np.ones(2, "f4"), np.ones((3, 2), "f4")]
    net = loaded(custom_model(), tmp_path, {"Mine": builder}, *arrays)
    assert net.output_shapes == ((2,),)
    (layer,) = told
    assert (layer.name, layer.shapes, layer.names, layer.keras) == ("a", ((3,),), ("0", "1"), 3)
    assert layer.config == {"name": "a", "size": 3}
    assert [array.shape for array in layer.weights] == [(2,), (3, 2)]


def test_a_builder_is_asked_for_its_own_class_only(tmp_path):
    def never(layer):
        raise AssertionError

    model = one("Activation", activation="tanh")
    assert loaded(model, tmp_path, {"Mine": never, "tanh": never}).output_shapes == ((3,),)
    with pytest.raises(refgrad.UnsupportedError, match=r"a custom class, .* custom=\{'Mine': builder\}"):
        loaded(custom_model(), tmp_path, {"Yours": never})


def test_a_distributed_custom_layer_is_its_builders_on_every_entry(tmp_path):
    model = one("TimeDistributed", layer=inside("Mine", "inner"))
    model["config"]["layers"][0]["config"]["batch_shape"] = [None, 2, 3]
    kernel = np.arange(6, dtype="f4").reshape(3, 2)
    net = loaded(model, tmp_path, {"Mine": lambda layer: [(kernel, None, "linear")]})
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("f4")
    np.testing.assert_allclose(net(x), x @ kernel, rtol=1e-6)


BAD = {
    "nothing": (lambda layer: None, "InputError", "gave None; a list of refgrad.ops and of triples"),
    "a function": (lambda layer: [np.tanh], "InputError", "a list of refgrad.ops and of triples"),
    "an odd name": (lambda layer: [(np.ones((3, 2)), None, "swoosh")], "UnsupportedError", "'swoosh' is not one of"),
    "whole numbers": (lambda layer: [(np.ones((3, 2), int), None, "relu")], "InputError", "gave int64 where an array"),
    "a vector": (lambda layer: [(np.ones(3), None, "relu")], "MismatchError", "a kernel that is no matrix"),
    "no kernel": (lambda layer: [(None, None, "relu")], "MismatchError", "a kernel that is no matrix"),
    "another size": (lambda layer: [(np.ones((4, 2)), None, "relu")], "MismatchError", "takes 4 features"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_builder_must_not_give(name, tmp_path):
    builder, error, message = BAD[name]
    with pytest.raises(refgrad.RefgradError, match=r"layer 'a' \(Mine\): .*" + message) as caught:
        loaded(custom_model(), tmp_path, {"Mine": builder})
    assert type(caught.value).__name__ == error


@pytest.mark.parametrize("custom", [3, ["Mine"], {"Mine": 3}, {3: len}, "Mine"], ids=str)
def test_builders_are_functions_by_name(custom, tmp_path):
    with pytest.raises(refgrad.InputError, match="is no dict of class names and functions"):
        loaded(custom_model(), tmp_path, custom)


def test_weights_of_a_custom_layer_must_be_numbers(tmp_path):
    with pytest.raises(refgrad.UnsupportedError, match="stored as int32"):
        loaded(custom_model(), tmp_path, {"Mine": gate}, np.ones(3, "i4"))
