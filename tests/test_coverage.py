"""Coverage: units whose sides are known by construction, and inputs that reach what normal ones do not."""

from __future__ import annotations

import numpy as np
import pytest

import refgrad
from refgrad.auditing.coverage import chosen, coverage
from refgrad.cli import main

ONES = np.ones((4, 1))


def planted():
    """relu of x, −x, x − 100 and x + 100: at |x| ≤ 2 both, both, never on, always on."""
    kernel, bias = np.array([[1.0, -1.0, 1.0, 1.0]]), np.array([0.0, 0.0, -100.0, 100.0])
    return refgrad.Network.sequential([(kernel, bias, "relu"), (ONES, None, "linear")])


def test_units_are_counted_by_side():
    found = coverage(planted(), [np.linspace(-2, 2, 10)[:, None]])
    (layer,) = found.layers
    assert (layer.units, layer.on, layer.off, layer.both) == (4, 3, 3, 2)
    assert (layer.near, layer.dead) == (0, 1)
    assert layer.weights == 2  # the dead unit's weight and its bias
    assert "2 of 4 units" in found.summary()
    assert coverage(planted(), [np.array([[0.0]])]).layers[0].near == 2


def test_weights_behind_dead_units_can_be_anything():
    net, x = planted(), np.linspace(-2, 2, 10)[:, None]
    other = refgrad.Network.sequential(
        [(np.array([[1.0, -1.0, 7.0, 1.0]]), np.array([0.0, 0.0, -50.0, 100.0]), "relu"), (ONES, None, "linear")]
    )
    np.testing.assert_array_equal(net.jacobian(x), other.jacobian(x))


def test_a_leaking_unit_is_never_dead():
    net = refgrad.Network.sequential([(np.eye(1), np.array([-100.0]), "leaky_relu"), (np.eye(1), None, "linear")])
    (layer,) = coverage(net, [np.linspace(-2, 2, 10)[:, None]]).layers
    assert (layer.on, layer.off, layer.dead, layer.weights) == (0, 1, 0, 0)


def test_a_smooth_network_has_nothing_to_cover():
    net = refgrad.Network.sequential([(np.eye(1), None, "tanh")])
    found = coverage(net, [np.zeros((3, 1))])
    assert (found.units, found.summary()) == (0, "no unit has a kink")


def test_pieces_give_what_the_whole_gives(monkeypatch):
    x = [np.linspace(-2, 2, 10)[:, None]]
    whole = coverage(planted(), x)
    monkeypatch.setattr("refgrad.auditing.coverage.MAX_BYTES", 1)
    assert coverage(planted(), x) == whole


def test_chosen_inputs_turn_on_what_normal_ones_do_not():
    net = planted()
    x = chosen(net, 40, 3)
    assert x[0].shape == (40, 1)
    assert coverage(net, x).dead == 0
    assert coverage(net, [np.random.default_rng(3).normal(size=(40, 1))]).dead == 1
    np.testing.assert_array_equal(chosen(net, 40, 3)[0], x[0])
    assert (chosen(net, 40, 4)[0] != x[0]).any()


def test_the_command_takes_auto(tmp_path, monkeypatch, capsys):
    refgrad.save(planted(), tmp_path / "net.npz")
    asked, msg = [], "seen"

    def spy(net, x, *_, **__):
        asked.append(x)
        raise refgrad.InputError(msg)

    monkeypatch.setattr("refgrad.cli.audit.compare", spy)
    assert main(["audit", str(tmp_path / "net.npz"), "--samples", "auto", "--seed", "3"]) == 2
    (x,) = asked[0].values()
    np.testing.assert_array_equal(x, chosen(planted(), 1000, 3)[0])
    with pytest.raises(SystemExit):
        main(["audit", "net.npz", "--samples", "automatic"])
