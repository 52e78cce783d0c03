"""The public face of the exact room: what is asked, by how many processes, and what is handed back."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, Shape
from refgrad.chunks import each
from refgrad.ends import choose
from refgrad.errors import InputError, MissingExtraError, UnsupportedError
from refgrad.graph import SUPPORTED_DTYPES, Graph
from refgrad.inputs import as_dtype, as_inputs
from refgrad.network import Network
from refgrad.options import check, check_count

if TYPE_CHECKING:
    from refgrad.exact.evaluate import Evaluator, Pieces

Policy = Literal["keras", "left", "right", "mean"]

MOST_BITS = 1536
"""The precision at which balls give up: enough for a number that is zero, but for cancellation, to round to zero."""

Asked = tuple[Graph, Policy, np.dtype[Any], int]


@dataclass(frozen=True, eq=False, repr=False)
class Exact:
    """The truth about a network at some inputs, rounded to floats; arrays or dicts of them, as `Network` gives them.

    `value` and `jacobian` hold the floats nearest to the true numbers where `proved` (and `value_proved`) says so, ties
    to even. `lower` and `upper` (`value_lower`, `value_upper`) enclose every true number, proved or not: a number that
    is zero by cancellation in balls, or halfway between floats, or on both sides of a jump, keeps its enclosure.
    `precision` is, for each sample, the bits of the balls, and 0 where integers alone gave everything.

    `pattern` is the exact activation pattern by layer: 2 i where a unit is on the i-th piece of its activation from the
    left (or the i-th input wins), 2 i + 1 exactly on the kink after it, −1 where balls cannot tell.
    """

    value: Any
    jacobian: Any
    lower: Any
    upper: Any
    precision: npt.NDArray[np.intp]
    proved: Any
    value_lower: Any
    value_upper: Any
    value_proved: Any
    pattern: dict[str, npt.NDArray[np.signedinteger]]

    @property
    def on_kink(self) -> npt.NDArray[np.bool_]:
        """For each sample, whether a unit sits exactly on a kink: there the Jacobian is what `kink` makes of it."""
        shape = self.precision.shape
        hit = np.zeros(shape, bool)
        for codes in self.pattern.values():
            hit = hit | ((codes > 0) & (codes % 2 == 1)).any(axis=tuple(range(len(shape), codes.ndim)))
        return hit

    def __repr__(self) -> str:
        masks = [mask for part in (self.value_proved, self.proved) for mask in _leaves(part)]
        proved, total = sum(int(mask.sum()) for mask in masks), sum(mask.size for mask in masks)
        bits = int(self.precision.max(initial=0))
        how = f"balls of up to {bits} bits" if bits else "integers"
        return f"<refgrad Exact: {proved:,} of {total:,} numbers proved, by {how}; {int(self.on_kink.sum())} on kinks>"


def _leaves(part: Any) -> list[npt.NDArray[np.bool_]]:
    return [leaf for item in part.values() for leaf in _leaves(item)] if isinstance(part, dict) else [part]


def evaluator(asked: Asked) -> Evaluator:
    """The graph made ready, if FLINT is there."""
    try:
        import flint
    except ImportError:
        msg = "exact truth needs python-flint, which is not installed: pip install refgrad[exact]"
        raise MissingExtraError(msg) from None
    del flint
    from refgrad.exact.evaluate import Evaluator

    return Evaluator(*asked)


_held: list[Evaluator] = []
"""What a worker process works with."""


def _start(asked: Asked) -> None:
    _held.append(evaluator(asked))


def _work(inputs: list[Array]) -> Pieces:
    return _held[0].at(inputs)


def _check_finite(graph: Graph, inputs: Sequence[Array]) -> None:
    """Refuse what is no number: a real function has nothing to say of it."""
    for name, x in zip(graph.input_names, inputs, strict=True):
        bad = np.argwhere(~np.isfinite(x))
        if len(bad):
            msg = f"input {name!r} holds {x[tuple(bad[0])]} in sample {bad[0][0]}; exact truth is of finite numbers"
            raise InputError(msg)
    for node in graph.nodes:
        for name, array in node.op.arrays().items():
            if not np.isfinite(array).all():
                msg = f"layer {node.name!r}: {name} holds NaN or infinity; exact truth is of finite numbers"
                raise UnsupportedError(msg)


def names_of(graph: Graph, nodes: Sequence[int]) -> list[str]:
    """Layer names of nodes; one that comes again is told apart by a number."""
    found: list[str] = []
    for index in nodes:
        name, again = graph.nodes[index].name, 0
        while (called := f"{name}_{again}" if again else name) in found:
            again += 1
        found.append(called)
    return found


def _ran(asked: Asked, inputs: Sequence[Array], workers: int, progress: bool) -> list[Pieces]:
    """The pieces of the batch in order, here or in processes of their own."""
    ready, found = evaluator(asked), {}
    size = ready.at_once()
    with ExitStack() as stack:
        pool = None
        if workers > 1 and len(inputs[0]) > size:
            made = ProcessPoolExecutor(workers, get_context("spawn"), _start, (asked,))
            pool = stack.enter_context(made)

        def work(piece: slice) -> None:
            given = [x[piece] for x in inputs]
            found[piece.start] = ready.at(given) if pool is None else pool.submit(_work, given).result()

        each(work, len(inputs[0]), size, threads=1 if pool is None else workers, progress=progress, what="exact")
    return [found[start] for start in sorted(found)]


def value_and_jacobian(
    net: Network,
    x: Any,
    *,
    dtype: npt.DTypeLike = "float64",
    kink: Policy = "keras",
    most_bits: int = MOST_BITS,
    workers: int = 1,
    progress: bool = False,
) -> Exact:
    """The true value and Jacobian J[b, j, i] = ∂y_j/∂x_i of each sample, rounded to `dtype`, with a proof.

    The truth is that of the real function which the weights, as they are stored, define at `x`, cast to the network's
    dtype first. Where every op is piecewise polynomial it is computed in integers, else in balls of 96 bits, and of
    twice as many again for samples with a number that does not round uniquely, up to `most_bits`. `kink` is what the
    slope of a unit is that sits exactly on a kink. `workers` is the number of processes; they are spawned, so a script
    that asks for more than one needs `if __name__ == "__main__":`.
    """
    if not isinstance(net, Network):
        msg = f"exact truth is of a Network, not of a {type(net).__name__}"
        raise InputError(msg)
    check("kink", kink, get_args(Policy))
    check_count("workers", workers)
    check_count("most_bits", most_bits)
    to = as_dtype(dtype)
    if to.name not in SUPPORTED_DTYPES:
        msg = f"dtype={to.name!r} is not one of {', '.join(map(repr, SUPPORTED_DTYPES))}"
        raise InputError(msg)
    inputs, single = as_inputs(x, net.input_names, net.input_shapes, net.dtype)
    _check_finite(net.graph, inputs)
    pieces = _ran((net.graph, kink, to, int(most_bits)), inputs, int(workers), progress)
    return _packed(net, pieces, single)


def _packed(net: Network, pieces: Sequence[Pieces], single: bool) -> Exact:
    """All pieces as one, in the network's own shapes and dicts."""
    outputs, by = choose("outputs", None, net.output_names), choose("inputs", None, net.input_names)

    def whole(parts: Sequence[npt.NDArray[Any]], shape: Shape) -> Any:
        joined = np.concatenate(parts)
        return joined.reshape(shape if single else (len(joined), *shape))

    def value(name: str) -> Any:
        ends = enumerate(net.output_shapes)
        return outputs.pack([whole([getattr(part.values[o], name) for part in pieces], out) for o, out in ends])

    def jacobian(name: str) -> Any:
        rows = [
            [
                whole([getattr(part.jacobians[o][i], name) for part in pieces], out + features)
                for i, features in enumerate(net.input_shapes)
            ]
            for o, out in enumerate(net.output_shapes)
        ]
        return outputs.pack([by.pack(row) for row in rows])

    nodes = sorted(pieces[0].patterns)
    pattern = {
        name: whole([part.patterns[index] for part in pieces], net.graph.shapes[index])
        for index, name in zip(nodes, names_of(net.graph, nodes), strict=True)
    }
    return Exact(
        **{name: jacobian(name) for name in ("lower", "upper", "proved")},
        **{f"value_{name}": value(name) for name in ("lower", "upper", "proved")},
        value=value("value"),
        jacobian=jacobian("value"),
        precision=whole([part.precision for part in pieces], ()),
        pattern=pattern,
    )
