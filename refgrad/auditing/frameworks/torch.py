"""PyTorch: the graph rebuilt in `torch` and `torch.nn.functional`, differentiated by its autograd."""

from __future__ import annotations

import math
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


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        msg = f"PyTorch is missing ({error}): pip install torch, or refgrad's extra 'torch'"
        raise MissingExtraError(msg) from None
    return torch


def namespace(torch: Any, dtype: np.dtype[Any]) -> SimpleNamespace:
    """What the rules of `rebuild` and `functions` need, and which activations torch has itself."""
    nn = torch.nn.functional
    same = ("abs", "sign", "square", "sqrt", "rsqrt", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan")
    own = {
        name: getattr(torch, name) for name in (*same, "sinh", "cosh", "tanh", "sigmoid", "erf", "arctan", "arcsinh")
    }
    own |= {
        name: getattr(nn, name) for name in ("leaky_relu", "relu6", "elu", "celu", "selu", "softplus", "silu", "mish")
    }
    own |= {"exponential": torch.exp, "softsign": nn.softsign, "log_sigmoid": nn.logsigmoid, "threshold": nn.threshold}
    own |= {"hard_sigmoid": nn.hardsigmoid, "hard_silu": nn.hardswish, "hard_tanh": nn.hardtanh}
    own |= {"hard_shrink": nn.hardshrink, "tanh_shrink": nn.tanhshrink}
    own |= {"gelu": nn.gelu, "gelu_tanh": lambda z: nn.gelu(z, approximate="tanh")}
    return SimpleNamespace(
        title="PyTorch",
        dtype=dtype,
        own=own,
        array=lambda array: torch.from_numpy(np.array(array, dtype)),
        matmul=torch.matmul,
        reshape=torch.reshape,
        transpose=torch.permute,
        concatenate=lambda tensors, axis: torch.cat(list(tensors), dim=axis),
        take=lambda x, indices, axis: torch.index_select(x, axis, torch.tensor(indices)),
        sum=lambda x, axes, keepdims: torch.sum(x, dim=axes, keepdim=keepdims),
        mean=lambda x, axes, keepdims: torch.mean(x, dim=axes, keepdim=keepdims),
        max=lambda x, axes, keepdims: torch.amax(x, dim=axes, keepdim=keepdims),
        min=lambda x, axes, keepdims: torch.amin(x, dim=axes, keepdim=keepdims),
        log_sum_exp=lambda x, axes, keepdims: torch.logsumexp(x, dim=axes, keepdim=keepdims),
        softmax=lambda x: torch.softmax(x, dim=-1),
        log_softmax=lambda x: torch.log_softmax(x, dim=-1),
        descending=lambda x, axis: torch.sort(x, dim=axis, descending=True)[0],
        cumsum=lambda x, axis: torch.cumsum(x, dim=axis),
        zeros_like=torch.zeros_like,
        ones_like=torch.ones_like,
        maximum=torch.maximum,
        minimum=torch.minimum,
        clip=torch.clamp,
        power=torch.pow,
        where=torch.where,
        square=torch.square,
        sqrt=torch.sqrt,
        rsqrt=torch.rsqrt,
        expm1=torch.expm1,
        sigmoid=torch.sigmoid,
        relu=torch.relu,
    )


def differentiate(torch: Any, function: Function, inputs: Sequence[Array]) -> Answer:
    """Values and Jacobians, a row at a time."""
    x = [torch.tensor(given, requires_grad=True) for given in inputs]
    outputs = function(*x)
    jacobians = []
    for y in outputs:
        shape, n = tuple(y.shape), math.prod(y.shape[1:])
        rows: list[list[Any]] = [[] for _ in x]
        for j in range(n):
            unit = torch.zeros((shape[0], n), dtype=y.dtype)
            unit[:, j] = 1
            parts: Sequence[Any] = [None] * len(x)
            if y.requires_grad:
                parts = torch.autograd.grad(y, x, unit.reshape(shape), retain_graph=True, allow_unused=True)
            for row, part, given in zip(rows, parts, inputs, strict=True):
                row.append(np.zeros_like(given) if part is None else part.numpy())
        jacobians.append(
            tuple(
                np.stack(row, axis=1).reshape(*shape, *given.shape[1:]) for row, given in zip(rows, inputs, strict=True)
            )
        )
    return Answer(tuple(y.detach().numpy() for y in outputs), tuple(jacobians))


def answer(graph: Graph, inputs: Sequence[Array]) -> Answer:
    """The rebuilt graph's value and Jacobian."""
    torch = _torch()
    return differentiate(torch, rebuilt(graph, namespace(torch, graph.dtype)), inputs)


def ask(question: Question) -> Reference:
    """PyTorch's word on the rebuilt graph."""
    torch, graph = _torch(), question.graph
    how = (
        f"PyTorch {torch.__version__} on cpu: refgrad's own graph rebuilt in torch's ops (how the file was read is not "
        f"compared), torch.autograd, {graph.dtype.name}"
    )
    return Reference(answer(graph, question.inputs), how)
