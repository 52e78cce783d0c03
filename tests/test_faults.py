"""The usual suspects: each is what it says, and is named where it is; what none of them explains is not named."""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import refgrad
from refgrad.agreement import Answer, compare
from refgrad.auditing import localise
from refgrad.auditing.faults import FAULTS, REDUCED_PRECISION
from refgrad.auditing.faulty import Rounded, Shifted, after, at_output
from refgrad.auditing.localise import explain
from refgrad.auditing.misreadings import MISREADINGS
from refgrad.auditing.screening import in_double
from refgrad.auditing.verdicts import SAMPLE
from refgrad.derivatives.products import values
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.network import Network, answer
from refgrad.ops import Affine, BatchNormalization, Elementwise, Rescaling, Source
from tests import fault_study as study
from tests.cases import GOLDEN

GOLDEN_NETS = ("question", "mixed", "branches", "layers")
NEGATION = Rescaling(np.array(-1, "float32"), np.array(0, "float32"))
CASES = 4
"""How many graphs of each class of faults are tried, evenly taken from all there are."""


@cache
def golden(name):
    """A golden network and 64 normal inputs."""
    net = refgrad.load(GOLDEN / f"{name}-keras3.keras")
    rng = np.random.default_rng(0)
    return net, [rng.normal(size=(64, *shape)).astype(net.dtype) for shape in net.input_shapes]


def in_float64(graph, inputs):
    """Value and Jacobian as rows of numbers."""
    found = answer(Network(in_double(graph)), [x.astype(float) for x in inputs], engine="numpy")
    arrays = [*found.values, *(block for row in found.jacobians for block in row)]
    return [array.reshape(len(array), -1) for array in arrays]


def alike(one, other, inputs, bound=5e-5):
    """Whether two graphs are one function at these inputs, as far as float32 can tell."""
    pairs = zip(in_float64(one, inputs), in_float64(other, inputs), strict=True)
    return all(np.abs(a - b).max() <= bound * np.abs(a).max() for a, b in pairs)


def some(of, most):
    return [of[int(place)] for place in np.unique(np.linspace(0, len(of) - 1, most).astype(int))] if of else []


