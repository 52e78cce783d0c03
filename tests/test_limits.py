"""What opening a file may cost: each limit is checked, and named by the refusal; the default lets real files pass."""

from __future__ import annotations

import gc
import io
import json
from dataclasses import fields

import h5py
import numpy as np
import pytest

import refgrad
from refgrad import artifact, isolation
from tests.cases import GOLDEN
from tests.test_keras_graphs import X, functional, source
from tests.test_keras_ops import T, of_3

MIXED = (GOLDEN / "mixed-keras3.keras", {})
PAIR = (GOLDEN / "mixed-keras3.json", {"weights": GOLDEN / "mixed-keras3.legacy_weights.h5"})
BRANCHES = (GOLDEN / "branches-keras3.keras", {})


def chunked():
    content = io.BytesIO(PAIR[1]["weights"].read_bytes())
    with h5py.File(content, "r+") as file:
        kernel = file["first/mixed/first/kernel"][()]
        del file["first/mixed/first/kernel"]
        file.create_dataset("first/mixed/first/kernel", data=kernel, chunks=(2, 3), compression="gzip")
    return PAIR[0], {"weights": content.getvalue()}


def nested():
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [relu("a")]}}
    outer = {"class_name": "Sequential", "config": {"name": "outer", "layers": [relu("b"), inner]}}
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("layers")
    return content.getvalue(), {"config": json.dumps(outer)}


def flipped():
    operation = of_3("Flip", T, axis=1)
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("layers")
    layers = [source("x", 3), source("y", 2), operation]
    return content.getvalue(), {"config": json.dumps(functional(layers, [list(X), ["y", 0, 0]], [["op", 0, 0]]))}


def relu(name):
    return {"class_name": "ReLU", "config": {"name": name, "batch_input_shape": [None, 3]}}


def saved():
    net, content = refgrad.load(MIXED[0]), io.BytesIO()
    from refgrad.artifact import _golden, _members_of, _write
    from refgrad.network import answer

    inputs = _golden(net, 2)
    _write(content, net, _members_of(inputs, answer(net, inputs, engine="numpy")))
    return content.getvalue(), {}


LOW = {
    "memory": (MIXED, 1000),
    "members": (MIXED, 2),
    "json_bytes": (MIXED, 1000),
    "json_values": (MIXED, 50),
    "json_levels": (MIXED, 4),
    "layers": (MIXED, 3),
    "name": (MIXED, 4),
    "models": (nested, 1),
    "calls": (MIXED, 3),
    "merged": (BRANCHES, 1),
    "tensor": (MIXED, 2),
    "picked": (flipped, 2),
    "objects": (PAIR, 5),
    "attribute": (PAIR, 50),
    "chunk": (chunked, 23),
    "verified": (saved, 5),
    "crossed": (saved, 5),
    "verifying": (saved, 1),
    "seconds": (MIXED, 1),
}


@pytest.mark.parametrize("name", [field.name for field in fields(refgrad.Limits)])
def test_each_limit_is_checked_and_named(name, monkeypatch):
    case, low = LOW[name]
    path, others = case() if callable(case) else case
    if name == "seconds":
        others = {**others, "isolate": True}
        monkeypatch.setattr(isolation, "_START", "import time; time.sleep(20)")
    else:
        refgrad.load(path, **others)
    if name == "verifying":
        monkeypatch.setattr(artifact, "_FREELY", 0)
    with pytest.raises(refgrad.LimitError, match=rf"pass limits=refgrad\.Limits\({name}=…\)"):
        refgrad.load(path, **others, limits=refgrad.Limits(**{name: low}))


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", np.int64(3)])
@pytest.mark.parametrize("name", ["memory", "layers"])
def test_limits_are_whole_numbers(name, value):
    with pytest.raises(refgrad.InputError, match=rf"Limits\({name}="):
        refgrad.Limits(**{name: value})


def test_limits_are_nothing_else():
    with pytest.raises(refgrad.InputError, match=r"a refgrad\.Limits is expected"):
        refgrad.load(MIXED[0], limits={"memory": 3})


def test_the_budget_is_four_times_the_weights_and_64_mib():
    assert refgrad.Limits().budget(1000).memory == 4000 + 64 * 2**20
    assert refgrad.Limits(memory=5).budget(1000).memory == 5


@pytest.mark.parametrize("collecting", [True, False])
def test_cycles_are_left_alone_while_a_file_is_read_and_no_longer(collecting, monkeypatch):
    seen = []
    read = artifact.recognises
    monkeypatch.setattr(artifact, "recognises", lambda *given: seen.append(gc.isenabled()) or read(*given))
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        refgrad.load(MIXED[0])
        with pytest.raises(refgrad.RefgradError):
            refgrad.load(b"{")
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False, False]
