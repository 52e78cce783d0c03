"""The usual suspects: what goes wrong between a network and its copy, as changes of a graph.

Each is applied in every place where it can be, and says in a user's words what is wrong there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refgrad.activations import ACTIVATIONS
from refgrad.arrays import Array
from refgrad.auditing.faulty import AnOp, Faulty, Rounded, Shifted, after, layers, short
from refgrad.auditing.faulty_ends import exchanged, reordered, scaled_inputs, scaled_outputs
from refgrad.derivatives.products import values
from refgrad.graph import Graph
from refgrad.ops import (
    Affine,
    BatchNormalization,
    Elementwise,
    LayerNormalization,
    LogSoftmax,
    Normalization,
    Op,
    PReLU,
    Rescaling,
    RMSNormalization,
    Softmax,
    Sparsemax,
    UnitNormalization,
)

Fault = Callable[[Graph, Sequence[Array]], Iterator[Faulty]]
"""Every graph that a fault makes of one; the inputs `(batch, *in)` are those of the audit."""


def _in(kind: type[AnOp], change: Callable[[AnOp], Iterator[tuple[str, Op]]]) -> Fault:
    """Every op of a kind changed by itself; phrases have the layer's name for {}."""

    def apply(graph: Graph, inputs: Sequence[Array]) -> Iterator[Faulty]:
        del inputs
        for name, op, put in layers(graph, kind):
            for phrase, changed in change(op):
                yield phrase.format(name), put(changed)

    return apply


def _no_bias(op: Affine) -> Iterator[tuple[str, Op]]:
    if op.bias is not None and op.bias.any():
        yield "{} has no bias", replace(op, bias=None)


def _transposed(op: Affine) -> Iterator[tuple[str, Op]]:
    n_in, n_out = op.kernel.shape
    if min(n_in, n_out) > 1:
        how = "transposed" if n_in == n_out else "read column by column"
        yield f"the kernel of {{}} is {how}", replace(op, kernel=op.kernel.reshape(n_out, n_in).T)


def _negated(op: Affine) -> Iterator[tuple[str, Op]]:
    yield "the kernel of {} has the other sign", replace(op, kernel=-op.kernel)


def one_weight(op: Affine, k: int, j: int) -> tuple[str, Op]:
    """The weight from input k to unit j with the other sign."""
    kernel = op.kernel.copy()
    kernel[k, j] = -kernel[k, j]
    return f"weight [{k}, {j}] of {{}} has the other sign", replace(op, kernel=kernel)


def _each_weight(op: Affine) -> Iterator[tuple[str, Op]]:
    for k, j in np.argwhere(op.kernel):
        yield one_weight(op, int(k), int(j))


_USUAL: tuple[tuple[str, tuple[float, ...]], ...] = (
    *((name, ACTIVATIONS[name].defaults) for name in ("relu", "tanh", "sigmoid", "gelu", "gelu_tanh", "silu", "elu")),
    *((name, ACTIVATIONS[name].defaults) for name in ("selu", "softplus", "mish", "softsign", "exponential")),
    *((name, ACTIVATIONS[name].defaults) for name in ("hard_sigmoid", "hard_sigmoid_keras2", "hard_silu")),
    *((name, ACTIVATIONS[name].defaults) for name in ("hard_tanh", "log_sigmoid")),
    *(("relu", (np.inf, slope, 0.0)) for slope in (0.2, 0.3, 0.01)),
    ("relu", (6.0, 0.0, 0.0)),
)
"""Activations that are taken for one another: rows of the table, and their parameters."""

_LONGEST = 20
"""Of an activation's name with its parameters in a phrase."""

_PARAMETERS: Mapping[str, tuple[float, ...]] = {
    "negative_slope": (0.0, 0.01, 0.1, 0.2, 0.3),
    "max_value": (np.inf, 6.0, 1.0),
    "threshold": (0.0, 1.0),
    "alpha": (0.1, 0.2, 0.3, 0.5, 1.0, 2.0),
}
"""What the parameters of activations are taken for."""


def _called(op: Elementwise) -> str:
    name, parameters = op.activation, op.parameters
    if name == "relu" and parameters[0] == np.inf and parameters[1] and not parameters[2]:
        return f"leaky_relu({parameters[1]:.3g})"
    return op.label if len(op.label) <= _LONGEST else name


def _activation(op: Elementwise) -> Iterator[tuple[str, Op]]:
    for name, parameters in _USUAL:
        if op.activation not in ("linear", name):
            other = Elementwise(name, parameters)
            yield f"{{}} is {_called(other)}, not {_called(op)}", other


def _parameter(op: Elementwise) -> Iterator[tuple[str, Op]]:
    for place, (name, _) in enumerate(op.row.parameters):
        held = op.parameters[place]
        for value in _PARAMETERS.get(name, ()):
            if np.float32(value) != np.float32(held):
                parameters = (*op.parameters[:place], value, *op.parameters[place + 1 :])
                yield f"{name} of {{}} is {value:.3g}, not {held:.3g}", replace(op, parameters=parameters)


