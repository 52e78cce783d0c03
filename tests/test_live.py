"""Live models: the same network as from the file that they would be saved to, or a refusal that says what to do."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import refgrad
from tests.cases import GOLDEN, WRITERS

pytestmark = pytest.mark.tensorflow

KERASES = {"keras3": "keras", "tf_keras": "tf_keras"}


@pytest.fixture(params=KERASES.values())
def keras(request):
    pytest.importorskip("tensorflow")
    return importlib.import_module(request.param)


def shared_and_nested(keras):
    """A model in a model, called twice, with a frozen batch normalisation, and dropout with a seed."""
    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, "relu"), layers.BatchNormalization(), layers.Dense(3)], name="inner"
    )
    inner.layers[1].trainable = False
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    both = layers.Concatenate()([inner(a), inner(b)])
    return keras.Model([a, b], [layers.Dense(2, "softplus", name="t")(layers.Dropout(0.3, seed=1)(both)), inner(a)])


def normalised(keras):
    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(2, 3, size=(50, 3)))
    return keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(2, "hard_sigmoid")])


def policy(dtype):
    def make(keras):
        layers = keras.layers
        return keras.Sequential(
            [keras.Input((3,)), layers.Dense(4, "gelu", dtype=dtype), layers.BatchNormalization(dtype=dtype)]
        )

    return make


MODELS = {
    "nested and shared": shared_and_nested,
    "normalised": normalised,
    **{dtype: policy(dtype) for dtype in ("float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")},
}


def randomised(model):
    rng = np.random.default_rng(5)
    model.set_weights([np.abs(rng.normal(size=weight.shape)).astype(weight.dtype) for weight in model.get_weights()])
    return model


@pytest.mark.filterwarnings("ignore::refgrad.RefgradWarning", "ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_live_model_is_what_its_file_is(keras, name, suffix, tmp_path):
    model = randomised(MODELS[name](keras))
    if suffix == ".h5" and "bfloat16" in name and not name.startswith("mixed"):
        return  # h5py has no type for it
    model.save(tmp_path / f"model{suffix}")
    net = refgrad.from_keras(model)
    assert net.digest == refgrad.load(tmp_path / f"model{suffix}").digest
    origin = net.graph.provenance
    assert (origin.keras, origin.writer) == (3 if keras.__name__ == "keras" else 2, keras.__version__)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["branches", "layers", "mixed"])
def test_a_loaded_golden_model_is_what_its_file_is(writer, name):
    pytest.importorskip("tensorflow")
    path = GOLDEN / f"{name}-{writer}.keras"
    model = importlib.import_module(KERASES[writer]).models.load_model(path, compile=False)
    assert refgrad.from_keras(model).digest == refgrad.load(path).digest


def test_a_live_model_does_not_follow_what_happens_to_it(keras):
    model = randomised(normalised(keras))
    net = refgrad.from_keras(model)
    before = net([1.0, 2, 3])
    model.set_weights([weight * 0 + 1 for weight in model.get_weights()])
    np.testing.assert_array_equal(net([1.0, 2, 3]), before)


def test_a_live_model_is_audited_as_it_stands(keras):
    model = randomised(shared_and_nested(keras))
    net = refgrad.from_keras(model)
    xs = [np.random.default_rng(k).normal(size=(20, 4)) for k in range(2)]
    assert refgrad.audit(net, xs, model=model).passed
    with pytest.raises(refgrad.InputError, match="needs model="):
        refgrad.audit(net, xs)


def test_weights_that_no_layer_has_are_refused(keras):
    class Scaled(keras.Model):
        def __init__(self, *ends, **others):
            super().__init__(*ends, **others)
            self.scale = self.add_weight(shape=(1,), initializer="ones", name="scale")

    x = keras.Input((3,))
    model = Scaled(x, keras.layers.Dense(2)(x))
    with pytest.raises(refgrad.UnsupportedError, match="weights of its own beside those of its layers"):
        refgrad.from_keras(model)


def test_what_is_no_built_model_of_layers_is_refused(keras):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    own = Own()
    own(np.zeros((1, 3)))
    with pytest.raises(refgrad.UnsupportedError, match="rebuild it as"):
        refgrad.from_keras(own)
    with pytest.raises(refgrad.UnsupportedError, match=r"not built yet.*call it once"):
        refgrad.from_keras(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(refgrad.UnsupportedError, match=r"layer 'l' \(Lambda\)"):
        refgrad.from_keras(keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: 2 * x, name="l")]))
    for other in (keras.layers.Dense(2), "model.keras", None):
        with pytest.raises(refgrad.InputError, match="takes a Keras model, not"):
            refgrad.from_keras(other)
