"""Every op against the truth, against its adjoint, against itself in another form, and against the real Keras."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, dataclass, fields
from functools import cached_property

import numpy as np
import pytest

import refgrad
from refgrad.derivatives import margins, products
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.ops import (
    GLU,
    OPS,
    Add,
    Affine,
    Average,
    BatchNormalization,
    Concatenate,
    Divide,
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
    Power,
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
from refgrad.rounding import deviations, unit_roundoff
from tests import noise, oracle_ops

SAMPLES = 2


def drawn(*shape, seed=5, positive=False):
    """Parameters, that float32 holds exactly."""
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(0.3, 2, size=shape) if positive else rng.normal(size=shape)
    return numbers.astype("float32").astype("float64")


@dataclass
class Case:
    """An op with the feature shapes of its inputs; these are normal, times `scale`, plus `shift`."""

    op: object
    shapes: tuple
    note: str = ""
    scale: float = 1
    shift: float = 0

    def __str__(self):
        return " ".join(filter(None, [self.op.name, self.note, *map(str, self.shapes)])).replace(", ", ",")

    def draw(self, samples, seed=7):
        """Inputs that float32 holds exactly."""
        rng = np.random.default_rng(seed)
        numbers = [self.scale * rng.normal(size=(samples, *shape)) + self.shift for shape in self.shapes]
        return [x.astype("float32").astype("float64") for x in numbers]

    @cached_property
    def inputs(self):
        return self.draw(SAMPLES)

    @cached_property
    def truth(self):
        """Value (batch, *out), and for each input its Jacobian (batch, *out, *in)."""
        parameters = {field.name: getattr(self.op, field.name) for field in fields(self.op)}
        found = [
            oracle_ops.value_and_jacobians(self.op.name, parameters, sample)
            for sample in zip(*self.inputs, strict=True)
        ]
        return np.stack([y for y, _ in found]), [
            np.stack(blocks) for blocks in zip(*(b for _, b in found), strict=True)
        ]

    def vectors(self, k, shapes, batch=SAMPLES, dtype="float64", seed=11):
        rng = np.random.default_rng(seed)
        return [rng.normal(size=(k, batch, *shape)).astype(dtype) for shape in shapes]

    @property
    def out(self):
        return self.op.shape(*self.shapes)


_MERGES = [
    ((3,), (3,)),
    ((3,), (3,), (3,), (3,)),
    ((2, 3), (2, 3)),
    ((2, 3), (3,), (2, 1)),
    ((1, 3), (4, 2, 1)),
    ((1,), (3,)),
    ((4,),),
]
_TWO = [((3,), (3,)), ((2, 3), (3,)), ((3,), (4, 2, 1)), ((2, 1), (2, 3)), ((2, 2, 3), (2, 1, 3))]
CASES = [
    *(Case(op(), shapes) for op in (Add, Average, Multiply, Maximum, Minimum) for shapes in _MERGES),
    *(Case(Subtract(), shapes) for shapes in _TWO),
    *(Case(Divide(), shapes, "far from 0", 0.25, 2) for shapes in _TWO),
    *(Case(Power(), shapes, "positive", 0.25, 2) for shapes in _TWO),
    *(
        Case(Partial(of, constant, place), (shape,), f"{of} {place}", 0.25, 2)
        for of in ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum")
        for place in (0, 1)
        for constant, shape in [
            (drawn(3, positive=True), (3,)),
            (drawn(4, 1, positive=True), (1, 3)),
            (drawn(positive=True), (2, 3)),
        ]
    ),
    Case(Partial("power", np.array([2.0, 3.0, -1.0])), ((3,),), "power of either sign"),
    *(
        Case(op(axes, keepdims), (shape,), f"{axes} {keepdims}")
        for op in (Sum, Max, Min, LogSumExp)
        for axes, keepdims, shape in [
            ((-1,), False, (3,)),
            ((-1,), True, (2, 3)),
            ((-2,), False, (2, 3)),
            ((-3, -1), False, (2, 2, 3)),
            ((-3, -2), True, (2, 2, 2)),
            ((-1,), False, (2, 1)),
        ]
    ),
    Case(Sum((-1,)), ((13,),), "13"),
    Case(LogSumExp((-1,)), ((13,),), "13"),
    Case(Take((0, 2)), ((3,),)),
    Case(Take((2, 0, 2, 1), -2), ((3, 2),)),
    Case(Take((1,), -3), ((2, 2, 2),)),
    Case(Concatenate(), ((3,), (2,))),
    Case(Concatenate(-1), ((2, 3), (2, 1), (2, 2))),
    Case(Concatenate(-2), ((2, 3), (1, 3))),
    Case(Concatenate(-3), ((2, 3, 2), (1, 3, 2), (2, 3, 2))),
    Case(Concatenate(-1), ((3,),)),
    *(
        Case(Dot(axes, normalize, epsilon), shapes, f"{normalize} {epsilon}")
        for axes, shapes in [
            ((-1, -1), ((3,), (3,))),
            ((-1, -1), ((2, 3), (3,))),
            ((-1, -2), ((3,), (3, 2))),
            ((-2, -1), ((3, 2), (4, 3))),
            ((-1, -2), ((2, 2, 3), (2, 3, 2))),
            ((-3, -1), ((3, 2, 2), (3,))),
        ]
        for normalize, epsilon in [(False, 1e-7), (True, 1e-6)]
    ),
    Case(Dot((-1, -1), True, 5.0), ((2, 3), (3,)), "short vectors"),
    Case(Dot((-1, -2), True, 1.5), ((4, 3), (3, 2)), "some short vectors"),
    Case(Reshape((6,)), ((2, 3),)),
    Case(Reshape((3, 1, 4)), ((12,),)),
    Case(Permute((-1, -2)), ((2, 3),)),
    Case(Permute((-2, -1, -3)), ((2, 3, 4),)),
    Case(Permute((-1,)), ((3,),)),
    Case(Repeat(4), ((3,),)),
    Case(PReLU(drawn(4)), ((4,),)),
    Case(PReLU(drawn(1, 3)), ((2, 3),)),
    Case(PReLU(drawn(2, 1, 1)), ((2, 2, 3),)),
    Case(PReLU(np.zeros(3)), ((3,),), "zero"),
    Case(BatchNormalization(drawn(3), drawn(3, positive=True), drawn(3, seed=1), drawn(3, seed=2)), ((3,),)),
    Case(BatchNormalization(drawn(3), drawn(3, positive=True), None, None, 1e-5), ((2, 3),), "plain"),
    Case(BatchNormalization(drawn(2), drawn(2, positive=True), drawn(2, seed=1), None, 0.5, -2), ((2, 3),), "no beta"),
    Case(BatchNormalization(drawn(2), drawn(2, positive=True), None, drawn(2), 1e-3, -3), ((2, 3, 2),), "no gamma"),
    Case(BatchNormalization(drawn(3) + 50, drawn(3, positive=True), drawn(3), drawn(3)), ((3,),), "far", 1, 50),
    Case(Normalization(drawn(3), drawn(3, positive=True)), ((3,),)),
    Case(Normalization(drawn(2, 1), drawn(2, 1, positive=True), True), ((2, 3),), "inverse"),
    Case(Normalization(drawn(), drawn(positive=True)), ((2, 3),), "numbers"),
    Case(Normalization(drawn(2), np.array([0.0, 1e-20])), ((2,),), "no variance"),
    Case(Rescaling(drawn(), drawn(seed=1)), ((2, 3),), "numbers"),
    Case(Rescaling(drawn(3), drawn(2, 1, seed=1)), ((2, 3),)),
    Case(LayerNormalization(drawn(4), drawn(4, seed=1)), ((4,),)),
    Case(LayerNormalization(None, None, 1e-12), ((2, 4),), "plain"),
    Case(LayerNormalization(drawn(3), None, 0.1, (-2,)), ((3, 4),), "no beta"),
    Case(LayerNormalization(None, drawn(2, 2), 1e-3, (-3, -1)), ((2, 3, 2),), "no gamma"),
    Case(LayerNormalization(drawn(2, 3), drawn(2, 3, seed=1), 1e-3, (-2, -1)), ((2, 2, 3),)),
    Case(LayerNormalization(drawn(1), drawn(1)), ((2, 1),), "one"),
    Case(LayerNormalization(drawn(3), drawn(3), 1e-3, (-3,)), ((3, 2, 2),), "first axis"),
    Case(LayerNormalization(drawn(6), drawn(6)), ((6,),), "far", 1, 30),
    Case(RMSNormalization(drawn(4)), ((4,),)),
    Case(RMSNormalization(None, 1e-12), ((2, 4),), "plain"),
    Case(RMSNormalization(drawn(3, 1), 0.1, (-2,)), ((3, 4),)),
    Case(RMSNormalization(drawn(2, 1, 2), 1e-3, (-3, -1)), ((2, 3, 2),)),
    Case(RMSNormalization(drawn(2, 3), 1e-3, (-2, -1)), ((2, 2, 3),)),
    Case(RMSNormalization(drawn(1), 0.5), ((2, 1),), "one"),
    Case(RMSNormalization(drawn(9)), ((9,),), "long"),
    Case(UnitNormalization(), ((4,),)),
    Case(UnitNormalization(1e-6, (-2,)), ((3, 4),)),
    Case(UnitNormalization(1e-12, (-3, -1)), ((2, 3, 2),)),
    Case(UnitNormalization(1.5), ((6, 2),), "some short vectors"),
    Case(UnitNormalization(1e-12, (-2, -1)), ((3, 5),), "long"),
    *(
        Case(op(axis), shapes, str(axis), scale)
        for op in (Softmax, LogSoftmax)
        for axis, shapes, scale in [
            (-1, ((4,),), 1),
            (-1, ((2, 3),), 1),
            (-2, ((3, 2),), 8),
            (-3, ((2, 3, 2),), 1),
            ((-1, -2), ((2, 3),), 1),
            ((-3, -1), ((2, 2, 2),), 1),
            (-1, ((1,),), 1),
        ]
    ),
    *(Case(op, ((9,),), "long") for op in (Softmax(), LogSoftmax(), LayerNormalization())),
    *(Case(Dot((-1, -1), normalize), ((9,), (9,)), f"{normalize} long") for normalize in (False, True)),
    Case(Softmax(-1), ((4,),), "far", 1, 300),
    Case(Softmax(-1), ((4,),), "steep", 14),
    *(
        Case(Sparsemax(axis), shapes, str(axis), scale)
        for axis, shapes, scale in [
            (-1, ((4,),), 0.3),
            (-1, ((4,),), 0.02),
            (-1, ((2, 5),), 0.1),
            (-2, ((3, 2),), 0.5),
            (-3, ((3, 2, 2),), 1),
            (-1, ((1,),), 1),
        ]
    ),
    Case(GLU(), ((4,),)),
    Case(GLU(-2), ((2, 3),), "", 5),
    Case(GLU(-3), ((4, 1, 2),)),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
every_generation = pytest.mark.parametrize("generation", ["keras", "tf_keras"])


def close(ours, theirs, dtype="float64", factor=1.0):
    scale = np.abs(theirs).max(initial=0)
    relative = 1e-14 if dtype == "float64" else 2e-6
    assert np.shape(ours) == np.shape(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=factor * relative * scale)


def prepared(case, dtype):
    """The op, its inputs, its value and its tape in a dtype."""
    op = case.op.astype(np.dtype(dtype))
    inputs = [x.astype(dtype) for x in case.inputs]
    return op, inputs, *op.linearize(*inputs, kink="keras")


def factor(case):
    """Where inputs lie far from zero, rounding them alone moves the result by more than its own last digits."""
    return 100 if "far" in case.note else 4


def jacobian_times(block, vectors, out):
    """(batch, *out, *in) times (k, batch, *in)."""
    flat = block.reshape(len(block), int(np.prod(out)), -1)
    product = np.einsum("boi,kbi->kbo", flat, vectors.reshape(*vectors.shape[:2], -1).astype("float64"))
    return product.reshape(*vectors.shape[:2], *out)


def times_jacobian(vectors, block, shape):
    """(k, batch, *out) times (batch, *out, *in)."""
    flat = block.reshape(len(block), -1, int(np.prod(shape)))
    product = np.einsum("kbo,boi->kbi", vectors.reshape(*vectors.shape[:2], -1).astype("float64"), flat)
    return product.reshape(*vectors.shape[:2], *shape)


def test_every_op_has_a_case_and_a_name():
    assert {case.op.name for case in CASES} == set(OPS) - {"source", "affine", "elementwise"}
    assert set(oracle_ops.DEFINITIONS) == {case.op.name for case in CASES}
    assert all(OPS[case.op.name] is type(case.op) for case in CASES)


@every_case
@every_dtype
def test_value_is_the_truth(case, dtype):
    op, inputs, value, _ = prepared(case, dtype)
    close(op.forward(*inputs), case.truth[0], dtype, factor(case))
    np.testing.assert_array_equal(value, op.forward(*inputs))
    assert case.out == value.shape[1:]


@every_case
@every_dtype
def test_products_are_those_of_the_true_jacobian(case, dtype):
    op, _, _, tape = prepared(case, dtype)
    tangents = case.vectors(3, case.shapes, dtype=dtype)
    (cotangent,) = case.vectors(3, [case.out], dtype=dtype, seed=12)
    wanted = sum(jacobian_times(block, t, case.out) for block, t in zip(case.truth[1], tangents, strict=True))
    close(op.jvp(tape, *tangents), wanted, dtype, 4 * factor(case))
    for pulled, block, shape in zip(op.vjp(tape, cotangent), case.truth[1], case.shapes, strict=True):
        close(pulled, times_jacobian(cotangent, block, shape), dtype, 4 * factor(case))


@every_case
def test_vjp_is_the_adjoint_of_jvp(case):
    op, _, _, tape = prepared(case, "float64")
    tangents = case.vectors(4, case.shapes)
    (cotangent,) = case.vectors(4, [case.out], seed=12)
    axes = tuple(range(2, 2 + len(case.out)))
    forward = cotangent * op.jvp(tape, *tangents)
    backward = sum(
        (pulled * t).sum(axis=tuple(range(2, t.ndim)))
        for pulled, t in zip(op.vjp(tape, cotangent), tangents, strict=True)
    )
    scale = np.abs(forward).sum(axis=axes).max()
    np.testing.assert_allclose(forward.sum(axis=axes), backward, rtol=0, atol=4e-14 * scale)


@every_case
def test_a_missing_tangent_is_a_tangent_of_zeros(case):
    op, _, _, tape = prepared(case, "float64")
    tangents = case.vectors(3, case.shapes)
    for which in range(len(tangents)):
        alone = [t if index == which else None for index, t in enumerate(tangents)]
        zeros = [t if index == which else np.zeros_like(t) for index, t in enumerate(tangents)]
        np.testing.assert_array_equal(op.jvp(tape, *alone), op.jvp(tape, *zeros))
        without = [None if index == which and len(tangents) > 1 else t for index, t in enumerate(tangents)]
        zeros = [np.zeros_like(t) if given is None else t for given, t in zip(without, tangents, strict=True)]
        np.testing.assert_array_equal(op.jvp(tape, *without), op.jvp(tape, *zeros))


@every_case
def test_a_vector_for_all_samples_is_that_vector_for_each(case):
    op, _, _, tape = prepared(case, "float64")
    once = case.vectors(3, case.shapes, batch=1)
    full = [np.repeat(t, SAMPLES, axis=1) for t in once]
    out = (3, SAMPLES, *case.out)
    close(np.broadcast_to(op.jvp(tape, *once), out), op.jvp(tape, *full))
    for which in range(len(once)):
        mixed = [t if index == which else whole for index, (t, whole) in enumerate(zip(once, full, strict=True))]
        close(np.broadcast_to(op.jvp(tape, *mixed), out), op.jvp(tape, *full))
    (cotangent,) = case.vectors(3, [case.out], batch=1)
    repeated = op.vjp(tape, np.repeat(cotangent, SAMPLES, axis=1))
    for pulled, wanted in zip(op.vjp(tape, cotangent), repeated, strict=True):
        assert pulled.shape[1] in (1, SAMPLES)
        close(np.broadcast_to(pulled, wanted.shape), wanted)


@every_case
def test_no_samples_give_empty_results(case):
    op, inputs = case.op, [x[:0] for x in case.inputs]
    value, tape = op.linearize(*inputs, kink="keras")
    assert value.shape == op.forward(*inputs).shape == (0, *case.out)
    for batch in (0, 1):
        product = op.jvp(tape, *case.vectors(3, case.shapes, batch=batch))
        assert np.broadcast_shapes(product.shape, (3, 0, *case.out)) == (3, 0, *case.out)
        (cotangent,) = case.vectors(3, [case.out], batch=batch)
        for pulled, shape in zip(op.vjp(tape, cotangent), case.shapes, strict=True):
            assert np.broadcast_shapes(pulled.shape, (3, 0, *shape)) == (3, 0, *shape)
    variance = op.variance(1e-8, tuple(inputs), value, tuple(np.zeros_like(x) for x in inputs))
    assert variance.shape == value.shape
    distance = op.margins(tuple(inputs))
    assert distance is None or distance.shape == value.shape


@every_case
def test_a_batch_is_its_samples(case):
    op, inputs, value, tape = prepared(case, "float64")
    tangents = case.vectors(2, case.shapes)
    (cotangent,) = case.vectors(2, [case.out])
    pushed, pulled = op.jvp(tape, *tangents), op.vjp(tape, cotangent)
    for index in range(SAMPLES):
        one = slice(index, index + 1)
        y, own = op.linearize(*(x[one] for x in inputs), kink="keras")
        close(y, value[one])
        close(op.jvp(own, *(t[:, one] for t in tangents)), np.broadcast_to(pushed, (2, SAMPLES, *case.out))[:, one])
        for part, whole in zip(op.vjp(own, cotangent[:, one]), pulled, strict=True):
            close(part, whole[:, one])


@every_case
def test_variances_margins_and_their_noise_of_a_batch_are_those_of_its_samples(case):
    inputs, u = tuple(case.inputs), 1e-3
    sigmas = tuple(np.random.default_rng(33).uniform(0.1, 2, size=x.shape) for x in inputs)

    def found(xs, ss):
        variance = case.op.variance(u, xs, case.op.forward(*xs), tuple(map(np.square, ss)))
        return variance, case.op.noise(u, xs, ss), case.op.margins(xs), case.op.jump_margins(xs)

    if case.op.margins(inputs) is None:
        return
    for index in range(SAMPLES):
        one = slice(index, index + 1)
        alone = found(tuple(x[one] for x in inputs), tuple(s[one] for s in sigmas))
        for part, whole in zip(alone, found(inputs, sigmas), strict=True):
            if part is not None:
                close(part, whole[one])


@every_case
@every_dtype
def test_the_dtype_is_kept_and_nothing_given_is_changed(case, dtype):
    op, inputs, value, tape = prepared(case, dtype)
    tangents = case.vectors(2, case.shapes, dtype=dtype)
    (cotangent,) = case.vectors(2, [case.out], dtype=dtype)
    given = [*inputs, *tangents, cotangent]
    before = [array.copy() for array in given]
    for array in given:
        array.setflags(write=False)
    results = [value, op.forward(*inputs), op.jvp(tape, *tangents), *op.vjp(tape, cotangent)]
    results += [op.jvp(op.linearize(*inputs, kink=kink)[1], *tangents) for kink in ("left", "right", "mean")]
    distances = (op.margins(tuple(inputs)), op.jump_margins(tuple(inputs)))
    results += [distance for distance in distances if distance is not None]
    assert {result.dtype for result in results} == {np.dtype(dtype)}
    for array, was in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, was)


@every_case
def test_record_and_pickle_make_the_op_again(case):
    record = json.loads(json.dumps(case.op.config(), allow_nan=False))
    for again in (OPS[case.op.name].restore(record, case.op.arrays()), pickle.loads(pickle.dumps(case.op))):
        assert again.config() == case.op.config()
        assert not any(array.flags.writeable for array in again.arrays().values())
        assert again.arrays().keys() == case.op.arrays().keys()
        np.testing.assert_array_equal(again.forward(*case.inputs), case.op.forward(*case.inputs))
        assert again.shape(*case.shapes) == case.out


ALWAYS_ALIKE = {
    *("multiply (4,)", "maximum (4,)", "minimum (4,)"),
    *(f"{op} (-1,) False (2,1)" for op in ("max", "min", "log_sum_exp")),
    *("layer_normalization one (2,1)", "softmax -1 (1,)", "log_softmax -1 (1,)", "sparsemax -1 (1,)"),
}
"""Cases of ops that are not linear but for one input, or one entry."""


@every_case
def test_linear_ops_have_one_derivative(case):
    tangents = case.vectors(2, case.shapes)
    with np.errstate(all="ignore"):
        first, *others = (
            np.broadcast_to(
                case.op.jvp(case.op.linearize(*inputs, kink="keras")[1], *tangents), (2, SAMPLES, *case.out)
            )
            for inputs in (case.inputs, case.draw(SAMPLES, seed=8), [0 * x for x in case.inputs])
        )
    constant = case.op.linear or str(case) in ALWAYS_ALIKE
    assert all(np.array_equal(first, other) for other in others) == constant


@every_case
@pytest.mark.parametrize("noisy", [False, True])
def test_rounding_errors_are_within_eight_deviations(case, noisy):
    """Of exact inputs, and of inputs that have an error of their own, as after another op."""
    samples, u = 400, unit_roundoff(np.dtype("float32"))
    op, narrow = case.op, case.op.astype(np.dtype("float32"))
    inputs = case.draw(samples, seed=21)
    moved = inputs
    variances = [np.zeros_like(x) for x in inputs]
    if noisy:
        rng = np.random.default_rng(22)
        moved = [(x * (1 + 20 * u * rng.normal(size=x.shape))).astype("float32") for x in inputs]
        variances = [np.square(21 * u * x) for x in inputs]
    truth = op.forward(*inputs)
    error = narrow.forward(*(x.astype("float32") for x in moved)).astype("float64") - truth
    sigma = np.sqrt(op.variance(u, tuple(inputs), truth, tuple(variances)))
    assert sigma.shape == error.shape
    near = np.zeros(samples, bool)
    if (jump := op.jump_margins(tuple(inputs))) is not None:
        noise = op.noise(u, tuple(inputs), tuple(map(np.sqrt, variances)))
        near = (jump <= 8 * noise).reshape(samples, -1).any(axis=1)
    assert near.mean() < 0.1
    assert (np.abs(error) <= 8 * sigma)[~near].all(), (np.abs(error) / sigma)[~near].max()
    if noisy and any(block.any() for block in case.truth[1]):
        assert np.sqrt(np.mean(np.square(error[~near]))) >= np.sqrt(np.mean(np.square(sigma[~near]))) / 8


@every_case
def test_variance_is_what_the_equations_say(case):
    """Inputs' variances go through the squares of the true Jacobian; for any u its square times the own part adds."""
    inputs, y, u = tuple(case.inputs), case.truth[0], 0.25
    parameters = {field.name: getattr(case.op, field.name) for field in fields(case.op)}
    rng = np.random.default_rng(31)
    variances = tuple(rng.uniform(0.1, 2, size=x.shape) for x in inputs)
    squares = [np.square(block) for block in case.truth[1]]
    wanted = sum(jacobian_times(block, v[None], case.out)[0] for block, v in zip(squares, variances, strict=True))
    if case.op.name in noise.BOUNDED and (case.op.name != "dot" or case.op.normalize):
        bound = noise.BOUNDED[case.op.name](parameters, inputs, variances, y)
        assert (bound >= wanted * (1 - 1e-12)).all()
        wanted = bound
    own = noise.OWN[case.op.name](parameters, inputs, y)
    found, none = (case.op.variance(given, inputs, y, variances) for given in (u, 0.0))
    close(none, wanted, factor=10)
    close(found, wanted + u**2 * own, factor=10)


