"""The self-verifying file: what goes in comes out, and what was altered does not."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import zipfile
from contextlib import suppress

import numpy as np
import pytest

import refgrad
from refgrad import artifact
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.ops import Dot, Partial, Repeat, Source
from refgrad.outfile import replacing
from tests.cases import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_saved_network_comes_back_the_same(case, tmp_path):
    path = tmp_path / "net.npz"
    refgrad.save(case.net, path)
    again = refgrad.load(path)
    assert again.digest == case.net.digest
    assert again.dtype == case.net.dtype
    for part, other in zip(again.value_and_jacobian(case.x), case.net.value_and_jacobian(case.x), strict=True):
        np.testing.assert_array_equal(part, other)
    origin, before = again.graph.provenance, case.net.graph.provenance
    assert (origin.keras, origin.writer, origin.container) == (before.keras, before.writer, before.container)


@pytest.fixture
def path(tmp_path):
    refgrad.save(CASES[0].net, tmp_path / "net.npz", golden=3)
    return tmp_path / "net.npz"


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, changed, compression=zipfile.ZIP_STORED, sealed=True):
    """Change members, and unless told otherwise seal the file anew, as its format is documented."""
    found = {name: content for name, content in (members(path) | changed).items() if content is not None}
    with suppress(ValueError, TypeError, AttributeError, RecursionError):
        header = json.loads(found["refgrad.json"])
        header.pop("content", None)
        sha = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        for name in sorted(found.keys() - {"refgrad.json"}):
            sha.update(name.encode() + b"\0" + found[name])
        if sealed:
            found["refgrad.json"] = json.dumps(header | {"content": sha.hexdigest()}).encode()
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in found.items():
            archive.writestr(name, content)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_the_same_network_gives_the_same_bytes(path, tmp_path):
    other = tmp_path / "other.npz"
    refgrad.save(CASES[0].net, other, golden=3)
    assert other.read_bytes() == path.read_bytes()
    refgrad.save(refgrad.load(path), other, golden=3)
    assert other.read_bytes() == path.read_bytes()


def test_numpy_alone_can_read_the_arrays(path):
    with np.load(path) as loaded:
        header = json.loads(loaded["refgrad.json"])
        assert header["digest"] == CASES[0].net.digest
        np.testing.assert_array_equal(loaded["op1/kernel"], CASES[0].net.graph.nodes[1].op.kernel)
        assert len(loaded["golden/x/0"]) == 3


@pytest.mark.parametrize(
    ("golden", "samples"),
    [(None, 16), (5, 5), (np.zeros((4, 1)), 4), (np.float32([0.5]), 1), ([0.5, 1.0], 2), (0.5, 1), (np.int64(4), 4)],
)
def test_golden_samples_are_what_was_asked_for(golden, samples, tmp_path):
    refgrad.save(CASES[0].net, tmp_path / "net.npz", golden)
    with np.load(tmp_path / "net.npz") as loaded:
        assert loaded["golden/x/0"].shape == (samples, 1)
        np.testing.assert_array_equal(loaded["golden/y/0"], CASES[0].net(loaded["golden/x/0"], engine="numpy"))


@pytest.mark.parametrize("golden", [0, -1, "many", np.ones((2, 7)), True, np.ones((0, 1))])
def test_golden_samples_that_are_refused(golden, tmp_path):
    with pytest.raises(refgrad.InputError):
        refgrad.save(CASES[0].net, tmp_path / "net.npz", golden)
    assert not list(tmp_path.iterdir())


def test_a_changed_weight_is_found_by_the_digest(path):
    kernel = CASES[0].net.graph.nodes[1].op.kernel.copy()
    kernel[0, 3] = np.nextafter(kernel[0, 3], 1)
    rewrite(path, {"op1/kernel.npy": npy(kernel)}, sealed=False)
    with pytest.raises(refgrad.VerificationError, match=r"net.npz: its content has the digest .* it was altered"):
        refgrad.load(path)
    assert refgrad.load(path, verify=False).digest != CASES[0].net.digest


def test_a_weight_changed_by_one_who_can_seal_is_found_by_the_golden_samples(path):
    kernel = CASES[0].net.graph.nodes[3].op.kernel * np.float32(1.01)
    rewrite(path, {"op3/kernel.npy": npy(kernel)})
    with pytest.raises(refgrad.VerificationError, match=r"net.npz: golden sample \d is not reproduced"):
        refgrad.load(path)


@pytest.mark.parametrize("member", ["golden/y/0.npy", "golden/jacobian/0/0.npy"])
def test_golden_results_that_are_not_reproduced_are_refused(path, member):
    with np.load(path) as loaded:
        changed = loaded[member.removesuffix(".npy")] * np.float32(1.001)
    rewrite(path, {member: npy(changed)})
    with pytest.raises(refgrad.VerificationError, match="golden sample 0 is not reproduced"):
        refgrad.load(path)
    refgrad.load(path, verify=False)


def altered_header(path, **changes):
    header = json.loads(members(path)["refgrad.json"]) | changes
    return {"refgrad.json": json.dumps(header).encode()}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 2}, refgrad.UnsupportedError),
        ({"format": "other"}, refgrad.UnsupportedError),
        ({"ops": [{"op": "import", "config": {}, "arrays": []}]}, refgrad.UnsupportedError),
        ({"ops": [{"op": "affine", "config": {"x": 1}, "arrays": []}]}, refgrad.FormatError),
        (
            {"ops": [{"op": "elementwise", "config": {"activation": "exec", "parameters": []}, "arrays": []}]},
            refgrad.UnsupportedError,
        ),
        ({"nodes": [{"op": 99, "inputs": [], "name": "x"}]}, refgrad.FormatError),
        ({"nodes": 3}, refgrad.FormatError),
        ({"dtype": "object"}, refgrad.RefgradError),
        ({"dtype": "float16"}, refgrad.RefgradError),
        ({"inputs": [5000]}, refgrad.RefgradError),
        ({"outputs": ["a"]}, refgrad.RefgradError),
        ({"inputs": []}, refgrad.RefgradError),
        ({"keras": "three"}, refgrad.RefgradError),
        ({"outputs": [2.0]}, refgrad.FormatError),
        ({"ops": [{"op": "source", "config": [], "arrays": []}]}, refgrad.FormatError),
        ({"ops": [{"op": "affine", "config": [], "arrays": []}]}, refgrad.FormatError),
        ({"ops": [{"op": "layer_normalization", "config": {"epsilon": 10**400}, "arrays": []}]}, refgrad.RefgradError),
        (
            {"ops": [{"op": "elementwise", "config": {"activation": "celu", "parameters": [10**400]}, "arrays": []}]},
            refgrad.FormatError,
        ),
    ],
    ids=str,
)
def test_headers_that_are_refused(path, changes, error):
    rewrite(path, altered_header(path, **changes))
    with pytest.raises(refgrad.RefgradError, match=r"net\.npz: ") as caught:
        refgrad.load(path)
    assert isinstance(caught.value, error)


@pytest.mark.parametrize(
    "changed",
    [
        {"op1/kernel.npy": None},
        {"op1/kernel.npy": b""},
        {"op1/kernel.npy": b"\x93NUMPY\x01\x00"},
        {"op1/kernel.npy": npy(np.ones((1, 64), int))},
        {"op1/kernel.npy": npy(np.ones((1, 64), complex))},
        {"op1/kernel.npy": npy(np.array([{}], object))},
        {"op1/kernel.npy": npy(np.ones((3, 3)))},
        {"op1/kernel.npy": npy(np.ones((1, 64), "f4"))[:-4]},
        {"op1/kernel.npy": npy(np.ones((1, 64), "f4")).replace(b"(1, 64), }", b"(10**9,) }")},
        {"op1/kernel.npy": npy(np.ones((1, 64), "f4")).replace(b"(1, 64), }     ", b"(1, 64000000),}")},
        {"op1/kernel.npy": npy(np.asfortranarray(np.ones((8, 8), "f4")))},
        {"golden/x/0.npy": None},
        {"golden/x/0.npy": npy(np.ones((3, 5), "f4"))},
        {"golden/x/0.npy": npy(np.ones((), "f4"))},
        {"golden/x/0.npy": npy(np.ones(4, "f4"))},
        {"golden/y/0.npy": npy(np.ones((3, 5), "f4"))},
        {"golden/x/0.npy": npy(np.ones((0, 1), "f4")), "golden/y/0.npy": npy(np.ones((0, 1), "f4"))},
        {"refgrad.json": b"{}"},
        {"refgrad.json": b"{"},
        {"refgrad.json": b"[]"},
        {"refgrad.json": b"\xff\xfe"},
        {"refgrad.json": b"[" * 200_000},
    ],
    ids=str,
)
def test_damaged_members_are_refused(path, changed):
    rewrite(path, changed)
    with pytest.raises(refgrad.RefgradError, match=r"net\.npz: "):
        refgrad.load(path)


def test_without_golden_samples_there_is_nothing_to_verify_with(path):
    shapes = {"x/0": (0, 1), "y/0": (0, 1), "jacobian/0/0": (0, 1, 1)}
    rewrite(path, {f"golden/{name}.npy": npy(np.ones(shape, "f4")) for name, shape in shapes.items()})
    with pytest.raises(refgrad.VerificationError, match="no golden samples"):
        refgrad.load(path)


def test_compressed_members_are_refused(path):
    rewrite(path, {}, zipfile.ZIP_DEFLATED)
    with pytest.raises(refgrad.FormatError, match="compressed"):
        refgrad.load(path)


def test_features_are_whole_numbers(path):
    header = json.loads(members(path)["refgrad.json"])
    header["ops"][0]["config"]["features"] = [1.0]
    rewrite(path, {"refgrad.json": json.dumps(header).encode()})
    with pytest.raises(refgrad.FormatError, match="float"):
        refgrad.load(path)


def test_encrypted_members_are_refused(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(refgrad.UnsupportedError, match="encrypted"):
        refgrad.load(path)


def test_a_small_file_of_a_huge_network_is_refused_before_it_is_computed(tmp_path):
    def net(count):
        nodes = (Node(Source((1,)), (), "x"), Node(Repeat(count), (0,), "many"), Node(Dot((-2, -2)), (1, 1), "y"))
        return refgrad.Network(Graph(nodes, (0,), (2,), ("x",), ("y",), np.dtype("f8"), Provenance()))

    path = tmp_path / "net.npz"
    refgrad.save(net(5), path)
    assert refgrad.load(path).digest == net(5).digest
    rewrite(path, {"refgrad.json": members(path)["refgrad.json"].replace(b'"count": 5', b'"count": 99999999')})
    with pytest.raises(refgrad.LimitError, match=r"net\.npz: numbers of one sample .* 100,000,001 .*Limits\(verified="):
        refgrad.load(path)
    assert refgrad.load(path, verify=False).digest == net(99999999).digest


def test_every_truncation_is_refused(path):
    content = path.read_bytes()
    for length in range(0, len(content), 251):
        path.write_bytes(content[:length])
        with pytest.raises(refgrad.RefgradError, match=r"net\.npz: "):
            refgrad.load(path)


def test_an_artifact_takes_no_other_files(path):
    with pytest.raises(refgrad.InputError, match="whole"):
        refgrad.load(path, config="{}")


@pytest.mark.parametrize("target", ["missing/net.npz", "."])
def test_places_that_cannot_be_written_are_refused(tmp_path, target):
    with pytest.raises(refgrad.InputError):
        refgrad.save(CASES[0].net, tmp_path / target)
    assert not list(tmp_path.iterdir())


def test_a_link_is_followed_and_a_pipe_is_written_to(tmp_path):
    refgrad.save(CASES[0].net, tmp_path / "net.npz", golden=3)
    (tmp_path / "link.npz").symlink_to("real.npz")
    refgrad.save(CASES[0].net, tmp_path / "link.npz", golden=3)
    assert (tmp_path / "link.npz").is_symlink()
    assert (tmp_path / "real.npz").read_bytes() == (tmp_path / "net.npz").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with replacing(tmp_path / "pipe") as file:
        file.write(b"through")
    reader.join()
    assert read == [b"through"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(np.lib.format, "write_array", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        refgrad.save(CASES[0].net, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_network_of_very_many_arrays_comes_back(tmp_path):
    """More than a .keras may have members: here each array is one."""
    steps = [(f"n{k}", Partial("add", np.ones(1, "f4"), 1)) for k in range(1200)]
    net = refgrad.Network(chain((1,), steps, np.dtype("f4"), Provenance()))
    refgrad.save(net, tmp_path / "net.npz", golden=1)
    assert refgrad.load(tmp_path / "net.npz").digest == net.digest
    with pytest.raises(refgrad.LimitError, match=r"members of the zip: 1,204 .*Limits\(objects=…\)"):
        artifact.load(tmp_path / "net.npz", limits=refgrad.Limits(objects=1000))
