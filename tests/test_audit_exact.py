"""The audit against the truth: what rounding does is excused by name, what it does not is found."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import refgrad
from refgrad.auditing import audit as room
from refgrad.graph import Graph, Node, Provenance
from refgrad.ops import Affine, Dot, Elementwise, Source, Subtract
from tests.cases import CASES, GOLDEN
from tests.test_exact import RELU

pytest.importorskip("flint")

STEP = 2.0**-12


def on_edge(slope=1.0):
    """relu(x (1 + s) − 1 − 2 s) for s = 2⁻¹²: at x = 1 + s the pre-activation is s², and 0 in float32."""
    layers = [
        (np.array([[1 + STEP]]), np.array([-1 - 2 * STEP]), "relu"),
        (np.array([[slope]]), None, "linear"),
    ]
    net = refgrad.Network.sequential(
        [(k.astype("float32"), b if b is None else b.astype("float32"), a) for k, b, a in layers]
    )
    x = np.concatenate([[1 + STEP], np.linspace(1.5, 2.5, 30)]).astype("float32")
    return net, x


@pytest.mark.parametrize("case", CASES, ids=str)
def test_right_networks_pass(case):
    report = refgrad.audit(case.net, case.x, "exact")
    assert report.passed, report.summary()
    assert set(report.counts) <= {"ok", "near_kink", "kink_flip", "discrepant_suspect"}
    assert "exact truth" in report.summary()


def test_a_flipped_unit_is_named():
    net, x = on_edge()
    report = refgrad.audit(net, x, "exact", engine="numpy")
    assert report.counts == {"ok": 30, "kink_flip": 1}
    assert report.passed
    row = report.samples[0]
    assert (row["verdict"], row["where"], row["tier"]) == ("kink_flip", "dy[0]/dx[0]", 2)
    assert (row["layer"], row["units"]) == ("dense_0/relu", "dense_0/relu[0]")
    assert row["error"] == 1 + STEP
    assert "kink_flip: rounding puts units on another side" in report.summary()
    truth = refgrad.exact.value_and_jacobian(net, x)
    assert refgrad.exact.flips(net, [x[:, None]], truth) == [("dense_0/relu[0]",), *[()] * 30]


def wrong(net, by):
    """The answers of a network, with Jacobians changed."""
    given = room.answer

    def answer(of, inputs, engine):
        found = given(of, inputs, engine)
        return replace(found, jacobians=tuple(tuple(by(block) for block in row) for row in found.jacobians))

    return answer


def test_what_is_wrong_is_found(monkeypatch):
    """Near one, too, where no choice of sides gives such a slope."""
    net, _ = on_edge()
    edge = np.float32(1 + STEP) - np.float32(2.0**-23)
    x = np.concatenate([[edge], np.linspace(1.5, 2.5, 30)]).astype("float32")
    assert refgrad.audit(net, x, "exact", engine="numpy").counts["ok"] == 31
    monkeypatch.setattr(
        room, "answer", wrong(net, lambda block: np.where(np.arange(len(block))[:, None, None] == 0, 5, block))
    )
    for engine in ("numpy", "auto"):
        assert refgrad.audit(net, x, "exact", engine=engine).samples["verdict"][0] == "discrepant_proved"
    monkeypatch.setattr(room, "answer", wrong(net, lambda block: -block))
    assert refgrad.audit(net, x[1:], "exact").counts["discrepant_proved"] == 30


def test_samples_near_a_kink_that_are_right_are_judged():
    net = refgrad.Network.sequential([(np.array([[1.0]]), None, "relu")])
    report = refgrad.audit(net, [0.0, 5e-324], "exact")
    assert report.counts == {"ok": 1, "clarke_element": 1}
    assert report.judged == 1
    assert not report.vacuous


def graph(nodes, output, inputs=1):
    names = tuple(f"x{i}" for i in range(inputs))
    return refgrad.Network(
        Graph(nodes, tuple(range(inputs)), (output,), names, ("y",), np.dtype("float64"), Provenance())
    )


def test_what_is_only_enclosed_is_held_to_its_enclosure(monkeypatch):
    """relu(tanh(x) − tanh(x′)) at x = x′: no precision tells on which side it is, both slopes are right."""
    tanh = Elementwise("tanh")
    nodes = (
        *(Node(Source((1,)), (), f"x{i}") for i in range(2)),
        Node(tanh, (0,), "a"),
        Node(tanh, (1,), "b"),
        Node(Subtract(), (2, 3), "c"),
        Node(RELU, (4,), "d"),
    )
    net = graph(nodes, 5, 2)
    x = {"x0": np.full(3, 0.5), "x1": np.full(3, 0.5)}
    assert refgrad.audit(net, x, "exact").counts["ok"] == 3
    monkeypatch.setattr(room, "answer", wrong(net, lambda block: block + 2))
    assert refgrad.audit(net, x, "exact").counts["ok"] == 0


def test_kinks_that_are_no_units_own_excuse_as_ever(monkeypatch):
    """A vector just as long as ε: nothing says on which side it is."""
    nodes = (*(Node(Source((2,)), (), f"x{i}") for i in range(2)), Node(Dot((-1, -1), True, 5.0), (0, 1), "dot"))
    net = graph(nodes, 2, 2)
    x = {"x0": np.array([[3.0, 4.0]]), "x1": np.array([[0.0, 8.0]])}
    monkeypatch.setattr(room, "answer", wrong(net, lambda block: block * 1.5))
    assert refgrad.audit(net, x, "exact", engine="numpy").counts["undecided"] == 1


def test_floats_that_overflow_have_no_flips():
    layers = [(np.array([[1e200, 1.0]]), None, "relu"), (np.diag([1e200, 1.0]), None, "relu")]
    net = refgrad.Network.sequential(layers)
    truth = refgrad.exact.value_and_jacobian(net, [1.0, -1.0])
    assert refgrad.exact.flips(net, [np.array([[1.0], [-1.0]])], truth) == [(), ()]


def test_affine_is_no_kink():
    net = graph((Node(Source((1,)), (), "x0"), Node(Affine(np.eye(1)), (0,), "a")), 1)
    assert refgrad.audit(net, [1.0, 2.0], "exact").counts["ok"] == 2


def test_the_command_asks_the_truth(capsys):
    assert refgrad_cli("audit", str(GOLDEN / "question-keras3.keras"), "--against", "exact", "--samples", "20") == 0
    assert "PASSED: refgrad against exact truth" in capsys.readouterr().out


def refgrad_cli(*arguments):
    from refgrad.cli import main

    return main(list(arguments))


def test_without_flint_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(refgrad.MissingExtraError, match=r"refgrad\[exact\]"):
        refgrad.audit(on_edge()[0], [1.0], "exact")
