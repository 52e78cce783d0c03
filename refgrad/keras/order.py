"""The order in which Keras holds the layers of a Functional model: weights are stored, and counted, in that order.

Layers come by their depth, which is how many calls lie between them and the outputs at most, the deepest first; layers
of one depth as a search from the outputs back first meets them. (`keras.src.ops.function.map_graph`, all of Keras 3.)
"""

from __future__ import annotations

from collections.abc import Sequence

from refgrad.keras.functional import Layer, Model, Tensor

Call = tuple[int, int]
"""A layer's place, and which of its calls."""


def _taken(layers: Sequence[Layer], call: Call) -> tuple[Tensor, ...]:
    layer = layers[call[0]]
    return () if layer.shape is not None else layer.calls[call[1]]


def _searched(model: Model) -> tuple[list[Call], dict[int, int]]:
    """All calls, each after those it takes its tensors from, and when each layer was first met."""
    done: dict[Call, None] = {}
    met: dict[int, int] = {}
    for output in model.outputs:
        waiting: list[tuple[Call, bool]] = [((output.layer, output.call), False)]
        while waiting:
            call, left = waiting.pop()
            if left:
                done[call] = None
            elif call not in done:
                met.setdefault(call[0], len(met))
                waiting.append((call, True))
                waiting += [((t.layer, t.call), False) for t in reversed(_taken(model.layers, call))]
    return list(done), met


def ordered(model: Model) -> tuple[int, ...]:
    """The places of the layers in Keras's order; inputs that feed nothing are of depth 0, before all others."""
    calls, met = _searched(model)
    depths = dict.fromkeys(calls, 0)
    of_layer: dict[int, int] = {}
    for call in reversed(calls):
        depth = max(depths[call], of_layer.get(call[0], 0))
        depths[call] = of_layer[call[0]] = depth
        for tensor in _taken(model.layers, call):
            source = (tensor.layer, tensor.call)
            depths[source] = max(depth + 1, depths[source])
    for tensor in model.inputs:
        of_layer.setdefault(tensor.layer, 0)
    return tuple(sorted(of_layer, key=lambda place: (-of_layer[place], met.get(place, -1))))