_ACTIVATIONS = (Elementwise, PReLU, Softmax, LogSoftmax, Sparsemax)
_DISPENSABLE = (
    *(*_ACTIVATIONS, Rescaling, Normalization),
    *(BatchNormalization, LayerNormalization, RMSNormalization, UnitNormalization),
)


def _missing(op: Op) -> Iterator[tuple[str, Op]]:
    linear = Elementwise("linear")
    if isinstance(op, _DISPENSABLE) and not (isinstance(op, Elementwise) and op.activation == "linear"):
        yield "{} is missing", linear


def _doubled(graph: Graph, inputs: Sequence[Array]) -> Iterator[Faulty]:
    del inputs
    for index, node in enumerate(graph.nodes):
        if isinstance(node.op, _ACTIVATIONS):
            yield f"{short(node.name)} is applied twice", after(graph, index, node.op)


def _reversed_units(op: Affine) -> Iterator[tuple[str, Op]]:
    if op.kernel.shape[1] > 1:
        bias = None if op.bias is None else op.bias[::-1]
        yield "the units of {} are reversed", replace(op, kernel=op.kernel[:, ::-1], bias=bias)
    if len(op.kernel) > 1:
        yield "the inputs of {} are reversed", replace(op, kernel=op.kernel[::-1])


def _in_training(graph: Graph, inputs: Sequence[Array]) -> Iterator[Faulty]:
    """All BatchNormalization by the batch's own moments, which are constants here."""
    wide, found = [x.astype(np.float64) for x in inputs], graph
    for index, node in enumerate(graph.nodes):
        op = node.op
        if isinstance(op, BatchNormalization):
            (source,) = node.inputs
            z = values(found.astype(np.dtype(np.float64)), wide)[source]
            others = tuple(axis for axis in range(z.ndim) if axis != z.ndim + op.axis)
            moments = z.mean(axis=others), z.var(axis=others)
            mean, variance = (moment.astype(graph.dtype) for moment in moments)
            changed = replace(node, op=replace(op, moving_mean=mean, moving_variance=variance))
            found = replace(found, nodes=(*found.nodes[:index], changed, *found.nodes[index + 1 :]))
    if found is not graph and len(inputs[0]) > 1:
        yield "BatchNormalization is in training mode", found


_EPSILONS = (1e-2, 1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0)


def _epsilon(op: Op) -> Iterator[tuple[str, Op]]:
    held = getattr(op, "epsilon", None)
    for epsilon in _EPSILONS if held is not None else ():
        if epsilon != held:
            changed: Any = {"epsilon": epsilon}
            yield f"epsilon of {{}} is {epsilon:g}, not {held:g}", replace(op, **changed)


def _shifted(op: Elementwise) -> Iterator[tuple[str, Op]]:
    if op.activation != "linear":
        yield "the slopes of {} are shifted by a unit", Shifted(op.activation, op.parameters)


PRECISIONS: Mapping[str, int] = {"TF32": 10, "bfloat16": 7}
"""Explicit bits of the mantissa."""


def _coarse(graph: Graph, inputs: Sequence[Array]) -> Iterator[Faulty]:
    del inputs
    for name, bits in PRECISIONS.items():
        rounded = {id(op): Rounded(op.kernel, op.bias, bits) for _, op, _ in layers(graph, Affine)}
        if rounded:
            nodes = tuple(replace(node, op=rounded.get(id(node.op), node.op)) for node in graph.nodes)
            yield _IN_PRECISION.format(name), replace(graph, nodes=nodes)


_IN_PRECISION = "products are computed in {}"


def precision(phrase: str) -> float | None:
    """The unit roundoff of the precision that a phrase is about, if it is about one."""
    return next((2.0 ** -(bits + 1) for name, bits in PRECISIONS.items() if phrase == _IN_PRECISION.format(name)), None)


TRAINING_MODE = "training mode"
REDUCED_PRECISION = "reduced precision"
ONE_WEIGHT = "sign of one weight"

FAULTS: Mapping[str, Fault] = {
    "dropped bias": _in(Affine, _no_bias),
    "transposed kernel": _in(Affine, _transposed),
    "sign of a kernel": _in(Affine, _negated),
    "wrong parameter": _in(Elementwise, _parameter),
    "missing layer": _in(Op, _missing),  # type: ignore[type-abstract]
    "wrong activation": _in(Elementwise, _activation),
    "doubled activation": _doubled,
    "scaled input": scaled_inputs,
    "scaled output": scaled_outputs,
    "exchanged ends": exchanged,
    "reordered features": reordered,
    "permuted units": _in(Affine, _reversed_units),
    TRAINING_MODE: _in_training,
    "wrong epsilon": _in(Op, _epsilon),  # type: ignore[type-abstract]
    REDUCED_PRECISION: _coarse,
    "shifted slopes": _in(Elementwise, _shifted),
    ONE_WEIGHT: _in(Affine, _each_weight),
}
"""Classes of faults of a graph, the simplest first."""
