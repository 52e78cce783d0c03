"""Bare operations of the Functional API: what both Kerases make of each, and how they are written and refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.test_keras_graphs import check_everywhere

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
