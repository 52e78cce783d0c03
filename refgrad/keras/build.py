"""From a canonical config and its arrays to a graph: every call of every layer becomes nodes, models lie flat."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refgrad.arrays import Shape
from refgrad.errors import (
    FormatError,
    MismatchError,
    RefgradError,
    RefgradWarning,
    UnsupportedError,
    naming,
)
from refgrad.graph import Graph, Node, Provenance, widest
from refgrad.keras.archive import RawModel
from refgrad.keras.canonical import LayerConfig, ModelConfig
from refgrad.keras.custom import row
from refgrad.keras.dialect import translate
from refgrad.keras.matching import Path, Wanted, assign
from refgrad.keras.operations.rows import Recipe
from refgrad.keras.policies import POLICIES, check_stored, widened
from refgrad.keras.rewriting import rewritten, so_far
from refgrad.keras.rows import Arrays, Given, no_steps
from refgrad.keras.values import bounded
from refgrad.keras.wrapping import WRAPPERS, on_every, own_shapes
from refgrad.limits import Budget, Limits
from refgrad.ops import Op, Source
from refgrad.paths import is_json_text
from refgrad.sequential import Steps


def _wanted(model: ModelConfig, above: Path = ()) -> tuple[Wanted, ...]:
    """What each layer needs from the weights file; operations have nothing there."""
    return tuple(_needed((*above, layer.name), layer) for layer in model.layers if layer.operation is None)


def _needed(path: Path, layer: LayerConfig) -> Wanted:
    class_name = (*layer.wrappers, layer.class_name)[0]
    if layer.model is not None:
        return Wanted(path, class_name, layers=_wanted(layer.model, path), within=layer.within)
    spare = frozenset().union(*(WRAPPERS[wrapper].unused for wrapper in layer.wrappers))
    return Wanted(path, class_name, row(layer.class_name).roles(layer.config), (), layer.within, spare)


def _layers(model: ModelConfig, above: Path = ()) -> Iterator[tuple[Path, LayerConfig]]:
    """Every layer or operation that is no model, by its path."""
    for layer in model.layers:
        if layer.model is not None:
            yield from _layers(layer.model, (*above, layer.name))
        else:
            yield (*above, layer.name), layer


def _named(path: Path, layer: LayerConfig) -> str:
    return f"layer {'/'.join(path)!r} ({' of '.join((*layer.wrappers, layer.class_name))})"


def _checked(path: Path, layer: LayerConfig, arrays: Arrays) -> Arrays:
    """The arrays that are computed with, if they are numbers of the declared dtype."""
    known = row(layer.class_name)
    used = {role: array for role, array in arrays.items() if role not in known.unused}
    for role, array in used.items():
        check_stored(role, array, layer.policy, role in known.computed)
        used[role] = widened(array)
        if not np.isfinite(used[role]).all():
            warnings.warn(f"layer {'/'.join(path)!r}: {role} holds NaN or infinity", RefgradWarning, stacklevel=2)
    return used


@dataclass(eq=False)
class _Unfolding:
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
        # every node is called by the names of all models it lies in
        self.budget.spend(len(name), f"the name {name!r:.60} of a node")
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
            for op, _ in found.steps:
                self.budget.spend(sum(array.nbytes for array in op.arrays().values()), "constants of operations")
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
            if place[0] in entering:
                _check_entry(path, layer, self.shapes[entering[place[0]]])
                outputs[place] = (entering[place[0]],)
                continue
            self.budget.limits.check(
                "merged", len(layer.calls[place[1]]), f"tensors that {_named(path, layer):.80} is called with"
            )
            with naming(_named(path, layer)):
                taken = tuple(_output(outputs[t.layer, t.call], t.output) for t in layer.calls[place[1]])
            if layer.operation is not None:
                with naming(_named(path, layer)):
                    outputs[place] = self.operate(path, layer, place[1], model.generation, taken)
            elif layer.model is None:
                with naming(_named(path, layer)):
                    outputs[place] = (self.call(path, layer, model.generation, taken),)
            elif len(taken) != len(layer.model.inputs):
                msg = (
                    f"{_named(path, layer)}: it is called with {len(taken)} tensors and takes {len(layer.model.inputs)}"
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
        msg = f"{_named(path, layer)}: it is given the shape {shape} and states {stated}"
        raise MismatchError(msg)


_TELLING = {
    "Dense": "kernel",
    "Normalization": "mean",
    "BatchNormalization": "moving_mean",
    "LayerNormalization": "gamma",
}
"""The arrays whose first axis is as long as the last one of what their layer takes, unless it works on another axis."""


def _told_by_weights(model: ModelConfig, arrays: dict[Path, Arrays], rank: int) -> int:
    """The last size of an input: what the first layer with weights takes, if nothing before it changes shapes."""
    for path, layer in _layers(model):
        if layer.distributed or layer.operation is not None:
            break
        array = arrays[path].get(_TELLING.get(layer.class_name, ""))
        axis = layer.config.get("axis", -1)
        if array is not None and axis in (-1, rank, (-1,), (rank,)):
            return int(array.shape[0])
        if not row(layer.class_name).pointwise:
            break
    msg = "the model has neither an input shape nor a layer with weights to tell it"
    raise UnsupportedError(msg)


def _input_shape(model: ModelConfig, layer: LayerConfig, arrays: dict[Path, Arrays], limits: Limits) -> Shape:
    stated = (None,) if layer.input_shape is None else layer.input_shape
    if stated[-1] is None and None not in stated[:-1]:
        stated = (*stated[:-1], _told_by_weights(model, arrays, len(stated)))
        rewritten("input shapes", f"{stated} as the first weights tell", layer.name)
    shape = tuple(size for size in stated if size is not None)
    if len(shape) < len(stated):
        msg = f"its shape {list(stated)} leaves a feature axis open; fixed shapes are supported"
        raise UnsupportedError(msg)
    return bounded(shape, limits)


def _dtype(model: ModelConfig, arrays: dict[Path, Arrays]) -> np.dtype[Any]:
    """The widest dtype that weights are stored in or layers declared in."""
    declared = {layer.policy for _, layer in _layers(model) if layer.policy is not None}
    stored = {array.dtype for held in arrays.values() for array in held.values()}
    dtype = widest([*stored, *(np.dtype(POLICIES[policy][-1]) for policy in declared)])
    for narrow in sorted({held.name for held in stored} - {dtype.name}):
        rewritten("dtypes", f"{narrow} weights are computed with in {dtype.name}", "")
    if declared - {dtype.name}:
        msg = f"the model's layers are declared in {' and '.join(sorted(declared))}: all is computed in {dtype.name}"
        warnings.warn(msg, RefgradWarning, stacklevel=2)
    return dtype


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names made different as Keras does: the second `shared` is `shared_1`."""
    found: dict[str, None] = {}
    counts: dict[str, int] = {}
    for name in names:
        proposal = name
        while proposal in found:
            counts[name] = counts.get(name, 0) + 1
            proposal = f"{name}_{counts[name]}"
        found[proposal] = None
    return tuple(found)


