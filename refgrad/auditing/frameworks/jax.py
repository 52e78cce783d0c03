"""JAX: the graph rebuilt in `jax.numpy` and `jax.nn`, differentiated by `jit` of `vjp`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from refgrad.agreement import Answer
from refgrad.arrays import Array
from refgrad.auditing.frameworks.rebuild import Function, rebuilt
from refgrad.auditing.frameworks.reference import Question, Reference
from refgrad.errors import MissingExtraError
from refgrad.graph import Graph


def _jax() -> Any:
    try:
        import jax
        import jax.numpy
    except ImportError as error:
        msg = f"JAX is missing ({error}): pip install jax, or refgrad's extra 'jax'"
        raise MissingExtraError(msg) from None
    return jax


def namespace(jax: Any, dtype: np.dtype[Any]) -> SimpleNamespace:
    """What the rules of `rebuild` and `functions` need, and which activations JAX has itself."""
    jnp, nn = jax.numpy, jax.nn
    same = ("abs", "sign", "square", "sqrt", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan")
    own = {name: getattr(jnp, name) for name in (*same, "sinh", "cosh", "tanh", "arctan", "arcsinh")}
    own |= {name: getattr(nn, name) for name in ("leaky_relu", "relu6", "elu", "celu", "selu", "sigmoid", "softplus")}
    own |= {name: getattr(nn, name) for name in ("log_sigmoid", "silu", "mish", "squareplus", "hard_sigmoid")}
    own |= {name: getattr(nn, name) for name in ("hard_silu", "hard_tanh", "sparse_plus", "sparse_sigmoid")}
    own |= {"exponential": jnp.exp, "softsign": nn.soft_sign, "rsqrt": jax.lax.rsqrt, "erf": jax.scipy.special.erf}
    own |= {"gelu": lambda z: nn.gelu(z, approximate=False), "gelu_tanh": lambda z: nn.gelu(z, approximate=True)}
    return SimpleNamespace(
        title="JAX",
        dtype=dtype,
        own=own,
        array=lambda array: jnp.asarray(array, dtype),
        matmul=jnp.matmul,
        reshape=jnp.reshape,
        transpose=jnp.transpose,
        concatenate=lambda tensors, axis: jnp.concatenate(list(tensors), axis),
        take=lambda x, indices, axis: jnp.take(x, np.array(indices), axis),
        sum=lambda x, axes, keepdims: jnp.sum(x, axes, keepdims=keepdims),
        mean=lambda x, axes, keepdims: jnp.mean(x, axes, keepdims=keepdims),
        max=lambda x, axes, keepdims: jnp.max(x, axes, keepdims=keepdims),
        min=lambda x, axes, keepdims: jnp.min(x, axes, keepdims=keepdims),
        log_sum_exp=lambda x, axes, keepdims: jax.scipy.special.logsumexp(x, axes, keepdims=keepdims),
        softmax=lambda x: nn.softmax(x, axis=-1),
        log_softmax=lambda x: nn.log_softmax(x, axis=-1),
        descending=lambda x, axis: -jnp.sort(-x, axis=axis),
        cumsum=lambda x, axis: jnp.cumsum(x, axis=axis),
        zeros_like=jnp.zeros_like,
        ones_like=jnp.ones_like,
        maximum=jnp.maximum,
        minimum=jnp.minimum,
        clip=jnp.clip,
        power=jnp.power,
        where=jnp.where,
        square=jnp.square,
        sqrt=jnp.sqrt,
        rsqrt=jax.lax.rsqrt,
        expm1=jnp.expm1,
        sigmoid=nn.sigmoid,
        relu=nn.relu,
    )


def differentiate(jax: Any, function: Function, inputs: Sequence[Array]) -> Answer:
    """Values and Jacobians, a row at a time inside one compiled program."""
    jnp = jax.numpy

    def rows(y: Any, place: int, outputs: list[Any], pull: Any) -> Any:
        n = int(np.prod(y.shape[1:], dtype=int))

        def row(j: Any) -> Any:
            unit = jnp.broadcast_to(jax.nn.one_hot(j, n, dtype=y.dtype), (len(y), n)).reshape(y.shape)
            return pull([unit if other == place else jnp.zeros_like(z) for other, z in enumerate(outputs)])

        return jax.lax.map(row, jnp.arange(n))

    def both(*x: Any) -> Any:
        outputs, pull = jax.vjp(function, *x)
        return outputs, [rows(y, place, outputs, pull) for place, y in enumerate(outputs)]

    outputs, found = jax.jit(both)(*map(jnp.asarray, inputs))
    jacobians = tuple(
        tuple(
            np.moveaxis(np.asarray(part), 0, 1).reshape(*y.shape, *x.shape[1:])
            for part, x in zip(row, inputs, strict=True)
        )
        for y, row in zip(outputs, found, strict=True)
    )
    return Answer(tuple(np.asarray(y) for y in outputs), jacobians)


def answer(graph: Graph, inputs: Sequence[Array]) -> Answer:
    """The rebuilt graph's value and Jacobian; float64 is switched on for this call alone."""
    jax = _jax()
    with jax.enable_x64(graph.dtype == np.float64):
        return differentiate(jax, rebuilt(graph, namespace(jax, graph.dtype)), inputs)


def ask(question: Question) -> Reference:
    """JAX's word on the rebuilt graph."""
    jax, graph = _jax(), question.graph
    how = (
        f"JAX {jax.__version__} on {jax.default_backend()}: refgrad's own graph rebuilt in JAX's ops (how the file was "
        f"read is not compared), jit of vjp, {graph.dtype.name}"
    )
    return Reference(answer(graph, question.inputs), how)
