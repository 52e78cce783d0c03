"""What holds of every network: properties over random graphs of all ops.

Each property runs on a fixed set of graphs; `pytest -m long` runs it on ten times as many, drawn anew in every run.
"""

from __future__ import annotations

import copy
import functools
import math
import pickle
import tempfile
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as indices

import refgrad
from refgrad import evaluation
from refgrad.derivatives.margins import near_kinks
from refgrad.derivatives.order import SPLIT_PAYS
from refgrad.derivatives.products import linearize
from refgrad.ops import OPS
from refgrad.rounding import deviations
from tests.graphs import MOST_NUMBERS, NOT_DRAWN, ROWS, SAMPLES, TAME, examples, keras_model

MODES = ("auto", "forward", "reverse", "split")


def run(check, examples, fresh=False):
    """A check that `given` decorates, on so many examples: the same in every run, unless `fresh`."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    chosen = {"max_examples": examples, "derandomize": not fresh, "database": None, "deadline": None}
    settings(**chosen, suppress_health_check=slow, print_blob=True)(check)()


def holds_for(*strategies, count=200, judged=None):
    """A test of a property: on `count` examples, and as a long test on ten times as many.

    A check may give back which samples it could judge; `judged` is the least share of all of them.
    """

    def decorated(check):
        masks = []

        @functools.wraps(check)  # the examples that are drawn depend on the name
        def checked(**drawn):
            mask = check(**drawn)
            masks.extend([] if mask is None else mask)

        @pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.long)], ids=["short", "long"])
        def test(long):
            masks.clear()
            run(given(*strategies)(checked), count * (10 if long else 1), fresh=long)
            assert judged is None or np.mean(masks) >= judged

        return test

    return decorated


def everything(net, x, **options):
    """Values by output, and Jacobians by output and input, whatever their number."""
    y, jacobian = net.value_and_jacobian(x, outputs=list(net.output_names), inputs=list(net.input_names), **options)
    return y, jacobian


def entries(jacobian):
    """((output, input), block) of every block."""
    return [((o, i), block) for o, row in jacobian.items() for i, block in row.items()]


def by_name(net, results, names):
    """A dict even where there is one end."""
    return results if len(names) > 1 else {names[0]: results}


def scale_of(example):
    """What rounding errors of derivatives are relative to: the largest slope of any node by any input, or 1."""
    graph = example.graph
    every = tuple(range(len(graph.nodes)))
    nodes = refgrad.Network(replace(graph, outputs=every, output_names=tuple(map(str, every))))
    return max(1.0, *(np.abs(block).max() for _, block in entries(everything(nodes, example.x, engine="numpy")[1])))


def close(found, wanted, scale):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * scale)


def vectors(rng, shapes, k=2):
    """Tangents or cotangents, k at once, by name."""
    return {name: rng.normal(size=(k, *shape)) for name, shape in shapes.items()}


def shapes_of(arrays):
    return {name: array.shape for name, array in arrays.items()}


def values(net, x, **options):
    return by_name(net, net(x, **options), net.output_names)


def jvp(net, x, tangent):
    return by_name(net, net.jvp(x, tangent)[1], net.output_names)


def vjp(net, x, cotangent):
    given = cotangent if len(cotangent) > 1 else next(iter(cotangent.values()))
    return by_name(net, net.vjp(x, given)[1], net.input_names)


def test_every_op_and_every_activation_is_drawn():
    assert set(ROWS) == set(OPS)
    drawn, features = set(), set()

    def look(example):
        graph = example.graph
        drawn.update(node.op.name for node in graph.nodes)
        drawn.update(node.op.activation for node in graph.nodes if node.op.name == "elementwise")
        used = [source for node in graph.nodes for source in node.inputs]
        ops = [id(node.op) for node in graph.nodes]
        features.update(
            name
            for name, there in {
                "several inputs": len(graph.inputs) > 1,
                "several outputs": len(graph.outputs) > 1,
                "inputs in another order": graph.inputs != tuple(sorted(graph.inputs)),
                "an output that is an input": not {*graph.inputs}.isdisjoint(graph.outputs),
                "an output twice": len({*graph.outputs}) < len(graph.outputs),
                "a node used twice": len({*used}) < len(used),
                "an op in two nodes": len({*ops}) < len(ops),
                "an input that feeds nothing": not {*graph.inputs} <= {*used, *graph.outputs},
            }.items()
            if there
        )

    run(given(examples())(look), 1500)
    assert drawn == {*OPS, *TAME} - {*NOT_DRAWN}
    assert len(features) == 8, features


@holds_for(examples())
def test_vjp_is_the_adjoint_of_jvp(example):
    """⟨c, J t⟩ = ⟨Jᵀ c, t⟩ for each vector and sample, summed over all outputs and all inputs."""
    net, rng = example.net, example.rng
    t, c = (vectors(rng, shapes_of(of)) for of in (example.x, values(net, example.x)))
    pushed, pulled = jvp(net, example.x, t), vjp(net, example.x, c)

    def inner(one, other):
        return sum((one[name] * other[name]).reshape(2, SAMPLES, -1).sum(axis=-1) for name in one)

    close(inner(c, pushed), inner(pulled, t), 10 * scale_of(example))


def node_values(example, x):
    """The value of every node, at other inputs."""
    graph = example.graph
    every = tuple(range(len(graph.nodes)))
    nodes = refgrad.Network(replace(graph, outputs=every, output_names=tuple(map(str, every))))
    return [value.reshape(SAMPLES, -1) for value in values(nodes, x, engine="numpy").values()]


def furthest(example, x):
    """How far from its value at the example's inputs the node that moves furthest is, for each sample."""
    pairs = zip(node_values(example, x), node_values(example, example.x), strict=True)
    return np.max([np.abs(one - other).max(axis=1) for one, other in pairs], axis=0)