OF_EVERY_KIND = {type(case.op): case.op for case in CASES}
SIMPLE = (Source((2,)), Affine(np.ones((2, 3))), Elementwise("tanh", ()))


@pytest.mark.parametrize("op", [*OF_EVERY_KIND.values(), *SIMPLE], ids=lambda op: op.name)
def test_ops_are_frozen_and_equal_to_themselves_only(op):
    """An op shared by several nodes is known by its identity; arrays could not be compared anyway."""
    with pytest.raises(FrozenInstanceError):
        op.name = "other"
    assert op == op
    assert op != copy.copy(op)
    assert hash(op) != hash(copy.copy(op))


@pytest.mark.parametrize("bias", [None, drawn(2)], ids=["no bias", "bias"])
def test_variance_of_an_affine_map_is_what_the_equation_says(bias):
    """Of 9 terms: σ²(z_j) = Σ_k W_kj² (σ²(a_k) + u² 9/6 a_k²) + u² (z_j² + b_j²)."""
    rng, kernel, u = np.random.default_rng(32), drawn(9, 2, seed=3), 0.25
    a, v = rng.normal(size=(4, 9)), rng.uniform(0.1, 2, size=(4, 9))
    op = Affine(kernel, bias)
    z, b = op.forward(a), np.zeros(2) if bias is None else bias
    wanted = np.einsum("kj,bk->bj", kernel**2, v + u**2 * 1.5 * a**2) + u**2 * (z**2 + b**2)
    np.testing.assert_allclose(op.variance(u, (a,), z, (v,)), wanted, rtol=1e-13)
    few = Affine(kernel[:4], bias).variance(u, (a[:, :4],), z, (v[:, :4],))
    wanted = np.einsum("kj,bk->bj", kernel[:4] ** 2, v[:, :4] + u**2 * a[:, :4] ** 2) + u**2 * (z**2 + b**2)
    np.testing.assert_allclose(few, wanted, rtol=1e-13)


