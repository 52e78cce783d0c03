"""Real files by other people: each is read exactly, or refused in one line."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import refgrad
from refgrad.network import answer

MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
INDEX = json.loads((MODELS / "INDEX.json").read_text()) if MODELS.is_dir() else []
CUSTOM = {"k213_mlgw_amp21"}
"""Models of a class of their author's, which is said when they are read."""

REFUSED = {
    "k20_keon_cartpole_dqn": "holds weights only; pass the model's JSON",
    "u_cnn_k11": r"layer 'convolution2d_1' \(Convolution2D\): .*it convolves; save",
    "u_lambda_seq_k20": r"layer 'lambda_1' \(Lambda\): .*Python code, which is never run; write it",
    "u_mydense_k211": r"layer 'my_dense' \(MyDense\): this layer class is not supported; these are",
    "u_customact_k211": r"layer 'dense_1' \(Dense\): activation: the activation 'my_softplus' is not supported",
}
"""Models that cannot be read, and why."""

pytestmark = pytest.mark.skipif(not INDEX, reason="../shared/models is not here")


def load(entry):
    warns = pytest.warns(refgrad.RefgradWarning, match="custom class") if entry["id"] in CUSTOM else nullcontext()
    with warns:
        if entry["config_file"] is None:
            return refgrad.load(MODELS / entry["file"])
        return refgrad.load(MODELS / entry["config_file"], weights=MODELS / entry["file"])


def expected(reference, kind, outputs, inputs):
    """Arrays by output, or by output and input, which are numbered in the reference where there are several."""
    several = outputs > 1 or inputs > 1
    if kind.startswith("y"):
        return [reference[f"{kind}_{o}" if several else kind] for o in range(outputs)]
    return [reference[f"{kind}_{o}_{i}" if several else kind] for o in range(outputs) for i in range(inputs)]


@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["id"])
def test_each_is_read_exactly_or_refused(entry):
    assert (entry["id"] in REFUSED) == (entry["kind"] != "supported")
    if entry["id"] in REFUSED:
        with pytest.raises(refgrad.RefgradError, match=REFUSED[entry["id"]]) as caught:
            load(entry)
        assert str(caught.value).startswith(str(MODELS))
        assert "\n" not in str(caught.value)
        return
    net = load(entry)
    outputs, inputs = len(net.output_names), len(net.input_names)
    with np.load(MODELS / entry["ref"]) as reference:
        xs = [reference[f"x_{i}"] for i in range(inputs)] if inputs > 1 else [reference["x"]]
        for dtype, bits, relative in (("float32", "32", 1e-5), ("float64", "64", 1e-9)):
            ours = answer(net.astype(dtype), [x.astype(dtype) for x in xs])
            blocks = [block for row in ours.jacobians for block in row]
            for mine, kind in ((ours.values, "y"), (blocks, "j")):
                for one, theirs in zip(mine, expected(reference, kind + bits, outputs, inputs), strict=True):
                    assert np.abs(one - theirs).max() <= relative * np.abs(theirs).max()


def test_the_models_that_are_refused_are_all_there():
    assert {entry["id"] for entry in INDEX} >= CUSTOM | set(REFUSED)


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("entry", [e for e in INDEX if e["id"] not in REFUSED], ids=lambda entry: entry["id"])
def test_what_is_written_of_each_opens_in_current_keras_with_the_same_values(entry, suffix, tmp_path):
    keras = pytest.importorskip("keras")
    net, path = load(entry), tmp_path / f"new{suffix}"
    refgrad.to_keras(net, path)
    model = keras.models.load_model(path, compile=False)
    assert [tensor.name for tensor in model.inputs] == list(net.input_names)
    assert model.output_names == list(net.output_names)
    several = len(net.input_names) > 1
    with np.load(MODELS / entry["ref"]) as reference:
        xs = [reference[f"x_{i}"] for i in range(len(net.input_names))] if several else [reference["x"]]
        truths = expected(reference, "y64", len(net.output_names), len(net.input_names))
    xs = [x.astype(net.dtype) for x in xs]
    given = model(xs if several else xs[0], training=False)
    for y, truth in zip(given if isinstance(given, list) else [given], truths, strict=True):
        error = np.abs(np.asarray(y) - truth).max() / np.abs(truth).max()
        print(f"{entry['id']}{suffix}: {error:.1e}")
        assert error <= (1e-5 if net.dtype == np.float32 else 1e-9)
