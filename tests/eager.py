"""What eager TensorFlow says of the functions behind the activation table, and where that is not what refgrad says."""

from __future__ import annotations

import importlib

import numpy as np

from refgrad.activations import ACTIVATIONS
from refgrad.activations.names import NAMES
from tests.accuracy import PARAMETERS, typed

KERAS = {2: "tf_keras", 3: "keras"}


def _in_its_dtype(make):
    """A layer computes in one dtype and casts to it, so each call makes the layer that its input needs."""
    return lambda x: make(x.dtype.name)(x)


def _by_name(keras, name):
    """An activation by its name; where the name is a layer's class, in the dtype of the input."""
    if hasattr(keras.layers, name):
        return _in_its_dtype(lambda dtype: getattr(keras.layers, name)(dtype=dtype))
    return keras.activations.get(name)


MATHEMATICS = (
    *("abs", "sign", "square", "sqrt", "rsqrt", "expm1", "log", "log1p", "sin", "cos", "tan", "sinh", "cosh"),
    *("arctan", "arcsinh", "erf"),
)


def _operations(keras, generation):
    """label → (row, parameters, function) of the bare operations that are elementwise rows."""
    import tensorflow as tf

    if generation == 3:
        names = {name: getattr(keras.ops, name) for name in (*MATHEMATICS, "log2", "log10")}
    else:
        old = {"arctan": "atan", "arcsinh": "asinh"}
        names = {name: getattr(tf.math, old.get(name, name)) for name in MATHEMATICS}
    return {f"operation {name}": (name, (), function) for name, function in names.items()}


def _layers(keras, generation):
    """label → (row, parameters, function) of the layers that are elementwise rows."""
    slope = "alpha" if generation == 2 else "negative_slope"
    found = {}
    for limit, leak, start in PARAMETERS["relu"]:
        options = {"max_value": None if np.isinf(limit) else limit, "negative_slope": leak, "threshold": start}
        row = ("relu", (limit, leak, start))
        found[f"ReLU{row[1]}"] = *row, _in_its_dtype(lambda dtype, o=options: keras.layers.ReLU(**o, dtype=dtype))
    for alpha in (0.0, 0.25):
        found[f"LeakyReLU({alpha})"] = (
            "relu",
            (np.inf, alpha, 0.0),
            _in_its_dtype(lambda dtype, a=alpha: keras.layers.LeakyReLU(**{slope: a}, dtype=dtype)),
        )
    for alpha in (1.0, 0.5, 2.0):
        make = _in_its_dtype(lambda dtype, a=alpha: keras.layers.ELU(alpha=a, dtype=dtype))
        found[f"ELU({alpha})"] = "elu", (alpha,), make
    for theta in (0.0, 0.5, 2.0) if generation == 2 else ():
        make = _in_its_dtype(lambda dtype, t=theta: keras.layers.ThresholdedReLU(theta=t, dtype=dtype))
        found[f"ThresholdedReLU({theta})"] = "relu", (np.inf, 0.0, theta), make
    return found


def functions(generation):
    """label → (row, parameters, function): every name of a generation, and its functions and layers with parameters."""
    keras = importlib.import_module(KERAS[generation])
    found = {name: (*row, _by_name(keras, name)) for name, row in NAMES[generation].items()}
    for name, sets in PARAMETERS.items():
        if name != "relu" and hasattr(keras.activations, name):
            function = getattr(keras.activations, name)
            for parameters in sets:
                label = f"{name}({', '.join(map(str, parameters))})"
                found[label] = name, parameters, lambda x, f=function, p=parameters: f(x, *p)
    found["gelu(approximate=True)"] = "gelu_tanh", (), lambda x: keras.activations.gelu(x, approximate=True)
    return found | _layers(keras, generation) | _operations(keras, generation)


def places(name, parameters):
    """Where a row kinks or jumps."""
    row = ACTIVATIONS[name]
    return sorted({*(kink.where for kink in row.kinks(*parameters)), *row.jumps(*parameters)})