def test_variance_of_an_activation_is_that_of_its_input_times_its_slope_squared():
    z, v = np.array([[-1.0, 0.5]]), np.array([[3.0, 5.0]])
    op = Elementwise("relu", (np.inf, 0.25, 0.0))
    np.testing.assert_array_equal(op.variance(0.25, (z,), op.forward(z), (v,)), [[3 / 16, 5]])


def slopes(op, *inputs, kink="keras"):
    """Jacobian of one sample with respect to every input, (outputs, entries)."""
    _, tape = op.linearize(*(np.array([x], float) for x in inputs), kink=kink)
    n = int(np.prod(op.shape(*(np.shape(x) for x in inputs))))
    cotangents = np.eye(n).reshape(n, 1, *op.shape(*(np.shape(x) for x in inputs)))
    return [pulled.reshape(n, -1) for pulled in op.vjp(tape, cotangents)]


REDUCED_TIES = {"keras": (1 / 3, 0, 1 / 3, 1 / 3), "left": (1, 0, 0, 0), "right": (0, 0, 0, 1)}


@pytest.mark.parametrize("kink", [*REDUCED_TIES, "mean"])
@pytest.mark.parametrize("op", [Max, Min])
def test_ties_of_a_reduction_are_shared_as_the_policy_says(op, kink):
    sign = 1 if op is Max else -1
    (found,) = slopes(op((-1,)), sign * np.array([2.0, 1.0, 2.0, 2.0]), kink=kink)
    np.testing.assert_array_equal(found[0], REDUCED_TIES.get(kink, REDUCED_TIES["keras"]))
    (found,) = slopes(op((-2, -1)), sign * np.array([[2.0, 1.0], [2.0, 2.0]]), kink=kink)
    np.testing.assert_array_equal(found[0], REDUCED_TIES.get(kink, REDUCED_TIES["keras"]))
    gaps = op((-1,)).margins((sign * np.array([[[2.0, 1.0], [0.5, 3.0], [np.inf, np.inf]]]),))
    np.testing.assert_array_equal(gaps, [[1, 2.5, 0]])


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reductions_share_ties_and_take_infinities_as_eager_tensorflow_does(dtype):
    tf = pytest.importorskip("tensorflow")
    rows = [[1.0, 1.0, 0.0], [-np.inf, 0.0, -np.inf], [-np.inf] * 3, [2.0, np.inf, 2.0], [np.nan, 1.0, 2.0], [3.0] * 3]
    x = tf.constant(rows, dtype)
    for op, reduce in (
        (Max, tf.reduce_max),
        (Min, tf.reduce_min),
        (LogSumExp, tf.reduce_logsumexp),
        (Sum, tf.reduce_sum),
    ):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = reduce(x, axis=-1)
        theirs = tape.gradient(y, x).numpy()
        with np.errstate(all="ignore"):
            value, own = op((-1,)).linearize(x.numpy(), kink="keras")
            (pulled,) = op((-1,)).vjp(own, np.ones((1, *value.shape), dtype))
        np.testing.assert_allclose(value, y.numpy(), rtol=1e-6)
        # TensorFlow's derivative of logsumexp is 0 or 1 where infinities meet, and its max of NaN has one of 0.
        same = [0, 1, 5] if op is LogSumExp else [0, 1, 2, 3, 5]
        np.testing.assert_allclose(pulled[0][same], theirs[same], rtol=1e-6, err_msg=op.name)


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quotients_and_powers_at_zero_and_infinity_are_eager_tensorflows(dtype):
    tf = pytest.importorskip("tensorflow")
    numbers = [-np.inf, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, np.inf]
    a, b = (tf.constant(part.ravel(), dtype) for part in np.meshgrid(numbers, numbers))
    for op, theirs in ((Divide(), tf.divide), (Power(), tf.pow)):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            y = theirs(a, b)
        wanted = tape.gradient(y, [a, b])
        with np.errstate(all="ignore"):
            value, own = op.linearize(a.numpy(), b.numpy(), kink="keras")
            found = op.vjp(own, np.ones((1, *value.shape), dtype))
        np.testing.assert_allclose(value, y.numpy(), rtol=1e-6)
        for which, (ours, expected) in enumerate(zip(found, wanted, strict=True)):
            differs = ~np.isclose(ours[0], expected.numpy(), rtol=1e-6, equal_nan=True)
            # 0⁰ is the limit of a⁰ = 1, whose slope is 0; TensorFlow multiplies 0 by ∞.
            allowed = (a.numpy() == 0) & (b.numpy() == 0) if (op.name, which) == ("power", 0) else np.zeros(64, bool)
            np.testing.assert_array_equal(differs, allowed)


