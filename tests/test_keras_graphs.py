"""Functional models: the golden ones and live ones exactly, in every container, and the rest refused by name."""

from __future__ import annotations

import json
import warnings

import h5py
import numpy as np
import pytest

import refgrad
from refgrad.derivatives.products import jvp, linearize, vjp
from refgrad.keras import archive, build
from refgrad.keras.layers import LAYERS
from tests.cases import CONTAINERS, GOLDEN, WRITERS, golden_arguments, golden_truth

STEMS = [f"{name}-{writer}" for name in ("branches", "layers") for writer in WRITERS]
ENDS = {
    "branches": (("action", "state"), ("classes", "amount")),
    "layers": (("vector", "matrix"), ("out", "joined")),
}


def graph_of(path, **others):
    return build.build(archive.read(path, **others))


def golden_graph(stem, container="keras"):
    (path,), others = golden_arguments(stem, container)
    return graph_of(path, **others)


def ends_and_jacobians(graph, xs):
    """Outputs, and the Jacobian (batch, *out, *in) of each with respect to each input, None where it is zero."""
    point = linearize(graph, xs, "keras")
    jacobians = {}
    for j, x in enumerate(xs):
        size = int(np.prod(x.shape[1:]))
        unit = np.eye(size, dtype=x.dtype).reshape(size, 1, *x.shape[1:])
        tangents = jvp(point, [unit if k == j else None for k in range(len(xs))])
        for i, (tangent, y) in enumerate(zip(tangents, point.outputs, strict=True)):
            full = np.zeros((size, *y.shape), y.dtype) if tangent is None else np.broadcast_to(tangent, (size, *y.shape))
            jacobians[i, j] = np.moveaxis(full, 0, -1).reshape(*y.shape, *x.shape[1:])
    return point.outputs, jacobians


# The bar of the issue for `branches`; TensorFlow's own float32 is 3e-6 from its float64 on `layers`.
FLOAT32 = {"branches": 1e-6, "layers": 1e-5}


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_golden_graph_gives_what_tensorflow_said(stem, container):
    truth, graph, name = golden_truth(stem), golden_graph(stem, container), stem.split("-")[0]
    assert graph.dtype == np.float32
    assert (graph.input_names, graph.output_names) == ENDS[name]
    for dtype, bits, relative in (("float32", "32", FLOAT32[name]), ("float64", "64", 1e-13)):
        xs = [truth[f"x_{j}"].astype(dtype) for j in range(2)]
        outputs, jacobians = ends_and_jacobians(graph.astype(np.dtype(dtype)), xs)
        for i, y in enumerate(outputs):
            theirs = truth[f"y{bits}_{i}"]
            assert y.dtype == theirs.dtype == np.dtype(dtype)
            assert np.abs(y - theirs).max() <= relative * np.abs(theirs).max()
            for j in range(2):
                theirs = truth[f"j{bits}_{i}_{j}"]
                assert jacobians[i, j].dtype == theirs.dtype
                assert np.abs(jacobians[i, j] - theirs).max() <= relative * np.abs(theirs).max()


@pytest.mark.parametrize("stem", STEMS)
def test_every_container_holds_the_same_graph(stem):
    assert len({golden_graph(stem, container).digest for container in CONTAINERS}) == 1


@pytest.mark.parametrize("writer", WRITERS)
def test_shared_layers_are_one_op_and_nested_ones_have_prefixed_names(writer):
    graph = golden_graph(f"branches-{writer}")
    nodes = {}
    for node in graph.nodes:
        nodes.setdefault(node.name, []).append(node.op)
    inner = next(name for name in nodes if name.startswith("block/dense"))
    for name in ("shared", inner):
        assert len(nodes[name]) == 2
        assert nodes[name][0] is nodes[name][1]
    with h5py.File(GOLDEN / f"branches-{writer}.h5") as file:
        sizes = []
        file["model_weights"].visititems(lambda _, found: sizes.append(found.size) if hasattr(found, "size") else None)
    assert graph.parameters == sum(sizes)


