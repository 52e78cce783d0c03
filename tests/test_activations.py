"""Every row of the activation table: against mpmath, at special values, and at its kinks against real TensorFlow."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from refgrad.activations import ACTIVATIONS
from refgrad.ops import Elementwise
from tests.oracle import FUNCTIONS

RELUS = [
    (np.inf, 0.0, 0.0),
    (6.0, 0.0, 0.0),
    (np.inf, 0.25, 0.0),
    (2.0, 0.0, 0.0),
    (2.0, 0.25, 0.5),
    (6.0, 0.25, 0.0),
    (6.0, 0.0, 1.0),
    (np.inf, 0.5, 2.0),
    (1.0, 0.25, 2.0),
    (1.0, 0.0, 2.0),
    (0.0, 0.0, 0.0),
]
ROWS = [(name, ACTIVATIONS[name].defaults) for name in ACTIVATIONS] + [("relu", parameters) for parameters in RELUS]
every_row = pytest.mark.parametrize(("name", "parameters"), ROWS, ids=str)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def grid(dtype):
    """Finite normal numbers of either sign over all magnitudes, dense around 0."""
    info = np.finfo(dtype)
    sizes = np.concatenate([np.geomspace(info.tiny, info.max / 2, 400), np.linspace(1e-3, 100, 800)])
    return np.concatenate([-sizes, sizes, [info.max, -info.max]]).astype(dtype)


def slope(name, parameters, z):
    """f′: of relu its three pieces, of smooth functions by central difference at 120 digits."""
    if name == "relu":
        max_value, negative_slope, threshold = parameters
        return negative_slope if z < threshold else mpmath.mpf(z < max_value)
    step = mpmath.mpf("1e-40") * max(abs(z), mpmath.mpf("1e-30"))
    return (FUNCTIONS[name](z + step) - FUNCTIONS[name](z - step)) / (2 * step)


@every_row
@every_dtype
def test_value_and_slope_are_within_four_roundoffs(name, parameters, dtype):
    z = grid(dtype)
    row = ACTIVATIONS[name]
    typed = [np.dtype(dtype).type(parameter) for parameter in parameters]
    u = float(np.finfo(dtype).eps) / 2
    values, slopes = row.f(z, *typed), row.df(z, *typed)
    assert values.dtype == slopes.dtype == np.dtype(dtype)
    with mpmath.workdps(120):
        for number, value, derivative in zip(z, values, slopes, strict=True):
            exact = mpmath.mpf(float(number))
            true_value = FUNCTIONS[name](exact, *parameters)
            assert abs(mpmath.mpf(float(value)) - true_value) <= 4 * u * max(1, abs(true_value))
            true_slope = slope(name, parameters, exact)
            assert abs(mpmath.mpf(float(derivative)) - true_slope) <= 4 * u * max(1, abs(true_slope))


@every_row
@every_dtype
def test_nan_stays_nan(name, parameters, dtype):
    """But in the slope of `linear`, which is 1 whatever the input."""
    value, derivative = Elementwise(name, parameters).linearize(np.array([[np.nan]], dtype), kink="keras")
    assert np.isnan(value).all()
    assert np.isnan(derivative).all() or name == "linear"


@pytest.mark.parametrize(
    ("name", "parameters", "left", "right"),
    [
        ("linear", (), (-np.inf, 1), (np.inf, 1)),
        ("relu", (np.inf, 0.0, 0.0), (0, 0), (np.inf, 1)),
        ("relu", (6.0, 0.0, 0.0), (0, 0), (6, 0)),
        ("relu", (np.inf, 0.25, 0.0), (-np.inf, 0.25), (np.inf, 1)),
        ("sigmoid", (), (0, 0), (1, 0)),
        ("tanh", (), (-1, 0), (1, 0)),
    ],
)
@every_dtype
def test_infinity_gives_the_limit(name, parameters, left, right, dtype):
    value, derivative = Elementwise(name, parameters).linearize(np.array([[-np.inf, np.inf]], dtype), kink="keras")
    np.testing.assert_array_equal(value[0], [left[0], right[0]])
    np.testing.assert_array_equal(derivative[0], [left[1], right[1]])


KINKS = {
    (np.inf, 0.0, 0.0): ({0.0}, ()),
    (6.0, 0.0, 0.0): ({0.0, 6.0}, ()),
    (np.inf, 0.25, 0.0): ({0.0}, ()),
    (2.0, 0.0, 0.0): ({0.0, 2.0}, ()),
    (2.0, 0.25, 0.5): ({0.5, 2.0}, (0.5,)),
    (6.0, 0.25, 0.0): ({0.0, 6.0}, ()),
    (6.0, 0.0, 1.0): ({1.0, 6.0}, (1.0,)),
    (np.inf, 0.5, 2.0): ({2.0}, (2.0,)),
    (1.0, 0.25, 2.0): ({2.0}, (2.0,)),
    (1.0, 0.0, 2.0): (set(), (2.0,)),
    (np.inf, 1.0, 0.0): (set(), ()),
    (0.0, 0.0, 0.0): (set(), ()),
}


@pytest.mark.parametrize("parameters", KINKS, ids=str)
def test_kinks_are_where_the_slopes_change(parameters):
    row, op = ACTIVATIONS["relu"], Elementwise("relu", parameters)
    places, jumps = KINKS[parameters]
    assert {kink.where for kink in op.kinks} == places
    assert op.jumps == jumps
    for kink in op.kinks:
        beside = np.array([kink.where - 1e-6, kink.where, kink.where + 1e-6])
        np.testing.assert_array_equal(row.df(beside, *parameters), [kink.left, kink.keras, kink.right])
    for jump in jumps:
        below, above = row.f(np.array([jump - 1e-9, jump + 1e-9]), *parameters)
        assert abs(above - below) > 0.1
    z = np.array([[-1.0, 0.25, 7.0]])
    either = places | set(jumps)
    margins = op.margins((z,))
    if either:
        np.testing.assert_array_equal(margins, [[min(abs(number - place) for place in either) for number in z[0]]])
    else:
        assert margins is None


@pytest.mark.parametrize(("kink", "expected"), [("keras", 0), ("left", 0), ("right", 1), ("mean", 0.5)])
def test_a_kink_policy_chooses_the_units_slope_on_the_kink_only(kink, expected):
    z = np.array([[-1.0, 0.0, 1.0]])
    np.testing.assert_array_equal(
        Elementwise("relu", (np.inf, 0.0, 0.0)).linearize(z, kink=kink)[1], [[0, expected, 1]]
    )


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize("parameters", RELUS, ids=str)
def test_relu_on_its_kinks_is_what_eager_tensorflow_says(generation, parameters):
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    max_value, negative_slope, threshold = parameters
    z = np.array([0.0, -0.0, 0.5, 1.0, 2.0, 6.0, -1.0, 0.25, 3.0, 7.0])
    layer = keras.layers.ReLU(
        max_value=None if np.isinf(max_value) else max_value,
        negative_slope=negative_slope,
        threshold=threshold,
        dtype="float64",
    )
    x = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    row = ACTIVATIONS["relu"]
    np.testing.assert_array_equal(row.f(z, *parameters), y.numpy())
    np.testing.assert_array_equal(row.df(z, *parameters), tape.gradient(y, x).numpy())


@pytest.mark.tensorflow
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize("name", ["linear", "relu", "sigmoid", "tanh"])
def test_special_values_are_what_eager_tensorflow_says(generation, name):
    """But for one divergence: relu′(NaN) is 0 in TensorFlow, and NaN here."""
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip(generation)
    z = np.array([-np.inf, np.inf, np.nan, 0.0, -0.0])
    x = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = keras.activations.get(name)(x)
    row = ACTIVATIONS[name]
    theirs = np.broadcast_to(tape.gradient(y, x).numpy(), z.shape).copy()
    if name == "relu":
        assert theirs[2] == 0
        theirs[2] = np.nan
    np.testing.assert_array_equal(row.f(z, *row.defaults), y.numpy())
    np.testing.assert_array_equal(row.df(z, *row.defaults), theirs)
