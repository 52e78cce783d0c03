"""Keras 1's Sequential of several inputs: its first layer is a Merge, and holds the models whose outputs it merges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from refgrad.errors import UnsupportedError
from refgrad.keras.canonical import UNNAMED, LayerConfig, ModelConfig, Reference


def _moved(taken: Reference, by: int) -> Reference:
    return taken._replace(layer=taken.layer + by)


def merged(branches: Sequence[ModelConfig], merge: LayerConfig, generation: int) -> ModelConfig:
    """The models' layers side by side, as their weights are stored, and the Merge of what they give.

    An input that no layer of its own declares is named as Keras names it: after the layer that takes it.
    """
    layers: list[LayerConfig] = []
    inputs: list[int] = []
    taken: list[Reference] = []
    for model in branches:
        if len(model.outputs) != 1:
            msg = f"layer {merge.name!r} (Merge) merges a model of {len(model.outputs)} outputs; one is supported"
            raise UnsupportedError(msg)
        by = len(layers)
        layers += [
            replace(layer, calls=tuple(tuple(_moved(source, by) for source in call) for call in layer.calls))
            for layer in model.layers
        ]
        if model.layers[0].name == UNNAMED and len(model.layers) > 1:
            layers[by] = replace(layers[by], name=f"{layers[by + 1].name}_input")
        inputs += [by + index for index in model.inputs]
        taken.append(_moved(model.outputs[0], by))
    end = Reference(len(layers), 0, 0)
    return ModelConfig((*layers, replace(merge, calls=(tuple(taken),))), tuple(inputs), (end,), generation)