@holds_for(examples(), judged=0.6)
def test_jvp_is_the_limit_of_differences(example):
    """(4 D(h/2) − D(h)) / 3 of central differences D, whose error is O(h⁴).

    h is such that no number moves by more than about 2e-4: the error is then about u/2e-4 = 1e-12 of the fastest
    number's speed, times what rounding errors grow by on their way (1e3 was not seen); and about 1e-15 by truncation.
    Judged are samples that stay away from kinks: a margin is a distance between two numbers, or of a sum of few.
    """
    net, x, t = example.net, example.x, {name: tangent[0] for name, tangent in tangents_of(example).items()}

    def moved(h):
        return {name: x[name] + h.reshape(-1, *(1,) * (x[name].ndim - 1)) * t[name] for name in x}

    def differences(h):
        ahead, behind = values(net, moved(h)), values(net, moved(-h))
        return {name: ((ahead[name] - behind[name]).reshape(SAMPLES, -1) / (2 * h[:, None])) for name in ahead}

    speed = np.maximum(1, furthest(example, moved(np.full(SAMPLES, 1e-7))) / 1e-7)
    h = 2e-4 / speed
    reach = np.max([furthest(example, moved(h * way)) for way in (-1, -0.5, 0.5, 1)], axis=0)
    judged = net.kinks(x).margin > 10 * reach
    fine, coarse, pushed = differences(h / 2), differences(h), jvp(net, x, t)
    for name, tangent in pushed.items():
        error = np.abs((4 * fine[name] - coarse[name]) / 3 - tangent.reshape(SAMPLES, -1)).max(axis=1)
        assert (error <= 1e-8 * speed)[judged].all(), (name, error / speed)
    return judged


def tangents_of(example):
    return vectors(example.rng, shapes_of(example.x))


