"""What people would use instead of refgrad: each peer's fastest warm way to values and Jacobians of a Dense chain.

Every peer takes a NumPy batch and gives NumPy arrays, as a user of refgrad's would get them. A network is a list of
(kernel, bias, activation name); the activations are those that all peers have.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Layer = tuple[Any, Any, str]
Run = Callable[[Any], Any]
"""A batch → (y, J), or y where values are all that is asked for."""

HIDDEN = ("relu", "tanh")


def plain_numpy(layers: Sequence[Layer], values: bool) -> dict[str, Run]:
    """The chain rule as one would write it down, forward or reverse, whichever is the smaller."""

    def linearized(x: Any) -> tuple[Any, list[Any]]:
        slopes = []
        for kernel, bias, activation in layers:
            z = x @ kernel + bias
            if activation == "relu":
                x, slope = np.maximum(z, 0), z > 0
            elif activation == "tanh":
                x = np.tanh(z)
                slope = 1 - x * x
            else:
                x, slope = z, None
            slopes.append(slope)
        return x, slopes

    def both(x: Any) -> tuple[Any, Any]:
        y, slopes = linearized(x)
        n_in, n_out = len(layers[0][0]), y.shape[1]
        if n_out <= n_in:
            jacobian = np.broadcast_to(np.eye(n_out, dtype=x.dtype), (len(x), n_out, n_out))
            for (kernel, _, _), slope in zip(reversed(layers), reversed(slopes), strict=True):
                jacobian = (jacobian if slope is None else jacobian * slope[:, None, :]) @ kernel.T
            return y, jacobian
        tangent = np.broadcast_to(np.eye(n_in, dtype=x.dtype), (len(x), n_in, n_in))
        for (kernel, _, _), slope in zip(layers, slopes, strict=True):
            tangent = tangent @ kernel
            tangent = tangent if slope is None else tangent * slope[:, None, :]
        return y, tangent.transpose(0, 2, 1)

    return {"numpy": (lambda x: linearized(x)[0]) if values else both}


def chain(layers: Sequence[Layer], tensor: Run, names: Mapping[str, Run]) -> Run:
    """The value of a framework's own tensors, by its own activations."""
    held = [(tensor(kernel), tensor(bias), names[activation]) for kernel, bias, activation in layers]

    def value(x: Any) -> Any:
        for kernel, bias, activation in held:
            x = activation(x @ kernel + bias)
        return x

    return value


def twice(value: Run) -> Callable[[Any], tuple[Any, Any]]:
    """The value for its Jacobian and, beside it, for itself."""

    def pair(x: Any) -> tuple[Any, Any]:
        y = value(x)
        return y, y

    return pair


def jax(layers: Sequence[Layer], values: bool) -> dict[str, Run]:
    """`jit` of `vmap` of `jacrev` and of `jacfwd`."""
    import jax as framework
    import jax.numpy as jnp

    framework.config.update("jax_enable_x64", layers[0][0].dtype == np.float64)
    value = chain(layers, jnp.asarray, {"relu": framework.nn.relu, "tanh": jnp.tanh, "linear": lambda z: z})

    def out_and_back(compiled: Any) -> Run:
        return lambda x: framework.tree_util.tree_map(np.asarray, compiled(x))

    if values:
        return {"jax": out_and_back(framework.jit(value))}

    def batched(mode: Any) -> Run:
        one = mode(twice(value), has_aux=True)

        def sample(x: Any) -> tuple[Any, Any]:
            jacobian, y = one(x)
            return y, jacobian

        return out_and_back(framework.jit(framework.vmap(sample)))

    return {"jax rev": batched(framework.jacrev), "jax fwd": batched(framework.jacfwd)}


def tensorflow(layers: Sequence[Layer], values: bool) -> dict[str, Run]:
    """`tf.function`, and the same compiled by XLA, around `batch_jacobian`."""
    import tensorflow as tf

    value = chain(layers, tf.constant, {"relu": tf.nn.relu, "tanh": tf.tanh, "linear": tf.identity})

    def both(x: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = value(x)
        return y, tape.batch_jacobian(y, x)

    def run(compiled: Any) -> Run:
        if values:
            return lambda x: compiled(tf.constant(x)).numpy()
        return lambda x: tuple(found.numpy() for found in compiled(tf.constant(x)))

    made = value if values else both
    return {
        "tf.function": run(tf.function(made)),
        "tf xla": run(tf.function(made, jit_compile=True)),
    }


def torch(layers: Sequence[Layer], values: bool) -> dict[str, Run]:
    """`torch.func`: `vmap` of `jacrev` and of `jacfwd`."""
    import torch as framework

    framework.set_num_threads(threads())
    names = {"relu": framework.relu, "tanh": framework.tanh, "linear": lambda z: z}
    value = chain(layers, framework.from_numpy, names)

    def batched(mode: Any) -> Run:
        made = framework.func.vmap(mode(twice(value), has_aux=True))

        def run(x: Any) -> tuple[Any, Any]:
            with framework.no_grad():
                jacobian, y = made(framework.from_numpy(x))
            return y.numpy(), jacobian.numpy()

        return run

    def values_only(x: Any) -> Any:
        with framework.inference_mode():
            return value(framework.from_numpy(x)).numpy()

    if values:
        return {"torch": values_only}
    return {"torch rev": batched(framework.func.jacrev), "torch fwd": batched(framework.func.jacfwd)}


def onnxruntime(layers: Sequence[Layer], values: bool) -> dict[str, Run]:
    """One Gemm and one activation a layer; values only."""
    if not values:
        return {}
    import onnx
    import onnxruntime as runtime
    from onnx import helper, numpy_helper

    number = {np.float32: onnx.TensorProto.FLOAT, np.float64: onnx.TensorProto.DOUBLE}[layers[0][0].dtype.type]
    nodes, arrays, last = [], [], "x"
    for index, (kernel, bias, activation) in enumerate(layers):
        arrays += [numpy_helper.from_array(kernel, f"w{index}"), numpy_helper.from_array(bias, f"b{index}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{index}", f"b{index}"], [f"z{index}"]))
        last = f"z{index}"
        if activation != "linear":
            nodes.append(helper.make_node({"relu": "Relu", "tanh": "Tanh"}[activation], [last], [f"a{index}"]))
            last = f"a{index}"
    ends = [("x", len(layers[0][0])), (last, layers[-1][0].shape[1])]
    taken, given = ([helper.make_tensor_value_info(name, number, [None, size])] for name, size in ends)
    model = helper.make_model(
        helper.make_graph(nodes, "chain", taken, given, arrays), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {"onnxruntime": lambda x: session.run(None, {"x": x})[0]}


PEERS: dict[str, tuple[Callable[[Sequence[Layer], bool], dict[str, Run]], str]] = {
    "numpy": (plain_numpy, "numpy"),
    "jax": (jax, "jax"),
    "tensorflow": (tensorflow, "tensorflow"),
    "torch": (torch, "torch"),
    "onnxruntime": (onnxruntime, "onnxruntime"),
}
"""Name → how it is made, and the package that must be installed."""


def threads() -> int:
    """The processors this process may use: every peer is given as many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed() -> dict[str, str]:
    """The peers that are there, with their versions."""
    return {
        name: importlib.metadata.version(package)
        for name, (_, package) in PEERS.items()
        if importlib.util.find_spec(package) is not None
    }