TIES = {"keras": (1, 0, 0), "left": (1, 0, 0), "right": (0, 0, 1), "mean": (0.5, 0, 0.5)}


@pytest.mark.parametrize("kink", TIES)
@pytest.mark.parametrize(("op", "other"), [(Maximum(), -4.0), (Minimum(), 4.0)])
def test_ties_are_shared_as_the_policy_says(op, other, kink):
    found = slopes(op, [2.0, 1.0], [other, 1.0], [2.0, other], kink=kink)
    np.testing.assert_array_equal([block[0, 0] for block in found], TIES[kink])
    assert sum(block[1, 1] for block in found) == 1
    inputs = tuple(np.array([x]) for x in ([2.0, 1.0, 1.0], [1.5, 1.0, np.inf], [0.0, -3.0, np.inf]))
    gaps = {"maximum": [[0.5, 0, 0]], "minimum": [[1.5, 4, np.inf]]}[op.name]
    np.testing.assert_array_equal(op.margins(inputs), gaps)


@pytest.mark.parametrize(("kink", "at"), [("keras", 0), ("left", 0.25), ("right", 1), ("mean", 0.625)])
def test_prelu_on_its_kink(kink, at):
    op, z = PReLU(np.array([0.25])), [-2.0, 0.0, -0.0, 3.0]
    np.testing.assert_array_equal(slopes(op, z, kink=kink)[0], np.diag([0.25, at, at, 1]))
    np.testing.assert_array_equal(op.margins((np.array([z]),)), [[2, 0, 0, 3]])


@pytest.mark.parametrize(("kink", "at"), [("keras", 1), ("left", 0), ("right", 1), ("mean", 0.5)])
def test_sparsemax_at_the_edge_of_its_support(kink, at):
    """Of (2, 1) the support is the first alone and τ = 1."""
    found = slopes(Sparsemax(), [2.0, 1.0], kink=kink)[0]
    np.testing.assert_array_equal(found, [[0, 0], [-at, at]])


def test_sparsemaxs_margins_are_to_its_edges_jumps_and_ties():
    """Support: all three of the first, r z_(r) − C_r + 1 = 1, 0.9, 0.7; the second's is the first entry alone."""
    z = np.array([[0.5, 0.4, 0.3], [2.0, 0.25, 0.0]])
    op = Sparsemax()
    np.testing.assert_allclose(op.jump_margins((z,)), [[0.7 / 3] * 3, [0.375] * 3], rtol=1e-15)
    np.testing.assert_allclose(op.margins((z,)), [[0.1 / 3, 0.1, 0.1], [0.375] * 3], rtol=1e-14)
    tied = np.array([[0.5, 0.5, -3.0]])
    np.testing.assert_array_equal(op.margins((tied,)), [[0, 0, 0]])


@pytest.mark.parametrize(("kink", "at"), [("keras", 0), ("left", 0.5), ("right", 0), ("mean", 0.25)])
def test_dot_normalises_vectors_longer_than_epsilon(kink, at):
    op = Dot((-1, -1), True, 2.0)
    np.testing.assert_array_equal(slopes(op, [2.0, 0.0], [4.0, 0.0], kink=kink)[0], [[at, 0]])
    np.testing.assert_array_equal(op.margins((np.array([[2.5, 0.0]]), np.array([[0.0, 4.0]]))), [[0.5]])
    np.testing.assert_array_equal(op.forward(np.array([[0.0, 0.0]]), np.array([[1.0, 2.0]])), [[0]])


