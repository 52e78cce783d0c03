"""Files by older Kerases themselves: `scripts/make_golden_writers.py` had each of them write its own."""

from __future__ import annotations

import io
import json
import zipfile

import h5py
import numpy as np
import pytest

import refgrad
from scripts.make_golden_writers import NETWORKS, OLDER, REQUIRED
from tests.cases import CONTAINERS, GOLDEN

ARCHIVES = {path.stem: path for path in sorted((GOLDEN / "writers").glob("*.zip"))}


def files(writer):
    """Everything that a writer left, by name."""
    with zipfile.ZipFile(ARCHIVES[writer]) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


ABOUT = {writer: json.loads(files(writer)["about.json"]) for writer in ARCHIVES}
CASES = [
    (writer, network, container)
    for writer in ARCHIVES
    for network in NETWORKS
    for container, (suffix, others) in CONTAINERS.items()
    if {f"{network}{part}" for part in (suffix, *others.values())} <= set(files(writer))
]


def loaded(writer, network, container):
    suffix, others = CONTAINERS[container]
    held = files(writer)
    return refgrad.load(held[f"{network}{suffix}"], **{key: held[f"{network}{part}"] for key, part in others.items()})


def test_all_writers_are_there():
    assert set(ARCHIVES) == {*REQUIRED, *OLDER}
    new = len(REQUIRED) * len(NETWORKS) * len(CONTAINERS)
    # Keras 3.0 fails to write the legacy layout of a model whose nested models hold arrays of one name.
    assert {writer: list(about["cannot write"]) for writer, about in ABOUT.items() if about["cannot write"]} == {
        "keras-3.0": ["branches.h5", "branches.legacy_weights.h5"]
    }
    assert len(CASES) == new - 3 + len(OLDER) * len(NETWORKS) * 3


@pytest.mark.parametrize(("writer", "network", "container"), CASES)
def test_what_each_writer_wrote_gives_what_it_said(writer, network, container):
    """Values and Jacobians of every output by every input, in both precisions."""
    net = loaded(writer, network, container)
    assert net.dtype == np.float32
    assert net.graph.provenance.keras == int(ABOUT[writer]["keras"][0])
    # Keras 3 writes no version into its JSON or its .weights.h5
    expected = None if "weights.h5" in container and writer.startswith("keras") else ABOUT[writer]["keras"]
    assert net.graph.provenance.writer == expected
    truth = np.load(io.BytesIO(files(writer)[f"{network}.npz"]))
    for dtype, bits, relative in (("float32", "32", 2e-6), ("float64", "64", 1e-13)):
        x = {name: truth[f"x_{j}"].astype(dtype) for j, name in enumerate(net.input_names)}
        y, jacobian = net.astype(dtype).value_and_jacobian(
            x, outputs=list(net.output_names), inputs=list(net.input_names)
        )
        pairs = [(y[o], truth[f"y{bits}_{i}"]) for i, o in enumerate(net.output_names)]
        pairs += [
            (jacobian[o][name], truth[f"j{bits}_{i}_{j}"])
            for i, o in enumerate(net.output_names)
            for j, name in enumerate(net.input_names)
        ]
        assert len(pairs) == sum(key[1:3] == bits for key in truth.files)
        for mine, theirs in pairs:
            assert mine.dtype == theirs.dtype == np.dtype(dtype)
            assert mine.shape == theirs.shape
            assert np.abs(mine - theirs).max() <= relative * np.abs(theirs).max()


def spellings(writer):
    """What tells a writer's `.keras` from the others'."""
    with zipfile.ZipFile(io.BytesIO(files(writer)["chain.keras"])) as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    with zipfile.ZipFile(io.BytesIO(files(writer)["kinds.keras"])) as archive:
        config = archive.read("config.json").decode()
    groups = next(weights[name] for name in weights if name != "vars")
    return {
        "layers under another name": "layers" not in weights,
        "groups whose numbers skip": "dense_1" not in groups,
        "names beside numbers": "name" in groups["dense/vars"].attrs,
        "parameters in NumPy": "__numpy__" in config,
        "modules": '"module": "keras' in config,
    }


def test_the_writers_spell_differently():
    """What these files are for: were one of these columns all alike, its rule would be untested."""
    found = {writer: "".join("-x"[said] for said in spellings(writer).values()) for writer in REQUIRED}
    assert found == {
        "tf-2.12": "xx-xx",
        "tf-2.13": "xx--x",
        "tf-2.14": "x---x",
        "tf-2.15": "----x",
        "keras-3.0": "----x",
        "keras-3.3": "----x",
        "keras-3.6": "--x-x",
        "keras-3.10": "--x-x",
    }