# Live models. Each row: what a layer is made with, the inputs it takes among vector (4,), matrix (4, 6) and other (3, 4).

SOME = [0.1, 0.2, 0.3, 0.4]
ROWS = {
    "dense on a matrix": ("Dense", dict(units=3, activation="tanh"), "matrix"),
    "dense, softmax": ("Dense", dict(units=3, activation="softmax"), "matrix"),
    "activation, softmax": ("Activation", dict(activation="softmax"), "vector"),
    "activation, hard sigmoid": ("Activation", dict(activation="hard_sigmoid"), "vector"),
    "relu": ("ReLU", dict(max_value=1.4, negative_slope=0.1, threshold=0.3), "vector"),
    "leaky relu": ("LeakyReLU", {}, "vector"),
    "thresholded relu": ("ThresholdedReLU", dict(theta=0.3), "vector"),
    "elu": ("ELU", dict(alpha=0.7), "vector"),
    "prelu": ("PReLU", {}, "matrix"),
    "prelu, shared": ("PReLU", dict(shared_axes=[1]), "matrix"),
    "softmax": ("Softmax", {}, "vector"),
    "softmax on axis 1": ("Softmax", dict(axis=1), "matrix"),
    "softmax on both": ("Softmax", dict(axis=[1, 2]), "matrix"),
    "normalization": ("Normalization", {}, "vector"),
    "normalization on axis 1": ("Normalization", dict(axis=1), "matrix"),
    "normalization on both": ("Normalization", dict(axis=(1, 2)), "matrix"),
    "normalization on none": ("Normalization", dict(axis=None), "matrix"),
    "normalization, inverted": ("Normalization", dict(mean=0.1, variance=0.3, invert=True), "vector"),
    "normalization, given": ("Normalization", dict(axis=1, mean=SOME, variance=SOME[::-1]), "matrix"),
    "normalization, no variance": ("Normalization", dict(mean=SOME, variance=[0.0, 1.0, 0.0, 1e-20]), "vector"),
    "rescaling": ("Rescaling", dict(scale=1 / 255, offset=-0.1), "vector"),
    "rescaling by lists": ("Rescaling", dict(scale=SOME, offset=SOME[::-1]), "vector"),
    "rescaling by whole numbers": ("Rescaling", dict(scale=16777217, offset=3), "vector"),
    "batch normalization": ("BatchNormalization", {}, "vector"),
    "batch normalization on axis 1": ("BatchNormalization", dict(axis=1, epsilon=1.1e-4, scale=False), "matrix"),
    "batch normalization, not centred": ("BatchNormalization", dict(center=False), "matrix"),
    "layer normalization": ("LayerNormalization", {}, "vector"),
    "layer normalization on axis 1": ("LayerNormalization", dict(axis=1, scale=False), "matrix"),
    "layer normalization on both": ("LayerNormalization", dict(axis=[1, 2], epsilon=1e-5), "matrix"),
    "flatten": ("Flatten", {}, "matrix"),
    "flatten, channels first": ("Flatten", dict(data_format="channels_first"), "matrix"),
    "reshape": ("Reshape", dict(target_shape=(2, -1, 3)), "matrix"),
    "permute": ("Permute", dict(dims=(2, 1)), "matrix"),
    "repeat": ("RepeatVector", dict(n=3), "vector"),
    "add of two ranks": ("Add", {}, "vector other"),
    "subtract": ("Subtract", {}, "other vector"),
    "multiply": ("Multiply", {}, "vector other vector"),
    "average": ("Average", {}, "vector vector other"),
    "maximum": ("Maximum", {}, "vector other vector"),
    "minimum": ("Minimum", {}, "other vector"),
    "concatenate": ("Concatenate", {}, "vector vector"),
    "concatenate on axis 1": ("Concatenate", dict(axis=1), "other other"),
    "concatenate on axis -2": ("Concatenate", dict(axis=-2), "other other"),
    "dot": ("Dot", dict(axes=1), "vector vector"),
    "dot, normalised": ("Dot", dict(axes=-1, normalize=True), "vector other"),
    "dot on two axes": ("Dot", dict(axes=(2, 1), normalize=True), "other matrix"),
    "dropout": ("Dropout", dict(rate=0.3, seed=3), "vector"),
    "spatial dropout": ("SpatialDropout1D", dict(rate=0.3), "matrix"),
    "alpha dropout": ("AlphaDropout", dict(rate=0.3), "vector"),
    "gaussian dropout": ("GaussianDropout", dict(rate=0.3), "vector"),
    "noise": ("GaussianNoise", dict(stddev=0.3), "vector"),
    "regularization": ("ActivityRegularization", dict(l1=0.3), "vector"),
    "identity": ("Identity", {}, "vector"),
}