def points(name, parameters, dtype):
    """Special values, and every kink and jump with its neighbours."""
    info = np.finfo(dtype)
    sizes = [0, info.smallest_subnormal, info.tiny / 4, info.tiny, 1e-6, 1, 30, 200, 1000, 1e30, info.max, np.inf]
    sizes = np.array(sizes, dtype)
    kinks = np.array(places(name, parameters), dtype)
    beside = [np.nextafter(kinks, np.array(side, dtype)) for side in (-np.inf, np.inf)]
    every = np.unique(np.concatenate([-sizes, sizes, kinks, *beside]))
    return np.concatenate([every[every != 0], np.array([0.0, -0.0, np.nan], dtype)])


def theirs(function, z):
    """Value and slope by eager TensorFlow."""
    import tensorflow as tf

    x = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    slope = tape.gradient(y, x)
    return y.numpy(), np.broadcast_to(slope.numpy(), z.shape)


def ours(name, parameters, z):
    """Value and slope by the row."""
    row = ACTIVATIONS[name]
    with np.errstate(all="ignore"):
        return row.f(z, *typed(parameters, z.dtype)), row.df(z, *typed(parameters, z.dtype))


def agree(a, b):
    """Equal, both NaN, or apart by rounding only; zero is no rounding of another number."""
    u = np.finfo(a.dtype).eps / 2
    with np.errstate(all="ignore"):
        near = (np.abs(a - b) <= 16 * u * np.maximum(1, np.abs(b))) & ((a == 0) == (b == 0))
    return (a == b) | (np.isnan(a) & np.isnan(b)) | near


def _why(name, z, tensorflow, refgrad):
    """Why TensorFlow's number is another one."""
    tiny = np.finfo(z.dtype).tiny
    if np.isnan(z):
        return "comparisons with NaN are false, so TensorFlow takes a branch that forgets it; here NaN stays NaN"
    if z < ACTIVATIONS[name].domain[0]:
        return "TensorFlow gives the function a number or a slope where it is none; here both are NaN"
    if abs(z) <= tiny or 0 < abs(refgrad) < tiny:
        return "TensorFlow flushes subnormal numbers to zero"
    if np.isinf(z) and np.isnan(tensorflow):
        return "0·∞, ∞ − ∞ or ∞/∞ in TensorFlow's formula; here it is the limit"
    if name in ("hard_sigmoid", "hard_sigmoid_keras2", "hard_silu") and 2 < abs(z) < 4:
        return "next to the kink, TensorFlow's scaled and shifted z rounds onto it"
    if name == "squareplus":
        if np.isinf(np.square(z)):
            return "TensorFlow's z² overflows"
        return "TensorFlow adds z and √(z² + b), which cancel"
    if name == "erf" and np.isnan(tensorflow):
        return "TensorFlow's z² overflows"
    if name == "gelu_tanh" and np.isnan(tensorflow):
        return "TensorFlow's z³ overflows"
    if name in ("gelu", "gelu_tanh") and z.dtype == np.float64:
        return "TensorFlow holds the constant 1/√2 (0.044715 in the tanh form) as a float32, whatever the dtype"
    if name in ("sigmoid", "tanh", "tanh_shrink", "elu", "selu") and tensorflow == 0:
        return "TensorFlow computes the slope from the value, in which its digits are lost"
    msg = f"{name} at {z}: TensorFlow says {tensorflow}, refgrad {refgrad}, and nobody knows why"
    raise AssertionError(msg)


def divergences():
    """Every point where TensorFlow says something else, with all names under which it does."""
    found = {}
    for generation in KERAS:
        for label, (name, parameters, function) in functions(generation).items():
            for dtype in ("float32", "float64"):
                z = points(name, parameters, dtype)
                for of, a, b in zip(("value", "slope"), theirs(function, z), ours(name, parameters, z), strict=True):
                    for i in np.flatnonzero(~agree(a, b)):
                        with np.errstate(over="ignore"):
                            why = _why(name, z[i], a[i], b[i])
                        what = (name, tuple(map(str, parameters)), dtype, of, *map(str, (z[i], a[i], b[i])), why)
                        found.setdefault(what, []).append(f"{KERAS[generation]} {label}")
    columns = ("row", "parameters", "dtype", "of", "z", "tensorflow", "refgrad", "why")
    return [dict(zip(columns, what, strict=True)) | {"called": called} for what, called in found.items()]