@contextmanager
def _blaming(raw: RawModel) -> Iterator[None]:
    """Where config and weights came apart, name the file that a refusal is about; a text has no name."""
    try:
        yield
    except RefgradError as error:
        file = raw.files.weights if isinstance(error, MismatchError) else raw.files.config
        if file is None:
            raise
        msg = f"{'the config given as text' if is_json_text(file) else file}: {error}"
        raise type(error)(msg) from None


def build(raw: RawModel) -> Graph:
    """The graph of a raw model."""
    with _blaming(raw):
        model = translate(raw)
    with nullcontext() if raw.files.weights is None else naming(raw.files.weights):
        layers = raw.layers
    with _blaming(raw):
        stored = assign(_wanted(model), layers)
        arrays: dict[Path, Arrays] = {}
        for path, layer in _layers(model):
            if layer.operation is not None:
                continue
            with naming(_named(path, layer)):
                arrays[path] = _checked(path, layer, stored.get(path, {}))
        held = sum({id(array): array.nbytes for of in arrays.values() for array in of.values()}.values())
        unfolding = _Unfolding(arrays, _dtype(model, arrays), raw.limits.budget(held))
        for index in model.inputs:
            layer = model.layers[index]
            with naming(_named((layer.name,), layer)):
                unfolding.add(Source(_input_shape(model, layer, arrays, raw.limits)), (), layer.name)
        outputs = unfolding.unfold(model, range(len(model.inputs)))
    names = model.output_keys or unique([model.layers[end.layer].name for end in model.outputs])
    provenance = Provenance(model.generation, raw.writer, raw.container, raw.files, so_far())
    inputs = tuple(range(len(model.inputs)))
    sources = model.input_keys or tuple(model.layers[index].name for index in model.inputs)
    return Graph(tuple(unfolding.nodes), inputs, outputs, sources, names, unfolding.dtype, provenance)