@pytest.mark.parametrize(("kink", "at"), [("keras", 0), ("left", 0.5), ("right", 0), ("mean", 0.25)])
def test_unit_normalization_divides_by_lengths_above_epsilon(kink, at):
    op = UnitNormalization(2.0)
    np.testing.assert_array_equal(slopes(op, [2.0, 0.0], kink=kink)[0], [[at, 0], [0, 0.5]])
    np.testing.assert_array_equal(op.margins((np.array([[2.5, 0.0]]),)), [[0.5, 0.5]])
    np.testing.assert_array_equal(op.forward(np.array([[0.0, 0.0], [1.0, 0.0]])), [[0, 0], [0.5, 0]])


@every_case
@pytest.mark.parametrize("kink", ["left", "right", "mean"])
def test_away_from_kinks_policies_do_nothing(case, kink):
    tangents = case.vectors(2, case.shapes)
    distance = case.op.margins(tuple(case.inputs))
    assert distance is None or (distance > 0).all()
    wanted, found = (case.op.jvp(case.op.linearize(*case.inputs, kink=way)[1], *tangents) for way in ("keras", kink))
    np.testing.assert_array_equal(found, wanted)


@every_case
def test_up_to_the_margin_nothing_bends(case):
    """Every input entry moved by 0.4 of the least margin of its sample leaves the tape's choices as they are."""
    distance = case.op.margins(tuple(case.inputs))
    if distance is None or case.op.name in ("dot", "unit_normalization"):
        return
    least = distance.reshape(SAMPLES, -1).min(axis=1)
    tangents = case.vectors(2, case.shapes)
    wanted = case.op.jvp(case.op.linearize(*case.inputs, kink="keras")[1], *tangents)
    part = 0.1 if case.op.name == "sparsemax" else 0.4
    for seed in range(20):
        signs = [np.sign(t[0]) for t in case.vectors(1, case.shapes, seed=seed)]
        size = [least.reshape(SAMPLES, *(1,) * (x.ndim - 1)) for x in case.inputs]
        moved = [x + part * n * sign for x, n, sign in zip(case.inputs, size, signs, strict=True)]
        found = case.op.jvp(case.op.linearize(*moved, kink="keras")[1], *tangents)
        np.testing.assert_array_equal(found, wanted)


def two_into(op, shapes, dtype="float64"):
    """The graph of an op on inputs of these shapes, each through a rescaling by 3 that rounds."""
    dtype = np.dtype(dtype)
    sources = [Node(Source(shape), (), f"in_{index}") for index, shape in enumerate(shapes)]
    n = len(sources)
    triple = Rescaling(np.array(3.0), np.array(0.0)).astype(dtype)
    nodes = [*sources, *(Node(triple, (index,), f"triple_{index}") for index in range(n))]
    nodes.append(Node(op.astype(dtype), tuple(range(n, 2 * n)), "merge"))
    names = tuple(node.name for node in sources)
    return Graph(tuple(nodes), tuple(range(n)), (2 * n,), names, ("merge",), dtype, Provenance())


@every_case
def test_near_kinks_of_every_op(case):
    """In a graph: no sample drawn is near one, and what `noise` and `margins` give broadcasts."""
    graph = two_into(case.op, case.shapes)
    point = products.linearize(graph, [x / 3 for x in case.inputs], "keras")
    found = margins.near_kinks(point, deviations(graph, point.values))
    assert not found.near.any()
    assert (found.node == (-1 if case.op.margins(tuple(case.inputs)) is None else len(graph.nodes) - 1)).all()
    assert margins.on_kink(point) is None


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        (Maximum(), [[[0.1, 5.0]], [[0.1 * (1 + 1e-15), 4.0]]]),
        (Minimum(), [[[0.1], [5.0]], [[0.1, 9.0]]]),
        (Sparsemax(), [[0.2, 0.2 * (1 + 1e-15)]]),
        (Dot((-1, -1), True, 0.3), [[0.0, 0.1 * (1 + 1e-15)], [1.0, 2.0]]),
        (UnitNormalization(0.3), [[0.0, 0.1 * (1 + 1e-15)]]),
    ],
    ids=lambda part: part.name if hasattr(part, "name") else "",
)
def test_a_margin_within_rounding_is_near(op, inputs):
    graph = two_into(op, [np.shape(x) for x in inputs])
    point = products.linearize(graph, [np.array([x]) for x in inputs], "keras")
    found = margins.near_kinks(point, deviations(graph, point.values))
    assert found.near.all()
    assert (found.node == len(graph.nodes) - 1).all()


def test_units_that_stand_still_have_no_kinks():
    """Two ReLUs that are off tie at 0, and nothing depends on it; stretched, one of them on makes all units move."""
    off, half = np.array([[-1.0, -2.0]]), np.array([[[-1.0], [2.0]]])
    relu = Elementwise("relu", (np.inf, 0.0, 0.0))
    for x, y, hits in [(off, off, 0), (off, half, 0), (np.array([[0.5, -1.0]]), np.array([[[0.5], [-1.0]]]), 1)]:
        shapes = (x.shape[1:], y.shape[1:])
        nodes = [Node(Source(shape), (), "in") for shape in shapes]
        nodes += [Node(relu, (index,), "relu") for index in range(2)]
        nodes.append(Node(Maximum(), (2, 3), "maximum"))
        graph = Graph(tuple(nodes), (0, 1), (4,), ("a", "b"), ("maximum",), np.dtype("float64"), Provenance())
        point = products.linearize(graph, [x, y], "keras")
        found = [distance for index, distance, _ in margins.distances(point) if index == 4]
        assert (found[0] == 0).sum() == hits


@pytest.mark.parametrize("op", [Softmax(), LogSoftmax()], ids=lambda op: op.name)
def test_a_saturated_softmax_keeps_its_small_derivatives(op):
    """In float32 s = (1, e⁻³⁰) gives 1 − s_1 = 0; the derivative is e⁻³⁰ to all its digits."""
    small = np.exp(-30.0)
    s, factors = np.array([1 - small, small]), {"softmax": (1 - small, small), "log_softmax": (1, 1)}[op.name]
    true = np.array([[factors[i] * ((i == j) - s[j]) for j in range(2)] for i in range(2)])
    true[0, 0] = factors[0] * small
    _, tape = op.linearize(np.array([[30, 0]], "float32"), kink="keras")
    eye = np.eye(2, dtype="float32").reshape(2, 1, 2)
    np.testing.assert_allclose(op.jvp(tape, eye)[:, 0].T, true, rtol=1e-6)
    np.testing.assert_allclose(op.vjp(tape, eye)[0][:, 0], true, rtol=1e-6)


BENT = (
    "power",
    "max",
    "min",
    "log_sum_exp",
    "prelu",
    "maximum",
    "minimum",
    "softmax",
    "log_softmax",
    "sparsemax",
    "layer_normalization",
    "rms_normalization",
)
"""Ops whose derivative with respect to an entry depends on that entry."""


@every_case
def test_nan_propagates(case):
    """An entry that is NaN makes NaN of every output that its derivative says depends on it."""
    with np.errstate(all="ignore"):
        for which, block in enumerate(case.truth[1]):
            inputs = [x.copy() for x in case.inputs]
            inputs[which].reshape(SAMPLES, -1)[:, 0] = np.nan
            value, tape = case.op.linearize(*inputs, kink="keras")
            touched = block.reshape(SAMPLES, -1, int(np.prod(case.shapes[which])))[:, :, 0] != 0
            assert np.isnan(value.reshape(SAMPLES, -1)[touched]).all()
            if case.op.name in BENT and str(case) not in ALWAYS_ALIKE:
                pulled = case.op.vjp(tape, np.ones((1, *value.shape)))[which]
                assert np.isnan(pulled[0].reshape(SAMPLES, -1)[:, 0][touched.any(axis=1)]).all()


INFINITE = {
    Softmax(): {(np.inf, 0.0): [np.nan, np.nan], (-np.inf, 0.0): [0, 1], (-np.inf, -np.inf): [np.nan, np.nan]},
    LogSoftmax(): {(np.inf, 0.0): [np.nan, np.nan], (-np.inf, 0.0): [-np.inf, 0]},
    Sparsemax(): {(-np.inf, 0.25): [0, 1]},
    PReLU(np.zeros(2)): {(-np.inf, np.inf): [0, np.inf]},
    PReLU(np.array([-1.0, 1.0])): {(-np.inf, np.inf): [np.inf, np.inf]},
}


@pytest.mark.parametrize("op", INFINITE, ids=lambda op: op.name)
def test_infinity_gives_what_the_page_says(op):
    for z, wanted in INFINITE[op].items():
        with np.errstate(all="ignore"):
            value, tape = op.linearize(np.array([z]), kink="keras")
            pushed = op.jvp(tape, np.eye(2)[:, None])
        np.testing.assert_array_equal(value, [wanted])
        assert np.isnan(pushed).all() == np.isnan(wanted).all()


