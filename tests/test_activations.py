"""Every row of the activation table: against mpmath, at special values, and against real eager TensorFlow."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import mpmath
import numpy as np
import pytest

import refgrad
from refgrad.activations import ACTIVATIONS
from refgrad.activations.names import NAMES, named
from refgrad.ops import Elementwise
from tests import oracle
from tests.accuracy import ROWS, grid, measure, typed
from tests.eager import KERAS, agree, divergences, functions, ours, places, points, theirs
from tests.oracle import FUNCTIONS

DATA = Path(__file__).resolve().parents[1] / "docs" / "data"
every_row = pytest.mark.parametrize(("name", "parameters"), ROWS, ids=str)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
every_generation = pytest.mark.parametrize("keras", KERAS, ids=KERAS.get)


def recorded(name):
    return json.loads((DATA / name).read_text(encoding="utf-8"))


ACCURACY = {(row["row"], tuple(row["parameters"]), row["dtype"]): row for row in recorded("accuracy.json")}


@every_row
@every_dtype
def test_value_and_slope_are_within_four_roundoffs_and_as_accurate_as_recorded(name, parameters, dtype):
    """The recorded figures may differ from one processor to another, not by more than a factor of two."""
    found = measure(name, parameters, dtype)
    assert found["value absolute"] <= 4
    assert found["slope absolute"] <= 4
    known = ACCURACY[name, tuple(map(str, parameters)), dtype]
    assert found.keys() == known.keys()
    for figure in (key for key in found if key.endswith(("absolute", "relative"))):
        assert found[figure] <= 2 * max(known[figure], 1)
        assert known[figure] <= 2 * max(found[figure], 1)


def test_the_recorded_accuracies_are_of_the_rows_there_are():
    assert [*ACCURACY] == [
        (name, tuple(map(str, parameters)), dtype) for name, parameters in ROWS for dtype in ("float32", "float64")
    ]


@every_row
@every_dtype
def test_a_scalar_has_the_bits_and_the_dtype_of_an_array(name, parameters, dtype):
    """Kernels call a row with one number at a time."""
    row = ACTIVATIONS[name]
    z = np.concatenate([grid(dtype)[::40], points(name, parameters, dtype)])
    for function, of_array in zip((row.f, row.df), ours(name, parameters, z), strict=True):
        assert of_array.dtype == np.dtype(dtype)
        assert of_array.shape == z.shape
        with np.errstate(all="ignore"):
            of_scalars = [np.asarray(function(number, *typed(parameters, dtype))) for number in z]
        assert {number.dtype for number in of_scalars} == {np.dtype(dtype)}
        np.testing.assert_array_equal(np.array(of_scalars), of_array)
        assert [np.signbit(number) for number in of_scalars] == [np.signbit(number) for number in of_array]


@every_row
@every_dtype
def test_nan_stays_nan(name, parameters, dtype):
    """But in the slope of `linear`, which is 1 whatever the input."""
    value, derivative = Elementwise(name, parameters).linearize(np.array([[np.nan]], dtype), kink="keras")
    assert np.isnan(value).all()
    assert np.isnan(derivative).all() or name == "linear"


STEP = ((0, 0), (1, 0))
GATE = ((0, 0), (np.inf, 1))
SHRINK = ((-np.inf, 1), (np.inf, 1))
ODD_STEP = ((-1, 0), (1, 0))
LIMITS = {
    **dict.fromkeys(["sigmoid", "hard_sigmoid", "hard_sigmoid_keras2", "sparse_sigmoid"], STEP),
    **dict.fromkeys(["relu", "hard_silu", "sparse_plus", "softplus", "squareplus", "threshold"], GATE),
    **dict.fromkeys(["silu", "mish", "gelu", "gelu_tanh"], GATE),
    **dict.fromkeys(["linear", "hard_shrink", "soft_shrink", "tanh_shrink"], SHRINK),
    **dict.fromkeys(["tanh", "hard_tanh", "softsign"], ODD_STEP),
    **dict.fromkeys(["elu", "celu"], ((-1, 0), (np.inf, 1))),
    "selu": ((-1.7580993408473768, 0), (np.inf, 1.0507009873554805)),
    "exponential": ((0, 0), (np.inf, np.inf)),
    "expm1": ((-1, 0), (np.inf, np.inf)),
    "abs": ((np.inf, -1), (np.inf, 1)),
    "sign": ((-1, 0), (1, 0)),
    "erf": ((-1, 0), (1, 0)),
    "square": ((np.inf, -np.inf), (np.inf, np.inf)),
    "sinh": ((-np.inf, np.inf), (np.inf, np.inf)),
    "cosh": ((np.inf, -np.inf), (np.inf, np.inf)),
    "arcsinh": ((-np.inf, 0), (np.inf, 0)),
    **dict.fromkeys(["sqrt", "log", "log2", "log10", "log1p"], ((np.nan, np.nan), (np.inf, 0))),
    "rsqrt": ((np.nan, np.nan), (0, 0)),
    **dict.fromkeys(["sin", "cos", "tan"], ((np.nan, np.nan), (np.nan, np.nan))),
    "arctan": ((-np.pi / 2, 0), (np.pi / 2, 0)),
    "log_sigmoid": ((-np.inf, 1), (0, 0)),
}
"""(value, slope) at −inf and at +inf, with the default parameters."""


@every_dtype
@pytest.mark.parametrize(
    ("name", "parameters", "limits"),
    [
        *((name, ACTIVATIONS[name].defaults, limits) for name, limits in LIMITS.items()),
        ("relu", (6.0, 0.0, 0.0), ((0, 0), (6, 0))),
        ("relu", (np.inf, 0.25, 0.0), ((-np.inf, 0.25), (np.inf, 1))),
        ("relu", (2.0, 0.25, 0.5), ((-np.inf, 0.25), (2, 0))),
        ("relu", (np.inf, 0.0, 2.0), GATE),
        ("elu", (0.5,), ((-0.5, 0), (np.inf, 1))),
        ("celu", (0.5,), ((-0.5, 0), (np.inf, 1))),
        ("threshold", (1.0, 20.0), ((20, 0), (np.inf, 1))),
    ],
)
def test_infinity_gives_the_limit(name, parameters, limits, dtype):
    z = np.array([[-np.inf, np.inf]], dtype)
    with np.errstate(all="ignore"):
        value, derivative = Elementwise(name, parameters).linearize(z, kink="keras")
    expected = np.array(limits, dtype)
    np.testing.assert_array_equal(value[0], expected[:, 0])
    np.testing.assert_array_equal(derivative[0], expected[:, 1])


def test_every_row_has_its_limits():
    assert LIMITS.keys() == ACTIVATIONS.keys()


@every_row
def test_kinks_and_jumps_are_where_the_formula_has_them(name, parameters):
    """At every eighth from −8 to 8: one-sided difference quotients of the textbook formula, and one-sided limits."""
    row = ACTIVATIONS[name]
    kinks = {kink.where: kink for kink in row.kinks(*parameters)}
    f, h = FUNCTIONS[name], mpmath.mpf("1e-30")
    candidates = {step / 8 for step in range(-64, 65) if row.domain[0] < step / 8 < row.domain[1]}
    assert {*kinks, *row.jumps(*parameters)} <= candidates
    with mpmath.workdps(100):
        for place in candidates:
            z = mpmath.mpf(place)
            below, above = ([f(z + side * n * h, *parameters) for n in (1, 2)] for side in (-1, 1))
            assert (abs(above[0] - below[0]) > 1e-20) == (place in row.jumps(*parameters))
            left, right = (below[0] - below[1]) / h, (above[1] - above[0]) / h
            if abs(left - right) > 1e-10 or place in kinks:
                assert (kinks[place].left, kinks[place].right) == pytest.approx((float(left), float(right)), rel=1e-15)


@every_row
def test_value_on_kinks_and_jumps_is_the_formulas(name, parameters):
    row = ACTIVATIONS[name]
    for place in (*(kink.where for kink in row.kinks(*parameters)), *row.jumps(*parameters)):
        wanted = float(FUNCTIONS[name](mpmath.mpf(place), *parameters))
        assert row.f(np.array(place), *parameters) == pytest.approx(wanted, rel=1e-15, abs=1e-16)


@every_row
def test_a_kinks_record_of_keras_is_the_slope_there(name, parameters):
    row = ACTIVATIONS[name]
    for kink in row.kinks(*parameters):
        assert row.df(np.array(kink.where), *parameters) == kink.keras


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
@every_generation
@every_dtype
def test_slopes_on_kinks_are_what_eager_tensorflow_says(keras, dtype):
    """Of every name, function and layer; a kink's record says the same as the slope."""
    pytest.importorskip(KERAS[keras])
    for label, (name, parameters, function) in functions(keras).items():
        z = np.array(places(name, parameters), dtype)
        value, slope = theirs(function, z)
        for computed, expected in zip(ours(name, parameters, z), (value, slope), strict=True):
            assert agree(expected, computed).all(), label
        at = {kink.where: kink.keras for kink in ACTIVATIONS[name].kinks(*parameters)}
        for place, taken in zip(z.tolist(), slope.tolist(), strict=True):
            assert at.get(place, taken) == pytest.approx(taken, rel=1e-6 if dtype == "float32" else 1e-15), label


