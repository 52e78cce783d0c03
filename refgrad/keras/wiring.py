"""From names to places: the tensors that a Functional model's calls name, as layers, calls and outputs of the list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from refgrad.errors import FormatError, naming
from refgrad.keras.calls import Tensor, Tensors
from refgrad.keras.canonical import LayerConfig, ModelConfig, Reference


def _sources(inputs: Tensors, layers: Sequence[LayerConfig], places: dict[str, int]) -> tuple[int, ...]:
    """The InputLayers in the order of the model's inputs."""
    found: dict[int, None] = {}
    for tensor in inputs:
        place = places.get(tensor.layer)
        if place is None or layers[place].class_name != "InputLayer" or tensor[1:] != (0, 0) or place in found:
            msg = f"input_layers names {list(tensor)!r:.80}: that is no InputLayer's output, or is there twice"
            raise FormatError(msg)
        found[place] = None
    return tuple(found)


def _highest(tensors: Iterable[Tensor]) -> dict[str, int]:
    """For each layer the highest number of a call that any tensor names."""
    found: dict[str, int] = {}
    for tensor in tensors:
        found[tensor.layer] = max(tensor.call, found.get(tensor.layer, 0))
    return found


def connected(
    layers: Sequence[LayerConfig],
    called: Sequence[tuple[Tensors, ...]],
    inputs: Tensors,
    outputs: Tensors,
    generation: int,
) -> ModelConfig:
    """The model of these layers, each called with these tensors."""
    places = {layer.name: index for index, layer in enumerate(layers)}
    sources = _sources(inputs, layers, places)
    counts = [len(of_layer) for of_layer in called]
    for source in sources:
        counts[source] += 1
    named = [tensor for of_layer in called for call in of_layer for tensor in call]
    highest = _highest([*named, *outputs])

    def first(index: int, at_an_end: bool) -> int:
        """The number that the layer's first call has in the file.

        A nested model was called once when it was made, which the file may count. Keras ≤ 2 does so or not by how the
        model was made, but leaves no call unused: it did if the highest number is the count. Keras 3 counts it for
        Functional models among the outputs only.
        """
        if layers[index].model is None or layers[index].wrappers:
            return 0
        if generation == 3:
            return int(at_an_end and layers[index].class_name != "Sequential")
        return int(highest.get(layers[index].name, 0) >= counts[index])

    def resolve(tensor: Tensor, at_an_end: bool = False) -> Reference:
        if tensor.layer not in places:
            msg = f"it takes a tensor of {tensor.layer!r:.60}, which is no layer of this model"
            raise FormatError(msg)
        index = places[tensor.layer]
        layer = layers[index]
        alone = layer.model is not None and not layer.wrappers and counts[index] == 1 and tensor.call in (0, 1)
        call = 0 if alone else tensor.call - first(index, at_an_end)
        count = 1 if layer.model is None else len(layer.model.outputs)
        # How many outputs an operation has, its tensors' shapes say.
        too_high = layer.operation is None and tensor.output >= count
        if not 0 <= call < counts[index] or too_high:
            what = f"output {tensor.output} of call {tensor.call} of layer {tensor.layer!r} ({layer.class_name})"
            if layer.class_name == "InputLayer":
                msg = f"it takes {what}, which is no input of the model or has one output only"
            else:
                msg = f"it takes {what}, which has {count} outputs and is called {counts[index]} times"
            raise FormatError(msg)
        return Reference(index, call, tensor.output)

    wired = []
    for layer, of_layer in zip(layers, called, strict=True):
        with naming(f"layer {layer.name!r} ({layer.class_name})"):
            if layer.class_name == "InputLayer" and of_layer:
                msg = "an input takes no tensors, but inbound_nodes names some"
                raise FormatError(msg)
            wired.append(replace(layer, calls=tuple(tuple(map(resolve, call)) for call in of_layer)))
    with naming("output_layers"):
        ends = tuple(resolve(tensor, at_an_end=True) for tensor in outputs)
    return ModelConfig(tuple(wired), sources, ends, generation)