def by_unit_vectors(example):
    """Every Jacobian, made of the jvp of every unit vector of every input."""
    net, x, blocks = example.net, example.x, {name: {} for name in example.net.output_names}
    for name, array in x.items():
        n = math.prod(array.shape[1:])
        units = np.broadcast_to(np.eye(n).reshape(n, 1, *array.shape[1:]), (n, *array.shape))
        for output, tangent in jvp(net, x, {name: units}).items():
            block = np.moveaxis(tangent, 0, -1)
            blocks[output][name] = block.reshape(*block.shape[:-1], *array.shape[1:])
    return blocks


MAX_BYTES = st.sampled_from([1, 3_000, 30_000, 2**28])
"""From one sample and one vector at a time to all at once."""


@holds_for(examples(), MAX_BYTES, st.sampled_from([1, 2, 3]), st.sampled_from(["auto", "numpy"]))
def test_jacobian_is_the_jvp_of_unit_vectors(example, max_bytes, threads, engine):
    """In every mode, and however it is cut into pieces."""
    net, wanted, scale = example.net, by_unit_vectors(example), scale_of(example)
    for mode in MODES:
        y, found = everything(net, example.x, mode=mode, max_bytes=max_bytes, threads=threads, engine=engine)
        assert list(found) == list(net.output_names)
        for (o, i), block in entries(found):
            close(block, wanted[o][i], scale)
        for name, value in values(net, example.x, engine="numpy").items():
            close(y[name], value, scale)


@st.composite
def chosen(draw, names):
    """What `outputs=` or `inputs=` may be, and the names that it means."""

    def called(name):
        place = names.index(name)
        return draw(st.sampled_from([name, place, place - len(names), np.int64(place)]))

    if draw(st.booleans()):
        name = draw(st.sampled_from(names))
        return called(name), name
    if draw(st.booleans()):
        return None, list(names) if len(names) > 1 else names[0]
    some = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    return [called(name) for name in some], some


@st.composite
def picked(draw, shape):
    """An index of features."""
    n = shape[0]
    some = st.lists(st.integers(-n, n - 1), max_size=4)
    ways = {
        "all": st.none(),
        "number": st.integers(-n, n - 1),
        "list": some.filter(len),
        "array": some.map(lambda places: np.array(places, int)),
        "mask": indices.arrays(bool, shape),
        "first axis": indices.arrays(bool, shape[:1]),
        "basic": indices.basic_indices(shape, allow_newaxis=True),
        "arrays": indices.integer_array_indices(shape),
    }
    return draw(ways[draw(st.sampled_from(list(ways)))])


def expected(block, n_out, output_index, input_index):
    """The chosen entries of a Jacobian `(batch, *out, *in)`, `out` being so many axes."""
    shapes = block.shape[1 : 1 + n_out], block.shape[1 + n_out :]
    numbered = [np.arange(math.prod(shape)).reshape(shape) for shape in shapes]
    rows, columns = (
        np.asarray(numbers if index is None else numbers[index])
        for numbers, index in zip(numbered, (output_index, input_index), strict=True)
    )
    flat = block.reshape(len(block), *(numbers.size for numbers in numbered))
    return flat[:, rows.reshape((*rows.shape, *(1,) * columns.ndim)), columns]


def nested(names, of):
    """A dict for several names, one thing for one."""
    return {name: of(name) for name in names} if isinstance(names, list) else of(names)


def keys(tree):
    """The names that lead to each leaf, in order."""
    return [(name, *rest) for name, part in tree.items() for rest in keys(part)] if isinstance(tree, dict) else [()]


def leaves(tree):
    return [leaf for part in tree.values() for leaf in leaves(part)] if isinstance(tree, dict) else [tree]