@pytest.mark.parametrize("op", [Softmax(), LogSoftmax()], ids=lambda op: op.name)
def test_an_entry_of_minus_infinity_adds_no_noise(op):
    z, two = np.array([[-np.inf, 0.5, 1.0]]), np.array([[0.5, 1.0]])
    with np.errstate(all="ignore"):
        found = op.variance(0.25, (z,), op.forward(z), (np.zeros_like(z),))
    alone = op.variance(0.25, (two,), op.forward(two), (np.zeros_like(two),))
    np.testing.assert_allclose(found[:, 1:], alone, rtol=1e-14)


REFUSED_SHAPES = [
    *((op, shapes, "sizes must be equal or 1") for op in (Add(), Multiply(), Maximum()) for shapes in [((2,), (3,))]),
    (Add(), (), "at least one input"),
    (Multiply(), (), "at least one input"),
    (Concatenate(), (), "at least one input"),
    (Subtract(), ((2,),), "two inputs, 1 are given"),
    (Subtract(), ((2,), (2,), (2,)), "two inputs, 3"),
    (Subtract(), ((2,), (3,)), "sizes must be equal or 1"),
    (Concatenate(), ((2, 3), (3, 3)), "axis -1 only"),
    (Concatenate(-2), ((2,), (3,)), "axis -2 is asked for"),
    (Concatenate(-1), ((2, 3), (3,)), "axis -1 only"),
    (Dot((-1, -1)), ((2,),), "two inputs, 1"),
    (Dot((-1, -1)), ((2,), (3,)), "not equally long"),
    (Dot((-1, -2)), ((2,), (2,)), "axis -2 is asked for"),
    (Reshape((2, 3)), ((5,),), r"cannot take the shape \(2, 3\)"),
    (Reshape((2, 3)), ((6,), (6,)), "one input, 2 are given"),
    (Permute((-1, -2)), ((2,),), "orders 2 axes"),
    (Permute((-1, -2)), (), "one input, 0 are given"),
    (Repeat(2), ((2, 3),), "repeats vectors"),
    (PReLU(np.ones(3)), ((2,),), "alpha has shape"),
    (PReLU(np.ones((2, 3))), ((3,),), "alpha has shape"),
    (Divide(), ((2,),), "two inputs, 1"),
    (Power(), ((2,), (3,)), "sizes must be equal or 1"),
    (Partial("add", np.ones(3)), ((2,),), "sizes must be equal or 1"),
    (Partial("add", np.ones(3)), ((2,), (2,)), "one input, 2 are given"),
    (Sum((-2,)), ((3,),), "axis -2 is asked for"),
    (Max((-1,)), ((3,), (3,)), "one input, 2 are given"),
    (Take((3,)), ((3,),), "index 3 is beyond axis -1"),
    (Take((0,), -2), ((3,),), "axis -2 is asked for"),
    (BatchNormalization(np.ones(3), np.ones(3)), ((4,),), "mean holds 3"),
    (BatchNormalization(np.ones(1), np.ones(1)), ((4,),), "mean holds 1"),
    (BatchNormalization(np.ones(3), np.ones(3), axis=-2), ((3,),), "axis -2 is asked for"),
    (Normalization(np.ones(3), np.ones(3)), ((1,),), "mean has shape"),
    (Rescaling(np.ones(3), np.ones(())), ((2,),), "scale has shape"),
    (LayerNormalization(np.ones(3)), ((4,),), "gamma has shape"),
    (LayerNormalization(np.ones((3, 2)), axes=(-2, -1)), ((2, 3),), "gamma has shape"),
    (LayerNormalization(axes=(-2,)), ((4,),), "axis -2 is asked for"),
    (RMSNormalization(np.ones(3)), ((4,),), "gamma has shape"),
    (UnitNormalization(axes=(-2,)), ((4,),), "axis -2 is asked for"),
    (Softmax(-2), ((4,),), "axis -2 is asked for"),
    (Softmax((-1, -3)), ((4, 4),), "axis -3 is asked for"),
    (Sparsemax(-2), ((4,),), "axis -2 is asked for"),
    (GLU(), ((3,),), "no two halves"),
    (GLU(), ((4,), (4,)), "one input, 2 are given"),
]


@pytest.mark.parametrize(("op", "shapes", "message"), REFUSED_SHAPES)
def test_inputs_that_do_not_fit_are_refused(op, shapes, message):
    with pytest.raises(ValueError, match=message):
        op.shape(*shapes)


ONES = np.ones(3)
REFUSED_RECORDS = [
    *(("concatenate", {"axis": axis}, {}, "no feature axis") for axis in (0, 1, True, "a", None, 1.5, -1.0, (-1,))),
    *((name, {"axis": 0}, {}, "no feature axis") for name in ("softmax", "log_softmax", "sparsemax", "glu")),
    *(("softmax", {"axis": axis}, {}, "axes") for axis in ([], [-1, -1])),
    *(("dot", {"axes": axes}, {}, "no pair") for axes in ([-1], -1, [-1, -1, -1], None)),
    ("dot", {"axes": [-1, 0]}, {}, "no feature axis"),
    ("dot", {"axes": [-1, -1], "normalize": 1}, {}, "True or False"),
    ("dot", {"axes": [-1, -1], "epsilon": -1}, {}, "epsilon"),
    ("partial", {"of": "dot"}, {"constant": ONES}, "no op of two tensors is called 'dot'"),
    *(("partial", {"of": "add", "place": place}, {"constant": ONES}, "place is") for place in (2, -1, True, "1", None)),
    ("partial", {"of": "add", "constant": 1.0}, {}, "constant is float"),
    *((name, {"axes": axes}, {}, "ax.s") for name in ("sum", "max", "log_sum_exp") for axes in ([], [0], [-1, -1], -1)),
    *(("sum", {"axes": [-1], "keepdims": keepdims}, {}, "keepdims is") for keepdims in (1, None, "no")),
    *(("take", {"indices": indices}, {}, "no tuple of indices") for indices in ([], [-1], [1.0], [True], 1, "0", None)),
    ("take", {"indices": [0], "axis": 0}, {}, "no feature axis"),
    *(("reshape", {"target": target}, {}, "no shape") for target in ([-1], [0, 2], [2.0], [True], "ab", None, 3)),
    *(("permute", {"order": order}, {}, "ax.s|each of") for order in ([], [-1, -1], [-1, -3], [1, 2], 1, None)),
    *(("repeat", {"count": count}, {}, "count") for count in (0, -1, 1.5, True, None, "3", [3])),
    *(
        ("batch_normalization", {"epsilon": epsilon}, {"moving_mean": ONES, "moving_variance": ONES}, "epsilon")
        for epsilon in (-1, np.nan, np.inf, "1", None, True)
    ),
    ("batch_normalization", {}, {"moving_mean": ONES, "moving_variance": np.ones(2)}, "equal vectors"),
    ("batch_normalization", {}, {"moving_mean": np.ones((3, 1)), "moving_variance": np.ones((3, 1))}, "equal vectors"),
    ("batch_normalization", {"gamma": 3}, {"moving_mean": ONES, "moving_variance": ONES}, "gamma is int"),
    ("batch_normalization", {"moving_mean": None}, {"moving_variance": ONES}, "moving_mean is NoneType"),
    ("batch_normalization", {}, {"moving_mean": ONES, "moving_variance": ONES.astype(int)}, "variance is int64"),
    *(("layer_normalization", {"epsilon": epsilon}, {}, "epsilon") for epsilon in (-1, np.nan, "1")),
    ("layer_normalization", {"axes": [-1, -2]}, {}, "ascend"),
    ("layer_normalization", {"axes": []}, {}, "axes"),
    ("layer_normalization", {"axes": [-1]}, {"gamma": ONES, "beta": np.ones(2)}, "equal ones"),
    ("layer_normalization", {"axes": [-2, -1]}, {"gamma": ONES}, "equal ones of 2 axes"),
    ("rms_normalization", {"epsilon": -1}, {}, "epsilon"),
    ("rms_normalization", {"axes": [-1, -2]}, {}, "ascend"),
    ("rms_normalization", {}, {"gamma": ONES.astype(int)}, "gamma is int64"),
    ("rms_normalization", {"gamma": 3.0}, {}, "gamma is float"),
    ("unit_normalization", {"epsilon": np.nan}, {}, "epsilon"),
    ("unit_normalization", {"axes": [0]}, {}, "no feature axis"),
    ("normalization", {}, {"mean": ONES, "variances": np.ones(2)}, "must be equal"),
    ("normalization", {"invert": "no"}, {"mean": ONES, "variances": ONES}, "True or False"),
    ("rescaling", {"scale": 2.0}, {"offset": ONES}, "scale is float"),
    ("prelu", {"alpha": [1.0]}, {}, "alpha is tuple"),
]


