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
from refgrad.keras import layers as known
from tests.graphs import GENERATIONS, SAMPLES

MOST_NUMBERS = 12
"""What a tensor holds at most, without batch."""

DEEPEST = 3
POLICIES = ("float64", "float64", "float64", "float32", "mixed_float16", "float16")
EXACT = st.sampled_from([0.125, 0.25, 0.5, 1.5])
"""Parameters that every dtype holds."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer: what class, made with what, and by what name if not Keras's own."""

    class_name: str
    options: dict
    name: str | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """A layer or model, the tensors that it takes by number, and the shapes of those that it gives."""

    layer: Layer | Model
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
    """What is common to all of an architecture: the Keras, and names given so far."""

    draw: object
    keras: object
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


def _axis(d, shape):
    """An axis from either end, with the batch as 0."""
    axis = d(st.integers(1, len(shape)))
    return axis - len(shape) - 1 if d.flag() else axis


def _axes(d, shape):
    return d(st.lists(st.integers(1, len(shape)), min_size=1, unique=True).map(sorted))


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
    n = shape[-1]
    mean, variance = ([d(EXACT) for _ in range(n)] for _ in range(2))
    return {"axis": -1, "mean": mean, "variance": variance, "invert": d.flag()}


def _groups(d, shape):
    if len(shape) > 1:
        return None
    groups = d(st.sampled_from([n for n in range(1, shape[0] + 1) if shape[0] % n == 0]))
    return {"groups": groups, "scale": d.flag(), "center": d.flag(), "epsilon": d(EXACT)}, shape


def _spatial(d, shape):
    return ({"rate": 0.25}, shape) if len(shape) == 2 else None


def _norm_options(d, shape):
    return {"epsilon": d(st.sampled_from([1e-3, 0.125])), "scale": d.flag(), "center": d.flag()}


DRAWN = {
    "Dense": _dense,
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
    "PReLU": _same(lambda d, shape: {"shared_axes": _axes(d, shape) if d.flag() else None}),
    "Softmax": _same(lambda d, shape: {"axis": _axes(d, shape) if d.flag() else _axis(d, shape)}),
    "BatchNormalization": _same(
        lambda d, shape: {"axis": _axis(d, shape), "momentum": 0.75, **_norm_options(d, shape)}
    ),
    "LayerNormalization": _same(lambda d, shape: {"axis": _axes(d, shape), **_norm_options(d, shape)}),
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


def _alike(d, shapes):
    """Two or three tensors of one shape, one of them perhaps twice."""
    shape = shapes[d(st.integers(0, len(shapes) - 1))]
    places = [place for place, other in enumerate(shapes) if other == shape]
    return d(st.lists(st.sampled_from(places), min_size=2, max_size=3)), shape


def _merge(count=None):
    def drawn(d, shapes):
        taken, shape = _alike(d, shapes)
        return taken[:count], {}, shape

    return drawn


def _concatenate(d, shapes):
    taken, shape = _alike(d, shapes)
    axis = _axis(d, shape)
    place = axis if axis < 0 else axis - 1
    longer = [*shape]
    longer[place] *= len(taken)
    return (taken, {"axis": axis}, tuple(longer)) if math.prod(longer) <= MOST_NUMBERS else None


def _dot(d, shapes):
    (one, other, *_), shape = _alike(d, shapes)
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

_OFTEN = [name for name in ("Dense",) * 8 + tuple(DRAWN) + ("BatchNormalization",) * 2 if name in known.LAYERS]


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
    return d(st.sampled_from([(1,), (2,), (3,), (4,), (2, 2), (3, 2), (1, 4)]))


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


def _another(d, shapes, calls, depth):
    """A call more: of a layer that is there already, a merge, a model, or a layer."""
    what = d(st.integers(0, 9))
    if what >= 8 and calls:
        before = d(st.sampled_from(calls))
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
    d = _Drawing(draw, keras)
    inputs = tuple(_shape(d) for _ in range(draw(st.integers(1, 3))))
    return Architecture(
        _model(d, inputs), draw(st.sampled_from(POLICIES)), draw(st.integers(0, 2)), draw(st.integers(0, 2**16))
    )


def _built_layer(keras, layer, policy):
    options = dict(layer.options)
    if layer.class_name in ("Dense", "PReLU"):
        # Keras's own initialiser takes from Python's random numbers, which Hypothesis watches over.
        options["kernel_initializer" if layer.class_name == "Dense" else "alpha_initializer"] = "zeros"
    if layer.name is not None:
        options["name"] = layer.name
    return getattr(keras.layers, layer.class_name)(**options, dtype=policy)


def _built(keras, model, policy):
    named = {} if model.name is None else {"name": model.name}
    dtype = policy.removeprefix("mixed_") if not policy.startswith("mixed") else "float32"
    made = {}
    for call in model.calls:
        if call.layer not in made:
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
    return model


def inputs_of(architecture):
    """Samples for each input, which float16 holds."""
    rng = np.random.default_rng(architecture.seed + 1)
    return [
        rng.normal(size=(SAMPLES, *shape)).astype("float16").astype("float64") for shape in architecture.model.inputs
    ]