@holds_for(examples(), st.data(), MAX_BYTES, st.sampled_from(MODES), st.sampled_from("CF"), count=300)
def test_a_selection_is_the_same_entries_of_the_whole(example, data, max_bytes, mode, layout):
    """By name, place or list, features by whatever indexes an array; in new arrays or in given ones."""
    net, x, scale = example.net, example.x, scale_of(example)
    outputs, rows = data.draw(chosen(net.output_names))
    inputs, columns = data.draw(chosen(net.input_names))
    shapes = [dict(zip(net.output_names, net.output_shapes, strict=True)), shapes_of(example.x)]
    output_index = data.draw(picked(shapes[0][rows])) if isinstance(rows, str) else None
    input_index = data.draw(picked(shapes[1][columns][1:])) if isinstance(columns, str) else None
    options = {"outputs": outputs, "inputs": inputs, "output_index": output_index, "input_index": input_index}
    options |= {"mode": mode, "max_bytes": max_bytes, "engine": "numpy"}

    whole, y = everything(net, x, engine="numpy")[1], values(net, x, engine="numpy")
    part = nested(rows, lambda o: nested(columns, lambda i: (o, i)))
    wanted = [expected(whole[o][i], len(shapes[0][o]), output_index, input_index) for o, i in leaves(part)]
    value, found = net.value_and_jacobian(x, **options)
    assert keys(found) == keys(part)
    for block, truth in zip(leaves(found), wanted, strict=True):
        close(block, truth, scale)
    for name, numbers in value.items() if isinstance(value, dict) else [(rows, value)]:
        close(numbers, y[name], scale)

    def room(o, i):
        return np.full(expected(whole[o][i], len(shapes[0][o]), output_index, input_index).shape, np.nan, order=layout)

    out = nested(rows, lambda o: nested(columns, lambda i: room(o, i)))
    for place, block in zip(leaves(out), leaves(net.jacobian(x, **options, out=out)), strict=True):
        assert place is block
    for block, place in zip(leaves(found), leaves(out), strict=True):
        np.testing.assert_array_equal(block, place)


@holds_for(examples())
def test_a_batch_is_its_samples_in_any_order(example):
    net, x, scale = example.net, example.x, scale_of(example)
    y, jacobian = everything(net, x)
    order = example.rng.permutation(SAMPLES)
    permuted = everything(net, {name: array[order] for name, array in x.items()})
    for sample in range(SAMPLES):
        alone = {name: array[sample] if array.shape[1:] != (1,) else array[sample, 0] for name, array in x.items()}
        one, by_one = everything(net, alone)
        place = list(order).index(sample)
        for name, value in y.items():
            close(one[name], value[sample], scale)
            close(permuted[0][name][place], value[sample], scale)
        for (o, i), block in entries(jacobian):
            close(by_one[o][i], block[sample], scale)
            close(permuted[1][o][i][place], block[sample], scale)


def same(one, other):
    """Bit for bit."""
    for a, b in zip(leaves(one), leaves(other), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@holds_for(examples(), st.sampled_from(["float32", "float64"]))
def test_what_was_saved_pickled_or_copied_is_the_same_network(example, dtype):
    net = example.net.astype(dtype)
    y, jacobian = everything(net, example.x, engine="numpy")
    with tempfile.TemporaryDirectory() as folder:
        refgrad.save(net, f"{folder}/net.npz", golden=example.x)
        loaded = refgrad.load(f"{folder}/net.npz")
    for twin in (loaded, pickle.loads(pickle.dumps(net)), copy.deepcopy(net), copy.copy(net)):
        assert twin.digest == net.digest
        again = everything(twin, example.x, engine="numpy")
        same(y, again[0])
        same(jacobian, again[1])


@holds_for(examples(), judged=0.6)
def test_float32_is_float64_to_its_rounding(example):
    """Of samples that rounding in float32 leaves on their side of every kink."""
    net = example.net.astype("float32")
    assert net.astype("float64").digest == example.net.digest
    x = {name: array.astype("float32") for name, array in example.x.items()}
    with np.errstate(all="ignore"):
        point = linearize(net.graph, list(x.values()), "keras")
        away = ~near_kinks(point, deviations(net.graph, point.values)).near
    scale = scale_of(example)
    for one, other in zip(everything(net, x), everything(example.net, x), strict=True):
        for a, b in zip(leaves(one), leaves(other), strict=True):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a[away], b[away], rtol=0, atol=1e-4 * scale)
    return away


