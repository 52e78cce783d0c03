"""TensorFlow's ops for a rebuilt graph, and its three ways to differentiate: eager, `tf.function` and XLA."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from refgrad.agreement import Answer
from refgrad.arrays import Array
from refgrad.auditing.frameworks.rebuild import Function

Mode = Literal["eager", "function", "xla"]

MODES: Mapping[Mode, str] = {
    "eager": "eager GradientTape",
    "function": "GradientTape in tf.function",
    "xla": "GradientTape compiled by XLA",
}
"""How each is said in a report: at kinks compiled TensorFlow may choose another slope than eager TensorFlow."""


def namespace(tf: Any, dtype: np.dtype[Any]) -> SimpleNamespace:
    """What the rules of `rebuild` and `functions` need, and which activations TensorFlow has itself."""
    nn, math_ = tf.nn, tf.math
    same = ("abs", "sign", "square", "sqrt", "rsqrt", "expm1", "log", "log1p", "sin", "cos", "tan", "sinh", "cosh")
    own = {
        name: getattr(math_, name) for name in (*same, "tanh", "erf", "softplus", "log_sigmoid", "sigmoid", "softsign")
    }
    own |= {name: getattr(nn, name) for name in ("relu6", "selu", "silu")}
    own |= {"exponential": tf.exp, "arctan": tf.atan, "arcsinh": tf.asinh}
    own |= {"elu": lambda z, alpha: tf.nn.elu(z) if alpha == 1 else tf.where(z > 0, tf.nn.elu(z), alpha * tf.nn.elu(z))}
    own |= {"gelu": lambda z: nn.gelu(z, approximate=False), "gelu_tanh": lambda z: nn.gelu(z, approximate=True)}

    def leaky_relu(z: Any, slope: float) -> Any:
        # TensorFlow's op holds the slope as a float32, whatever the dtype of z.
        return nn.leaky_relu(z, slope) if slope == float(np.float32(slope)) else tf.where(z > 0, z, slope * z)

    own["leaky_relu"] = leaky_relu
    return SimpleNamespace(
        title="TensorFlow",
        dtype=dtype,
        own=own,
        array=lambda array: tf.constant(np.asarray(array, dtype)),
        matmul=tf.matmul,
        reshape=tf.reshape,
        transpose=tf.transpose,
        concatenate=lambda tensors, axis: tf.concat(list(tensors), axis),
        take=lambda x, indices, axis: tf.gather(x, indices, axis=axis),
        sum=lambda x, axes, keepdims: tf.reduce_sum(x, axes, keepdims=keepdims),
        mean=lambda x, axes, keepdims: tf.reduce_mean(x, axes, keepdims=keepdims),
        max=lambda x, axes, keepdims: tf.reduce_max(x, axes, keepdims=keepdims),
        min=lambda x, axes, keepdims: tf.reduce_min(x, axes, keepdims=keepdims),
        log_sum_exp=lambda x, axes, keepdims: tf.reduce_logsumexp(x, axes, keepdims=keepdims),
        softmax=lambda x: nn.softmax(x, axis=-1),
        log_softmax=lambda x: nn.log_softmax(x, axis=-1),
        descending=lambda x, axis: tf.sort(x, axis=axis, direction="DESCENDING"),
        cumsum=lambda x, axis: tf.cumsum(x, axis=axis),
        zeros_like=tf.zeros_like,
        ones_like=tf.ones_like,
        maximum=tf.maximum,
        minimum=tf.minimum,
        clip=tf.clip_by_value,
        power=tf.pow,
        where=tf.where,
        square=tf.square,
        sqrt=tf.sqrt,
        rsqrt=math_.rsqrt,
        expm1=math_.expm1,
        sigmoid=tf.sigmoid,
        relu=nn.relu,
    )


def _units(y: Array) -> Sequence[Array]:
    """For every entry of the output a cotangent that asks for its row of the Jacobian."""
    n = math.prod(y.shape[1:])
    places = np.eye(n, dtype=y.dtype)
    return [np.broadcast_to(place, (len(y), n)).reshape(y.shape) for place in places]


def _pullback(
    tf: Any, function: Function, inputs: list[Any], mode: Mode
) -> tuple[list[Any], Callable[[int, Any], Any]]:
    """The outputs, and what pulls a cotangent of one of them back to the inputs."""
    if mode == "eager":
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            outputs = function(*inputs)

        def again(place: int, unit: Any) -> Any:
            return tape.gradient(outputs[place], inputs, output_gradients=unit, unconnected_gradients="zero")

        return outputs, again

    def one(place: int, unit: Any, *x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(*x)[place]
        return tape.gradient(y, x, output_gradients=unit, unconnected_gradients="zero")

    compiled = {"jit_compile": True} if mode == "xla" else {}
    values, pull = tf.function(lambda *x: function(*x), **compiled), tf.function(one, **compiled)
    return values(*inputs), lambda place, unit: pull(place, unit, *inputs)


def differentiate(tf: Any, function: Function, given: Sequence[Array], mode: Mode) -> Answer:
    """Values and Jacobians, a row at a time."""
    inputs = [tf.constant(x) for x in given]
    outputs, pull = _pullback(tf, function, inputs, mode)
    values = [y.numpy() for y in outputs]
    jacobians = []
    for place, y in enumerate(values):
        rows = [[part.numpy() for part in pull(place, tf.constant(unit))] for unit in _units(y)]
        jacobians.append(
            tuple(
                np.stack(row, axis=1).reshape(*y.shape, *x.shape[1:])
                for row, x in zip(zip(*rows, strict=True), given, strict=True)
            )
        )
    return Answer(tuple(values), tuple(jacobians))