@pytest.mark.tensorflow
def test_every_divergence_from_eager_tensorflow_is_recorded():
    """At special values, kinks and their neighbours, in both generations and dtypes; last digits may differ."""
    for keras in KERAS.values():
        pytest.importorskip(keras)

    def keyed(rows):
        place = ("row", "parameters", "dtype", "of", "z")
        return {(*(str(row[key]) for key in place), called): row for row in rows for called in row["called"]}

    found = keyed(json.loads(json.dumps(divergences())))
    known = keyed(recorded("divergences.json"))
    assert found.keys() == known.keys()
    for key, row in found.items():
        assert row["why"] == known[key]["why"]
        for says in ("tensorflow", "refgrad"):
            a, b = (np.array(float(number), row["dtype"]) for number in (row[says], known[key][says]))
            assert agree(a, b), key


LEFT_OUT = {
    2: {
        **dict.fromkeys(["softmax", "log_softmax", "Softmax"], "works along an axis: an op of its own"),
        "PReLU": "has weights, which an activation of a layer is not saved with",
    },
    3: {
        **dict.fromkeys(["softmax", "log_softmax", "sparsemax", "glu"], "works along an axis: an op of its own"),
        "threshold": "has parameters without defaults: Keras cannot call it by its name alone",
    },
}
NO_ACTIVATIONS = {"get", "serialize", "deserialize", "keras_export"}