@holds_for(examples(), st.sampled_from(["float32", "float64"]))
def test_inputs_stay_as_they_were(example, dtype):
    """And every result is of the network's dtype, C-contiguous and writable."""
    net = example.net.astype(dtype)
    x = {name: array.astype(dtype) for name, array in example.x.items()}
    t, c = (
        {name: vector.astype(dtype) for name, vector in vectors(example.rng, shapes_of(of)).items()}
        for of in (x, values(net, x))
    )
    before = {key: copy.deepcopy(given) for key, given in (("x", x), ("t", t), ("c", c))}
    weights = [{k: v.copy() for k, v in node.op.arrays().items()} for node in net.graph.nodes]
    results = [values(net, x), jvp(net, x, t), vjp(net, x, c), *everything(net, x)]
    results += [everything(net, x, mode=mode)[1] for mode in MODES]
    net.kinks(x)
    for key, now in (("x", x), ("t", t), ("c", c)):
        same(before[key], now)
    for held, node in zip(weights, net.graph.nodes, strict=True):
        same(held, node.op.arrays())
    for array in leaves(dict(enumerate(results))):
        assert array.dtype == dtype
        assert array.flags.carray
        assert not any(np.shares_memory(array, given) for given in (*x.values(), *t.values(), *c.values()))


@holds_for(examples(), st.sampled_from(["float32", "float64"]))
def test_no_samples_give_results_of_no_samples(example, dtype):
    net = example.net.astype(dtype)
    x = {name: array[:0] for name, array in example.x.items()}
    outs, ins = (
        dict(zip(names, shapes, strict=True))
        for names, shapes in ((net.output_names, net.output_shapes), (net.input_names, net.input_shapes))
    )
    for mode in MODES:
        y, jacobian = everything(net, x, mode=mode)
        assert shapes_of(y) == {name: (0, *shape) for name, shape in outs.items()}
        for (o, i), block in entries(jacobian):
            assert (block.shape, block.dtype) == ((0, *outs[o], *ins[i]), dtype)
    assert shapes_of(values(net, x)) == {name: (0, *shape) for name, shape in outs.items()}
    pushed = jvp(net, x, {name: np.ones((2, 0, *shape)) for name, shape in ins.items()})
    pulled = vjp(net, x, {name: np.ones((2, 0, *shape)) for name, shape in outs.items()})
    assert shapes_of(pushed) == {name: (2, 0, *shape) for name, shape in outs.items()}
    assert shapes_of(pulled) == {name: (2, 0, *shape) for name, shape in ins.items()}
    assert net.kinks(x).margin.shape == (0,)


@holds_for(examples(), MAX_BYTES, st.sampled_from([1, 2]))
def test_a_plan_is_what_runs(example, max_bytes, threads):
    """Mode, pieces and vectors; and "auto" is no dearer than the others, but for a split that does not pay."""
    net, x, made = example.net, example.x, {}
    for mode in MODES:
        options = {"mode": mode, "max_bytes": max_bytes, "threads": threads, "engine": "numpy"}
        made[mode] = plan = net.plan(SAMPLES, **options)
        with mock.patch.object(evaluation, "fill", wraps=evaluation.fill) as fill:
            net.jacobian(x, **options)
        assert len(fill.call_args_list) == math.ceil(SAMPLES / plan.at_once)
        for call in fill.call_args_list:
            _, order, _, vectors_at_once, blocks = call.args
            assert (order.mode, order.cost, vectors_at_once) == (plan.mode, plan.multiply_adds, plan.vectors)
            assert max(len(block) for row in blocks for block in row) <= plan.at_once
        assert mode in ("auto", "split") or plan.mode == mode
        if max_bytes == 1:
            assert (plan.at_once, plan.vectors if plan.mode != "split" else 1) == (1, 1)
    ends = min(made["forward"].multiply_adds, made["reverse"].multiply_adds)
    assert made["auto"].multiply_adds <= ends
    if made["split"].mode == "split":
        assert made["auto"].multiply_adds <= SPLIT_PAYS * made["split"].multiply_adds
    else:
        assert made["split"].multiply_adds == made["auto"].multiply_adds == ends