@pytest.mark.parametrize("name", GOLDEN_NETS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_where_it_is(fault, name):
    """Or another that is the same function there; one that changes nothing is not."""
    net, inputs = golden(name)
    every = dict(FAULTS[fault](net.graph, inputs))
    for phrase in some(list(every), CASES):
        assert len(phrase) <= 80
        wrong = answer(Network(every[phrase]), inputs, engine="numpy")
        differs = np.flatnonzero(~compare(net.graph, inputs, answer(net, inputs), wrong).agrees)
        found = explain(net.graph, inputs, wrong, differs)
        if found is None:
            assert alike(net.graph, every[phrase], inputs), phrase
        elif found != phrase:
            assert fault != REDUCED_PRECISION
            named = {text: graph for other in FAULTS.values() for text, graph in other(net.graph, inputs)}
            assert alike(named[found], every[phrase], inputs), (phrase, found)


@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_a_right_answer_has_no_fault(name):
    net, inputs = golden(name)
    for engine in ("auto", "numpy"):
        assert explain(net.graph, inputs, answer(net, inputs, engine=engine), range(64)) is None


@pytest.mark.parametrize("name", GOLDEN_NETS)
@pytest.mark.parametrize("phrase", MISREADINGS)
def test_a_misreading_is_named(phrase, name):
    net, inputs = golden(name)
    wrong = MISREADINGS[phrase](answer(net, inputs))
    if wrong is None:
        return
    assert explain(net.graph, inputs, wrong, range(64)) == phrase


def test_what_no_suspect_explains_is_not_named():
    net, inputs = golden("branches")
    right, rng = answer(net, inputs), np.random.default_rng(1)
    noisy = tuple(tuple(block + 0.01 * rng.normal(size=block.shape) for block in row) for row in right.jacobians)
    assert explain(net.graph, inputs, replace(right, jacobians=noisy), range(64)) is None
    lost = tuple(np.full_like(y, np.nan) for y in right.values)
    assert explain(net.graph, inputs, replace(right, values=lost), range(64)) is None
    assert explain(net.graph, inputs, right, []) is None


def test_a_fault_has_to_explain_all_samples():
    """Half of the answer is of a network without a bias, the other half is right: no network is that."""
    net, inputs = golden("mixed")
    _, graph = next(FAULTS["dropped bias"](net.graph, inputs))
    wrong, right = answer(Network(graph), inputs, engine="numpy"), answer(net, inputs)
    assert explain(net.graph, inputs, wrong, range(32)) == "first has no bias"
    half = Answer(
        tuple(np.concatenate([a[:32], b[32:]]) for a, b in zip(wrong.values, right.values, strict=True)),
        tuple(
            tuple(np.concatenate([a[:32], b[32:]]) for a, b in zip(*rows, strict=True))
            for rows in zip(wrong.jacobians, right.jacobians, strict=True)
        ),
    )
    assert explain(net.graph, inputs, half, range(32)) is None


RNG = np.random.default_rng(7)
W, V = RNG.normal(size=(2, 4, 4))
B, C = RNG.normal(size=(2, 4))


def by_hand(x, w=W, b=B, v=V, c=C, f=np.tanh, df=lambda a: 1 - a**2):
    """y = f(x W + b) V + c and J = Vᵀ diag(f′) Wᵀ, written down."""
    a = f(x @ w + b)
    return a @ v + c, np.einsum("kj,bk,ik->bji", v, df(a), w)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


BY_HAND = {
    "dense_0 has no bias": lambda x: by_hand(x, b=0 * B),
    "dense_1 has no bias": lambda x: by_hand(x, c=0 * C),
    "the kernel of dense_0 is transposed": lambda x: by_hand(x, w=W.T),
    "the kernel of dense_1 has the other sign": lambda x: by_hand(x, v=-V),
    "dense_0/tanh is sigmoid, not tanh": lambda x: by_hand(x, f=sigmoid, df=lambda a: a * (1 - a)),
    "dense_0/tanh is relu, not tanh": lambda x: by_hand(x, f=lambda z: np.maximum(z, 0), df=lambda a: a > 0),
    "dense_0/tanh is missing": lambda x: by_hand(x, f=lambda z: z, df=np.ones_like),
    "dense_0/tanh is applied twice": lambda x: by_hand(
        x, f=lambda z: np.tanh(np.tanh(z)), df=lambda a: (1 - a**2) * (1 - np.arctanh(a) ** 2)
    ),
    "the units of dense_0 are reversed": lambda x: by_hand(x, v=V[::-1]),
    "input input is in reverse order": lambda x: by_hand(x, w=W[::-1]),
    "input input[1] and [3] are swapped": lambda x: by_hand(x, w=W[[0, 3, 2, 1]]),
    "output dense_1[0] and [2] are swapped": lambda x: by_hand(x, v=V[:, [2, 1, 0, 3]], c=C[[2, 1, 0, 3]]),
    "input input is divided by 255": lambda x: by_hand(x, w=W / 255),
    "input input is standardised": lambda x: by_hand(x, w=W / x.std(0)[:, None], b=B - x.mean(0) / x.std(0) @ W),
    "output dense_1 is doubled": lambda x: by_hand(x, v=2 * V, c=2 * C),
    "weight [2, 1] of dense_0 has the other sign": lambda x: by_hand(
        x, w=np.where(np.arange(16).reshape(4, 4) == 9, -W, W)
    ),
    "the slopes of dense_0/tanh are shifted by a unit": lambda x: by_hand(x, df=lambda a: np.roll(1 - a**2, 1, 1)),
    "the Jacobian is transposed": lambda x: (by_hand(x)[0], by_hand(x)[1].swapaxes(1, 2)),
    "the Jacobian's rows are reversed": lambda x: (by_hand(x)[0], by_hand(x)[1][:, ::-1]),
}


@pytest.mark.parametrize("phrase", BY_HAND)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fault_made_by_hand_is_named(phrase, dtype):
    net = refgrad.Network.sequential([(W, B, "tanh"), (V, C, "linear")]).astype(dtype)
    x = np.random.default_rng(2).normal(size=(50, 4)).astype(dtype)
    y, jacobian = BY_HAND[phrase](x.astype(float))
    if dtype == "float32":
        wide = refgrad.Network.sequential([(W, B, "tanh"), (V, C, "linear")])
        y, jacobian = y.astype(dtype), jacobian.astype(dtype)
        assert explain(wide.graph, [x.astype(float)], Answer((y,), ((jacobian,),)), range(50)) is None
    assert explain(net.graph, [x], Answer((y,), ((jacobian,),)), range(50)) == phrase


def normalised(epsilon):
    """y = x W / √(v + ε) as a graph, and by hand."""
    v = np.array([0.5, 1.0, 2.0, 0.1])
    op = BatchNormalization(np.zeros(4), v, epsilon=1e-3)
    graph = chain((4,), [("dense", Affine(W)), ("norm", op)], np.dtype("float32"), Provenance())
    kernel = W.astype("float32") / np.sqrt(v.astype("float32") + epsilon)
    x = np.random.default_rng(4).normal(size=(50, 4)).astype("float32")
    y, jacobian = x @ kernel, np.broadcast_to(kernel.T, (50, 4, 4))
    return graph, x, Answer((y.astype("float32"),), ((jacobian.astype("float32"),),))


def test_of_faults_that_nearly_explain_it_the_nearest_is_named():
    """In float32 ε = 1e-5 is hardly another network than ε = 1e-7, but it is."""
    for epsilon in (1e-2, 1e-5, 1e-7):
        graph, x, wrong = normalised(epsilon)
        assert explain(graph, [x], wrong, range(50)) == f"epsilon of norm is {epsilon:g}, not 0.001"


def test_training_mode_is_not_named_where_it_changes_nothing():
    """A network that has the moments of the batch already."""
    net, inputs = golden("branches")
    ((_, graph),) = FAULTS["training mode"](net.graph, inputs)
    right = answer(Network(graph), inputs, engine="numpy")
    noise = np.random.default_rng(1).normal(size=64)
    rows = tuple(tuple(block * (1 + 0.1 * noise[:, None, None]) for block in row) for row in right.jacobians)
    assert explain(graph, inputs, replace(right, jacobians=rows), range(64)) is None


def test_work_and_memory_are_bounded(monkeypatch):
    net, inputs = golden("branches")
    _, graph = next(FAULTS["dropped bias"](net.graph, inputs))
    wrong = answer(Network(graph), inputs, engine="numpy")
    asked = []
    measured = localise.jacobians
    monkeypatch.setattr(localise, "jacobians", lambda point: asked.append(len(point.values[0])) or measured(point))
    assert explain(net.graph, inputs, wrong, range(64)) == "dense_2 has no bias"
    assert max(asked) > 6
    asked.clear()
    monkeypatch.setattr(localise, "_NUMBERS", 2 * 5 * 7)
    assert explain(net.graph, inputs, wrong, range(64)) == "dense_2 has no bias"
    assert max(asked) <= 4
    monkeypatch.setattr(localise, "_WORK", 0)
    assert explain(net.graph, inputs, wrong, range(64)) is None


def test_features_beyond_a_few_are_not_swapped():
    net = Network.sequential([(np.ones((40, 33)), None, "tanh")])
    assert [phrase for phrase, _ in FAULTS["reordered features"](net.graph, [])] == [
        "input input is in reverse order",
        "output dense_0/tanh is in reverse order",
    ]


def rounded_by_bits(number, bits):
    """Round to nearest, ties to even, in the integer that a float32 is."""
    (word,) = struct.unpack("<I", struct.pack("<f", number))
    drop = 23 - bits
    word += (1 << (drop - 1)) - 1 + (word >> drop & 1)
    return struct.unpack("<f", struct.pack("<I", word >> drop << drop))[0]


@pytest.mark.parametrize("bits", [10, 7])
def test_reduced_precision_rounds_both_factors(bits):
    rng = np.random.default_rng(3)
    numbers = [*rng.normal(size=200), *(1 + k * 2.0 ** -(bits + 1) for k in range(8))]
    x, w = np.array(numbers, "float32"), np.array(numbers[::-1], "float32")
    exact = [rounded_by_bits(a, bits) * float(rounded_by_bits(b, bits)) for a, b in zip(x, w, strict=True)]
    expected = np.array(exact, "float32")
    for place, one in enumerate(x):
        op = Rounded(w[place : place + 1, None], None, bits)
        assert op.forward(one[None, None])[0, 0] == expected[place]
        assert op.jvp(None, one[None, None, None])[0, 0, 0] == expected[place]
        assert op.vjp(None, one[None, None, None])[0][0, 0, 0] == expected[place]


def test_shifted_slopes_are_those_of_the_unit_before():
    value, slope = Shifted("relu", (np.inf, 0.0, 0.0)).linearize(np.array([[1.0, -1.0, 2.0]]), kink="keras")
    np.testing.assert_array_equal(value, [[1, 0, 2]])
    np.testing.assert_array_equal(slope, [[1, 1, 0]])


@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_an_op_is_put_after_any_node(name):
    """The identity changes nothing anywhere; a negation negates that node's value for all that take it."""
    net, inputs = golden(name)
    right = values(net.graph, inputs)
    for index in range(len(net.graph.nodes)):
        found = values(after(net.graph, index, Elementwise("linear")), inputs)
        assert len(found) == len(right) + 1
        np.testing.assert_array_equal(found[-1], right[-1])
        changed = after(net.graph, index, NEGATION)
        spoiled = values(changed, inputs)
        np.testing.assert_array_equal(spoiled[index + 1], -right[index])
        users = [place for place, node in enumerate(net.graph.nodes) if index in node.inputs]
        assert [place for place, node in enumerate(changed.nodes) if index + 1 in node.inputs] == [u + 1 for u in users]
    for place, index in enumerate(net.graph.outputs):
        spoiled = at_output(net.graph, place, NEGATION)
        np.testing.assert_array_equal(values(spoiled, inputs)[spoiled.outputs[place]], -right[index])
        assert spoiled.nodes[:-1] == net.graph.nodes


def test_a_shared_layer_is_wrong_wherever_it_is():
    net, inputs = golden("branches")
    faulty = dict(FAULTS["dropped bias"](net.graph, inputs))
    ops = [node.op for node in faulty["shared has no bias"].nodes if node.name == "shared"]
    assert len(ops) == 2
    assert ops[0] is ops[1]
    assert ops[0].bias is None


def test_names_of_layers_do_not_outgrow_the_row():
    room = SAMPLE["fault"].itemsize // 4
    net, _ = golden("question")
    nodes = tuple(replace(node, name="block/" * 30 + node.name) for node in net.graph.nodes)
    ends = {"input_names": ("x" * 200,), "output_names": ("y" * 200,)}
    graph = replace(net.graph, nodes=nodes, **ends)
    inputs = [np.ones((2, 1), "float32")]
    phrases = [phrase for fault in FAULTS.values() for phrase, _ in fault(graph, inputs)]
    assert len(phrases) > 3000
    assert max(map(len, phrases)) <= room


def test_every_fault_leaves_shapes_and_dtype():
    for name in GOLDEN_NETS:
        net, inputs = golden(name)
        for fault in FAULTS.values():
            for _, graph in some(list(fault(net.graph, inputs)), CASES):
                faulty = Network(graph)
                assert (faulty.input_shapes, faulty.output_shapes) == (net.input_shapes, net.output_shapes)
                assert faulty.dtype == net.dtype


@pytest.mark.tensorflow
def test_a_model_in_training_mode_is_named():
    """Keras's own, whose Jacobian goes through the moments of the batch."""
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    from refgrad.auditing.frameworks.tensorflow_ops import differentiate

    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(6, "relu"), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    )
    net = refgrad.from_keras(model)
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    for training, expected in ((True, "BatchNormalization is in training mode"), (False, None)):
        given = differentiate(tf, lambda x, t=training: [model(x, training=t)], [x], "eager")
        assert explain(net.graph, [x], given, range(40)) == expected


