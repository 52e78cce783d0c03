"""From a graph of ops to the layers of a Functional model in Keras 3: which there are, who calls what, their names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from refgrad.arrays import Shape
from refgrad.errors import RefgradWarning, naming
from refgrad.graph import Graph
from refgrad.keras.arguments import Arguments
from refgrad.keras.build import unique
from refgrad.keras.layers import LAYERS
from refgrad.keras.operations import OPERATIONS
from refgrad.keras.operations.rows import Drawing, Traced
from refgrad.keras.recipes import RECIPES
from refgrad.keras.recipes.activating import name_of
from refgrad.keras.recipes.step import Step, activation
from refgrad.keras.rows import Given, canonical
from refgrad.keras.weight_names import snake_case
from refgrad.limits import TRUSTED

_OF_THE_MODEL = "top_level_model_weights"
"""Where older Kerases store weights that are no layer's."""

Group = tuple[int, tuple[Shape, ...]]
"""An op, by its identity, with the shapes that it is called with: one layer, which Keras builds for one shape."""


@dataclass(frozen=True)
class Tensor:
    """What a layer gives when it is called for the k-th time, by the layer's place."""

    layer: int
    call: int
    shape: Shape


@dataclass(eq=False)
class Layer:
    """A layer, or a bare operation, with the tensors of each call; an InputLayer has a shape instead."""

    step: Step
    name: str
    calls: list[tuple[Tensor, ...]] = field(default_factory=list)
    shape: Shape | None = None

    @property
    def is_operation(self) -> bool:
        """Whether it is a bare operation."""
        return self.step.home is not None

    def gives(self, shapes: tuple[Shape, ...]) -> Shape:
        """The shape of its output, called with these, as it would be read."""
        if self.is_operation:
            operation, drawing = OPERATIONS[3][self.step.class_name], Drawing(shapes, 3, TRUSTED.budget(0))
            given = operation.bound(self.step.config, Arguments(self.step.arguments, {}), drawing)
            found = operation.draw(drawing, given)
            return (found if isinstance(found, Traced) else found[0]).shape
        row = LAYERS[self.step.class_name]
        config = row.as_used(canonical(row, self.step.config), 3)
        for _, op in row.steps(Given(self.name, config, self.step.arrays, shapes, 3)):
            shapes = (op.shape(*shapes),)
        return shapes[0]