def test_every_layer_class_has_a_live_row():
    images = {"SpatialDropout2D", "SpatialDropout3D"}  # of the same row as the one for series
    assert set(LAYERS) - {class_name for class_name, _, _ in ROWS.values()} == {"InputLayer", *images}


def randomized(model, rng):
    """The model with other weights, all variances positive; Normalization takes its moments from them."""
    for weight in model.weights:
        if "int" not in str(weight.dtype):
            values = rng.normal(size=weight.shape)
            weight.assign(np.abs(values) + 0.1 if "variance" in weight.name else values)
    waiting = [model]
    while waiting:
        layer = waiting.pop()
        waiting += getattr(layer, "layers", [])
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def saved_everywhere(model, folder):
    """The arguments of each way to read the model."""
    (folder / "model.json").write_text(model.to_json())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both Kerases advise against the legacy container
        model.save(folder / "model.keras")
        model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    yield folder / "model.keras", {}
    yield folder / "model.h5", {}
    yield folder / "model.json", {"weights": folder / "model.weights.h5"}
    yield folder / "model.weights.h5", {"config": folder / "model.json"}


def check_everywhere(tf, model, folder, names=None):
    """Values, one jvp and one vjp of the model in every container, against eager TensorFlow's."""
    rng = np.random.default_rng(0)
    dtype = tf.as_dtype(model.inputs[0].dtype).name
    xs = [tf.constant(rng.normal(size=(5, *x.shape[1:])), dtype) for x in model.inputs]
    directions = [tf.constant(rng.normal(size=x.shape), dtype) for x in xs]

    def outputs():
        return tf.nest.flatten(model(xs if len(xs) > 1 else xs[0], training=False))

    with tf.autodiff.ForwardAccumulator(xs, directions) as accumulator:
        theirs = outputs()
    pushed = [accumulator.jvp(y) for y in theirs]
    back = [tf.constant(rng.normal(size=y.shape), dtype) for y in theirs]
    with tf.GradientTape() as tape:
        tape.watch(xs)
        again = outputs()
    pulled = tape.gradient(again, xs, output_gradients=back)
    relative = {"float32": 4e-6, "float64": 1e-13}[dtype]
    for path, others in saved_everywhere(model, folder):
        graph = graph_of(path, **others)
        assert graph.dtype == dtype
        point = linearize(graph, [x.numpy() for x in xs], "keras")
        mine = {
            "y": (point.outputs, theirs),
            "jvp": (jvp(point, [d.numpy()[None] for d in directions]), pushed),
            "vjp": (vjp(point, [w.numpy()[None] for w in back]), pulled),
        }
        for what, pairs in mine.items():
            for index, (ours, expected) in enumerate(zip(*pairs, strict=True)):
                found = 0 if ours is None else ours if what == "y" else ours[0]
                wanted = np.zeros(1, dtype) if expected is None else expected.numpy()
                error = np.abs(found - wanted).max()
                where = f"{path.name}, {what} of {names[index] if names and what != 'vjp' else index}"
                assert error <= relative * max(np.abs(wanted).max(), 1e-3), f"{where}: {error:.1e}"
    return graph


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_class_computes_what_keras_does(generation, dtype, tmp_path):
    """One model with an output for each row, so that every layer's parameters are what that Keras makes of them."""
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    shapes = {"vector": (4,), "matrix": (4, 6), "other": (3, 4)}
    inputs = {name: keras.layers.Input(shape, name=name, dtype=dtype) for name, shape in shapes.items()}
    outputs = {}
    for row, (class_name, arguments, taken) in ROWS.items():
        if not hasattr(keras.layers, class_name):
            assert (class_name, generation) == ("ThresholdedReLU", "keras")
            continue
        given = [inputs[name] for name in taken.split()]
        # A Dense before each input, so that the layers see numbers that the graph has computed.
        given = [keras.layers.Dense(x.shape[-1], dtype=dtype)(x) for x in given]
        layer = getattr(keras.layers, class_name)(**arguments, dtype=dtype)
        outputs[row] = layer(given if len(given) > 1 else given[0])
    model = randomized(keras.Model(list(inputs.values()), list(outputs.values())), np.random.default_rng(1))
    check_everywhere(tf, model, tmp_path, list(outputs))


