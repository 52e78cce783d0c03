"""Random graphs of every op: the strategy behind `test_properties.py`, and the same graphs in the real Keras.

Hypothesis draws the structure, which shrinks; numbers come from one seed, which is faster. `ROWS` says of each op how
it is drawn and which Keras layer it is: a new op is one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np
from hypothesis import strategies as st

from refgrad.activations import ACTIVATIONS
from refgrad.activations.names import NAMES
from refgrad.graph import Graph, Node, Provenance
from refgrad.network import Network
from refgrad.ops import (
    GLU,
    Add,
    Affine,
    Average,
    BatchNormalization,
    Concatenate,
    Dot,
    Elementwise,
    LayerNormalization,
    LogSoftmax,
    LogSumExp,
    Max,
    Maximum,
    Min,
    Minimum,
    Multiply,
    Normalization,
    Partial,
    Permute,
    PReLU,
    Repeat,
    Rescaling,
    Reshape,
    RMSNormalization,
    Softmax,
    Source,
    Sparsemax,
    Subtract,
    Sum,
    Take,
    UnitNormalization,
)
from refgrad.ops.broadcasting import fits
from tests import accuracy

SAMPLES = 3
MOST_NUMBERS = 36
"""What a tensor holds at most, without batch."""

LARGEST = 4.0
"""A tensor with larger numbers is scaled down before it goes on: exp of exp of it would overflow."""

GENERATIONS = {"keras": 3, "tf_keras": 2}


class Numbers:
    """Parameters from a seed, which float32 holds exactly."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape):
        return np.asarray(self.rng.normal(size=shape), "float32").astype("float64")

    def positive(self, *shape):
        return np.asarray(self.rng.uniform(0.3, 2, size=shape), "float32").astype("float64")


@dataclass(frozen=True)
class Row:
    """How an op is drawn.

    `places(shapes)` lists where it fits: the nodes that it takes, and what else `make(draw, numbers, shapes, *else)`
    needs to know. `layer(keras, op, shapes)` is its Keras layer with the weights to set, or None where that
    generation has none. `weight` is how often it is drawn.
    """

    places: Callable
    make: Callable
    layer: Callable
    weight: int = 1


def _each(shapes):
    """Any tensor."""
    return [((index,),) for index in shapes]


def _axes_of(shape):
    return range(-len(shape), 0)


def _each_axis(shapes):
    """Any axis of any tensor."""
    return [((index,), axis) for index, shape in shapes.items() for axis in _axes_of(shape)]


def _each_axes(shapes):
    """Any set of axes of any tensor, ascending."""
    return [
        ((index,), axes)
        for index, shape in shapes.items()
        for count in range(1, len(shape) + 1)
        for axes in combinations(_axes_of(shape), count)
    ]


def _stretch(*shapes):
    """The shape they stretch to, or None."""
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        return None
    return shape if math.prod(shape) <= MOST_NUMBERS else None


def _pairs(shapes):
    """Any two tensors that stretch to each other, or one twice."""
    return [(pair,) for pair in product(shapes, repeat=2) if _stretch(*(shapes[index] for index in pair))]


def _groups(shapes):
    """One to three tensors that stretch to each other."""
    some = list(shapes)[-6:]
    threes = (three for three in product(some, repeat=3) if _stretch(*(shapes[index] for index in three)))
    return [*_each(shapes), *_pairs(shapes), *((three,) for three in threes)]


def _joined(shapes):
    """One to three tensors that are equal but on one axis."""
    some = list(shapes)[-6:]
    found = []
    for taken in (group for count in (1, 2, 3) for group in product(some, repeat=count)):
        given = [shapes[index] for index in taken]
        if len({len(shape) for shape in given}) == 1 and sum(map(math.prod, given)) <= MOST_NUMBERS:
            for axis in _axes_of(given[0]):
                rest = {(*shape[:axis], *shape[len(shape) + axis + 1 :]) for shape in given}
                found += [(taken, axis)] if len(rest) == 1 else []
    return found