@dataclass(frozen=True, eq=False)
class Model:
    """Layers, and the tensors that the model takes and gives."""

    layers: tuple[Layer, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    dtype: str


def _legal(name: str) -> str:
    """A name that Keras 3 and HDF5 take."""
    found = re.sub(r"[/\0]", "_", name)
    return found if found.strip(".") and found != _OF_THE_MODEL else f"layer{found}"


def _needed(graph: Graph) -> list[int]:
    """The nodes that outputs are made of, in order."""
    needed = set(graph.outputs)
    for index in reversed(range(len(graph.nodes))):
        if index in needed:
            needed.update(graph.nodes[index].inputs)
    return sorted(needed)


@dataclass(frozen=True, eq=False)
class _Plan:
    """The recipe of every group of nodes; an activation that is said in the Dense before it has an empty one."""

    graph: Graph
    nodes: list[int]

    def group(self, index: int) -> Group:
        node = self.graph.nodes[index]
        return id(node.op), tuple(self.graph.shapes[source] for source in node.inputs)

    def recipes(self) -> dict[Group, list[Step]]:
        members: dict[Group, list[int]] = {}
        takers: dict[int, list[int]] = {index: [] for index in self.nodes}
        for index in self.nodes:
            node = self.graph.nodes[index]
            if node.inputs:
                members.setdefault(self.group(index), []).append(index)
            for source in node.inputs:
                takers[source].append(index)
        found = {}
        for group, indices in members.items():
            node = self.graph.nodes[indices[0]]
            with naming(f"layer {node.name!r}"):
                found[group] = RECIPES[node.op.name](node.op, group[1], self.graph.dtype)
        for group, indices in members.items():
            follower = self._follower(indices, takers)
            if [step.class_name for step in found[group]] == ["Dense"] and follower is not None:
                after = members[follower]
                called = name_of(self.graph.nodes[after[0]].op)
                if called is not None and {self.graph.nodes[index].inputs[0] for index in after} == set(indices):
                    (dense,) = found[group]
                    found[group] = [replace(dense, config={**dense.config, "activation": called})]
                    found[follower] = []
        return found

    def _follower(self, indices: Sequence[int], takers: dict[int, list[int]]) -> Group | None:
        """The one group that takes all that some nodes give, each once."""
        if any(len(takers[index]) != 1 or index in self.graph.outputs for index in indices):
            return None
        groups = {self.group(takers[index][0]) for index in indices}
        return groups.pop() if len(groups) == 1 else None


@dataclass(eq=False)
class _Writing:
    """Layers so far, those of each group, and the names that are taken."""

    plan: _Plan
    dtype: str
    layers: list[Layer] = field(default_factory=list)
    made: dict[Group, list[int]] = field(default_factory=dict)

    def call(self, place: int, tensors: tuple[Tensor, ...]) -> Tensor:
        """A layer called once more; what it gives has the shape that the layer would be read as giving."""
        layer = self.layers[place]
        layer.calls.append(tensors)
        shape = layer.gives(tuple(tensor.shape for tensor in tensors))
        return Tensor(place, len(layer.calls) - 1, shape)

    def add(self, step: Step, name: str) -> int:
        """A layer more; its place."""
        self.layers.append(Layer(step, name))
        return len(self.layers) - 1

    def node(self, index: int, steps: Sequence[Step], given: tuple[Tensor, ...]) -> Tensor:
        """What a node gives: its group's layers are made for the first, and called again for the others."""
        group, name = self.plan.group(index), self.plan.graph.nodes[index].name
        if group not in self.made:
            between = [f"{name}_{snake_case(step.class_name)}" for step in steps[:-1]]
            self.made[group] = [self.add(step, called) for step, called in zip(steps, [*between, name], strict=False)]
        tensors: list[Tensor] = []
        for place, step in zip(self.made[group], steps, strict=True):
            taken = tuple(tensors[k] if k >= 0 else given[-1 - k] for k in step.takes)
            tensors.append(self.call(place, taken or tuple(tensors[-1:]) or given))
        return tensors[-1] if tensors else given[0]

    def output(self, tensor: Tensor, name: str, before: Sequence[Tensor], taken: set[str]) -> Tensor:
        """The tensor by its name: its layer is called that, or a linear activation after it."""
        layer = self.layers[tensor.layer]
        ended = any(other.layer == tensor.layer for other in before)
        names = [self.layers[other.layer].name for other in before]
        if layer.shape is None and not ended and name not in taken and (len(layer.calls) == 1 or layer.name == name):
            layer.name = name
            taken.add(name)
        elif not ((ended or layer.shape is not None) and unique([*names, layer.name])[-1] == name):
            called = unique([*taken, name])[-1]
            taken.add(called)
            return self.call(self.add(activation("linear"), called), (tensor,))
        return tensor


def _named(layers: Iterable[Layer], taken: set[str], ends: set[int]) -> None:
    """Legal names for all layers but the ends, no two alike."""
    hidden = [layer for place, layer in enumerate(layers) if place not in ends]
    names = unique([*sorted(taken), *(_legal(layer.name) for layer in hidden)])
    for layer, name in zip(hidden, names[len(taken) :], strict=True):
        layer.name = name


def _told(kind: str, wanted: Sequence[str], written: Sequence[str]) -> None:
    """Warn of names that are lost; where there is one end alone, nobody needs its name."""
    changed = [f"{old!r} is {new!r}" for old, new in zip(wanted, written, strict=True) if old != new]
    if changed and len(wanted) > 1:
        msg = f"{kind} whose names Keras cannot have so are written under others: {', '.join(changed):.200}"
        warnings.warn(msg, RefgradWarning, stacklevel=5)


def functional(graph: Graph) -> Model:
    """The graph as layers that Keras 3 has, in the order in which it would hold them itself."""
    nodes = _needed(graph)
    plan = _Plan(graph, nodes)
    recipes = plan.recipes()
    writing = _Writing(plan, graph.dtype.name)
    tensors: dict[int, Tensor] = {}
    for index, name in zip(graph.inputs, unique([_legal(name) for name in graph.input_names]), strict=True):
        place = writing.add(Step("InputLayer"), name)
        writing.layers[place].shape = graph.shapes[index]
        tensors[index] = Tensor(place, 0, graph.shapes[index])
    for index in nodes:
        if graph.nodes[index].inputs:
            given = tuple(tensors[source] for source in graph.nodes[index].inputs)
            tensors[index] = writing.node(index, recipes[plan.group(index)], given)
    inputs = tuple(tensors[index] for index in graph.inputs)
    taken = {writing.layers[tensor.layer].name for tensor in inputs}
    outputs: list[Tensor] = []
    for index, name in zip(graph.outputs, graph.output_names, strict=True):
        if _legal(name) != name and len(graph.outputs) == 1:
            name = writing.layers[tensors[index].layer].name  # a Dense's own, not its activation's
        outputs.append(writing.output(tensors[index], _legal(name), outputs, taken))
    _named(writing.layers, taken, {tensor.layer for tensor in (*inputs, *outputs)})
    _told("inputs", graph.input_names, [writing.layers[tensor.layer].name for tensor in inputs])
    _told("outputs", graph.output_names, unique([writing.layers[tensor.layer].name for tensor in outputs]))
    return Model(tuple(writing.layers), inputs, tuple(outputs), graph.dtype.name)
