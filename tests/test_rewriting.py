"""What is noted of a file that was read as something else than it says."""

from __future__ import annotations

import json

import pytest

import refgrad
from refgrad.graph import Rewriting
from tests import test_keras_old as old
from tests.cases import GOLDEN
from tests.test_keras_graphs import X, built, entry, functional, inside, one, source


def rewritings(path, **others):
    return refgrad.load(path, **others).graph.provenance.rewritings


@pytest.fixture(scope="module")
def of_base(tmp_path_factory):
    return rewritings(old.written(old.changed(), tmp_path_factory.mktemp("base") / "model.h5"))


NOTED = {
    "a bare list": ("models", "the Sequential is a bare list of layers, as Keras wrote it up to 2.2.2", ""),
    "Keras 1": ("keys of other versions", "output_dim is units", "dense_1"),
    "Keras 1, names of Theano": ("names of weights", "…_W is kernel", "dense_1"),
    "roles met before": ("names of weights", "kernel_2 is kernel", "dense_1"),
    "names of variables": ("names of weights", "arrays called Variable are kernel and bias by their ranks", "dense_1"),
    "build_input_shape": ("input shapes", "[None, 3] from build_input_shape", "dense_1"),
    "no shape at all": ("input shapes", "(3,) as the first weights tell", "input"),
    "config encoded twice": ("containers", "the config is JSON encoded twice", ""),
}


@pytest.mark.parametrize("name", old.SAME)
def test_spellings_that_were_changed_are_noted_and_no_others(name, of_base, tmp_path):
    found = rewritings(old.written(old.changed(*old.SAME[name]), tmp_path / "model.h5"))
    assert len(set(found)) == len(found)
    assert not any(before == after for before, _, after in (it.what.partition(" is ") for it in found))
    if name in NOTED:
        rule, what, where = NOTED[name]
        assert Rewriting(rule, where, what) in found
        assert Rewriting(rule, where, what) not in of_base
    elif name in ("names as text", "names in pieces", "more groups", "input_dim", "a policy", "2.4.3-tf"):
        assert found == of_base


LAYERS = {
    "distributed": (
        {"class_name": "TimeDistributed", "layer": inside("Flatten", "inner")},
        ("layers around others", "TimeDistributed of Flatten: the layer on one axis more"),
    ),
    "dropout": (
        {"class_name": "Dropout", "rate": 0.5},
        ("layers that do nothing at inference", "Dropout hands on its input"),
    ),
    "float32": (
        {"class_name": "LeakyReLU", "negative_slope": 0.1},
        ("parameters as Keras computes with them", "negative_slope=0.1 is 0.10000000149011612"),
    ),
    "an alias": (
        {"class_name": "Activation", "activation": "swish"},
        ("names of activations", "swish of Keras 3 is silu"),
    ),
    "several ops": (
        {"class_name": "UpSampling1D", "size": 2},
        ("layers of several ops", "UpSampling1D is reshape, repeat, reshape, permute, reshape"),
    ),
    "merge": (
        {"class_name": "Merge", "mode": "sum"},
        ("layers of other versions", "Merge of mode sum is Add"),
    ),
    "nothing": ({"class_name": "Activation", "activation": "tanh"}, None),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_become_something_else_are_noted(name, tmp_path):
    config, expected = LAYERS[name]
    config = dict(config)
    model = functional(
        [source("x", 2, 3), entry(config.pop("class_name"), "a", [X], **config)], [list(X)], [["a", 0, 0]]
    )
    found = built(model, tmp_path).provenance.rewritings
    assert found == (() if expected is None else (Rewriting(expected[0], "a", expected[1]),))


def test_nothing_is_noted_of_a_file_of_today():
    assert rewritings(GOLDEN / "question-keras3.keras") == ()


def test_what_one_file_noted_is_not_anothers(tmp_path):
    noisy = one("Dropout", rate=0.5)
    assert built(noisy, tmp_path).provenance.rewritings
    assert built(one("Flatten"), tmp_path).provenance.rewritings == ()
    with pytest.raises(refgrad.RefgradError):
        built(one("Conv1D"), tmp_path)
    assert built(one("Activation", activation="tanh"), tmp_path).provenance.rewritings == ()


def test_inspect_shows_them_once_with_their_layers(tmp_path, capsys):
    from refgrad.cli import main

    layers = [source("x")]
    for index in range(5):
        layers.append(entry("Dropout", f"d{index}", [(layers[-1]["name"], 0, 0)], rate=0.5))
    built(functional(layers, [list(X)], [["d4", 0, 0]]), tmp_path)
    arguments = ["inspect", str(tmp_path / "model.json"), "--weights", str(tmp_path / "none.weights.h5")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert (
        "rewritten:\n  layers that do nothing at inference: Dropout hands on its input (d0, d1, d2 and 2 more)" in said
    )
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rewritings"]
    assert [one["where"] for one in found] == [f"d{index}" for index in range(5)]
    assert found[0].keys() == {"rule", "where", "what"}