def _inner(shapes):
    """Any two tensors with axes of one length."""
    return [
        ((one, other), (a, b))
        for one, other in product(shapes, repeat=2)
        for a, b in product(_axes_of(shapes[one]), _axes_of(shapes[other]))
        if (n := shapes[one][a]) == shapes[other][b]
        and math.prod(shapes[one]) * math.prod(shapes[other]) // n**2 <= MOST_NUMBERS
        and len(shapes[one]) + len(shapes[other]) <= 6
    ]


def _affine(draw, numbers, shapes):
    n, most = shapes[0][-1], MOST_NUMBERS // math.prod(shapes[0][:-1])
    units = draw(st.integers(1, min(5, most)))
    kernel = (numbers.normal(n, units) / np.sqrt(n)).astype("float32").astype("float64")
    return Affine(kernel, numbers.normal(units) if draw(st.booleans()) else None)


TAME = [name for name, row in ACTIVATIONS.items() if row.domain == (-math.inf, math.inf) and name != "tan"]
"""Rows that are numbers everywhere, and not steep: tangents have poles."""


def _elementwise(draw, numbers, shapes):
    name = draw(st.sampled_from(TAME))
    return Elementwise(name, draw(st.sampled_from([parameters for row, parameters in accuracy.ROWS if row == name])))


def _prelu(draw, numbers, shapes):
    return PReLU(numbers.normal(*(draw(st.sampled_from(sorted({n, 1}))) for n in shapes[0])))


CONSTANTS = {"divide": (1,), "power": (0,)}
"""The places of a positive constant where an op is a number for any other input; both, where it says nothing."""


def _partial(draw, numbers, shapes):
    of = draw(st.sampled_from(["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"]))
    if of == "power" and draw(st.booleans()):
        return Partial("power", np.array(draw(st.sampled_from([2.0, 3.0]))), 1)
    constant = (numbers.positive if of in CONSTANTS else numbers.normal)(*_broadcast(draw, shapes[0]))
    return Partial(of, constant, draw(st.sampled_from(CONSTANTS.get(of, (0, 1)))))


def _reduced(op):
    """Without axes left, an axis of 1 stays: other ops need one."""

    def make(draw, numbers, shapes, axes):
        return op(axes, len(axes) == len(shapes[0]) or draw(st.booleans()))

    return make


def _take(draw, numbers, shapes, axis):
    n, most = shapes[0][axis], MOST_NUMBERS * shapes[0][axis] // math.prod(shapes[0])
    return Take(tuple(draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=min(5, most)))), axis)


def _dot(draw, numbers, shapes, axes):
    return Dot(axes, draw(st.booleans()), draw(st.sampled_from([1e-7, 1e-6])))


def _reshape(draw, numbers, shapes):
    rest, target = math.prod(shapes[0]), []
    while len(target) < 3 and draw(st.booleans()):
        target.append(draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0])))
        rest //= target[-1]
    return Reshape((*target, rest))


def _permute(draw, numbers, shapes):
    return Permute(tuple(draw(st.permutations(_axes_of(shapes[0])))))


