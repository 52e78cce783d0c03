"""The shared tables: every network, input and truth that the properties are checked on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

import refgrad
from refgrad.derivatives.margins import near_kinks
from refgrad.derivatives.products import linearize
from refgrad.graph import Provenance, chain
from refgrad.ops import Affine, Elementwise
from refgrad.rounding import deviations
from tests import oracle

GOLDEN = Path(__file__).parent / "golden"
NETWORKS = ("question", "mixed", "twelve")
WRITERS = ("keras3", "tf_keras")
CONTAINERS = {
    "keras": (".keras", {}),
    "h5": (".h5", {}),
    "json+weights.h5": (".json", {"weights": ".weights.h5"}),
    "weights.h5+json": (".weights.h5", {"config": ".json"}),
    "json+legacy weights": (".json", {"weights": ".legacy_weights.h5"}),
    "legacy weights+json": (".legacy_weights.h5", {"config": ".json"}),
}
STEMS = [f"{name}-{writer}" for name in NETWORKS for writer in WRITERS]


def golden_arguments(stem, container):
    """Arguments of `refgrad.load` for one of the golden networks in one of its containers."""
    suffix, others = CONTAINERS[container]
    return (GOLDEN / f"{stem}{suffix}",), {key: GOLDEN / f"{stem}{other}" for key, other in others.items()}


def golden_truth(stem):
    """What TensorFlow said: x, y32, j32, y64, j64."""
    with np.load(GOLDEN / f"{stem}.npz") as truth:
        return dict(truth)


@dataclass
class Case:
    """A network with inputs (batch, n_in) and the truth about it in float64: value and Jacobian."""

    name: str
    make: object
    make_truth: object = field(repr=False)

    @cached_property
    def net(self):
        return self.make()[0]

    @cached_property
    def x(self):
        return self.make()[1]

    @cached_property
    def truth(self):
        return self.make_truth(self)

    def __str__(self):
        return self.name


def _golden_case(stem):
    def make():
        return refgrad.load(GOLDEN / f"{stem}.keras"), golden_truth(stem)["x"][-40:]

    def truth(_):
        found = golden_truth(stem)
        return found["y64"][-40:], found["j64"][-40:]

    return Case(stem, make, truth)


def _layers(widths, activations, seed, dtype, bias=True):
    rng = np.random.default_rng(seed)
    for n_in, n_out, activation in zip(widths[:-1], widths[1:], activations, strict=True):
        kernel = rng.normal(size=(n_in, n_out), scale=np.sqrt(2 / n_in)).astype(dtype)
        yield kernel, rng.normal(size=n_out, scale=0.3).astype(dtype) if bias else None, activation, ()


def _random_case(name, widths, activations, seed, dtype="float64", bias=True, samples=6):
    layers = list(_layers(widths, activations, seed, dtype, bias))

    def make():
        net = refgrad.Network.sequential([layer[:3] for layer in layers])
        return net, np.random.default_rng(seed + 1000).normal(size=(samples, widths[0])).astype(dtype)

    def truth(case):
        pairs = [oracle.value_and_jacobian(layers, sample) for sample in case.x]
        return tuple(np.stack(part) for part in zip(*pairs, strict=True))

    return Case(name, make, truth)


def _relu_layer_case(name, parameters, seed):
    """A ReLU layer with all its parameters, between two affine maps."""
    (first, second) = _layers((3, 7, 2), ("linear", "linear"), seed, "float64")
    layers = [(*first[:2], "relu", parameters), second]

    def make():
        steps = [
            ("first", Affine(first[0], first[1])),
            ("re_lu", Elementwise("relu", parameters)),
            ("second", Affine(second[0], second[1])),
        ]
        graph = chain((3,), steps, np.dtype("float64"), Provenance())
        return refgrad.Network(graph), np.random.default_rng(seed + 1000).normal(size=(9, 3))

    def truth(case):
        pairs = [oracle.value_and_jacobian(layers, sample) for sample in case.x]
        return tuple(np.stack(part) for part in zip(*pairs, strict=True))

    return Case(name, make, truth)


_HIDDEN = ("relu", "tanh", "sigmoid")
CASES = [
    *(_golden_case(stem) for stem in STEMS),
    _random_case("one layer", (3, 2), ("linear",), 1),
    _random_case("one layer, tanh", (2, 3), ("tanh",), 2),
    _random_case("one unit throughout", (1, 1, 1, 1), _HIDDEN, 3),
    _random_case("wide in", (17, 9, 5, 2), (*_HIDDEN[:2], "linear"), 4),
    _random_case("wide out", (2, 5, 9, 17), (*_HIDDEN[:2], "sigmoid"), 5),
    _random_case("bottleneck", (9, 6, 2, 6, 9), ("relu", "tanh", "relu", "linear"), 6),
    _random_case("no bias", (4, 8, 8, 3), ("relu", "relu", "linear"), 7, bias=False),
    _random_case("linear throughout", (4, 6, 3), ("linear", "linear"), 8),
    _random_case("one input, one output, deep", (1, *[6] * 9, 1), (*["relu"] * 9, "linear"), 9),
    _random_case("float32 relu", (5, 16, 16, 4), ("relu", "relu", "linear"), 10, "float32"),
    _random_case("float32 smooth", (5, 16, 16, 4), ("tanh", "sigmoid", "linear"), 11, "float32"),
    _random_case("float32 one input", (1, 32, 32, 1), ("relu", "relu", "linear"), 12, "float32"),
    _relu_layer_case("leaky relu", (np.inf, 0.2, 0.0), 13),
    _relu_layer_case("capped relu", (0.75, 0.0, 0.0), 14),
    _relu_layer_case("relu with everything", (1.25, 0.3, 0.25), 15),
]


def tolerance(case):
    """Largest difference from the truth, relative to the largest entry: the design's in float64, 34 u in float32."""
    return 1e-13 if case.net.dtype == np.float64 else 2e-6


def away_from_kinks(case):
    """Samples where rounding in the network's dtype cannot switch a unit."""
    point = linearize(case.net.graph, [case.x], "keras")
    return ~near_kinks(point, deviations(case.net.graph, point.values)).near
