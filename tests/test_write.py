"""What `to_keras` writes: read back it is the same network, and current Keras opens it with the same values."""

from __future__ import annotations

import io
import json
import time
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import refgrad
from refgrad.activations import ACTIVATIONS, mathematical
from refgrad.agreement import compare
from refgrad.errors import UnsupportedError
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.keras import write
from refgrad.keras.recipes import RECIPES
from refgrad.network import Network, answer
from refgrad.ops import (
    GLU,
    OPS,
    Add,
    Affine,
    Divide,
    Dot,
    Elementwise,
    LayerNormalization,
    LogSoftmax,
    LogSumExp,
    Max,
    Min,
    Normalization,
    Partial,
    Power,
    Rescaling,
    RMSNormalization,
    Softmax,
    Source,
    Sparsemax,
    Sum,
    Take,
    UnitNormalization,
)
from tests import accuracy
from tests.cases import CASES, GOLDEN, WRITERS
from tests.graphs import examples

SUFFIXES = (".keras", ".h5")
STEMS = [f"{name}-{writer}" for name in ("branches", "layers", "mixed", "twelve") for writer in WRITERS]

REFUSED = {
    ("relu", (6.0, -0.1, 0.0)),
    ("relu", (np.inf, 0.0, -0.5)),
    ("celu", (-1.0,)),
    ("soft_shrink", (-1.0,)),
}
"""Activations with parameters that no layer of Keras 3 computes with."""


OPERATING = {row.name for row in mathematical.ROWS} | {"threshold"}
"""Activations that are written as bare operations of Keras 3, threshold for some of its parameters."""


def encoded(net, suffix):
    return write.encoded(net, suffix)[0]


def entries_of(net):
    """The entries of what is written."""
    with zipfile.ZipFile(io.BytesIO(encoded(net, ".keras"))) as archive:
        return json.loads(archive.read("config.json"))["config"]["layers"]


def has_operations(net):
    return any(entry["module"].startswith("keras.src.ops") for entry in entries_of(net))


def refused_by_name(net):
    """Whether the older format cannot hold it, which is said by what it is."""
    if not has_operations(net):
        return False
    with pytest.raises(UnsupportedError, match=r"layer '.*': it is Keras 3's operation \w+, .*; write a .keras file"):
        encoded(net, ".h5")
    return True


def again(net, suffix):
    content, read = write.encoded(net, suffix)
    found = refgrad.load(content)
    assert found.digest == read.digest
    return found


def inputs_of(net, samples=5):
    rng = np.random.default_rng(3)
    return [rng.normal(size=(samples, *shape)).astype(net.dtype) for shape in net.input_shapes]


def check_same(net, other, xs):
    """The same values and Jacobians, but near kinks, and the same ends."""
    assert other.input_names == net.input_names
    assert other.output_names == net.output_names or ("/" in net.output_names[0] and len(net.output_names) == 1)
    assert (other.dtype, other.input_shapes, other.output_shapes) == (net.dtype, net.input_shapes, net.output_shapes)
    found = compare(net.graph, xs, answer(net, xs, "numpy"), answer(other, xs, "numpy"))
    assert found.agrees.all()


def in_keras(net, xs, suffix, path):
    """What current Keras computes from the file, by output."""
    keras = pytest.importorskip("keras")
    refgrad.to_keras(net, path / f"net{suffix}")
    keras.backend.clear_session()
    model = keras.models.load_model(path / f"net{suffix}", compile=False)
    assert [tensor.name for tensor in model.inputs] == list(net.input_names)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using a softmax over axis")
        found = model(xs if len(xs) > 1 else xs[0], training=False)
    return [np.asarray(y) for y in (found if isinstance(found, list | tuple) else [found])]


def check_in_keras(net, xs, suffix, path, relative=None):
    relative = relative or {"float32": 1e-5, "float64": 1e-12}[net.dtype.name]
    ours = answer(net, xs, "numpy").values
    for mine, theirs in zip(ours, in_keras(net, xs, suffix, path), strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        size = np.abs(mine[np.isfinite(mine)]).max(initial=1e-3)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=relative * size)