def several(keras):
    """Inputs in another order than layers and one unused; an output that is an input, one twice; calls of models."""
    layers = keras.layers
    a, b, unused = layers.Input((3,), name="a"), layers.Input((4,), name="b"), layers.Input((2,), name="unused")
    entry = layers.Input((5,))
    hidden = layers.BatchNormalization(name="bn")(layers.Dense(4, name="d1", trainable=False)(entry))
    inner = keras.Model(entry, [hidden, layers.Dense(2, name="d2")(hidden)], name="inner")
    block = keras.Sequential([layers.Input((5,)), layers.Dense(5, activation="tanh"), layers.Dense(5)], name="block")
    shared = layers.Dense(5, name="shared")
    p, q = shared(a), layers.Dense(5, name="of_b")(b)
    first, second = block(p), block(q)
    (u1, u2), (v1, v2) = inner(first), inner(second)
    joined = layers.Concatenate(name="joined")([u1, v2, q, shared(layers.Dense(3)(q))])
    return keras.Model([b, a, unused], [joined, q, a, q, u1, v2, u2, v1, second, first, joined])


def deferred(keras):
    """A Sequential without input, called twice: Keras 2 counts its calls from 0, those of others from 1."""
    layers = keras.layers
    block = keras.Sequential([layers.Dense(4), layers.Dense(3)], name="block")
    x = layers.Input((3,))
    y = block(x)
    return keras.Model(x, [block(y), y])


def small(keras, name, *layers):
    x = keras.layers.Input((3,))
    y = x
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y, name=name)


def deep(keras):
    """Models in models in models, of both kinds, with layers of one name in several of them."""
    layers = keras.layers
    innermost = keras.Sequential(
        [layers.Input((3,)), layers.Dense(3, name="d5"), layers.BatchNormalization(name="b")], name="innermost"
    )
    outer = keras.Sequential([layers.Input((3,)), innermost, layers.Dense(3, name="d4")], name="outer")
    x, y = layers.Input((3,)), layers.Input((3,))
    middle = keras.Model(x, [outer(small(keras, "bare", layers.Dense(3, name="d"))(x))], name="middle")
    (again,) = found if isinstance(found := middle(y), list) else [found]  # Keras 3 gives a list of one
    return keras.Model(y, [middle(layers.Dense(3, name="d")(again)), middle(y)])


def of_one_name(keras):
    """Layers of one name in two models side by side, after each other's kinds."""
    layers = keras.layers
    one = small(keras, "one", layers.Dense(3, name="d"), layers.PReLU(name="p"))
    two = small(keras, "two", layers.Dense(3, name="d", trainable=False), layers.BatchNormalization(name="p"))
    return keras.Sequential([layers.Input((3,)), two, one, layers.Dense(2, name="d")])


def of_two_shapes(keras):
    """Layers that become another op for another shape, and one that does not."""
    layers = keras.layers
    x, y = layers.Input((3,)), layers.Input((2, 3))
    shared, flat = layers.Dense(4, name="shared"), layers.Flatten(name="flat")
    return keras.Model([x, y], [flat(shared(y)), flat(shared(x))])


