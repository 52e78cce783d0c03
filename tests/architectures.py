"""Random architectures in Keras's own words, which real Keras builds, saves and differentiates.

`graphs.py` draws ops; this draws layers with their options, shared ones, models in models of either kind, lists and
dicts of ends, and dtype policies. `LAYERS` and `MERGES` say of each class how it is drawn: a new layer is one row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from refgrad.activations.names import NAMES
from tests.bare import EXACT, MOST_NUMBERS, OPERATIONS, alike, an_axis, some_axes
from tests.graphs import GENERATIONS, SAMPLES

DEEPEST = 3
POLICIES = (*("float64",) * 4, "float32", "mixed_float16", "float16", "mixed_bfloat16")


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer: what class, made with what, and by what name if not Keras's own."""

    class_name: str
    options: dict
    name: str | None = None


@dataclass(frozen=True, eq=False)
class Operation:
    """A bare operation: a row of `bare.OPERATIONS`, and what is drawn for it."""

    name: str
    options: dict


@dataclass(frozen=True, eq=False)
class Call:
    """A layer, operation or model, the tensors it takes by number, and the shapes of those that it gives."""

    layer: Layer | Operation | Model
    taken: tuple[int, ...]
    given: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Model:
    """A model: tensors are numbered, inputs first and then what the calls give; `keys` where its ends are in dicts."""

    kind: str
    inputs: tuple[tuple[int, ...], ...]
    calls: tuple[Call, ...]
    outputs: tuple[int, ...]
    keys: bool = False
    name: str | None = None

    @property
    def shapes(self):
        return [*self.inputs, *(shape for call in self.calls for shape in call.given)]


@dataclass(frozen=True, eq=False)
class Architecture:
    """A model, the policy of its layers, how many Dense Keras has counted before, and a seed for numbers."""

    model: Model
    policy: str
    counted: int
    seed: int


@dataclass
class _Drawing:
    """What is common to all of an architecture: the Keras, the policy, and names given so far."""

    draw: object
    keras: object
    policy: str
    named: list = field(default_factory=list)

    def __call__(self, strategy):
        return self.draw(strategy)

    @property
    def generation(self):
        return GENERATIONS[self.keras.__name__]

    def flag(self):
        return self.draw(st.booleans())

    def name(self):
        """A name of the user's, now and then; none comes twice."""
        if self.draw(st.integers(0, 3)) < 3:
            return None
        stem = self.draw(st.sampled_from(["dense", "my.layer", "head", "vars"]))
        self.named.append(f"{stem}_{len(self.named)}00")
        return self.named[-1]


def _activations(generation):
    """Names of both kinds of activations; TensorFlow's gelu is 5e-9 off, and Keras 3 mistakes the shape after glu."""
    left_out = {"gelu", "glu", "exponential"}
    return sorted(name for name in NAMES[generation] if name.islower() and name not in left_out)


def _activation(d):
    return d(st.sampled_from(_activations(d.generation)))