@pytest.mark.parametrize(("name", "config", "arrays", "message"), REFUSED_RECORDS)
def test_impossible_records_are_refused(name, config, arrays, message):
    with pytest.raises((refgrad.errors.MismatchError, refgrad.errors.UnsupportedError), match=message):
        OPS[name].restore(config, arrays)


def test_a_saved_network_of_many_ops_comes_back(tmp_path):
    ops = [
        *(Normalization(drawn(6), drawn(6, positive=True)), Repeat(2), LayerNormalization(drawn(2, 6), axes=(-2, -1))),
        *(PReLU(drawn(2, 6)), Permute((-1, -2)), Softmax((-2, -1)), Reshape((3, 4)), GLU(), Reshape((6,))),
        BatchNormalization(drawn(6), drawn(6, positive=True), None, drawn(6)),
        Sparsemax(),
    ]
    net = refgrad.Network(chain((6,), [(op.name, op) for op in ops], np.dtype("float64"), Provenance()))
    refgrad.save(net, tmp_path / "many.npz")
    again = refgrad.load(tmp_path / "many.npz")
    x = np.random.default_rng(3).normal(size=(5, 6))
    assert again.digest == net.digest
    np.testing.assert_array_equal(again.jacobian(x), net.jacobian(x))
    np.testing.assert_allclose(net.jacobian(x, mode="forward"), net.jacobian(x, mode="reverse"), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("op", "shapes", "products"),
    [
        (Dot((-1, -1)), ((5,), (5,)), 2 * 5),
        (Dot((-1, -2)), ((4, 5), (5, 6)), 2 * 4 * 5 * 6),
        (Softmax(), ((2, 5),), 20),
        (LogSoftmax(), ((2, 5),), 20),
        (LayerNormalization(), ((2, 5),), 20),
        (RMSNormalization(), ((2, 5),), 20),
        (UnitNormalization(), ((2, 5),), 20),
        (Sparsemax(), ((2, 5),), 10),
        (Add(), ((5,), (5,)), 0),
        (Reshape((5,)), ((5,),), 0),
        (PReLU(np.ones(5)), ((5,),), 5),
        (PReLU(np.ones(5)), ((2, 5),), 10),
    ],
)
def test_cost_counts_multiply_adds(op, shapes, products):
    assert op.cost(3, *shapes) == 3 * products


def derivatives(tf, function, inputs):
    """Value and, for every input, the Jacobian (batch, *out, *in) that eager TensorFlow gives, row by row."""
    xs = [tf.constant(x) for x in inputs]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(xs)
        y = function(xs[0] if len(xs) == 1 else xs)
        rows = tf.unstack(tf.reshape(y, (len(inputs[0]), -1)), axis=1)
    found = [[tape.gradient(row, x, unconnected_gradients="zero") for row in rows] for x in xs]
    blocks = [np.stack([tf.convert_to_tensor(part).numpy() for part in parts], axis=1) for parts in found]
    return y.numpy(), [block.reshape(len(block), *y.shape[1:], *block.shape[2:]) for block in blocks]


def ours(op, inputs):
    """The same by one vjp of the op."""
    y, tape = op.linearize(*inputs, kink="keras")
    n = int(np.prod(y.shape[1:]))
    pulled = op.vjp(tape, np.eye(n).reshape(n, 1, *y.shape[1:]))
    shape = [(n, len(y), *x.shape[1:]) for x in inputs]
    blocks = [np.moveaxis(np.broadcast_to(part, own), 0, 1) for part, own in zip(pulled, shape, strict=True)]
    return y, [block.reshape(len(y), *y.shape[1:], *block.shape[2:]) for block in blocks]


def _set(layer, shape):
    """A layer of float64, built, with random weights; those that must be are positive."""
    layer.build((None, *shape))
    rng = np.random.default_rng(17)
    draw = {True: lambda shape: rng.uniform(0.3, 2, size=shape), False: lambda shape: rng.normal(size=shape)}
    weights = [draw["variance" in weight.name](weight.shape) for weight in layer.weights]
    layer.set_weights(weights)
    return {
        weight.name.split("/")[-1].split(":")[0]: value for weight, value in zip(layer.weights, weights, strict=True)
    }


def _batch_normalization(keras, shape, axis, **options):
    layer = keras.layers.BatchNormalization(axis=axis + len(shape) + 1, dtype="float64", **options)
    held = _set(layer, shape)
    parts = (held["moving_mean"], held["moving_variance"], held.get("gamma"), held.get("beta"))
    return layer, BatchNormalization(*parts, layer.epsilon, axis)


def _layer_normalization(keras, shape, axes, **options):
    layer = keras.layers.LayerNormalization(axis=[axis + len(shape) + 1 for axis in axes], dtype="float64", **options)
    held = _set(layer, shape)
    return layer, LayerNormalization(held.get("gamma"), held.get("beta"), layer.epsilon, axes)


def _rms_normalization(keras, shape, axes, **options):
    if keras.__name__ == "tf_keras":
        pytest.skip("it has no such layer")
    layer = keras.layers.RMSNormalization(axis=[axis + len(shape) + 1 for axis in axes], dtype="float64", **options)
    return layer, RMSNormalization(_set(layer, shape)["scale"], layer.epsilon, axes)


def _unit_normalization(keras, shape, axes):
    layer = keras.layers.UnitNormalization(axis=[axis + len(shape) + 1 for axis in axes], dtype="float64")
    return layer, UnitNormalization(1e-12 if keras.__name__ == "keras" else 1e-6, axes)


def _prelu(keras, shape, shared):
    layer = keras.layers.PReLU(shared_axes=shared, dtype="float64")
    return layer, PReLU(_set(layer, shape)["alpha"])


def _normalization(keras, shape, axis, invert):
    rng = np.random.default_rng(18)
    width = shape[axis]
    mean, variance = rng.normal(size=width), np.array([0.0, *rng.uniform(0.3, 2, size=width - 1)])
    layer = keras.layers.Normalization(axis, mean.tolist(), variance.tolist(), invert=invert, dtype="float64")
    layer.build((None, *shape))
    # tf_keras holds them in float32, as its global floatx says.
    mean, variance = (np.asarray(part, "float64")[0] for part in (layer.mean, layer.variance))
    return layer, Normalization(mean, variance, invert)


def _plain(name, op, *arguments, **options):
    def make(keras, shape):
        return getattr(keras.layers, name)(*arguments, dtype="float64", **options), op

    return make


def _made(make, *arguments, **options):
    return lambda keras, shape: make(keras, shape, *arguments, **options)


def _dot(axes, feature_axes, normalize):
    def make(keras, shape):
        epsilon = 1e-7 if keras.__name__ == "keras" else 1e-6
        layer = keras.layers.Dot(axes, normalize=normalize, dtype="float64")
        return layer, Dot(feature_axes, normalize, epsilon)

    return make


