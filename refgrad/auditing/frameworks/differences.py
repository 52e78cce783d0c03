"""Finite and complex-step differences of refgrad's own forward pass: they check its derivative rules, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refgrad.agreement import Answer
from refgrad.arrays import Array
from refgrad.auditing.frameworks.reference import Question, Reference
from refgrad.derivatives import products
from refgrad.errors import UnsupportedError
from refgrad.graph import Graph
from refgrad.ops import Elementwise
from refgrad.rounding import NEAR, deviations

_WIDE = np.dtype(np.float64)
_STEP = 2.0**-17
"""The central difference's step, about u^(1/3) of float64, where truncation and rounding are equally small."""

_HALVINGS = 24
_TINY = 2.0**-100
"""The complex step: its square is nothing beside 1."""

_ONLY = "they check refgrad's derivative rules against its own forward pass, not how the file was read"


def _moved(inputs: Sequence[Array], end: int, entry: tuple[int, ...], step: Any) -> list[Any]:
    """The inputs with one entry of one of them moved by a step for each sample."""
    found: list[Any] = list(inputs)
    found[end] = found[end] + np.zeros_like(step, shape=found[end].shape)
    found[end][(slice(None), *entry)] += step
    return found


def _outputs(graph: Graph, values: Sequence[Any]) -> list[Any]:
    return [values[index] for index in graph.outputs]


def _crosses(graph: Graph, values: Sequence[Array], beside: Sequence[Sequence[Array]]) -> Any:
    """Samples in which a unit's kink is no further away than twice what moves it moved, to first order."""
    crossed = np.zeros(len(values[0]), bool)
    for node in graph.nodes:
        inputs = tuple(values[source] for source in node.inputs)
        margins = node.op.margins(inputs) if inputs else None
        if margins is None:
            continue
        moves = tuple(
            np.max([np.abs(other[source] - values[source]) for other in beside], axis=0) for source in node.inputs
        )
        reach = node.op.noise(0.0, inputs, moves)
        hit = (margins <= 2 * reach) & (reach > 0)
        crossed |= np.broadcast_to(hit, margins.shape).reshape(len(crossed), -1).any(axis=1)
    return crossed


def _central(graph: Graph, inputs: list[Array], end: int, entry: tuple[int, ...]) -> tuple[list[Array], list[Array]]:
    """One column of the Jacobian by central differences, and how far each number may be off.

    D(h) = (f(x + h) − f(x − h)) / 2h = f′ + h² f‴/6 + …, so that D(2h) − D(h) is three times its error of truncation:
    it is taken off by a third of that, and all of it is allowed; rounding adds 8 σ √2 / h. h halves until no kink is
    within 2h.
    """
    values = products.values(graph, inputs)
    sigma = _outputs(graph, deviations(graph, values))
    x: Any = np.asarray(inputs[end])[(slice(None), *entry)]  # type: ignore[arg-type]
    step = _STEP * 2.0 ** np.ceil(np.log2(np.maximum(np.abs(np.where(np.isfinite(x), x, 1)), 1)))
    for _ in range(_HALVINGS):
        sides = [products.values(graph, _moved(inputs, end, entry, times * step)) for times in (-2, -1, 1, 2)]
        crossed = _crosses(graph, values, sides)
        if not crossed.any():
            break
        step = np.where(crossed, step / 2, step)
    columns, errors = [], []
    for (far_left, left, right, far_right), deviation in zip(
        zip(*(_outputs(graph, side) for side in sides), strict=True), sigma, strict=True
    ):
        wide = step.reshape(-1, *(1,) * (left.ndim - 1))
        near, far = (right - left) / (2 * wide), (far_right - far_left) / (4 * wide)
        rounding = NEAR * np.sqrt(2) * deviation / wide
        hit = crossed.reshape(wide.shape)
        columns.append(near - (far - near) / 3)
        errors.append(np.where(hit, np.inf, np.abs(far - near) + rounding))
    return columns, errors