def asked(tf, model, graph, inputs):
    """Values, and Jacobians by output and input, that eager TensorFlow gives of a model.

    Samples are repeated to a batch larger than any axis: Keras 3 on TensorFlow takes (n, n) + (n, 1), n samples of n
    and 1 features, for a matrix and a bias, and adds the column to every row.
    """
    batch = MOST_NUMBERS + 1
    xs = [tf.constant(np.resize(x, (batch, *x.shape[1:]))) for x in inputs]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(xs)
        ys = model(xs)
        ys = ys if isinstance(ys, list | tuple) else [ys]
        rows = [tf.unstack(tf.reshape(y, (batch, -1)), axis=1) for y in ys]
    blocks = []
    for y, numbers in zip(ys, rows, strict=True):
        parts = [tape.gradient(number, xs, unconnected_gradients="zero") for number in numbers]
        stacked = [np.stack([part[i].numpy()[:SAMPLES] for part in parts], axis=1) for i in range(len(xs))]
        blocks.append([block.reshape(SAMPLES, *y.shape[1:], *block.shape[2:]) for block in stacked])
    return [y.numpy()[:SAMPLES] for y in ys], blocks


def agrees_with_keras(generation, count):
    """Values and Jacobians of the same graphs in a Keras, of the samples away from kinks."""
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip(generation)
    judged, layers = [], set()

    def check(example):
        net, scale = example.net, scale_of(example)
        model = keras_model(keras, example.graph)
        layers.update(type(layer).__name__ for layer in model.layers)
        y, jacobian = everything(net, example.x)
        point = linearize(net.graph, list(example.x.values()), "keras")
        away = ~near_kinks(point, deviations(net.graph, point.values)).near
        judged.extend(away)
        said, blocks = asked(tf, model, net.graph, list(example.x.values()))
        for ours, theirs in zip(y.values(), said, strict=True):
            assert theirs.dtype == np.float64
            close(ours[away], theirs[away], scale)
        for row, theirs in zip(jacobian.values(), blocks, strict=True):
            for block, truth in zip(row.values(), theirs, strict=True):
                close(block[away], truth[away], scale)

    check.__name__ = f"check_{generation}"
    run(given(examples(keras))(check), count)
    assert np.mean(judged) >= 0.6
    return layers


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_the_same_graph_in_keras_says_the_same(generation):
    assert len(agrees_with_keras(generation, 60)) >= 12


@pytest.mark.tensorflow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_many_of_the_same_graphs_in_keras_say_the_same(generation):
    assert len(agrees_with_keras(generation, 600)) >= 18


FORMATS = [("keras", "keras"), ("keras", "h5"), ("tf_keras", "keras"), ("tf_keras", "h5")]


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize(("generation", "suffix"), FORMATS)
def test_the_same_graph_saved_by_keras_is_loaded(generation, suffix):
    """To be run as soon as there is a loader: Keras builds and saves each graph, refgrad loads it."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)

    def check(example):
        net, scale = example.net, scale_of(example)
        with tempfile.TemporaryDirectory() as folder:
            keras_model(keras, example.graph).save(f"{folder}/model.{suffix}")
            loaded = refgrad.load(f"{folder}/model.{suffix}")
        x = dict(zip(loaded.input_names, example.x.values(), strict=True))
        for one, other in zip(everything(loaded, x), everything(net, example.x), strict=True):
            for found, wanted in zip(leaves(one), leaves(other), strict=True):
                close(found, wanted, scale)

    check.__name__ = f"check_{generation}_{suffix}"
    run(given(examples(keras))(check), 15)