LAYERS = [
    *(
        (_plain(op.__name__, op()), shapes)
        for op in (Add, Average, Multiply, Maximum, Minimum)
        for shapes in [((3,), (3,), (3,)), ((2, 3), (3,)), ((3,), (4, 1, 3)), ((1, 3), (2, 1)), ((3,),)]
    ),
    *((_plain("Subtract", Subtract()), shapes) for shapes in [((3,), (3,)), ((2, 3), (3,)), ((2, 1), (3,))]),
    (_plain("Concatenate", Concatenate()), ((3,), (2,))),
    (_plain("Concatenate", Concatenate(-2), axis=1), ((2, 3), (1, 3), (3, 3))),
    *(
        (_dot(axes, feature_axes, normalize), shapes)
        for axes, feature_axes, shapes in [
            (1, (-1, -1), ((3,), (3,))),
            (-1, (-1, -1), ((2, 3), (3,))),
            ((1, 2), (-1, -1), ((3,), (2, 3))),
            ((2, 1), (-1, -2), ((4, 3), (3, 2))),
            ((1, 3), (-2, -1), ((3, 2), (2, 2, 3))),
            ((2, 1), (-2, -3), ((2, 3, 2), (3, 2, 1))),
        ]
        for normalize in (False, True)
    ),
    (_plain("Reshape", Reshape((3, 2)), (3, -1)), ((2, 3),)),
    (_plain("Flatten", Reshape((12,))), ((2, 3, 2),)),
    (_plain("Permute", Permute((-1, -3, -2)), (3, 1, 2)), ((2, 3, 4),)),
    (_plain("Permute", Permute((-1, -2)), (2, 1)), ((2, 3),)),
    (_plain("RepeatVector", Repeat(4), 4), ((3,),)),
    (_plain("Rescaling", Rescaling(np.array(0.5), np.array(2.0)), 0.5, 2.0), ((2, 3),)),
    (_plain("Rescaling", Rescaling(np.array([0.5, 2]), np.array(0.0)), [0.5, 2.0]), ((3, 2),)),
    *((_plain("Softmax", Softmax(-1)), shapes) for shapes in [((4,),), ((2, 3),)]),
    (_plain("Softmax", Softmax(-2), 1), ((3, 2),)),
    (_plain("Softmax", Softmax((-2, -1)), (1, 2)), ((3, 2),)),
    (_plain("Softmax", Softmax((-3, -1)), [1, -1]), ((2, 2, 2),)),
    (_made(_prelu, None), ((2, 3),)),
    (_made(_prelu, [1]), ((2, 3),)),
    (_made(_prelu, [1, 2]), ((2, 2, 3),)),
    (_made(_batch_normalization, -1), ((3,),)),
    (_made(_batch_normalization, -2, epsilon=0.1), ((2, 3),)),
    (_made(_batch_normalization, -3, scale=False), ((2, 2, 3),)),
    (_made(_batch_normalization, -1, center=False), ((2, 3),)),
    (_made(_batch_normalization, -1, center=False, scale=False), ((2, 2, 2, 3),)),
    (_made(_layer_normalization, (-1,)), ((4,),)),
    (_made(_layer_normalization, (-2,), epsilon=0.2), ((3, 2),)),
    (_made(_layer_normalization, (-2, -1), scale=False), ((2, 3, 2),)),
    (_made(_layer_normalization, (-3, -1), center=False), ((2, 3, 2),)),
    (_made(_layer_normalization, (-3, -2, -1), epsilon=1e-12), ((2, 3, 2),)),
    (_made(_rms_normalization, (-1,)), ((4,),)),
    (_made(_rms_normalization, (-1,), epsilon=0.2), ((3, 2),)),
    (_made(_rms_normalization, (-2,)), ((3, 3),)),
    (_made(_rms_normalization, (-3, -1)), ((2, 2, 2),)),
    (_made(_rms_normalization, (-2, -1)), ((2, 3, 2),)),
    (_made(_unit_normalization, (-1,)), ((4,),)),
    (_made(_unit_normalization, (-2,)), ((3, 2),)),
    (_made(_unit_normalization, (-3, -1)), ((2, 3, 2),)),
    *((_made(_normalization, -1, invert), shapes) for invert in (False, True) for shapes in [((3,),), ((2, 3),)]),
]


@pytest.mark.tensorflow
@every_generation
@pytest.mark.parametrize(
    ("index", "make", "shapes"),
    [(index, *row) for index, row in enumerate(LAYERS)],
    ids=lambda part: "" if callable(part) else str(part),
)
def test_every_op_is_its_keras_layer(generation, index, make, shapes):
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    layer, op = make(keras, shapes[0])
    rng = np.random.default_rng(index)
    inputs = [rng.normal(size=(3, *shape)) for shape in shapes]
    alone = len(shapes) == 1 and isinstance(op, Add | Average | Multiply | Maximum | Minimum)
    value, blocks = derivatives(tf, (lambda x: layer([x])) if alone else layer, inputs)
    assert value.dtype == np.float64
    assert op.shape(*shapes) == value.shape[1:]
    y, found = ours(op, inputs)
    close(y, value, factor=10)
    for block, wanted in zip(found, blocks, strict=True):
        close(block, wanted, factor=10)


FUNCTIONS = [
    ("log_softmax", LogSoftmax, 1.0),
    ("sparsemax", Sparsemax, 0.2),
    ("sparsemax", Sparsemax, 1.0),
    ("glu", GLU, 1.0),
    ("softmax", Softmax, 3.0),
]


@pytest.mark.tensorflow
@pytest.mark.parametrize("shape", [(4,), (2, 4), (4, 2)], ids=str)
@pytest.mark.parametrize(("name", "op", "scale"), FUNCTIONS)
def test_every_axis_wise_op_is_its_keras_activation(name, op, scale, shape):
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip("keras")
    function = getattr(keras.activations, name)
    x = scale * np.random.default_rng(1).normal(size=(5, *shape))
    for axis in range(-len(shape), 0):
        value, blocks = derivatives(tf, lambda x, axis=axis: function(x, axis=axis), [x])
        y, found = ours(op(axis), [x])
        close(y, value, factor=10)
        close(found[0], blocks[0], factor=10)


@pytest.mark.tensorflow
@every_generation
@pytest.mark.parametrize(("name", "op"), [("Maximum", Maximum()), ("Minimum", Minimum())])
def test_ties_are_resolved_as_eager_tensorflow_does(generation, name, op):
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip(generation)
    inputs = [np.array([column]) for column in ([1.0, 1, 1, 0, 0.0], [1.0, 2, 2, 1, -0.0], [1.0, 2, 1, 1, 0.0])]
    value, blocks = derivatives(tf, getattr(keras.layers, name)(dtype="float64"), inputs)
    y, found = ours(op, inputs)
    np.testing.assert_array_equal(y, value)
    np.testing.assert_array_equal(found, blocks)


@pytest.mark.tensorflow
@every_generation
def test_prelu_on_its_kink_is_what_eager_tensorflow_says(generation):
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip(generation)
    layer, op = _prelu(keras, (2, 3), [1])
    z = np.array([[[0.0, -0.0, 1.0], [0.0, -np.inf, np.inf]]])
    value, blocks = derivatives(tf, layer, [z])
    with np.errstate(all="ignore"):
        y, found = ours(op, [z])
    np.testing.assert_array_equal(y, value)
    np.testing.assert_array_equal(found[0], blocks[0])


@pytest.mark.tensorflow
@every_generation
def test_dot_of_short_vectors_is_what_eager_tensorflow_says(generation):
    """Below, at and above the least length, of either generation."""
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip(generation)
    layer, op = _dot(1, (-1, -1), True)(keras, None)
    x = np.array([[0.0, 0.0], [1e-8, 1e-8], [op.epsilon, 0], [3e-7, 0.0], [1e-5, 5e-6]])
    inputs = [x, np.tile([1.0, 2.0], (5, 1))]
    value, blocks = derivatives(tf, layer, inputs)
    y, found = ours(op, inputs)
    for sample in range(5):
        close(y[sample], value[sample], factor=10)
        for block, wanted in zip(found, blocks, strict=True):
            close(block[sample], wanted[sample], factor=10)


@pytest.mark.tensorflow
@every_generation
def test_unit_normalization_of_short_vectors_is_what_eager_tensorflow_says(generation):
    """Below, at and above the least length, of either generation."""
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip(generation)
    layer, op = _unit_normalization(keras, (2,), (-1,))
    x = op.epsilon * np.array([[0.0, 0.0], [0.1, 0.1], [1, 0], [3, 0.0], [10, 5]])
    value, blocks = derivatives(tf, layer, [x])
    y, found = ours(op, [x])
    for sample in range(5):
        close(y[sample], value[sample], factor=10)
        close(found[0][sample], blocks[0][sample], factor=10)


@pytest.mark.tensorflow
def test_sparsemax_on_its_kinks_is_what_eager_tensorflow_says():
    """On the edge of the support, and with ties inside it; 0.25 and 0.5 are exact."""
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip("keras")
    z = np.array([[1.5, 0.5, -1.0], [0.25, 1.25, 0.25], [0.5, 0.5, 0.25], [0.25, 0.25, 0.25], [-np.inf, 0.25, 0.25]])
    with np.errstate(all="ignore"):
        y, found = ours(Sparsemax(), [z])
    value, blocks = derivatives(tf, keras.activations.sparsemax, [z])
    close(y, value)
    close(found[0], blocks[0])


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", [Softmax(), LogSoftmax()], ids=lambda op: op.name)
def test_infinity_is_what_eager_tensorflow_says(op):
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip("keras")
    z = np.array([[np.inf, 0, 1], [-np.inf, 0, 1], [-np.inf] * 3, [np.inf] * 3, [-np.inf, np.inf, 0], [np.nan, 0, 1]])
    with np.errstate(all="ignore"):
        y, found = ours(op, [z])
    value, blocks = derivatives(tf, getattr(keras.activations, op.name), [z])
    np.testing.assert_allclose(y, value, rtol=1e-14)
    np.testing.assert_allclose(found[0], blocks[0], rtol=0, atol=1e-14)