def test_every_op_has_a_recipe():
    assert set(RECIPES) | {"source"} == set(OPS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_a_recipe(name):
    rows = [parameters for row, parameters in accuracy.ROWS if row == name]
    assert ACTIVATIONS[name].defaults in rows
    assert encoded(elementwise_net(name, ACTIVATIONS[name].defaults, "float64"), ".keras")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_comes_back(case, suffix):
    other = again(case.net, suffix)
    check_same(case.net, other, [case.x])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stem", STEMS)
def test_a_golden_network_comes_back(stem, suffix):
    net = refgrad.load(GOLDEN / f"{stem}.keras")
    for dtype in ("float32", "float64"):
        check_same(net.astype(dtype), again(net.astype(dtype), suffix), inputs_of(net.astype(dtype)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stem", ["question-keras3", "twelve-keras3"])
def test_what_keras_3_wrote_comes_back_to_the_last_bit(stem, suffix):
    net = refgrad.load(GOLDEN / f"{stem}.keras")
    assert again(net, suffix).digest == net.digest


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stem", STEMS)
def test_keras_opens_a_golden_network(stem, suffix, tmp_path):
    net = refgrad.load(GOLDEN / f"{stem}.keras")
    for dtype in ("float32", "float64"):
        check_in_keras(net.astype(dtype), inputs_of(net.astype(dtype)), suffix, tmp_path)


def elementwise_net(name, parameters, dtype):
    ops = [("first", Affine(np.array([[1.5, -0.5, 0.7], [0.3, 1.1, -2.0]]), np.array([0.1, -0.2, 0.3])))]
    ops += [("f", Elementwise(name, parameters)), ("last", Affine(np.array([[1.0], [0.5], [-0.25]])))]
    return Network(chain((2,), ops, np.dtype(dtype), Provenance()))


ROWS = [(name, parameters) for name in ACTIVATIONS for row, parameters in accuracy.ROWS if row == name]
ROWS += [
    ("relu", (np.inf, 0.1, 0.0)),
    ("relu", (0.1, 0.3, 0.05)),
    ("relu", (np.inf, -0.1, 0.0)),
    ("celu", (0.3,)),
    ("squareplus", (0.7,)),
    ("hard_shrink", (0.3,)),
    ("soft_shrink", (0.3,)),
    ("soft_shrink", (0.0,)),
    *(("threshold", parameters) for parameters in ((0.3, 0.0), (-1.0, 0.0), (0.5, -1.0))),
    *sorted(REFUSED),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "parameters"), ROWS)
def test_every_activation_comes_back_or_is_refused(name, parameters, dtype):
    net = elementwise_net(name, parameters, dtype)
    for suffix in SUFFIXES:
        if (name, parameters) in REFUSED:
            with pytest.raises(UnsupportedError, match=f"layer 'f': the activation {name}"):
                again(net, suffix)
        elif suffix == ".h5" and has_operations(net):
            assert name in OPERATING
            assert refused_by_name(net)
        else:
            check_same(net, again(net, suffix), inputs_of(net, 50))


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keras_computes_every_activation(dtype, suffix, tmp_path):
    for name, parameters in ROWS:
        net = elementwise_net(name, parameters, dtype)
        if (name, parameters) in REFUSED or (suffix == ".h5" and has_operations(net)):
            continue
        # TensorFlow's GELU holds 1/√2 as a float32.
        relative = 1e-7 if (name, dtype) == ("gelu", "float64") else None
        check_in_keras(net, inputs_of(net, 50), suffix, tmp_path, relative)


def can_be_written(net):
    rows = [(node.op.activation, node.op.parameters) for node in net.graph.nodes if isinstance(node.op, Elementwise)]
    return REFUSED.isdisjoint(rows)


SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_random_graphs_come_back(suffix):
    @SETTINGS
    @given(examples())
    def check(example):
        assume(can_be_written(example.net))
        assume(suffix == ".keras" or not refused_by_name(example.net))
        check_same(example.net, again(example.net, suffix), list(example.x.values()))

    check()


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_keras_opens_random_graphs(suffix, tmp_path):
    pytest.importorskip("keras")

    @SETTINGS
    @given(examples())
    def check(example):
        # More samples than any axis is long: Keras 3 takes (3, 3) + (3, 1) for the addition of a bias.
        net, xs = example.net, [np.resize(x, (37, *x.shape[1:])) for x in example.x.values()]
        assume(can_be_written(net) and not (suffix == ".h5" and has_operations(net)))
        point = compare(net.graph, xs, answer(net, xs, "numpy"), answer(net, xs, "numpy"))
        gelu = any(getattr(node.op, "activation", "") == "gelu" for node in net.graph.nodes)
        if not point.kinks.jump.any():
            check_in_keras(net, xs, suffix, tmp_path, 1e-6 if gelu else 1e-10)

    check()


def graph_net(nodes, outputs, inputs=("x",), names=("y",)):
    """A network of (op, inputs, name) with its first nodes as inputs."""
    made = tuple(Node(*node) for node in nodes)
    graph = Graph(made, tuple(range(len(inputs))), outputs, inputs, names, np.dtype("float64"), Provenance())
    return Network(graph)


def ops_net(features, *ops, dtype="float64"):
    steps = [(f"op_{place}", op) for place, op in enumerate(ops)]
    return Network(chain(features, steps, np.dtype(dtype), Provenance()))


PAIR = [(Source((2, 3)), (), "a"), (Source((2, 3)), (), "b")]
DENSE = Affine(np.arange(9.0).reshape(3, 3) / 7, np.array([0.1, 0.2, 0.3]))
RELU = Elementwise("relu", (np.inf, 0.0, 0.0))
EXP, SINE, MOST = Elementwise("exponential"), Elementwise("sin"), Partial("maximum", np.array([0.1, -0.2, 0.3]))
DENSE_2 = Affine(np.array([[0.5, -1.0], [2.0, 0.25]]))
TENTHS = np.array([[0.1, 0.2, 0.3], [0.4, 0.6, 0.7]])

EDGES = {
    "an output that is an input": graph_net([(Source((3,)), (), "x")], (0,), names=("x",)),
    "an input by another name": graph_net([(Source((3,)), (), "x")], (0, 0), names=("y", "x")),
    "a shared Dense with its activation": graph_net(
        [(Source((3,)), (), "x"), (DENSE, (0,), "d"), (RELU, (1,), "d/relu"), (DENSE, (2,), "d"), (RELU, (3,), "d/r")],
        (4,),
    ),
    "a Dense whose preactivation is an output": graph_net(
        [(Source((3,)), (), "x"), (DENSE, (0,), "d"), (RELU, (1,), "d/relu")], (2, 1), names=("after", "before")
    ),
    "a Dense that feeds two": graph_net(
        [(Source((3,)), (), "x"), (DENSE, (0,), "d"), (RELU, (1,), "d/relu"), (Add(), (1, 2), "sum")], (3,)
    ),
    "a shared layer at both ends": graph_net(
        [(Source((3,)), (), "x"), (DENSE, (0,), "shared"), (DENSE, (1,), "shared")],
        (1, 2),
        names=("shared", "shared_1"),
    ),
    "names that hidden layers have": graph_net(
        [(Source((3,)), (), "x"), (DENSE, (0,), "y"), (RELU, (1,), "x"), (DENSE, (2,), "z")], (3,), names=("y",)
    ),
    "an input that feeds nothing": graph_net([*PAIR, (RELU, (1,), "r")], (2,), ("a", "b")),
    "one op for two shapes": graph_net(
        [(Source((3,)), (), "x"), (Source((2, 3)), (), "w"), (DENSE, (0,), "d"), (DENSE, (1,), "d")],
        (2, 3),
        ("x", "w"),
        ("y", "z"),
    ),
    "a cosine of Keras 2": graph_net([*PAIR, (Dot((-1, -1), True, 1e-6), (0, 1), "dot")], (2,), ("a", "b")),
    "moments over two axes": ops_net((2, 3), Normalization(np.round(TENTHS * 8), np.round(TENTHS * 8 + 1))),
    "moments no config can hold": ops_net((2, 3), Normalization(TENTHS, TENTHS)),
    "moments to undo": ops_net((2, 3), Normalization(TENTHS[:1], TENTHS[:1], True), DENSE),
    "one moment for all": ops_net((2, 3), Normalization(np.array(0.5), np.array(4.0))),
    "scales no config can hold": ops_net((2, 3), Rescaling(TENTHS, np.array(0.1)), Rescaling(TENTHS[0], TENTHS[0])),
    "halves of an inner axis": ops_net((4, 3), GLU(-2), DENSE),
    "halves of the last axis": ops_net((4,), GLU(), Affine(np.array([[1.0], [2]]))),
    "layer normalisation over apart axes": ops_net(
        (2, 3, 2), LayerNormalization(TENTHS.T[:2], TENTHS.T[1:], 1e-5, (-3, -1))
    ),
    "a root mean square along the last axis": ops_net((2, 3), RMSNormalization(TENTHS[0], 1e-6)),
    "root mean squares over two axes": ops_net(
        (2, 3), RMSNormalization(TENTHS, 0.1, (-2, -1)), RMSNormalization(None, 1e-6, (-2, -1))
    ),
    "root mean squares with other scales": ops_net(
        (2, 3, 2), RMSNormalization(TENTHS[:, :1, None], 0.1, (-3, -1)), RMSNormalization(TENTHS.T, 0.1, (-1,))
    ),
    "unit lengths": ops_net(
        (2, 3, 2), UnitNormalization(axes=(-2,)), UnitNormalization(1e-6, (-3, -1)), UnitNormalization(0.7, (-1,))
    ),
    "constants that scale": ops_net(
        (2, 3),
        *(Partial(of, TENTHS, place) for of in ("add", "subtract", "multiply") for place in (0, 1)),
        *(Partial(of, np.array(0.5), place) for of in ("add", "subtract", "multiply") for place in (0, 1)),
    ),
    **{
        f"{of} with {size} constant {'second' if place else 'first'}": ops_net(
            (2, 3), EXP, Partial(of, constant, place)
        )
        for of in ("divide", "power", "maximum", "minimum")
        for place in (0, 1)
        for size, constant in (("a", np.array(1.1)), ("an array", TENTHS))
    },
    "constants that stretch": ops_net(
        (1, 3),
        *(Partial(of, TENTHS[:, None]) for of in ("add", "multiply", "maximum")),
        Partial("power", TENTHS.T[:, :1], 0),
    ),
    "a quotient and a power": graph_net(
        [*PAIR, (EXP, (0,), "e"), (EXP, (1,), "f"), (Divide(), (0, 2), "d"), (Power(), (2, 3), "p")],
        (4, 5),
        ("a", "b"),
        ("d", "p"),
    ),
    "a quotient and a power of fewer axes": graph_net(
        [
            (Source((3,)), (), "a"),
            (Source((2, 3)), (), "b"),
            (EXP, (0,), "e"),
            (EXP, (1,), "f"),
            (Divide(), (0, 3), "d"),
            (Power(), (3, 2), "p"),
        ],
        (4, 5),
        ("a", "b"),
        ("d", "p"),
    ),
    **{
        f"{op.name} along {axes}": ops_net((2, 3, 2), op(axes, keepdims), *(() if keepdims else (DENSE_2,)))
        for op in (Sum, Max, Min, LogSumExp)
        for axes, keepdims in (((-2,), False), ((-3, -1), True))
    },
    "sums of all": ops_net((2, 3), Sum((-2, -1)), Partial("multiply", np.array(0.1)), Elementwise("sin")),
    "some entries": ops_net((2, 3), Take((2, 0, 0), -1), Take((1,), -2), Take((0, 1, 2), -1)),
    "an operation called again": graph_net(
        [(Source((3,)), (), "x"), (SINE, (0,), "s"), (SINE, (1,), "s"), (MOST, (2,), "m"), (MOST, (1,), "m")],
        (3, 4, 1),
        names=("m", "m_1", "s"),
    ),
    "operations and layers of one name": ops_net(
        (3,), DENSE, Partial("maximum", np.array(0.1)), Partial("multiply", np.ones((2, 1))), Elementwise("erf"), DENSE
    ),
    "a name with a slash": graph_net([(Source((3,)), (), "x"), (SINE, (0,), "a/b"), (DENSE, (1,), "y")], (2,)),
    "several axes": ops_net((2, 3, 2), Softmax((-3, -1)), LogSoftmax((-2, -1)), Sparsemax(-2)),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", EDGES)
def test_an_edge_comes_back(name, suffix):
    net = EDGES[name]
    if suffix == ".h5" and refused_by_name(net):
        return
    check_same(net, again(net, suffix), inputs_of(net))
    narrow = net.astype("float32")
    check_same(narrow, again(narrow, suffix), inputs_of(narrow))


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", EDGES)
def test_keras_opens_an_edge(name, suffix, tmp_path):
    for dtype in ("float32", "float64"):
        net = EDGES[name].astype(dtype)
        if suffix == ".h5" and has_operations(net):
            continue
        check_in_keras(net, inputs_of(net), suffix, tmp_path)


def of_keras_3_alone(net):
    """tf_keras has no such layer, or has it with another least length."""
    return any(node.op.name in ("sparsemax", "rms_normalization", "unit_normalization") for node in net.graph.nodes)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "name", [name for name in EDGES if name != "several axes" and not of_keras_3_alone(EDGES[name])]
)
def test_tf_keras_opens_the_older_format_too(name, tmp_path):
    keras = pytest.importorskip("tf_keras")
    net = EDGES[name].astype("float32")
    if has_operations(net):
        return
    xs = inputs_of(net)
    refgrad.to_keras(net, tmp_path / "net.h5")
    found = keras.models.load_model(tmp_path / "net.h5", compile=False)(xs if len(xs) > 1 else xs[0], training=False)
    for mine, theirs in zip(answer(net, xs).values, found if isinstance(found, list) else [found], strict=True):
        assert np.abs(mine - np.asarray(theirs)).max() <= 1e-5 * np.abs(mine).max()


@pytest.mark.tensorflow
def test_a_cosine_of_keras_2_keeps_its_least_norm(tmp_path):
    net = EDGES["a cosine of Keras 2"]
    xs = [x * 1e-7 for x in inputs_of(net)]
    truth = np.einsum("bpn,bqn->bpq", *(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-6) for x in xs))
    for suffix in SUFFIXES:
        (found,) = in_keras(net, xs, suffix, tmp_path)
        np.testing.assert_allclose(found, truth, rtol=1e-12)
        np.testing.assert_allclose(answer(again(net, suffix), xs).values[0], truth, rtol=1e-12)


def layers_of(net):
    """Class, name and activation of what is written."""
    return [(it["class_name"], it["name"], it["config"].get("activation")) for it in entries_of(net)]


def test_dense_and_its_activation_are_one_layer_where_nobody_sees_between():
    assert layers_of(EDGES["a shared Dense with its activation"]) == [
        ("InputLayer", "x", None),
        ("Dense", "d", "relu"),
        ("Activation", "y", "linear"),
    ]
    for name in ("a Dense whose preactivation is an output", "a Dense that feeds two"):
        assert "relu" not in [activation for kind, _, activation in layers_of(EDGES[name]) if kind == "Dense"]


def test_hard_sigmoid_of_keras_2_is_written_as_what_it_was():
    net = Network.sequential([(np.eye(2), None, "hard_sigmoid")], keras=2)
    assert [kind for kind, *_ in layers_of(net)] == ["InputLayer", "Dense", "BatchNormalization", "ReLU"]
    assert [kind for kind, *_ in layers_of(net.astype("float32"))] == ["InputLayer", "Dense", "Rescaling", "ReLU"]
    np.testing.assert_allclose(again(net, ".keras")([[1.0, -9.0]]), [[0.7, 0.0]], rtol=1e-15)


def test_names_that_keras_cannot_have_are_told():
    nodes = [(Source((3,)), (), "a/b"), (DENSE, (0,), "c/d"), (RELU, (0,), "r")]
    net = graph_net(nodes, (1, 2), ("a/b",), ("c/d", "r"))
    with pytest.warns(refgrad.RefgradWarning, match="outputs whose names Keras cannot have .* 'c/d' is 'c_d'"):
        other = again(net, ".keras")
    assert (other.input_names, other.output_names) == (("a_b",), ("c_d", "r"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_network_gives_the_same_bytes(suffix, tmp_path, monkeypatch):
    net = refgrad.load(GOLDEN / "layers-keras3.keras")
    first = encoded(net, suffix)
    monkeypatch.setattr("time.time", lambda: 2e9)
    time.sleep(1.1)
    assert encoded(net, suffix) == first
    path = tmp_path / f"net{suffix}"
    path.write_text("earlier")
    refgrad.to_keras(net, path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nan_among_the_weights_is_kept(suffix):
    ops = (Rescaling(np.array(scale), np.array(1.0)) for scale in (np.nan, np.inf))
    net = ops_net((3,), Affine(np.array([[1.0], [np.nan], [np.inf]])), *ops)
    with pytest.warns(refgrad.RefgradWarning, match="NaN"):
        other = again(net, suffix)
    np.testing.assert_array_equal(other.graph.nodes[1].op.kernel, net.graph.nodes[1].op.kernel)
    assert np.isnan(other([1.0, 2, 3])).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_long_names_are_stored(suffix):
    steps = [(f"{'n' * 150}{place}", DENSE) for place in range(500)]
    net = Network(chain((3,), steps, np.dtype("float64"), Provenance()))
    content = encoded(net, suffix)
    assert [node.name for node in refgrad.load(content).graph.nodes[1:]] == [name for name, _ in steps]


def test_what_cannot_be_written_is_said_in_one_line(tmp_path, monkeypatch):
    net = EDGES["several axes"]
    with pytest.raises(refgrad.InputError, match="takes a Network, not a str"):
        refgrad.to_keras("net", tmp_path / "net.keras")
    with pytest.raises(refgrad.InputError, match=r"the ending '.npz' is none of a Keras file; these are: .keras"):
        refgrad.to_keras(net, tmp_path / "net.npz")
    with pytest.raises(refgrad.InputError, match="cannot be written"):
        refgrad.to_keras(net, tmp_path / "no" / "net.keras")
    monkeypatch.setattr("refgrad.keras.write.LARGEST_SAMPLE", 3)
    with pytest.raises(refgrad.LimitError, match=r"net.keras: one sample is 144 numbers"):
        refgrad.to_keras(net, tmp_path / "net.keras")


def test_a_file_that_is_another_network_never_gets_its_name(tmp_path, monkeypatch):
    path = tmp_path / "net.keras"
    path.write_text("earlier")
    net = EDGES["a Dense that feeds two"]
    for other, said in (("a shared Dense with its activation", "differ from"), ("one op for two shapes", "it is <")):
        wrong = encoded(EDGES[other], ".keras")
        monkeypatch.setattr("refgrad.keras.write.ENCODERS", {".keras": lambda _, wrong=wrong: wrong})
        with pytest.raises(refgrad.VerificationError, match=f"net.keras: read back.* {said}"):
            refgrad.to_keras(net, path)
        monkeypatch.undo()
    monkeypatch.setattr("refgrad.keras.write.ENCODERS", {".keras": lambda _: b"PK\x03\x04"})
    with pytest.raises(refgrad.VerificationError, match=r"net.keras: what was written cannot be read back"):
        refgrad.to_keras(net, path)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]
