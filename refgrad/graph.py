"""The immutable graph of ops that a network is, and what must hold of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from refgrad.arrays import MOST_AXES, Shape
from refgrad.errors import InputError, MismatchError
from refgrad.ops import Op, Source

SUPPORTED_DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Files:
    """The absolute paths a graph was read from: the model's, and its config's or weights' where they were apart.

    `config` may be the text of the JSON itself, as it was given.
    """

    model: str | None = None
    config: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Rewriting:
    """Something of a file that was read as something else: by which rule, of which layer or "", and what as what."""

    rule: str
    where: str
    what: str


@dataclass(frozen=True)
class Provenance:
    """Where a graph came from: the one thing downstream knows of files.

    `keras` is the generation, 2 or 3, whose conventions at kinks hold; `writer` the exact version if recorded;
    `rewritings` say what of the file was read as something else.
    """

    keras: int = 3
    writer: str | None = None
    container: str = "arrays"
    files: Files = field(default_factory=Files)
    rewritings: tuple[Rewriting, ...] = ()


@dataclass(frozen=True, eq=False)
class Node:
    """An op, the indices of the nodes it takes its inputs from, and the name of the layer it belongs to."""

    op: Op
    inputs: tuple[int, ...]
    name: str


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order; `inputs` and `outputs` are indices of nodes. Every evaluation is one `for`."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    dtype: np.dtype[Any]
    provenance: Provenance

    def __post_init__(self) -> None:
        """Check the order and every shape; a layer that does not fit is named."""
        if self.dtype.name not in SUPPORTED_DTYPES:
            msg = f"networks are computed in {' or '.join(SUPPORTED_DTYPES)}, not in {self.dtype.name}"
            raise InputError(msg)
        for node in self.nodes:
            for name, array in node.op.arrays().items():
                if array.dtype != self.dtype:
                    msg = f"layer {node.name!r}: {name} is {array.dtype.name} in a network of {self.dtype.name}"
                    raise MismatchError(msg)
        ends = ((self.inputs, self.input_names), (self.outputs, self.output_names))
        for indices, names in ends:
            if not indices or len(indices) != len(names) or not all(0 <= end < len(self.nodes) for end in indices):
                msg = f"{len(self.nodes)} nodes with ends {indices} named {names}: each end needs a node and a name"
                raise InputError(msg)
            if len(set(names)) < len(names):
                msg = f"the ends {names} are not all named differently"
                raise InputError(msg)
        sources = tuple(index for index, node in enumerate(self.nodes) if not node.inputs)
        if sources != tuple(sorted(self.inputs)) or not all(
            isinstance(self.nodes[index].op, Source) for index in sources
        ):
            msg = f"nodes {sources} take nothing; they must be the inputs {self.inputs}, each once, and sources"
            raise InputError(msg)
        for index, node in enumerate(self.nodes):
            if any(not 0 <= source < index for source in node.inputs):
                msg = f"node {index} ({node.name!r}) takes its inputs from {node.inputs}: not from nodes before it"
                raise InputError(msg)
        self.shapes  # noqa: B018 - computed now, so that a misfit is refused here

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Each node's output shape, without batch."""
        shapes: list[Shape] = []
        for node in self.nodes:
            try:
                shapes.append(node.op.shape(*(shapes[source] for source in node.inputs)))
            except ValueError as error:
                msg = f"layer {node.name!r}: {error}"
                raise MismatchError(msg) from None
            if 0 in shapes[-1]:
                msg = f"layer {node.name!r}: its output has shape {shapes[-1]}, which holds no numbers"
                raise MismatchError(msg)
            if len(shapes[-1]) > MOST_AXES or min(shapes[-1], default=1) < 0:
                msg = f"layer {node.name!r}: its output has shape {shapes[-1]!s:.80}: {len(shapes[-1])} sizes above 0 "
                msg += f"are needed, {MOST_AXES} at most"
                raise MismatchError(msg)
        return tuple(shapes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of structure, dtype, kink rules and weights: equal for equal networks, wherever they came from."""
        structure = {
            "nodes": [[node.op.name, node.op.config(), node.inputs, node.name] for node in self.nodes],
            "ends": [self.inputs, self.outputs, self.input_names, self.output_names],
            "dtype": self.dtype.name,
            "keras": self.provenance.keras,
        }
        sha = hashlib.sha256(json.dumps(structure, sort_keys=True).encode())
        # An op may be in thousands of nodes.
        ops = {id(node.op): node.op for node in self.nodes}
        weights = {key: _weights(op) for key, op in ops.items()}
        for node in self.nodes:
            sha.update(weights[id(node.op)])
        return sha.hexdigest()

    def upto(self, places: Sequence[int]) -> Graph:
        """The graph of only those outputs, by their places, and of what leads to them; all inputs stay."""
        if tuple(places) == tuple(range(len(self.outputs))):
            return self
        needed = {*self.inputs, *(self.outputs[place] for place in places)}
        for index in reversed(range(len(self.nodes))):
            if index in needed:
                needed.update(self.nodes[index].inputs)
        new = {old: index for index, old in enumerate(sorted(needed))}
        nodes = [self.nodes[old] for old in new]
        return replace(
            self,
            nodes=tuple(replace(node, inputs=tuple(new[source] for source in node.inputs)) for node in nodes),
            inputs=tuple(new[index] for index in self.inputs),
            outputs=tuple(new[self.outputs[place]] for place in places),
            output_names=tuple(self.output_names[place] for place in places),
        )

    def astype(self, dtype: np.dtype[Any]) -> Graph:
        """The same graph computing in another dtype; shared ops stay shared."""
        ops = {id(node.op): node.op.astype(dtype) for node in self.nodes}
        nodes = tuple(replace(node, op=ops[id(node.op)]) for node in self.nodes)
        return replace(self, nodes=nodes, dtype=dtype)

    @cached_property
    def parameters(self) -> int:
        """How many numbers the ops hold; an op in several nodes counts once."""
        ops = {id(node.op): node.op for node in self.nodes}.values()
        return sum(array.size for op in ops for array in op.arrays().values())


def _weights(op: Op) -> bytes:
    """SHA-256 of an op's arrays by their names, in little-endian order; nothing where there are none."""
    sha = hashlib.sha256()
    for name, array in sorted(op.arrays().items()):
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        sha.update(f"{name} {array.shape} {little.dtype.str} ".encode() + little.tobytes())
    return sha.digest() if op.arrays() else b""


def chain(
    features: Shape, steps: Sequence[tuple[str, Op]], dtype: np.dtype[Any], provenance: Provenance, name: str = "input"
) -> Graph:
    """The graph of ops applied one after the other; `steps` are pairs of layer name and op."""
    nodes = [Node(Source(features), (), name)]
    nodes += [Node(op.astype(dtype), (index,), layer) for index, (layer, op) in enumerate(steps)]
    last = len(nodes) - 1
    return Graph(tuple(nodes), (0,), (last,), (name,), (nodes[last].name,), dtype, provenance)


def widest(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype a network computes in: the widest its weights are stored in, float32 where there are none."""
    return np.result_type(*dtypes, np.float32) if (dtypes := list(dtypes)) else np.dtype(np.float32)