def test_the_golden_networks_have_room_for_every_fault():
    nets = [golden(name) for name in GOLDEN_NETS]
    applied = {name for name, fault in FAULTS.items() for net, inputs in nets if any(fault(net.graph, inputs))}
    assert applied | {"exchanged ends"} == set(FAULTS)


def test_exchanged_ends_are_named():
    """y = x₀ W and z = tanh(x₁ V)."""
    nodes = (
        Node(Source((4,)), (), "a"),
        Node(Source((4,)), (), "b"),
        Node(Affine(W), (0,), "first"),
        Node(Affine(V), (1,), "second"),
        Node(Elementwise("tanh"), (3,), "tanh"),
    )
    graph = Graph(nodes, (0, 1), (2, 4), ("a", "b"), ("y", "z"), np.dtype(float), Provenance())
    inputs = list(np.random.default_rng(5).normal(size=(2, 30, 4)))
    a, b = inputs
    none, y_b, z_a = np.zeros((30, 4, 4)), np.broadcast_to(W.T, (30, 4, 4)), np.tanh(a @ V)
    by_inputs = Answer((b @ W, z_a), ((none, y_b), ((1 - z_a**2)[:, :, None] * V.T, none)))
    assert explain(graph, inputs, by_inputs, range(30)) == "inputs a and b are exchanged"
    right = answer(Network(graph), inputs)
    by_outputs = Answer(right.values[::-1], right.jacobians[::-1])
    assert explain(graph, inputs, by_outputs, range(30)) == "outputs y and z are exchanged"


