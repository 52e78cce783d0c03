"""From layers that call each other to nodes: nested models lie flat, and a layer's ops are made once for each shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refgrad.arrays import Shape
from refgrad.errors import FormatError, MismatchError, naming
from refgrad.graph import Node
from refgrad.keras.canonical import LayerConfig, ModelConfig
from refgrad.keras.custom import row
from refgrad.keras.matching import Path
from refgrad.keras.operations.rows import Recipe
from refgrad.keras.rewriting import rewritten
from refgrad.keras.rows import Arrays, Given, no_steps
from refgrad.keras.values import bounded
from refgrad.keras.wrapping import on_every, own_shapes
from refgrad.limits import Budget
from refgrad.ops import Op
from refgrad.sequential import Steps


def named(path: Path, layer: LayerConfig) -> str:
    """What a message calls a layer."""
    return f"layer {'/'.join(path)!r} ({' of '.join((*layer.wrappers, layer.class_name))})"


@dataclass(eq=False)
class Unfolding:
    """Nodes so far, with their shapes, and the steps of each layer: the same ops for every call that they fit."""

    arrays: dict[Path, Arrays]
    dtype: np.dtype[Any]
    budget: Budget
    nodes: list[Node] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    made: dict[Path, dict[tuple[Shape, ...], Steps]] = field(default_factory=dict)
    drawn: dict[tuple[Path, int, tuple[Shape, ...]], Recipe] = field(default_factory=dict)

    def add(self, op: Op, inputs: tuple[int, ...], name: str) -> int:
        """A node more; its index."""
        try:
            shape = op.shape(*(self.shapes[source] for source in inputs))
        except ValueError as error:
            raise MismatchError(str(error)) from None
        self.shapes.append(bounded(shape, self.budget.limits))
        self.nodes.append(Node(op, inputs, name))
        return len(self.nodes) - 1

    def steps(self, path: Path, layer: LayerConfig, generation: int, shapes: tuple[Shape, ...]) -> Steps:
        """The layer's ops for inputs of these shapes."""
        of_layer = self.made.setdefault(path, {})
        if shapes not in of_layer:
            own = own_shapes(shapes, layer.distributed)
            given = Given("/".join(path), layer.config, self.arrays[path], own, generation)
            lead = shapes[0][: layer.distributed]
            made = ((name, on_every(op, lead)) for name, op in row(layer.class_name).steps(given))
            found = [(name, op.astype(self.dtype)) for name, op in made]
            # a layer may be called with very many shapes, and its arrays are copied and compared for each
            numbers = sum(array.nbytes for _, op in found for array in op.arrays().values())
            self.budget.spend(numbers, "the arrays of layers, once for each shape of their inputs")
            if row(layer.class_name).steps is no_steps:
                rewritten("layers that do nothing at inference", f"{layer.class_name} hands on its input", given.name)
            elif len(found) > 2:
                rewritten("layers of several ops", f"{layer.class_name} is {_labels(found)}", given.name)
            first = next(iter(of_layer.values()), found)
            same = len(first) == len(found) and all(
                _same(one[1], other[1]) for one, other in zip(first, found, strict=True)
            )
            of_layer[shapes] = first if same else found
        return of_layer[shapes]

    def call(self, path: Path, layer: LayerConfig, generation: int, taken: tuple[int, ...]) -> int:
        """The node that a layer's output is, called with these nodes."""
        if len(taken) > 1 and not row(layer.class_name).merges:
            msg = f"it is called with {len(taken)} tensors and takes one"
            raise FormatError(msg)
        for name, op in self.steps(path, layer, generation, tuple(self.shapes[source] for source in taken)):
            taken = (self.add(op, taken, name),)
        return taken[0]

    def operate(
        self, path: Path, layer: LayerConfig, call: int, generation: int, taken: tuple[int, ...]
    ) -> tuple[int, ...]:
        """The nodes that the outputs of an operation's call are, on these nodes."""
        shapes = tuple(self.shapes[source] for source in taken)
        key = (path, call, shapes)
        if key not in self.drawn and layer.operation is not None:
            found = layer.operation.recipe(layer.config, layer.arguments[call], shapes, generation, self.budget)
            self.drawn[key] = found.astype(self.dtype)
            # lists of the JSON become arrays for each shape, which takes long
            numbers = sum(array.nbytes for op, _ in found.steps for array in op.arrays().values())
            self.budget.spend(4 * numbers, "constants of operations, once for each shape of their inputs")
        else:
            self.budget.count("calls", len(self.drawn[key].steps), "calls of layers and ops of operations")
        nodes = [*taken]
        for op, sources in self.drawn[key].steps:
            nodes.append(self.add(op, tuple(nodes[source] for source in sources), "/".join(path)))
        return tuple(nodes[output] for output in self.drawn[key].outputs)

    def unfold(self, model: ModelConfig, inputs: Sequence[int], above: Path = ()) -> tuple[int, ...]:
        """The nodes that a model's outputs are, called with these nodes."""
        outputs: dict[tuple[int, int], tuple[int, ...]] = {}
        entering = dict(zip(model.inputs, inputs, strict=True))
        for place in model.order:
            layer = model.layers[place[0]]
            path = (*above, layer.name)
            # each level of nested models can double what lies in it
            self.budget.count("calls", 1, "calls of layers and ops of operations")
            # nodes, and notes of what was rewritten, have the names of all models that they lie in
            self.budget.spend(4 * sum(map(len, path)), f"the names around {layer.name!r:.60}")
            if place[0] in entering:
                _check_entry(path, layer, self.shapes[entering[place[0]]])
                outputs[place] = (entering[place[0]],)
                continue
            self.budget.limits.check(
                "merged", len(layer.calls[place[1]]), f"tensors that {named(path, layer):.80} is called with"
            )
            with naming(named(path, layer)):
                taken = tuple(_output(outputs[t.layer, t.call], t.output) for t in layer.calls[place[1]])
            if layer.operation is not None:
                with naming(named(path, layer)):
                    outputs[place] = self.operate(path, layer, place[1], model.generation, taken)
            elif layer.model is None:
                with naming(named(path, layer)):
                    outputs[place] = (self.call(path, layer, model.generation, taken),)
            elif len(taken) != len(layer.model.inputs):
                msg = (
                    f"{named(path, layer)}: it is called with {len(taken)} tensors and takes {len(layer.model.inputs)}"
                )
                raise FormatError(msg)
            else:
                outputs[place] = self.unfold(layer.model, taken, path)
        with naming("output_layers"):
            return tuple(_output(outputs[end.layer, end.call], end.output) for end in model.outputs)


def _output(nodes: tuple[int, ...], number: int) -> int:
    """One of a call's outputs, of which an operation may have fewer than the file asks for."""
    if number >= len(nodes):
        msg = f"it takes output {number} of an operation that has {len(nodes)}"
        raise FormatError(msg)
    return nodes[number]


def _labels(steps: Steps) -> str:
    return ", ".join(op.label for _, op in steps)


def _same(one: Op, other: Op) -> bool:
    """Whether two ops are the same map with the same numbers."""
    mine, theirs = one.arrays(), other.arrays()
    return (
        (one.name, one.config(), mine.keys()) == (other.name, other.config(), theirs.keys())
        and all(np.array_equal(mine[name], theirs[name], equal_nan=True) for name in mine)
    )  # fmt: skip


def _check_entry(path: Path, layer: LayerConfig, shape: Shape) -> None:
    """Where a model states the shape of an input, it must get that."""
    stated, shape = layer.input_shape, shape[layer.distributed :]
    if stated is not None and (
        len(stated) != len(shape) or any(size not in (None, given) for size, given in zip(stated, shape, strict=True))
    ):
        msg = f"{named(path, layer)}: it is given the shape {shape} and states {stated}"
        raise MismatchError(msg)