def _repeat(draw, numbers, shapes):
    return Repeat(draw(st.integers(1, min(4, MOST_NUMBERS // shapes[0][0]))))


def _maybe(draw, array):
    return array if draw(st.booleans()) else None


def _batch_normalization(draw, numbers, shapes, axis):
    n = shapes[0][axis]
    scale, offset = (_maybe(draw, numbers.normal(n)) for _ in range(2))
    epsilon = draw(st.sampled_from([1e-3, 1e-5, 0.5]))
    return BatchNormalization(numbers.normal(n), numbers.positive(n), scale, offset, epsilon, axis)


def _layer_normalization(draw, numbers, shapes, axes):
    sizes = [shapes[0][axis] for axis in axes]
    scale, offset = (_maybe(draw, numbers.normal(*sizes)) for _ in range(2))
    return LayerNormalization(scale, offset, draw(st.sampled_from([1e-3, 0.1])), axes)


def _rms_normalization(draw, numbers, shapes, axes):
    scale = _maybe(draw, numbers.normal(*shapes[0][-len(axes) :]))
    return RMSNormalization(scale, draw(st.sampled_from([1e-6, 0.1])), axes)


def _unit_normalization(draw, numbers, shapes, axes):
    return UnitNormalization(draw(st.sampled_from([1e-12, 1e-6])), axes)


def _broadcast(draw, shape):
    return draw(st.sampled_from([(), shape[-1:], shape]))


def _normalization(draw, numbers, shapes):
    shape = _broadcast(draw, shapes[0])
    return Normalization(numbers.normal(*shape), numbers.positive(*shape), draw(st.booleans()))


def _rescaling(draw, numbers, shapes):
    return Rescaling(*(numbers.normal(*_broadcast(draw, shapes[0])) for _ in range(2)))


def _plain(op):
    """An op that the place says all about."""
    return lambda draw, numbers, shapes, *rest: op(*rest)


def _of_axes(op):
    """An op of one axis, or a tuple of several."""
    return lambda draw, numbers, shapes, axes: op(axes[0] if len(axes) == 1 else axes)


def _positive(axis, shape):
    """A feature axis counted from the front, where the batch axis is 0."""
    return axis + len(shape) + 1


def _no_weights(name, *arguments):
    """A layer without weights, given what the op and the shapes say."""

    def layer(keras, op, shapes):
        return getattr(keras.layers, name)(*(argument(op, shapes) for argument in arguments), dtype="float64"), []

    return layer


def _present(**arrays):
    """Whether each of some weights is there, and those that are."""
    return {f: a is not None for f, a in arrays.items()}, [a for a in arrays.values() if a is not None]


def _dense(keras, op, shapes):
    held, weights = _present(kernel=op.kernel, bias=op.bias)
    # Keras's own initialiser takes from Python's random numbers, which Hypothesis watches over.
    options = {"use_bias": held["bias"], "kernel_initializer": "zeros", "dtype": "float64"}
    return keras.layers.Dense(len(op.kernel.T), **options), weights


def _activation(keras, op, shapes):
    """By its name, or ReLU and ELU by their parameters. TensorFlow's GELU holds 1/√2 as a float32, so none is."""
    named = {
        row: name
        for name, row in NAMES[GENERATIONS[keras.__name__]].items()
        if "gelu" not in name and not hasattr(keras.layers, name)
    }
    row = (op.activation, op.parameters)
    if row in named:
        return keras.layers.Activation(named[row], dtype="float64"), []
    if op.activation == "relu":
        most, slope, start = op.parameters
        options = {"max_value": None if np.isinf(most) else most, "negative_slope": slope, "threshold": start}
        return keras.layers.ReLU(**options, dtype="float64"), []
    return (keras.layers.ELU(*op.parameters, dtype="float64"), []) if op.activation == "elu" else None


def _last_axis(name):
    """An activation of Keras 3 along the last axis."""

    def layer(keras, op, shapes):
        return (keras.layers.Activation(name, dtype="float64"), []) if _is_3(keras) and op.axis == -1 else None

    return layer


def _no_layer(keras, op, shapes):
    """Input is no layer that is called; and Keras 3 takes the shape after Activation("glu") for the one before it."""


def _is_3(keras):
    return GENERATIONS[keras.__name__] == 3


def _bare(of_3, of_2):
    """An operation of the functional API: of Keras 3, `o`, and of TensorFlow, `t`, on what the op takes."""

    def layer(keras, op, shapes):
        if _is_3(keras):
            return lambda *x: of_3(keras.ops, op, *x), []
        import tensorflow as tf

        return lambda *x: of_2(tf, op, *x), []

    return layer


def _partial_of(package, op, x):
    """TensorFlow takes a plain number before a tensor for a float32."""
    function = getattr(package, op.of, None) or package.pow
    return function(*((op.constant, x) if op.place == 0 else (x, op.constant)))


def _reduction_of(of_3, of_2):
    def options(op):
        return {"axis": list(op.axes), "keepdims": op.keepdims}

    return _bare(
        lambda o, op, x: getattr(o, of_3)(x, **options(op)),
        lambda t, op, x: getattr(t.math, of_2)(x, **options(op)),
    )


def _prelu_layer(keras, op, shapes):
    shared = [axis for axis, (n, m) in enumerate(zip(op.alpha.shape, shapes[0], strict=True), 1) if n < m]
    return keras.layers.PReLU(shared_axes=shared or None, dtype="float64"), [op.alpha]


def _dot_layer(keras, op, shapes):
    axes = tuple(_positive(axis, shape) for axis, shape in zip(op.axes, shapes, strict=True))
    if op.epsilon != (1e-7 if _is_3(keras) else 1e-6):
        return None
    return keras.layers.Dot(axes, normalize=op.normalize, dtype="float64"), []


def _batch_normalization_layer(keras, op, shapes):
    held, weights = _present(scale=op.gamma, center=op.beta)
    options = {"axis": _positive(op.axis, shapes[0]), "epsilon": op.epsilon, "dtype": "float64"}
    return keras.layers.BatchNormalization(**options, **held), [*weights, op.moving_mean, op.moving_variance]


def _layer_normalization_layer(keras, op, shapes):
    held, weights = _present(scale=op.gamma, center=op.beta)
    axes = [_positive(axis, shapes[0]) for axis in op.axes]
    return keras.layers.LayerNormalization(axis=axes, epsilon=op.epsilon, dtype="float64", **held), weights


def _rms_normalization_layer(keras, op, shapes):
    if not _is_3(keras) or op.gamma is None or op.axes != (*range(-len(op.axes), 0),):
        return None
    axes = [_positive(axis, shapes[0]) for axis in op.axes]
    return keras.layers.RMSNormalization(axes, op.epsilon, dtype="float64"), [op.gamma]


def _unit_normalization_layer(keras, op, shapes):
    if op.epsilon != (1e-12 if _is_3(keras) else 1e-6):
        return None
    return keras.layers.UnitNormalization([_positive(axis, shapes[0]) for axis in op.axes], dtype="float64"), []


def _normalization_layer(keras, op, shapes):
    axis = {0: None, 1: -1}.get(op.mean.ndim, tuple(range(1, len(shapes[0]) + 1)))
    given = {"mean": op.mean.tolist(), "variance": op.variances.tolist(), "invert": op.invert}
    return keras.layers.Normalization(axis, **given, dtype="float64"), []


def _rescaling_layer(keras, op, shapes):
    return keras.layers.Rescaling(op.scale.tolist(), op.offset.tolist(), dtype="float64"), []


def _softmax_axis(op, shapes):
    return list(op.axis) if isinstance(op.axis, tuple) else op.axis


def _merge(op):
    return Row(_groups, _plain(op), _no_weights(op.__name__))


def _halves(shapes):
    return [place for place in _each_axis(shapes) if shapes[place[0][0]][place[1]] % 2 == 0]


def _input(draw, numbers, shapes):
    """Features of rank 1 to 3."""
    sizes = st.lists(st.integers(1, 5), min_size=1, max_size=3).filter(lambda n: math.prod(n) <= MOST_NUMBERS)
    return Source(tuple(draw(sizes)))


NOT_DRAWN = ("divide", "power")

ROWS = {
    "source": Row(lambda shapes: [((),)], _input, _no_layer, 3),
    "affine": Row(_each, _affine, _dense, 5),
    "elementwise": Row(_each, _elementwise, _activation, 8),
    "prelu": Row(_each, _prelu, _prelu_layer),
    "glu": Row(_halves, _plain(GLU), _no_layer),
    "softmax": Row(_each_axes, _of_axes(Softmax), _no_weights("Softmax", _softmax_axis)),
    "log_softmax": Row(_each_axes, _of_axes(LogSoftmax), _last_axis("log_softmax")),
    "sparsemax": Row(_each_axis, _plain(Sparsemax), _last_axis("sparsemax")),
    "add": _merge(Add),
    "subtract": Row(_pairs, _plain(Subtract), _no_weights("Subtract")),
    "average": _merge(Average),
    "multiply": _merge(Multiply),
    "maximum": _merge(Maximum),
    "minimum": _merge(Minimum),
    # By 0 no number can be divided, and shapes do not say which are: with constants both are drawn.
    **dict.fromkeys(NOT_DRAWN, Row(lambda shapes: [], None, _no_layer, 0)),
    "partial": Row(_each, _partial, _bare(_partial_of, _partial_of), 3),
    "sum": Row(_each_axes, _reduced(Sum), _reduction_of("sum", "reduce_sum")),
    "max": Row(_each_axes, _reduced(Max), _reduction_of("max", "reduce_max")),
    "min": Row(_each_axes, _reduced(Min), _reduction_of("min", "reduce_min")),
    "log_sum_exp": Row(_each_axes, _reduced(LogSumExp), _reduction_of("logsumexp", "reduce_logsumexp")),
    "take": Row(
        _each_axis,
        _take,
        _bare(
            lambda o, op, x: o.take(x, op.indices, axis=op.axis), lambda t, op, x: t.gather(x, op.indices, axis=op.axis)
        ),
        2,
    ),
    "concatenate": Row(
        _joined, _plain(Concatenate), _no_weights("Concatenate", lambda op, shapes: _positive(op.axis, shapes[0])), 2
    ),
    "dot": Row(_inner, _dot, _dot_layer, 2),
    "reshape": Row(_each, _reshape, _no_weights("Reshape", lambda op, shapes: op.target)),
    "permute": Row(
        _each,
        _permute,
        _no_weights("Permute", lambda op, shapes: tuple(_positive(axis, shapes[0]) for axis in op.order)),
    ),
    "repeat": Row(
        lambda shapes: [((index,),) for index, shape in shapes.items() if len(shape) == 1],
        _repeat,
        _no_weights("RepeatVector", lambda op, shapes: op.count),
    ),
    "batch_normalization": Row(_each_axis, _batch_normalization, _batch_normalization_layer),
    "layer_normalization": Row(_each_axes, _layer_normalization, _layer_normalization_layer),
    "rms_normalization": Row(_each_axes, _rms_normalization, _rms_normalization_layer),
    "unit_normalization": Row(_each_axes, _unit_normalization, _unit_normalization_layer),
    "normalization": Row(_each, _normalization, _normalization_layer),
    "rescaling": Row(_each, _rescaling, _rescaling_layer),
}
"""How each op of `refgrad.ops.OPS` is drawn."""

MERGES = ("add", "subtract", "average", "multiply", "maximum", "minimum", "concatenate", "dot")
_OFTEN = [name for name, row in ROWS.items() for _ in range(row.weight)]


@dataclass(eq=False)
class Example:
    """A graph, and inputs `(batch, *in)` at which its numbers are moderate."""

    graph: Graph
    x: dict
    seed: int

    @property
    def net(self):
        return Network(self.graph)

    @property
    def rng(self):
        """For tangents and the like."""
        return np.random.default_rng(self.seed + 1)

    def _repr_pretty_(self, printer, _):
        """What Hypothesis shows of a graph that fails."""
        graph = self.graph
        printer.text(f"\nseed {self.seed}, {graph.inputs} → {graph.outputs}")
        for index, (node, shape) in enumerate(zip(graph.nodes, graph.shapes, strict=True)):
            printer.text(f"\n    {index}: {node.op.name} {node.op.config()} {shape} of {node.inputs}")


@dataclass
class _Growing:
    """Nodes so far, with their values at the samples."""

    numbers: Numbers
    nodes: list = field(default_factory=list)
    values: list = field(default_factory=list)

    def add(self, op, taken, name=None):
        """A node more; a large one with another that scales it down."""
        self.nodes.append(Node(op, taken, name or f"{op.name}_{len(self.nodes)}"))
        if isinstance(op, Source):
            self.values.append(np.clip(self.numbers.normal(SAMPLES, *op.features), -LARGEST, LARGEST))
            return
        with np.errstate(all="ignore"):
            value = op.forward(*(self.values[index] for index in taken))
        self.values.append(value)
        largest = np.abs(value).max()
        assert np.isfinite(largest), (op, taken)
        if largest > LARGEST:
            scale = 2.0 ** np.floor(np.log2(LARGEST / largest))
            self.add(Rescaling(np.array(scale), np.array(0.0)), (len(self.nodes) - 1,))

    @property
    def shapes(self):
        """Feature shapes of the nodes whose numbers are moderate."""
        return {
            index: value.shape[1:] for index, value in enumerate(self.values) if np.abs(value).max(initial=0) <= LARGEST
        }

    @property
    def sources(self):
        return tuple(index for index, node in enumerate(self.nodes) if isinstance(node.op, Source))


def _same_again(draw, growing, keras):
    """An op that is there already, taking other tensors that it fits; Keras builds a layer for one shape."""
    nodes = [node for node in growing.nodes if node.inputs]
    if not nodes:
        return None
    node = draw(st.sampled_from(nodes))
    wanted = [growing.values[index].shape[1:] for index in node.inputs]
    taken = []
    for shape in wanted:
        alike = [
            index for index, other in growing.shapes.items() if other == shape or (not keras and fits(shape, other))
        ]
        if not alike:
            return None
        taken.append(draw(st.sampled_from(alike)))
    try:
        result = node.op.shape(*(growing.values[index].shape[1:] for index in taken))
    except ValueError:
        return None
    return (node.op, tuple(taken), node.name) if math.prod(result) <= MOST_NUMBERS else None


def _another(draw, growing, keras):
    """An op by its row, and what it takes: half of the time with the newest tensor among it."""
    name, shapes = draw(st.sampled_from(_OFTEN)), growing.shapes
    row = ROWS[name]
    places = [] if name == "source" and len(growing.sources) == 3 else row.places(shapes)
    newest = [place for place in places if max(shapes) in place[0]]
    if newest and draw(st.booleans()):
        places = newest
    if not places:
        return None
    taken, *rest = draw(st.sampled_from(places))
    given = [shapes[index] for index in taken]
    op = row.make(draw, growing.numbers, given, *rest)
    if keras is not None and name != "source" and row.layer(keras, op, given) is None:
        return None
    return op, taken, None


@st.composite
def examples(draw, keras=None, most=10):
    """Graphs of float64 with up to so many ops drawn; only of what a Keras has layers for, if one is given."""
    seed = draw(st.integers(0, 2**16))
    growing = _Growing(Numbers(seed))
    growing.add(_input(draw, growing.numbers, ()), ())
    for _ in range(draw(st.integers(0, most))):
        again = _same_again(draw, growing, keras) if draw(st.integers(0, 7)) == 7 else None
        if found := again or _another(draw, growing, keras) or _another(draw, growing, keras):
            growing.add(*found)
    last = len(growing.nodes) - 1
    outputs = draw(st.permutations([last, *draw(st.lists(st.integers(0, last), max_size=2))]))
    inputs = tuple(draw(st.permutations(growing.sources)))
    names = [tuple(f"{end}{place}" for place in range(len(ends))) for end, ends in (("x", inputs), ("y", outputs))]
    generation = Provenance(keras=3 if keras is None else GENERATIONS[keras.__name__])
    graph = Graph(tuple(growing.nodes), inputs, tuple(outputs), *names, np.dtype("float64"), generation)
    return Example(graph, {name: growing.values[end] for name, end in zip(names[0], inputs, strict=True)}, seed)


def keras_model(keras, graph):
    """The same network as a Functional model; an op in several nodes is a shared layer."""
    tensors, layers, weights = [], {}, {}
    for node in graph.nodes:
        given = [graph.shapes[index] for index in node.inputs]
        if isinstance(node.op, Source):
            tensors.append(keras.Input(node.op.features, dtype="float64", name=node.name))
            continue
        if node.op not in layers:
            layers[node.op], weights[node.op] = ROWS[node.op.name].layer(keras, node.op, given)
        taken = [tensors[index] for index in node.inputs]
        several = [taken] if node.op.name in MERGES else taken
        tensors.append(layers[node.op](*several))
    for op, layer in layers.items():
        if weights[op]:
            layer.set_weights(weights[op])
    return keras.Model([tensors[index] for index in graph.inputs], [tensors[index] for index in graph.outputs])