class _Analytic(np.ndarray[Any, Any]):
    """Complex numbers whose |z|, sign and √(a² + b²) are continued analytically from the real line."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(x) if isinstance(x, _Analytic) else x for x in inputs]
        if "out" in options:
            options["out"] = tuple(np.asarray(x) if isinstance(x, _Analytic) else x for x in options["out"])
        found = _CONTINUED.get(ufunc, getattr(ufunc, method))(*plain, **options)
        return found.view(_Analytic) if isinstance(found, np.ndarray) and found.dtype.kind == "c" else found

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        found = super().__array_function__(function, types, arguments, options)
        return found.view(_Analytic) if isinstance(found, np.ndarray) and found.dtype.kind == "c" else found


_CONTINUED: dict[Any, Callable[..., Any]] = {
    np.abs: lambda z: np.where(np.real(z) < 0, -z, z),
    np.sign: lambda z: np.sign(np.real(z)) + 0j,
    np.hypot: lambda a, b: np.sqrt(a * a + b * b),
}


def _imaginary(graph: Graph, inputs: list[Array], end: int, entry: tuple[int, ...]) -> tuple[list[Array], list[Array]]:
    """One column of the Jacobian, Im f(x + ih)/h, which rounds as f does: nothing cancels."""
    given = dict(zip(graph.inputs, _moved([x.astype(complex) for x in inputs], end, entry, 1j * _TINY), strict=True))
    found: list[Any] = []
    for (index, node), real in zip(enumerate(graph.nodes), products.values(graph, inputs), strict=True):
        taken = [given[index]] if index in given else [found[source] for source in node.inputs]
        value = np.asarray(node.op.forward(*(part.view(_Analytic) for part in taken)))
        found.append(np.where(np.isnan(real), np.nan, value))  # outside its domain a real function is no number
    columns = [value.imag / _TINY for value in _outputs(graph, found)]
    return columns, [np.zeros_like(column) for column in columns]


def _all(graph: Graph, inputs: list[Array], column: Callable[..., tuple[list[Array], list[Array]]]) -> Reference:
    """Every column of every Jacobian, and its error."""
    values = _outputs(graph, products.values(graph, inputs))
    both: list[list[list[Array]]] = [[[] for _ in values], [[] for _ in values]]
    for end, x in enumerate(inputs):
        blocks = [[np.empty((*y.shape, *x.shape[1:])) for y in values] for _ in both]
        for entry in np.ndindex(*x.shape[1:]):
            for block, part in zip(blocks, column(graph, inputs, end, entry), strict=True):
                for target, numbers in zip(block, part, strict=True):
                    target[(..., *entry)] = numbers
        for rows, block in zip(both, blocks, strict=True):
            for row, target in zip(rows, block, strict=True):
                row.append(target)
    jacobians, errors = (tuple(map(tuple, rows)) for rows in both)
    none = tuple(np.zeros_like(y) for y in values)
    return Reference(Answer(tuple(values), jacobians), "", Answer(none, errors))


def _wide(question: Question) -> tuple[Graph, list[Array]]:
    return question.graph.astype(_WIDE), [x.astype(_WIDE) for x in question.inputs]


def finite(question: Question) -> Reference:
    """Central differences in float64, whatever the network's dtype."""
    with np.errstate(all="ignore"):
        found = _all(*_wide(question), _central)
    how = f"central finite differences in float64, step 2⁻¹⁷ max(1, |x|) or less beside kinks: {_ONLY}"
    return Reference(found.answer, how, found.error)


def complex_step(question: Question) -> Reference:
    """Complex steps in float64; erf and what is made of it have no complex continuation in NumPy."""
    for node in question.graph.nodes:
        if isinstance(node.op, Elementwise) and node.op.activation in ("erf", "gelu"):
            msg = f"layer {node.name!r}: {node.op.label} takes no complex numbers; audit against 'finite-differences'"
            raise UnsupportedError(msg)
    with np.errstate(all="ignore"):
        found = _all(*_wide(question), _imaginary)
    return Reference(found.answer, f"complex-step differences in float64, step 2⁻¹⁰⁰: {_ONLY}")