@pytest.mark.tensorflow
@every_generation
def test_every_name_that_keras_takes_is_a_row_or_left_out_for_a_reason(keras):
    package = pytest.importorskip(KERAS[keras])
    internal = importlib.import_module(f"{KERAS[keras]}.src.activations")
    listed = {name for name in dir(package.activations) if not name.startswith("_")}
    # tf_keras looks a name up among its layers' classes for activations, and among all functions of the module.
    among = [vars(internal), vars(internal.activation_layers)] if keras == 2 else [internal.ALL_OBJECTS_DICT]
    listed |= {name for names in among for name, thing in names.items() if callable(thing) and name[0] != "_"}
    listed -= NO_ACTIVATIONS
    assert listed == NAMES[keras].keys() | LEFT_OUT[keras].keys()
    for name in listed:
        package.activations.get(name)
        assert (named(name, keras) is None) == (name in LEFT_OUT[keras])


CALLED = [(keras, called) for keras in NAMES for called in NAMES[keras]]


@pytest.mark.parametrize(("keras", "called"), CALLED)
def test_a_network_with_an_activation_is_what_the_formula_says(keras, called):
    rng = np.random.default_rng(3)
    kernels = [rng.normal(size=shape) for shape in ((2, 4), (4, 3))]
    net = refgrad.Network.sequential([(kernel, None, called) for kernel in kernels], keras=keras)
    x = rng.normal(size=(3, 2))
    y, jacobian = net.value_and_jacobian(x)
    for number, value, slopes in zip(x, y, jacobian, strict=True):
        truth = oracle.value_and_jacobian([(kernel, None, *named(called, keras)) for kernel in kernels], number)
        np.testing.assert_allclose(value, truth[0], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(slopes, truth[1], rtol=1e-13, atol=1e-14)


@pytest.mark.tensorflow
@every_generation
def test_a_saved_model_has_the_activation_that_keras_gave_it(keras, tmp_path):
    package = pytest.importorskip(KERAS[keras])
    path, x = tmp_path / "model.keras", np.linspace(-4, 4, 64, dtype=np.float32)[:, None]
    for called in NAMES[keras]:
        if hasattr(package.layers, called):
            continue  # the name of a layer's class: Keras saves the layer, not its name
        layers = package.layers.Input((1,)), package.layers.Dense(5, activation=called)
        model = package.Sequential(layers)
        model.save(path)
        np.testing.assert_allclose(refgrad.load(path)(x), model(x).numpy(), rtol=1e-5, atol=1e-6, err_msg=called)


def test_a_name_of_the_other_generation_is_refused():
    for keras, called in ((2, "hard_swish"), (3, "LeakyReLU")):
        with pytest.raises(
            refgrad.UnsupportedError, match=f"activation '{called}' is not one of Keras {keras}'s: linear"
        ):
            refgrad.Network.sequential([(np.ones((1, 1)), None, called)], keras=keras)


def test_names_mean_what_their_generation_says():
    assert named("hard_sigmoid", 2) == ("hard_sigmoid_keras2", ())
    assert named("hard_sigmoid", 3) == ("hard_sigmoid", ())
    assert named("swish", 2) == named("silu", 3) == ("silu", ())
    assert named("LeakyReLU", 2) == ("relu", (np.inf, float(np.float32(0.3)), 0.0))
    assert named("ELU", 2) == ("elu", (1.0,))
    assert named("ReLU", 2) == named("relu", 3) == ("relu", (np.inf, 0.0, 0.0))
    assert named("ThresholdedReLU", 2) == ("relu", (np.inf, 0.0, 1.0))
    assert named("relu6", 2) == named("relu6", 3) == ("relu", (6.0, 0.0, 0.0))
    assert named("leaky_relu", 2) == named("leaky_relu", 3) == ("relu", (np.inf, float(np.float32(0.2)), 0.0))
    assert named("hard_swish", 3) == ("hard_silu", ())
    assert named("LeakyReLU", 3) is named("hard_swish", 2) is named("wobble", 3) is None
