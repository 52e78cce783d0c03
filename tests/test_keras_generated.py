"""Real Keras builds random architectures, saves them in three formats, and says what they compute: refgrad agrees.

The suite tries 50, half in each Keras; `pytest -m long` tries 500, drawn anew in every run. Hypothesis shrinks one that
fails, and prints it with what reproduces it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given

import refgrad
from refgrad.derivatives.margins import near_kinks
from refgrad.derivatives.products import linearize
from refgrad.rounding import deviations
from tests.architectures import DRAWN, MERGES, Model, Operation, architectures, built, inputs_of, settled
from tests.graphs import Example
from tests.test_properties import asked, everything, run, scale_of

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:You are using a softmax over axis"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    pytest.mark.filterwarnings("ignore:the model.s layers are declared in"),
]
LARGEST = 1e4
"""Examples whose slopes are larger are left out: what is compared is what was read, not what overflows first."""


def saved(keras, model, folder):
    """What `refgrad.load` is given for each format."""
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    (folder / "model.json").write_text(model.to_json())
    model.save_weights(folder / "model.weights.h5")
    ways = {
        ".keras": (("model.keras",), {}),
        ".h5": (("model.h5",), {}),
        "JSON and .weights.h5": (("model.json",), {"weights": "model.weights.h5"}),
    }
    if keras.__name__ == "tf_keras":
        model.save_weights(folder / "legacy.h5")
        ways["JSON and legacy weights"] = (("model.json",), {"weights": "legacy.h5"})
    return ways


def in_order(model, found):
    """A model's ends as a list, whatever they were in; those of a dict by its keys."""
    if isinstance(found, dict):
        return [found[key] for key in sorted(found)]
    return [*found] if isinstance(found, list | tuple) else [found]


def said(keras, tf, architecture, saved_model, xs):
    """Values and Jacobians by eager TensorFlow; of half precision in float32, as is documented."""
    dtype = "float64" if architecture.policy == "float64" else "float32"
    model = saved_model
    if architecture.policy != dtype:
        model = built(keras, architecture, dtype)
        model.set_weights([array.astype(dtype) for array in saved_model.get_weights()])
        settled(model)

    def called(points):
        if architecture.model.keys:
            return in_order(model, model({f"in{place}": point for place, point in enumerate(points)}))
        return in_order(model, model(points if len(points) > 1 else points[0]))

    return asked(tf, called, None, [x.astype(dtype) for x in xs])


def depth(model):
    return 1 + max((depth(call.layer) for call in model.calls if isinstance(call.layer, Model)), default=0)


def operations(model):
    for call in model.calls:
        if isinstance(call.layer, Model):
            yield from operations(call.layer)
        elif isinstance(call.layer, Operation):
            yield call.layer.name


def classes(model):
    for call in model.calls:
        if isinstance(call.layer, Model):
            yield from classes(call.layer)
        else:
            yield call.layer.name if isinstance(call.layer, Operation) else call.layer.class_name


def features(architecture):
    """What an architecture shows, for the count of what was tried."""
    model = architecture.model
    layers = [call.layer for call in model.calls]
    return {
        *classes(model),
        model.kind,
        architecture.policy,
        f"depth {depth(model)}",
        *(["shared layer"] if len({*layers}) < len(layers) else []),
        *(["several inputs"] if len(model.inputs) > 1 else []),
        *(["several outputs"] if len(model.outputs) > 1 else []),
        *(["dicts"] if model.keys else []),
        *(["operations"] if [*operations(model)] else []),
        *(["slices"] if "x[key]" in [*operations(model)] else []),
    }


def agrees(generation, count, fresh):
    """Tries so many architectures; what they showed."""
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip(generation)
    seen, judged = Counter(), []

    def check(architecture):
        model, xs = built(keras, architecture), inputs_of(architecture)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ways = saved(keras, model, folder)
            nets = {
                way: refgrad.load(folder / path, **{key: folder / other for key, other in others.items()})
                for way, ((path,), others) in ways.items()
            }
        net = nets[".keras"]
        x = {name: array.astype(net.dtype) for name, array in zip(net.input_names, xs, strict=True)}
        assert net.dtype == ("float64" if architecture.policy == "float64" else "float32") or not net.graph.parameters
        scale = scale_of(Example(net.graph, x, 0))
        assume(scale < LARGEST)
        with np.errstate(all="ignore"):
            point = linearize(net.graph, list(x.values()), "keras")
            away = ~near_kinks(point, deviations(net.graph, point.values)).near
        judged.extend(away)
        if architecture.model.keys:
            assert list(net.output_names) == sorted(f"out{place}" for place in range(len(architecture.model.outputs)))
        values, blocks = said(keras, tf, architecture, model, xs)
        relative = 1e-11 if net.dtype == np.float64 == values[0].dtype else 1e-4
        for way, other in nets.items():
            assert other.digest == net.digest, way
        y, jacobian = everything(net, x)
        assert len(y) == len(values)
        pairs = list(zip(y.values(), values, strict=True))
        for row, truths in zip(jacobian.values(), blocks, strict=True):
            pairs += zip(row.values(), truths, strict=True)
        for ours, theirs in pairs:
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours[away], theirs[away], rtol=0, atol=relative * scale)
        seen.update(features(architecture))

    check.__name__ = f"check_{generation}"
    run(given(architectures(keras))(check), count, fresh)
    assert np.mean(judged) >= 0.6
    return seen


@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_what_keras_writes_is_what_is_read(generation):
    seen = agrees(generation, 25, fresh=False)
    assert {"Dense", "Sequential", "Functional", "float64", "several inputs", "dicts", "depth 2", "operations"} <= set(
        seen
    )


@pytest.mark.long
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_much_of_what_keras_writes_is_what_is_read(generation):
    seen = agrees(generation, 250, fresh=True)
    wanted = {"Sequential", "Functional", "several inputs", "several outputs", "shared layer", "dicts", "depth 3"}
    wanted |= {"operations", "slices"}
    assert wanted | {"float64", "float32", "mixed_float16", "float16"} <= set(seen)
    assert len(({*DRAWN} | {*MERGES}) & set(seen)) >= 24
