"""The canonical form of a model's config, in which no spelling of any version is left."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from refgrad.errors import FormatError
from refgrad.keras.arguments import Arguments
from refgrad.keras.operations.rows import Operation
from refgrad.keras.rows import Config
from refgrad.keras.values import OpenShape

UNNAMED = "input"
"""The name of a Sequential's input that no InputLayer declares."""


class Reference(NamedTuple):
    """A tensor by the index of the layer that makes it, the layer's call, and the call's output."""

    layer: int
    call: int
    output: int


Call = tuple[Reference, ...]
"""The tensors a layer is called with."""


@dataclass(frozen=True, eq=False)
class LayerConfig:
    """A layer: a class of the table with exactly the keys of its row, a model with its own layers, or an operation.

    `policy` is the dtype policy it is declared in, if it says; an InputLayer has no calls. `wrappers` are the classes
    of the layers around it, the outermost first, whose name it has, and `within` the names below that; `distributed` is
    over how many axes before its own they apply it.

    An operation has the options of its config as they stand, and for each call the arguments that its tensors have
    their places among.
    """

    class_name: str
    name: str
    config: Config
    policy: str | None
    input_shape: OpenShape | None
    calls: tuple[Call, ...]
    model: ModelConfig | None = None
    wrappers: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    distributed: int = 0
    operation: Operation | None = None
    arguments: tuple[Arguments, ...] = ()


@dataclass(frozen=True, eq=False)
class ModelConfig:
    """Layers, Sequential or not, with the calls that connect them.

    `inputs` are the InputLayers in the order of the model's inputs, `outputs` the tensors it gives; `generation` is the
    Keras, 2 or 3, whose conventions it follows. `input_keys` and `output_keys` are what dicts call the ends of a model
    that was made with dicts.
    """

    layers: tuple[LayerConfig, ...]
    inputs: tuple[int, ...]
    outputs: tuple[Reference, ...]
    generation: int
    input_keys: tuple[str, ...] | None = None
    output_keys: tuple[str, ...] | None = None

    @cached_property
    def order(self) -> tuple[tuple[int, int], ...]:
        """The calls (layer, call) that the outputs need, each after those it takes its tensors from."""
        calls = {(index, k): call for index, layer in enumerate(self.layers) for k, call in enumerate(layer.calls)}
        calls |= {(index, 0): () for index in self.inputs}
        needed = {(output.layer, output.call) for output in self.outputs}
        waiting = deque(needed)
        while waiting:
            for taken in calls[waiting.popleft()]:
                source = (taken.layer, taken.call)
                if source not in needed:
                    needed.add(source)
                    waiting.append(source)
        return tuple(place for place in _sorted(self, calls) if place in needed)


def _sorted(model: ModelConfig, calls: dict[tuple[int, int], Call]) -> Iterator[tuple[int, int]]:
    """All calls in topological order, which there is none of in a cycle."""
    pending = {place: len(call) for place, call in calls.items()}
    takers: dict[tuple[int, int], list[tuple[int, int]]] = {place: [] for place in calls}
    for place, call in calls.items():
        for taken in call:
            takers[taken.layer, taken.call].append(place)
    ready = deque(place for place, count in pending.items() if count == 0)
    while ready:
        done = ready.popleft()
        del pending[done]
        yield done
        for taker in takers[done]:
            pending[taker] -= 1
            if pending[taker] == 0:
                ready.append(taker)
    if pending:
        # Each call left waits for another one left: going back from any, one comes to a cycle.
        place, passed = next(iter(pending)), set()
        while place not in passed:
            passed.add(place)
            place = next((t.layer, t.call) for t in calls[place] if (t.layer, t.call) in pending)
        layer = model.layers[place[0]]
        msg = f"layer {layer.name!r} ({layer.class_name}) takes what is made of its own output: the graph has a cycle"
        raise FormatError(msg)
