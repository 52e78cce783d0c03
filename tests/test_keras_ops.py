"""Bare operations of the Functional API: what both Kerases make of each, and how they are written and refused."""

from __future__ import annotations

import numpy as np
import pytest

import refgrad
from tests.test_keras_graphs import X, built, check_everywhere, functional, source, tensor

VECTOR, COLUMN, KERNEL = np.array([0.5, -1.25, 2.0, 0.75]), np.array([[0.5], [-1.5], [3.0]]), np.full((4, 2), 0.3)
KERNEL[:, 0] = [1, -2, 0.5, 0.25]
SQUARE = np.arange(9.0).reshape(3, 3) / 4 - 1


def like(constant, x):
    """A constant in the dtype of a tensor, as users write it."""
    return np.asarray(constant, str(getattr(x.dtype, "name", x.dtype)))


# Each row: the operation in Keras 3, `o` is keras.ops; in TensorFlow, `t`; of vectors x, y (4,), positive p (4,), and
# matrices m, n (3, 4). None where there is no such spelling.
BOTH = {
    "add a number": lambda o, x, y, p, m, n: x + 1.5,
    "number first": lambda o, x, y, p, m, n: 1.5 + x,
    "subtract a whole number": lambda o, x, y, p, m, n: x - 1,
    "subtract from": lambda o, x, y, p, m, n: 1.1 - x,
    "times": lambda o, x, y, p, m, n: x * 0.1,
    "over": lambda o, x, y, p, m, n: x / 3.0,
    "one over": lambda o, x, y, p, m, n: 2 / p,
    "squared": lambda o, x, y, p, m, n: x**2,
    "cubed": lambda o, x, y, p, m, n: x**3.0,
    "root": lambda o, x, y, p, m, n: p**0.5,
    "power of a number": lambda o, x, y, p, m, n: 2.0**x,
    "power": lambda o, x, y, p, m, n: p**y,
    "negative": lambda o, x, y, p, m, n: -x,
    "absolute": lambda o, x, y, p, m, n: abs(x),
    "sum of two": lambda o, x, y, p, m, n: x + y,
    "itself twice": lambda o, x, y, p, m, n: x + x,
    "difference": lambda o, x, y, p, m, n: x - y,
    "product": lambda o, x, y, p, m, n: x * y,
    "quotient": lambda o, x, y, p, m, n: x / p,
    "array": lambda o, x, y, p, m, n: x + like(VECTOR, x),
    "array times": lambda o, x, y, p, m, n: m * like(COLUMN, m),
    "array with a batch of one": lambda o, x, y, p, m, n: x * like(VECTOR[None], x),
    "array that stretches": lambda o, x, y, p, m, n: x[:, 1:2] * like(VECTOR, x),
    "matrix": lambda o, x, y, p, m, n: x @ like(KERNEL, x),
    "matrices": lambda o, x, y, p, m, n: m @ like(KERNEL, m),
    "entry": lambda o, x, y, p, m, n: x[:, 2],
    "slice": lambda o, x, y, p, m, n: x[:, 1:3],
    "row": lambda o, x, y, p, m, n: m[:, -1],
    "steps and a new axis": lambda o, x, y, p, m, n: m[:, ::2, None, 1],
    "new axis": lambda o, x, y, p, m, n: x[:, None],
    "backwards": lambda o, x, y, p, m, n: x[:, ::-2],
}
KERAS_3 = {
    "ellipsis": lambda o, x, y, p, m, n: m[..., 0],
    "ellipsis in the middle": lambda o, x, y, p, m, n: m[:, 1:, ..., 2:],
    "add": lambda o, x, y, p, m, n: o.add(x, y),
    "multiply by name": lambda o, x, y, p, m, n: o.multiply(x1=x, x2=3.0),
    "divide": lambda o, x, y, p, m, n: o.divide(x, p),
    "true_divide": lambda o, x, y, p, m, n: o.true_divide(x, 7),
    "reciprocal": lambda o, x, y, p, m, n: o.reciprocal(p),
    "power of tensors": lambda o, x, y, p, m, n: o.power(p, y),
    "maximum": lambda o, x, y, p, m, n: o.maximum(x, y),
    "maximum with a number": lambda o, x, y, p, m, n: o.maximum(0.25, x),
    "minimum": lambda o, x, y, p, m, n: o.minimum(x, 0.25),
    "clip": lambda o, x, y, p, m, n: o.clip(x, -0.5, 0.75),
    "identity": lambda o, x, y, p, m, n: o.cast(x, x.dtype),
    "tensor": lambda o, x, y, p, m, n: o.add(x, o.convert_to_tensor(like(VECTOR, x))),
    **{
        name: lambda o, x, y, p, m, n, f=name: getattr(o, f)(x)
        for name in ("abs", "absolute", "sign", "square", "exp", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh")
    },
    **{
        name: lambda o, x, y, p, m, n, f=name: getattr(o, f)(p)
        for name in ("sqrt", "rsqrt", "log", "log2", "log10", "log1p")
    },
    **{name: lambda o, x, y, p, m, n, f=name: getattr(o, f)(x) for name in ("arctan", "arcsinh", "erf", "relu")},
    **{
        name: lambda o, x, y, p, m, n, f=name: getattr(o, f)(x)
        for name in (
            *("relu6", "sigmoid", "softplus", "silu", "selu", "log_sigmoid", "sparse_plus"),
            *("sparse_sigmoid", "hard_sigmoid", "hard_silu", "hard_tanh", "tanh_shrink", "gelu", "elu", "celu"),
            *("hard_shrink", "soft_shrink", "squareplus", "leaky_relu", "softmax", "log_softmax", "sparsemax"),
        )
    },
    "glu": lambda o, x, y, p, m, n: o.glu(m, axis=-1),
    "gelu by erf": lambda o, x, y, p, m, n: o.gelu(x, approximate=False),
    "leaky_relu 0.3": lambda o, x, y, p, m, n: o.leaky_relu(x, 0.3),
    "elu 0.5": lambda o, x, y, p, m, n: o.elu(x, 0.5),
    "celu 0.5": lambda o, x, y, p, m, n: o.celu(x, 0.5),
    "threshold": lambda o, x, y, p, m, n: o.threshold(x, 0.25, -1.5),
    "softmax along 1": lambda o, x, y, p, m, n: o.softmax(m, axis=1),
    "reshape": lambda o, x, y, p, m, n: o.reshape(m, (-1, 2, 6)),
    "expand_dims": lambda o, x, y, p, m, n: o.expand_dims(x, 1),
    "squeeze": lambda o, x, y, p, m, n: o.squeeze(o.expand_dims(x, -1), -1),
    "transpose": lambda o, x, y, p, m, n: o.transpose(m, (0, 2, 1)),
    "swapaxes": lambda o, x, y, p, m, n: o.swapaxes(m, 1, -1),
    "moveaxis": lambda o, x, y, p, m, n: o.moveaxis(o.reshape(m, (-1, 3, 2, 2)), 1, 3),
    "moveaxis of two": lambda o, x, y, p, m, n: o.moveaxis(o.reshape(m, (-1, 3, 2, 2)), [1, 2], [3, 1]),
    "flip": lambda o, x, y, p, m, n: o.flip(m, axis=1),
    "flip both": lambda o, x, y, p, m, n: o.flip(m, axis=(1, 2)),
    "roll": lambda o, x, y, p, m, n: o.roll(m, 1, axis=2),
    "repeat": lambda o, x, y, p, m, n: o.repeat(m, 2, axis=1),
    "tile": lambda o, x, y, p, m, n: o.tile(m, [1, 2, 3]),
    "take": lambda o, x, y, p, m, n: o.take(m, [0, -1, 0], axis=2),
    "take one": lambda o, x, y, p, m, n: o.take(m, 1, axis=1),
    "take a matrix": lambda o, x, y, p, m, n: o.take(m, np.array([[0, 1], [2, 2]]), axis=1),
    "split": lambda o, x, y, p, m, n: o.split(x, 2, axis=-1)[1],
    "split at": lambda o, x, y, p, m, n: o.split(m, [1, 3], axis=2)[1],
    "unstack": lambda o, x, y, p, m, n: o.unstack(m, axis=1)[2],
    "concatenate": lambda o, x, y, p, m, n: o.concatenate([m, n, m], axis=1),
    "stack": lambda o, x, y, p, m, n: o.stack([x, y], axis=1),
    "stack last": lambda o, x, y, p, m, n: o.stack([x, y], axis=-1),
    **{
        f"{name} {axis} {keep}": lambda o, x, y, p, m, n, f=name, a=axis, k=keep: getattr(o, f)(m, axis=a, keepdims=k)
        for name in ("sum", "mean", "max", "min", "amax", "amin", "prod", "var", "std", "logsumexp")
        for axis, keep in ((1, False), (-1, True), ((1, 2), False))
        if not (name in ("amax", "amin") and keep)
    },
    "norm": lambda o, x, y, p, m, n: o.norm(m, axis=-1),
    "norm of matrices": lambda o, x, y, p, m, n: o.norm(m, axis=(1, 2), keepdims=True),
    "norm 1": lambda o, x, y, p, m, n: o.norm(m, ord=1, axis=-1),
    "normalize": lambda o, x, y, p, m, n: o.normalize(m),
    "matmul of tensors": lambda o, x, y, p, m, n: o.matmul(m, o.transpose(n, (0, 2, 1))),
    "matmul, constant first": lambda o, x, y, p, m, n: o.matmul(like(SQUARE, m), m),
    "matmul, vector": lambda o, x, y, p, m, n: o.matmul(m, like(VECTOR, m)),
    "matmul of stacks": lambda o, x, y, p, m, n: o.matmul(o.reshape(m, (-1, 3, 2, 2)), o.reshape(n, (-1, 3, 2, 2))),
    "dot": lambda o, x, y, p, m, n: o.dot(x, like(KERNEL, x)),
    "tensordot": lambda o, x, y, p, m, n: o.tensordot(m, like(KERNEL, m), axes=1),
    "tensordot over two": lambda o, x, y, p, m, n: o.tensordot(
        m, like(np.arange(24.0).reshape(3, 4, 2) / 9, m), axes=[[1, 2], [0, 1]]
    ),
    "einsum": lambda o, x, y, p, m, n: o.einsum("bi,ij->bj", x, like(KERNEL, x)),
    "einsum, mixed": lambda o, x, y, p, m, n: o.einsum("ki,bij->bjk", like(SQUARE, m), m),
    "einsum of tensors": lambda o, x, y, p, m, n: o.einsum("bij,bkj->bki", m, n),
    "einsum, diagonal": lambda o, x, y, p, m, n: o.einsum("bij,bij->bj", m, n),
    "einsum, outer": lambda o, x, y, p, m, n: o.einsum("bi,bj->bij", x, y),
    "einsum of one": lambda o, x, y, p, m, n: o.einsum("bij->bj", m),
}
TENSORFLOW = {
    "add": lambda t, x, y, p, m, n: t.add(x, y),
    "by name": lambda t, x, y, p, m, n: t.multiply(x=x, y=3.0),
    "subtract from": lambda t, x, y, p, m, n: t.subtract(like(VECTOR, x), x),
    "reciprocal": lambda t, x, y, p, m, n: t.math.reciprocal(p),
    "add_n": lambda t, x, y, p, m, n: t.add_n([x, y, x]),
    "maximum": lambda t, x, y, p, m, n: t.maximum(x, y),
    "minimum": lambda t, x, y, p, m, n: t.minimum(x, 0.25),
    "clip": lambda t, x, y, p, m, n: t.clip_by_value(x, -0.5, 0.75),
    "bias_add": lambda t, x, y, p, m, n: t.nn.bias_add(x, like(VECTOR, x)),
    "identity": lambda t, x, y, p, m, n: t.identity(x),
    **{
        name: lambda t, x, y, p, m, n, f=name: getattr(t.math, f)(x)
        for name in (
            *("abs", "sign", "square", "exp", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh", "atan", "asinh"),
            *("erf", "sigmoid", "softplus", "log_sigmoid"),
        )
    },
    **{name: lambda t, x, y, p, m, n, f=name: getattr(t.math, f)(p) for name in ("sqrt", "rsqrt", "log", "log1p")},
    **{
        f"nn.{name}": lambda t, x, y, p, m, n, f=name: getattr(t.nn, f)(x)
        for name in ("relu", "relu6", "elu", "selu", "silu", "gelu", "leaky_relu", "softmax", "log_softmax")
    },
    "leaky_relu 0.3": lambda t, x, y, p, m, n: t.nn.leaky_relu(x, 0.3),
    "gelu by tanh": lambda t, x, y, p, m, n: t.nn.gelu(x, approximate=True),
    "softmax along 1": lambda t, x, y, p, m, n: t.nn.softmax(m, axis=1),
    "reshape": lambda t, x, y, p, m, n: t.reshape(m, (-1, 2, 6)),
    "expand_dims": lambda t, x, y, p, m, n: t.expand_dims(x, 1),
    "squeeze": lambda t, x, y, p, m, n: t.squeeze(t.expand_dims(x, -1), -1),
    "transpose": lambda t, x, y, p, m, n: t.transpose(m, (0, 2, 1)),
    "reverse": lambda t, x, y, p, m, n: t.reverse(m, [1]),
    "roll": lambda t, x, y, p, m, n: t.roll(m, shift=[1, -1], axis=[1, 2]),
    "repeat": lambda t, x, y, p, m, n: t.repeat(m, 2, axis=1),
    "tile": lambda t, x, y, p, m, n: t.tile(m, [1, 2, 3]),
    "gather": lambda t, x, y, p, m, n: t.gather(m, [0, 3, 0], axis=2),
    "split": lambda t, x, y, p, m, n: t.split(x, 2, axis=-1)[1],
    "split sizes": lambda t, x, y, p, m, n: t.split(m, [1, -1, 1], axis=2)[1],
    "unstack": lambda t, x, y, p, m, n: t.unstack(m, axis=1)[2],
    "concat": lambda t, x, y, p, m, n: t.concat([m, n, m], axis=1),
    "stack": lambda t, x, y, p, m, n: t.stack([x, y], axis=1),
    **{
        f"{name} {axis} {keep}": lambda t, x, y, p, m, n, f=name, a=axis, k=keep: getattr(t.math, f"reduce_{f}")(
            m, axis=a, keepdims=k
        )
        for name in ("sum", "mean", "max", "min", "prod", "variance", "std", "logsumexp")
        for axis, keep in ((1, False), (-1, True), ([1, 2], False))
    },
    "norm": lambda t, x, y, p, m, n: t.norm(m, axis=-1),
    "l2_normalize": lambda t, x, y, p, m, n: t.math.l2_normalize(m, axis=-1),
    "matmul of tensors": lambda t, x, y, p, m, n: t.matmul(m, n, transpose_b=True),
    "matmul": lambda t, x, y, p, m, n: t.matmul(x, like(KERNEL, x)),
    "tensordot": lambda t, x, y, p, m, n: t.tensordot(m, like(KERNEL, m), axes=1),
}


def model_of(keras, dtype, rows, namespace):
    """A model with an output for each operation, of numbers that the graph has computed."""
    layers = keras.layers
    inputs = [layers.Input((4,), name="x", dtype=dtype), layers.Input((3, 4), name="m", dtype=dtype)]
    dense = [layers.Dense(4, dtype=dtype, activation=name) for name in ("tanh", None, "sigmoid", "tanh", None)]
    x, y, p = (layer(inputs[0]) for layer in dense[:3])
    m, n = (layer(inputs[1]) for layer in dense[3:])
    p = layers.Rescaling(1.0, 0.25, dtype=dtype)(p)
    return keras.Model(inputs, [make(namespace, x, y, p, m, n) for make in rows.values()])


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_operation_computes_what_keras_does(generation, dtype, tmp_path):
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    rows = BOTH | (KERAS_3 if generation == "keras" else TENSORFLOW)
    # TensorFlow's GELU holds a constant as a float32, so it is not what it says in float64.
    rows = {name: make for name, make in rows.items() if dtype == "float32" or "gelu" not in name}
    keras.utils.set_random_seed(3)
    model = model_of(keras, dtype, rows, keras.ops if generation == "keras" else tf)
    check_everywhere(tf, model, tmp_path, list(rows))


# Operations that are written out here: what other versions write, and what must not be read.


def of_3(class_name, *args, module="keras.src.ops.numpy", kwargs=None, **config):
    """An operation as Keras 3 writes it."""
    return {
        "module": module,
        "class_name": class_name,
        "config": {"name": "op", **config},
        "registered_name": class_name,
        "name": "op",
        "inbound_nodes": [{"args": list(args), "kwargs": kwargs or {}}],
    }


def of_2(function, first=("x", 0, 0), class_name="TFOpLambda", **keywords):
    """An operation as Keras 2.4 writes it."""
    config = {"name": "op", "trainable": True, "dtype": "float32", "function": function}
    return {"class_name": class_name, "name": "op", "config": config, "inbound_nodes": [[*first, keywords]]}


def loaded(entry, folder, *shape, output=0):
    """A network of one operation on inputs x of that shape, and y of two features."""
    layers = [source("x", *shape), source("y", 2), entry]
    spelling = "2" if entry["class_name"] in ("TFOpLambda", "SlicingOpLambda") else "3"
    graph = built(functional(layers, [list(X), ["y", 0, 0]], [["op", 0, output]]), folder, spelling)
    return refgrad.Network(graph)


T, Y = tensor(*X), tensor("y")
ALL = {"start": None, "stop": None, "step": None}
FULL, ELLIPSIS = {"class_name": "__slice__", "config": ALL}, {"class_name": "__ellipsis__", "config": {}}
NUMPY = {"class_name": "__numpy__", "config": {"value": [1.0, 2.0, 4.0], "dtype": "float64"}}
SPELLED = {
    "module of 3.0": (of_3("Add", T, 2.0, module="keras.ops.numpy"), lambda x: x + 2),
    "by keywords": (of_3("Subtract", T, kwargs={"x2": 2.0}), lambda x: x - 2),
    "reshape": (of_3("Reshape", T, newshape=[None, 3, -1]), lambda x: x[:, :, None]),
    "no key": (of_3("GetItem", T, FULL), lambda x: x),
    "no tensor of a list": (of_3("Divide", NUMPY, T), lambda x: [1, 2, 4] / x),
    "2.4": (of_2("math.multiply", y=2.0, name=None), lambda x: x * 2),
    "2.4, two arrays": (of_2("math.subtract", y=[1.0, 2.0, 4.0]), lambda x: x - [1, 2, 4]),
    "2.4, tensor": (of_2("__operators__.add", y=["x", 0, 0], name=None), lambda x: x + x),
    "2.4, constant first": (
        of_2("__operators__.sub", ("_CONSTANT_VALUE", -1, 2.0), y=["x", 0, 0]),
        lambda x: 2 - x,
    ),
    "2.4, list": (
        {**of_2("concat"), "inbound_nodes": [[["x", 0, 0, {"axis": -1}], ["x", 0, 0, {"axis": -1}]]]},
        lambda x: np.concatenate([x, x], axis=1),
    ),
    "2.4, list around one": ({**of_2("math.exp"), "inbound_nodes": [[["x", 0, 0, {}]]]}, np.exp),
    "2.4, slice": (
        of_2("__operators__.getitem", class_name="SlicingOpLambda", slice_spec=[{"class_name": "__ellipsis__"}, 1]),
        lambda x: x[:, 1],
    ),
    "2.4, slice with steps": (
        of_2(
            "__operators__.getitem",
            class_name="SlicingOpLambda",
            slice_spec={"class_name": "__tuple__", "items": [ALL, {"start": None, "stop": None, "step": -2}, None]},
        ),
        lambda x: x[:, ::-2, None],
    ),
    "of TensorFlow 1": (of_2("compat.v1.reduce_sum".replace("reduce", "math.reduce"), axis=[1], keep_dims=True),
                        lambda x: x.sum(axis=1, keepdims=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLED)
def test_an_operation_is_read_as_other_versions_write_it(name, tmp_path):
    entry, wanted = SPELLED[name]
    x = np.random.default_rng(3).uniform(0.5, 2, size=(2, 3)).astype("float32")
    np.testing.assert_allclose(loaded(entry, tmp_path, 3)([x, np.zeros((2, 2))]), wanted(x), rtol=1e-6)


BAD = {
    "unknown": (of_3("Cumsum", T, axis=1), "the operation 'Cumsum' is not supported; docs"),
    "of a user": ({**of_3("Add", T, 1.0), "registered_name": "mine>Add"}, "the operation 'Add' is not supported"),
    "stop": (of_3("StopGradient", T), "it hides a derivative"),
    "condition": (of_3("Where", T, T, 0.0), "conditions cannot be read"),
    "jumps": (of_3("Floor", T), "made of jumps"),
    "einsum of 2": (of_2("einsum", ("_CONSTANT_VALUE", -1, "bi->b")), "leaves its tensors out of the file"),
    "no tensor": (of_3("Add", 1.0, 2.0), "with no tensor of the model"),
    "too many": (of_3("Add", T, 2.0, 3.0), "called with 3 arguments and takes 2"),
    "one missing": (of_3("Add", T), "'x2' is missing"),
    "keyword": (of_3("Add", T, 1.0, kwargs={"where": True}), "called with where=True, which could change the output"),
    "twice": (of_3("Add", T, 1.0, kwargs={"x2": 2.0}), "'x2' is given twice"),
    "words": (of_3("Add", T, "one"), "x2: 'one' is not a number"),
    "object": (of_3("Add", T, {"class_name": "Mine"}), "neither a tensor of the model nor a constant"),
    "initial": (of_3("Max", T, axis=-1, initial=0.0), "called with initial=0.0"),
    "batch summed": (of_3("Sum", T, axis=0), "axis 0 is the batch"),
    "all summed": (of_3("Sum", T, axis=None), "no axis is named"),
    "batch indexed": (of_3("GetItem", T, 0), "the batch axis can only be taken as a whole"),
    "batch sliced": (
        of_3("GetItem", T, [{"class_name": "__slice__", "config": {**ALL, "stop": 1}}, 0]),
        "the batch axis can only be taken as a whole",
    ),
    "batch moved": (of_3("Transpose", T, axes=[1, 0]), "the batch axis can only"),
    "batch in a shape": (of_3("Reshape", T, newshape=[2, 3]), "fixes the batch"),
    "batch taken apart": (of_3("Reshape", T, newshape=[-1, 1]), "takes the 3 numbers of a sample apart"),
    "batch of a constant": (
        of_3("Add", T, {"class_name": "__numpy__", "config": {"value": [[1.0] * 3] * 2}}),
        r"a constant of shape \(2, 3\) meets the batch axis",
    ),
    "constant that is too long": (of_3("Add", T, [1.0, 2.0]), "sizes must be equal or 1"),
    "ranks": (
        of_3("Add", T, Y),
        "sizes must be equal or 1",
    ),
    "batch multiplied": (of_3("Matmul", T, T), "is not one product for each sample"),
    "batch of a constant multiplied": (of_3("Einsum", T, [[1.0, 2.0]], subscripts="bi,bj->bij"), "one product for"),
    "matrix that is too short": (of_3("Matmul", T, [[1.0], [2.0]]), "axes of 3 and 2 entries meet"),
    "index": (of_3("GetItem", T, [FULL, 3]), "index 3 is none of an axis of 3 entries"),
    "index of words": (of_3("GetItem", T, [FULL, "a"]), "'a' is no index"),
    "two ellipses": (of_3("GetItem", T, [ELLIPSIS, ELLIPSIS]), "more than one ellipsis"),
    "nothing": (
        of_3("GetItem", T, [FULL, {"class_name": "__slice__", "config": {**ALL, "start": 3}}]),
        "it takes nothing of axis -1",
    ),
    "too many axes": (of_3("GetItem", T, [FULL, 0, 0]), "it names 3 axes of a tensor that has 2"),
    "parts": (of_3("Split", T, indices_or_sections=2, axis=1), "no 2 equal parts"),
    "cast": (of_3("Cast", T, dtype="float16"), "it casts to 'float16'"),
    "beside": ({**of_3("Add", T, 1.0), "twist": 1}, "'twist' beside its config"),
    "unknown tensor": (of_3("Add", tensor("z"), 1.0), "takes a tensor of 'z'"),
    "old layer": (
        {"class_name": "TensorFlowOpLayer", "config": {"name": "op", "node_def": "", "constants": {}},
         "name": "op", "inbound_nodes": [[["x", 0, 0, {}]]]},
        "a bare operation as TensorFlow 2.0 to 2.3 wrote it",
    ),
    "keyword of 2": (of_2("math.add", y=1.0, twist=2), "called with twist=2"),
    "conjugate": (of_2("compat.v1.transpose", perm=[0, 1], conjugate=True), "only False is supported"),
    "huge": (of_3("Tile", T, repeats=[1, 10**7 * 9]), "270,000,000 where at most 1,000,000 are allowed"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_an_operation_that_is_no_map_of_one_sample_is_refused_by_name(name, tmp_path):
    entry, message = BAD[name]
    with pytest.raises(refgrad.RefgradError, match=rf"layer 'op' \(\w+\): .*{message}") as caught:
        loaded(entry, tmp_path, 3)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_tensors_of_which_one_has_fewer_axes_are_refused(tmp_path):
    with pytest.raises(refgrad.UnsupportedError, match="the batch axis of one meets a feature axis of the other"):
        loaded(of_3("Add", T, Y), tmp_path, 2, 2)


def test_an_output_that_an_operation_does_not_have_is_refused(tmp_path):
    entry = of_3("Split", T, indices_or_sections=3, axis=1)
    x, y = np.array([[1.0, 2.0, 3.0]]), np.zeros((1, 2))
    assert loaded(entry, tmp_path, 3, output=2)([x, y]) == 3
    with pytest.raises(refgrad.FormatError, match="output_layers: it takes output 3 of an operation that has 3"):
        loaded(entry, tmp_path, 3, output=3)


def test_one_number_a_sample_has_no_feature_axes(tmp_path):
    """Shapes (batch,): value, Jacobian and products in every mode, and what comes of them with constants."""
    entries = [
        of_3("GetItem", T, [FULL, 0]),
        of_3("Multiply", tensor("op"), 3.0),
        of_3("ExpandDims", tensor("b"), axis=1),
    ]
    names = ["op", "b", "c"]
    layers = [{**entry, "name": name, "config": {**entry["config"], "name": name}}
              for entry, name in zip(entries, names, strict=True)]  # fmt: skip
    model = functional([source("x"), *layers], [list(X)], [[name, 0, 0] for name in names])
    net = refgrad.Network(built(model, tmp_path))
    x = np.array([[2.0, 1.0, 0.0], [5.0, 1.0, 0.0]])
    assert net.output_shapes == ((), (), (1,))
    y = net(x)
    np.testing.assert_array_equal(y["b"], [6, 15])
    np.testing.assert_array_equal(y["c"], [[6], [15]])
    for mode in ("auto", "forward", "reverse"):
        jacobian = net.jacobian(x, mode=mode)
        np.testing.assert_array_equal(jacobian["b"], [[3, 0, 0]] * 2)
        np.testing.assert_array_equal(jacobian["c"], [[[3, 0, 0]]] * 2)


def test_a_sum_of_itself_fifty_times_over_is_linear_work(tmp_path):
    count = 50
    layers, before = [source("x")], "x"
    for index in range(count):
        entry = of_3("Add", tensor(before), tensor(before))
        before = f"a{index}"
        layers.append({**entry, "name": before, "config": {"name": before}})
    net = refgrad.Network(built(functional(layers, [list(X)], [[before, 0, 0]]), tmp_path))
    assert len(net.graph.nodes) == count + 1
    for mode in ("forward", "reverse"):
        np.testing.assert_array_equal(net.jacobian([[1.0, 2.0, 3.0]], mode=mode), [np.eye(3) * 2.0**count])


def test_constants_are_of_the_models_dtype_and_survive_saving(tmp_path):
    net = loaded(of_3("Divide", NUMPY, T), tmp_path, 3)
    assert net.dtype == np.float32
    x = {"x": np.array([[1.0, 2.0, 3.0]]), "y": np.zeros((1, 2))}
    refgrad.save(net, tmp_path / "net.npz")
    again = refgrad.load(tmp_path / "net.npz")
    assert again.digest == net.digest
    np.testing.assert_array_equal(again.jacobian(x)["x"], net.jacobian(x)["x"])
    assert not again.jacobian(x)["y"].any()


def test_the_same_operation_in_a_model_called_twice_is_one_op(tmp_path):
    inner = functional([source("x"), of_3("Multiply", T, 2.0)], [list(X)], [["op", 0, 0]], "inner")
    calls = [{"args": [T], "kwargs": {}}, {"args": [tensor("inner", 0)], "kwargs": {}}]
    inner["inbound_nodes"] = calls
    graph = built(functional([source("x"), inner], [list(X)], [["inner", 2, 0]]), tmp_path)
    assert len(graph.nodes) == 3
    assert graph.nodes[1].op is graph.nodes[2].op