def two_inputs_inside(keras):
    """A model of two inputs, called with a list, in both orders, and with one tensor twice."""
    layers = keras.layers
    x, y = layers.Input((3,)), layers.Input((3,))
    inner = keras.Model([y, x], layers.Subtract()([layers.Dense(3)(x), layers.PReLU()(y)]), name="inner")
    a, b = layers.Input((3,)), layers.Input((3,))
    return keras.Model([a, b], [inner([a, b]), inner([b, a]), inner([a, a])])


def stacked(keras):
    """y = 2⁵⁰ x: work that follows each use of a tensor apart would never end."""
    y = x = keras.layers.Input((3,))
    for _ in range(50):
        y = keras.layers.Add()([y, y])
    return keras.Model(x, y)


def of_dicts(keras):
    """Inputs and outputs as dicts, which Keras orders by their keys."""
    layers = keras.layers
    a, b = layers.Input((3,), name="second"), layers.Input((3,), name="first")
    return keras.Model({"second": a, "first": b}, {"z": layers.Dense(2)(a), "y": layers.Dense(2)(b)})


def adapted_inside(keras):
    """Keras 2 writes the moments of a layer that was adapted before it was called without the layer's name."""
    layers = keras.layers
    normalization = layers.Normalization(name="scaled")
    normalization.adapt(np.random.default_rng(5).normal(size=(9, 3)))
    inner = small(keras, "inner", normalization, layers.Dense(3, name="d"), layers.BatchNormalization(name="b"))
    return keras.Sequential([layers.Input((3,)), inner, layers.Dense(1)])


TOPOLOGIES = {
    "several": (several, ("joined", "of_b", "a", "of_b_1", "inner", "inner_1", "inner_2", "inner_3", "block")),
    "deferred": (deferred, ("block", "block_1")),
    "deep": (deep, ("middle", "middle_1")),
    "of one name": (of_one_name, ("d",)),
    "of two shapes": (of_two_shapes, ("flat", "flat_1")),
    "two inputs inside": (two_inputs_inside, ("inner", "inner_1", "inner_2")),
    "stacked": (stacked, None),
    "adapted inside": (adapted_inside, None),
}


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_is_read_in_every_container(generation, name, tmp_path):
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    keras.backend.clear_session()
    make, names = TOPOLOGIES[name]
    model = randomized(make(keras), np.random.default_rng(1))
    graph = check_everywhere(tf, model, tmp_path)
    assert graph.output_names[: len(names or ())] == (names or ())
    if generation == "tf_keras":
        assert graph.output_names == tuple(model.output_names)
    if name == "of two shapes":
        assert len({id(node.op) for node in graph.nodes if node.name == "shared"}) == 1


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_dicts_of_ends_are_ordered_by_their_keys(generation, tmp_path):
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    model = randomized(of_dicts(keras), np.random.default_rng(1))
    xs = {name: np.random.default_rng(2).normal(size=(5, 3)).astype("f4") for name in ("second", "first")}
    expected = model(xs)
    for path, others in saved_everywhere(model, tmp_path):
        graph = graph_of(path, **others)
        assert graph.input_names == ("first", "second")
        ours = linearize(graph, [xs["first"], xs["second"]], "keras").outputs
        for mine, key in zip(ours, ("y", "z"), strict=True):
            np.testing.assert_allclose(mine, expected[key].numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_a_model_of_float16_is_computed_in_float32_and_says_so(generation, tmp_path):
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    half = {"dtype": "float16"}
    layers = [keras.layers.Dense(5, **half), keras.layers.BatchNormalization(**half), keras.layers.PReLU(**half)]
    model = randomized(keras.Sequential([keras.layers.Input((3,), **half), *layers]), np.random.default_rng(1))
    x = np.random.default_rng(2).normal(size=(5, 3)).astype("f2")
    for path, others in saved_everywhere(model, tmp_path):
        with pytest.warns(refgrad.RefgradWarning, match="declared in float16: all is computed in float32"):
            graph = graph_of(path, **others)
        assert graph.dtype == np.float32
        (mine,) = linearize(graph, [x.astype("f4")], "keras").outputs
        np.testing.assert_allclose(mine, model(x).numpy(), rtol=1e-2, atol=2e-2)
