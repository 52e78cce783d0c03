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


# Weights of equal shapes in the wrong places: names in the file say so, and nothing may be read wrongly.


def swapped_names(file):
    """Two layers of one shape under each other's names in the list of layers: as the file says it, only wrong order."""
    names = [*file.attrs["layer_names"]]
    one, other = names.index("dense_3"), names.index("dense_10")
    names[one], names[other] = names[other], names[one]
    file.attrs["layer_names"] = names


def without(file):
    del file["dense_10"]
    file.attrs["layer_names"] = [name for name in file.attrs["layer_names"] if name != "dense_10"]


def renamed(file):
    file.move("dense_10", "dense_9")
    file.attrs["layer_names"] = [name.replace("dense_10", "dense_9") for name in file.attrs["layer_names"]]


def twice(file):
    file.attrs["layer_names"] = [name.replace("dense_10", "dense_3") for name in file.attrs["layer_names"]]


WRONG = {
    "missing": (without, "without weights 'dense_10'"),
    "of another name": (renamed, "without weights 'dense_10'; weights without a layer 'dense_9'"),
    "one twice": (twice, "two layers named 'dense_3'"),
}


def edited(edit, tmp_path, content):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("writer", ["keras-2.6", "tf-2.15", "keras-3.10"])
def test_weights_of_equal_shapes_are_not_taken_for_each_other(name, writer, tmp_path):
    edit, message = WRONG[name]
    held = files(writer)
    path = edited(edit, tmp_path, held["chain.legacy_weights.h5"])
    with pytest.raises(refgrad.MismatchError, match=message):
        refgrad.load(held["chain.json"], weights=path)


@pytest.mark.parametrize("writer", ["keras-2.6", "tf-2.15", "keras-3.10"])
def test_permuted_weights_are_found_by_name(writer, tmp_path):
    held = files(writer)
    path = edited(swapped_names, tmp_path, held["chain.legacy_weights.h5"])
    found = refgrad.load(held["chain.json"], weights=path)
    assert found.digest == loaded(writer, "chain", "json+legacy weights").digest


def exchanged(file):
    """The arrays of two groups of one shape, with the names they belong to: numbers say another thing then."""
    file.move("layers/dense_3", "kept")
    file.move("layers/dense_10", "layers/dense_3")
    file.move("kept", "layers/dense_10")


@pytest.mark.parametrize("writer", ["keras-3.6", "keras-3.10"])
def test_groups_whose_names_and_numbers_disagree_are_refused(writer, tmp_path):
    held = files(writer)
    path = edited(exchanged, tmp_path, held["chain.weights.h5"])
    with pytest.raises(refgrad.MismatchError, match=r"its name leads to group 'dense_(3|10)', its number does not"):
        refgrad.load(held["chain.json"], weights=path)


@pytest.mark.parametrize("writer", ["tf-2.12", "tf-2.15", "keras-3.0", "keras-3.10"])
def test_a_numbered_group_too_few_is_refused(writer, tmp_path):
    """Where there are no names, the ones behind it would all move up by one, at equal shapes."""

    def shorter(file):
        layers = next(file[name] for name in file if name != "vars")
        del layers["dense_6"]

    held = files(writer)
    with pytest.raises(refgrad.MismatchError, match=r"14 Dense layers, the weights have 13|without weights"):
        refgrad.load(held["chain.json"], weights=edited(shorter, tmp_path, held["chain.weights.h5"]))


COLUMNS = (".keras", ".h5", ".weights.h5", ".legacy_weights.h5")


def table():
    """The page's table, of what lies in the repository."""
    versions = json.loads((GOLDEN / "golden.json").read_text())
    today = f"TensorFlow {versions['tensorflow']}"
    rows = {("Keras", tuple(map(int, versions["keras3"].split(".")))): ("xxxx", f"own files; {today}")}
    rows["tf_keras", tuple(map(int, versions["tf_keras"].split(".")))] = ("xxxx", f"own files; {today}")
    for writer, about in ABOUT.items():
        held = {name.removeprefix("branches") for name in files(writer) if name.startswith("branches")}
        others = {name.removeprefix("chain") for name in files(writer) if name.startswith("chain")}
        marks = "".join("x" if c in held else "o" if c in others else "-" for c in COLUMNS)
        library, number = about["derivatives"].split()
        named = {"tensorflow": "TensorFlow", "jax": "JAX"}[library]
        rows["Keras", tuple(map(int, about["keras"].split(".")))] = (
            marks,
            f"own files; its values by {named} {number}",
        )
    words = {"x": "yes", "o": "yes; it cannot write some nested models", "-": "not yet there"}
    return [
        f"| {name} {'.'.join(map(str, version))} | {' | '.join(words[mark] for mark in marks)} | {evidence} |"
        for (name, version), (marks, evidence) in sorted(rows.items())
    ]


def test_the_page_says_which_writers_are_covered():
    """Rows of the page that are of own files are those that lie here: make one, and write it down."""
    page = (GOLDEN.parents[1] / "docs" / "writers.md").read_text().splitlines()
    assert [line for line in page if "own files" in line and line.startswith("|")] == table()