def _dense(d, shape):
    units = d(st.integers(1, min(4, MOST_NUMBERS // math.prod(shape[:-1]))))
    activation = _activation(d) if d.flag() else None
    return {"units": units, "activation": activation, "use_bias": d.flag()}, (*shape[:-1], units)


def _reshape(d, shape):
    size = math.prod(shape)
    first = d(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    target = d(st.sampled_from([(size,), (-1,), (first, size // first), (first, -1), (-1, size // first)]))
    return {"target_shape": target}, (size,) if len(target) == 1 else (first, size // first)


def _permute(d, shape):
    dims = d(st.permutations(range(1, len(shape) + 1)))
    return {"dims": tuple(dims)}, tuple(shape[axis - 1] for axis in dims)


def _repeat(d, shape):
    count = d(st.integers(1, 3))
    return ({"n": count}, (count, *shape)) if len(shape) == 1 and count * shape[0] <= MOST_NUMBERS else None


def _flatten(d, shape):
    return {}, (math.prod(shape),)


def _same(options):
    """A layer whose output has its input's shape."""
    return lambda d, shape: (options(d, shape), shape)


def _normalization(d, shape):
    """With given numbers, or with such as `adapt` leaves behind, which are weights."""
    n = shape[-1]
    if d.flag():
        return {"axis": an_axis(d, shape)}
    mean, variance = ([d(EXACT) for _ in range(n)] for _ in range(2))
    return {"axis": -1, "mean": mean, "variance": variance, "invert": d.flag()}


def _groups(d, shape):
    if len(shape) > 1:
        return None
    groups = d(st.sampled_from([n for n in range(1, shape[0] + 1) if shape[0] % n == 0]))
    return {"groups": groups, "scale": d.flag(), "center": d.flag(), "epsilon": d(EXACT)}, shape


EQUATIONS = {
    1: (("ab,bc->ac", "{m}", "c"), ("...b,bc->...c", "{m}", "c")),
    2: (("abc,cd->abd", "{0} {m}", "bd"), ("abc,bd->adc", "{m} {1}", "d"), ("abc,bcd->ad", "{m}", "d")),
    3: (("abcd,de->abce", "{0} {1} {m}", "ce"), ("abcd,bde->ace", "{1} {m}", "e")),
}
"""Rank → equation, the output's sizes, those of the input by number, and axes that a bias may have."""


def _einsum(d, shape):
    if len(shape) not in EQUATIONS:
        return None
    equation, sizes, axes = d(st.sampled_from(EQUATIONS[len(shape)]))
    given = tuple(map(int, sizes.format(*shape, m=d(st.integers(1, 3))).split()))
    bias = axes[-d(st.integers(1, len(axes))) :] if d.flag() else None
    activation = _activation(d) if d.flag() else None
    options = {"equation": equation, "output_shape": given, "bias_axes": bias, "activation": activation}
    return (options, given) if math.prod(given) <= MOST_NUMBERS else None


def _distributed(d, shape):
    """A Dense for each of a few steps."""
    if len(shape) == 1:
        return None
    options, given = _dense(d, shape)
    return {"layer": Layer("Dense", options, d.name())}, given


def _spatial(d, shape):
    return ({"rate": 0.25}, shape) if len(shape) == 2 else None


def _norm_options(d, shape):
    return {"epsilon": d(st.sampled_from([1e-3, 0.125])), "scale": d.flag(), "center": d.flag()}


DRAWN = {
    "Dense": _dense,
    "EinsumDense": _einsum,
    "TimeDistributed": _distributed,
    "Activation": _same(lambda d, shape: {"activation": _activation(d)}),
    "ReLU": _same(
        lambda d, shape: {
            "max_value": d(EXACT) if d.flag() else None,
            "negative_slope": d(st.sampled_from([0.0, 0.25])),
            "threshold": d(st.sampled_from([0.0, 0.125])),
        }
    ),
    "LeakyReLU": _same(lambda d, shape: {"alpha" if d.generation == 2 else "negative_slope": d(EXACT)}),
    "ELU": _same(lambda d, shape: {"alpha": d(EXACT)}),
    "PReLU": _same(lambda d, shape: {"shared_axes": some_axes(d, shape) if d.flag() else None}),
    "Softmax": _same(lambda d, shape: {"axis": some_axes(d, shape) if d.flag() else an_axis(d, shape)}),
    "BatchNormalization": _same(
        lambda d, shape: {"axis": an_axis(d, shape), "momentum": 0.75, **_norm_options(d, shape)}
    ),
    "LayerNormalization": _same(lambda d, shape: {"axis": some_axes(d, shape), **_norm_options(d, shape)}),
    "UnitNormalization": _same(lambda d, shape: {"axis": -1}),
    "RMSNormalization": _same(lambda d, shape: {"axis": -1, "epsilon": d(EXACT)}),
    "GroupNormalization": _groups,
    "Normalization": _same(_normalization),
    "Rescaling": _same(lambda d, shape: {"scale": d(EXACT), "offset": d(EXACT)}),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    "Dropout": _same(lambda d, shape: {"rate": 0.25, "seed": d(st.sampled_from([None, 3]))}),
    "SpatialDropout1D": _spatial,
    "AlphaDropout": _same(lambda d, shape: {"rate": 0.25}),
    "GaussianDropout": _same(lambda d, shape: {"rate": 0.25}),
    "GaussianNoise": _same(lambda d, shape: {"stddev": 0.25}),
    "ActivityRegularization": _same(lambda d, shape: {"l2": 0.25}),
    "Identity": _same(lambda d, shape: {}),
}
"""How each class of one input is drawn: options and output shape of an input shape, or None where it does not fit."""


def _merge(count=None):
    def drawn(d, shapes):
        taken, shape = alike(d, shapes)
        return taken[:count], {}, shape

    return drawn


def _concatenate(d, shapes):
    taken, shape = alike(d, shapes)
    axis = an_axis(d, shape)
    place = axis if axis < 0 else axis - 1
    longer = [*shape]
    longer[place] *= len(taken)
    return (taken, {"axis": axis}, tuple(longer)) if math.prod(longer) <= MOST_NUMBERS else None


def _dot(d, shapes):
    (one, other, *_), shape = alike(d, shapes)
    axis = d(st.integers(1, len(shape)))
    rest = (*shape[: axis - 1], *shape[axis:])
    given = (*rest, *rest) or (1,)
    fits = math.prod(given) <= MOST_NUMBERS
    return ((one, other), {"axes": axis, "normalize": d.flag()}, given) if fits else None


MERGES = {
    **dict.fromkeys(("Add", "Multiply", "Average", "Maximum", "Minimum"), _merge()),
    "Subtract": _merge(2),
    "Concatenate": _concatenate,
    "Dot": _dot,
}
"""How each class of several inputs is drawn: the tensors it takes, its options and the shape it gives."""

_OFTEN = (*("Dense",) * 8, *DRAWN, *("BatchNormalization",) * 2)


def _one(d, shape):
    """A layer of one input; Dense, where the one that was drawn does not fit."""
    name = d(st.sampled_from(_OFTEN))
    if not hasattr(d.keras.layers, name):
        name = "Dense"
    options, given = DRAWN[name](d, shape) or ({}, None)
    if given is None:
        name, (options, given) = "Dense", _dense(d, shape)
    return Layer(name, options, d.name()), given


def _shape(d):
    return d(st.sampled_from([(1,), (2,), (3,), (4,), (2, 2), (3, 2), (1, 4), (2, 1, 3)]))


def _sequential(d, shape, depth):
    """Layers, and models that take one tensor and give one, each called once."""
    calls, start = [], shape
    for place in range(d(st.integers(1, 4))):
        if depth < DEEPEST and d(st.integers(0, 5)) == 5:
            inner = _model(d, (shape,), depth + 1, ends=1)
            layer, given = inner, inner.shapes[inner.outputs[0]]
        else:
            layer, given = _one(d, shape)
        calls.append(Call(layer, (place,), (given,)))
        shape = given
    return Model("Sequential", (start,), tuple(calls), (len(calls),), name=d.name())


def _operation(d, shapes):
    """A bare operation, or None if the one that was drawn does not fit.

    TensorFlow promotes no dtypes, so that those of Keras 2 take one tensor each where a policy is mixed.
    """
    known = [name for name, row in OPERATIONS.items() if d.generation in row.generations]
    name = d(st.sampled_from(known + ["x[key]"] * 4))
    found = OPERATIONS[name].draw(d, shapes)
    mixed = d.generation == 2 and d.policy.startswith("mixed")
    if found is None or (mixed and len({*found[0]}) > 1):
        return None
    taken, options, given = found
    return Call(Operation(name, options), tuple(taken), (given,))


def _another(d, shapes, calls, depth):
    """A call more: of a layer that is there already, a merge, a model, an operation, or a layer."""
    what = d(st.integers(0, 11))
    if what >= 10 and (found := _operation(d, shapes)):
        return found
    layers = [call for call in calls if not isinstance(call.layer, Operation)]
    if what in (8, 9) and layers:
        before = d(st.sampled_from(layers))
        wanted = [shapes[place] for place in before.taken]
        return Call(
            before.layer,
            tuple(d(st.sampled_from([p for p, other in enumerate(shapes) if other == shape])) for shape in wanted),
            before.given,
        )
    if what in (5, 6):
        name = d(st.sampled_from(sorted(MERGES)))
        if found := MERGES[name](d, shapes):
            taken, options, given = found
            return Call(Layer(name, options, d.name()), tuple(taken), (given,))
    if what == 7 and depth < DEEPEST:
        taken = d(st.lists(st.integers(0, len(shapes) - 1), min_size=1, max_size=2))
        inner = _model(d, tuple(shapes[place] for place in taken), depth + 1)
        return Call(inner, tuple(taken), tuple(inner.shapes[place] for place in inner.outputs))
    place = d(st.integers(0, len(shapes) - 1)) if d.flag() else len(shapes) - 1
    layer, given = _one(d, shapes[place])
    return Call(layer, (place,), (given,))


def _model(d, inputs, depth=1, ends=None):
    """A model of these input shapes; `ends` is how many outputs, if it matters."""
    if len(inputs) == 1 and d.flag():
        return _sequential(d, inputs[0], depth)
    shapes, calls = [*inputs], []
    for _ in range(d(st.integers(1, 6 if depth == 1 else 3))):
        calls.append(_another(d, shapes, calls, depth))
        shapes += calls[-1].given
    made = range(len(inputs), len(shapes))
    more = d(st.lists(st.sampled_from(made), max_size=(ends or 2) - 1))
    outputs = tuple(dict.fromkeys([len(shapes) - 1, *more]))
    keys = depth == 1 and d.flag()
    return Model("Functional", inputs, tuple(calls), outputs, keys, d.name())


@st.composite
def architectures(draw, keras):
    """An architecture that this Keras can build."""
    d = _Drawing(draw, keras, draw(st.sampled_from(POLICIES)))
    inputs = tuple(_shape(d) for _ in range(draw(st.integers(1, 3))))
    model = _sequential(d, inputs[0], 1) if draw(st.integers(0, 3)) == 1 else _model(d, inputs)
    return Architecture(model, d.policy, draw(st.integers(0, 2)), draw(st.integers(0, 2**16)))


INITIALIZED = {"Dense": "kernel_initializer", "EinsumDense": "kernel_initializer", "PReLU": "alpha_initializer"}


def _operated(keras, operation, tensors):
    """What a bare operation gives, by keras.ops or TensorFlow."""
    if GENERATIONS[keras.__name__] == 3:
        namespace = keras.ops
    else:
        import tensorflow as namespace
    return OPERATIONS[operation.name].write(namespace, *tensors, **operation.options)


def _built_layer(keras, layer, policy):
    options = dict(layer.options)
    if layer.class_name in INITIALIZED:
        # Keras's own initialiser takes from Python's random numbers, which Hypothesis watches over.
        options[INITIALIZED[layer.class_name]] = "zeros"
    if "layer" in options:
        options["layer"] = _built_layer(keras, options["layer"], policy)
    if layer.name is not None:
        options["name"] = layer.name
    return getattr(keras.layers, layer.class_name)(**options, dtype=policy)


def _built(keras, model, policy):
    named = {} if model.name is None else {"name": model.name}
    dtype = policy.removeprefix("mixed_") if not policy.startswith("mixed") else "float32"
    made = {}
    for call in model.calls:
        if call.layer not in made and not isinstance(call.layer, Operation):
            build = _built if isinstance(call.layer, Model) else _built_layer
            made[call.layer] = build(keras, call.layer, policy)
    if model.kind == "Sequential":
        start = keras.layers.Input(model.inputs[0], dtype=dtype)
        return keras.Sequential([start, *(made[call.layer] for call in model.calls)], **named)
    names = [{"name": f"in{place}"} if model.keys else {} for place in range(len(model.inputs))]
    tensors = [keras.layers.Input(shape, dtype=dtype, **name) for shape, name in zip(model.inputs, names, strict=True)]
    starts = [*tensors]
    for call in model.calls:
        taken = [tensors[place] for place in call.taken]
        if isinstance(call.layer, Operation):
            tensors.append(_operated(keras, call.layer, taken))
            continue
        several = len(taken) > 1 or (not isinstance(call.layer, Model) and call.layer.class_name in MERGES)
        found = made[call.layer](taken if several else taken[0])
        tensors += found if isinstance(found, list | tuple) else [found]
    ends = [tensors[place] for place in model.outputs]
    if model.keys:
        return keras.Model(
            {f"in{place}": start for place, start in enumerate(starts)},
            {f"out{place}": end for place, end in enumerate(ends)},
            **named,
        )
    return keras.Model(starts, ends if len(ends) > 1 else ends[0], **named)


def built(keras, architecture, policy=None):
    """The model in this Keras, with moderate weights."""
    keras.backend.clear_session()
    for _ in range(architecture.counted):
        keras.layers.Dense(1)
    model = _built(keras, architecture.model, policy or architecture.policy)
    rng = np.random.default_rng(architecture.seed)
    for weight in model.weights:
        drawn = rng.uniform(0.5, 1.5, size=weight.shape)
        if "variance" not in getattr(weight, "path", weight.name):
            drawn = rng.normal(size=weight.shape)
        weight.assign(drawn.astype("float16").astype(getattr(weight.dtype, "name", weight.dtype)))
    return settled(model)


def settled(model):
    """A model whose weights were set: a Normalization computes with what it made of them when it was built."""
    for layer in model._flatten_layers():
        if type(layer).__name__ == "Normalization":
            layer.finalize_state()
    return model


def inputs_of(architecture):
    """Samples for each input, which float16 holds."""
    rng = np.random.default_rng(architecture.seed + 1)
    return [
        rng.normal(size=(SAMPLES, *shape)).astype("float16").astype("float64") for shape in architecture.model.inputs
    ]