SLICE = ("question 1-64-32-32-1", "normalised 5-32-32-3", "smooth 6-24-24-24-3")


@pytest.mark.parametrize("name", SLICE)
def test_a_slice_of_the_fault_study(name):
    """`scripts/fault_study.py` is all of it: what can be seen is detected and named, and right answers never alarm."""
    made = study.Study(name, samples=48)
    seen = 0
    for fault in study.CLASSES:
        row = made.row(fault, "emulated", most=2)
        found = row["observable"] + row["in value only"]
        assert row["detected"] == row["localised"] == found <= row["made"], row
        seen += row["observable"]
    assert seen >= 20
    row = study.clean(name, "emulated", 2000, seed=3)
    assert (row["samples"], row["alarms"]) == (2000, 0), row


@pytest.mark.parametrize("name", SLICE[:2])
def test_right_answers_beside_kinks_do_not_alarm(name):
    row = study.at_kinks(name, "emulated", 300, seed=3)
    assert (row["samples"], row["alarms"]) == (300, 0), row
    assert row["verdicts"]["ok"] < 300


@pytest.mark.tensorflow
def test_a_slice_of_the_fault_study_in_tensorflow():
    pytest.importorskip("tensorflow")
    made = study.Study("normalised 5-32-32-3", samples=48)
    for fault in ("transposed kernel", "reduced precision", "shifted slopes", "misread Jacobian"):
        row = made.row(fault, "tensorflow", most=2)
        assert row["detected"] == row["localised"] == row["observable"] > 0, row
    assert study.clean("normalised 5-32-32-3", "tensorflow", 500, seed=3)["alarms"] == 0


def test_inputs_beside_a_kink_are_within_64_floats_of_it():
    """z = x₁ + 2 x₀ − 1 is exact in float32 near its zero; floats there are neighbours in the order of integers."""
    net = Network.sequential([(np.array([[2.0], [1.0]], "float32"), np.array([-1.0], "float32"), "relu")])
    (x,) = study.beside_kinks(net, 200, seed=0)
    assert x.shape == (200, 2)
    ulps = []
    for a, b in x.astype(float):
        to_0, to_1 = abs(a - (1 - b) / 2), abs(b - (1 - 2 * a))
        ulps.append(min(to_0 / np.spacing(np.float32(abs(a))), to_1 / np.spacing(np.float32(abs(b)))))
    assert max(ulps) <= 2 * study.FLOATS + 1
    assert np.median(ulps) > 8
    floats = np.array([-3, -1e-40, -0.0, 0.0, 1e-45, 1, 3], "float32")
    np.testing.assert_array_equal(study.floats_of(study.ordered(floats)), floats)
    assert (np.diff(study.ordered(floats)) >= 0).all()
    assert study.ordered(np.nextafter(np.float32(1), np.float32(2))[None]) == study.ordered(np.float32([1])) + 1
