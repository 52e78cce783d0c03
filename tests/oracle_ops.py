"""The truth about every op: plain definitions on arrays of mpmath numbers, sharing no code with refgrad.

`DEFINITIONS[op]` takes the op's fields and one sample of each input, with its features alone, and gives the output.
"""

from __future__ import annotations

from functools import reduce

import mpmath
import numpy as np

DIGITS = 80
STEP = "1e-25"

exact = np.frompyfunc(lambda number: mpmath.mpf(float(number)), 1, 1)
exp = np.frompyfunc(mpmath.exp, 1, 1)
log = np.frompyfunc(mpmath.log, 1, 1)
sqrt = np.frompyfunc(mpmath.sqrt, 1, 1)
larger = np.frompyfunc(max, 2, 1)
smaller = np.frompyfunc(min, 2, 1)


def _unit(x, axis, epsilon):
    return x / larger(sqrt((x * x).sum(axis=axis, keepdims=True)), epsilon)


def _dot(p, x, y):
    if p["normalize"]:
        x, y = (_unit(z, axis, mpmath.mpf(p["epsilon"])) for z, axis in zip((x, y), p["axes"], strict=True))
    return np.atleast_1d(np.tensordot(x, y, axes=p["axes"]))


def _permute(p, x):
    y = np.empty([x.shape[axis] for axis in p["order"]], object)
    for place in np.ndindex(*y.shape):
        source = [0] * x.ndim
        for index, axis in zip(place, p["order"], strict=True):
            source[axis] = index
        y[place] = x[tuple(source)]
    return y


def _batch_normalization(p, x):
    last = np.moveaxis(x, p["axis"], -1)
    y = (last - p["moving_mean"]) / sqrt(p["moving_variance"] + mpmath.mpf(p["epsilon"]))
    y = y * (1 if p["gamma"] is None else p["gamma"]) + (0 if p["beta"] is None else p["beta"])
    return np.moveaxis(y, -1, p["axis"])


def _normalization(p, x):
    s = larger(sqrt(p["variances"]), mpmath.mpf(1e-7))
    return x * s + p["mean"] if p["invert"] else (x - p["mean"]) / s


def _layer_normalization(p, x):
    n = int(np.prod([x.shape[axis] for axis in p["axes"]]))
    centred = x - x.sum(axis=p["axes"], keepdims=True) / n
    y = centred / sqrt((centred * centred).sum(axis=p["axes"], keepdims=True) / n + mpmath.mpf(p["epsilon"]))
    for place in np.ndindex(*x.shape):
        own = tuple(place[axis] for axis in p["axes"])
        y[place] = y[place] * (1 if p["gamma"] is None else p["gamma"][own])
        y[place] = y[place] + (0 if p["beta"] is None else p["beta"][own])
    return y


def _over(p, x, total):
    """x divided by √total of its squares on the axes."""
    return x / total((x * x).sum(axis=p["axes"], keepdims=True))


def _rms_normalization(p, x):
    n = int(np.prod([x.shape[axis] for axis in p["axes"]]))
    y = _over(p, x, lambda squares: sqrt(squares / n + mpmath.mpf(p["epsilon"])))
    return y if p["gamma"] is None else y * p["gamma"]


def _unit_normalization(p, x):
    return _over(p, x, lambda squares: larger(sqrt(squares), mpmath.mpf(p["epsilon"])))


power = np.frompyfunc(lambda a, b: a**b, 2, 1)
_PAIRS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": power,
    "maximum": larger,
    "minimum": smaller,
}


def _partial(p, x):
    return _PAIRS[p["of"]](*((p["constant"], x) if p["place"] == 0 else (x, p["constant"])))


def _reduced(of_one_line):
    """One number of all along the axes, line by line."""

    def define(p, x):
        axes = tuple(sorted(x.ndim + axis for axis in p["axes"]))
        kept = [1 if axis in axes else n for axis, n in enumerate(x.shape)]
        y = np.empty(kept, object)
        for place in np.ndindex(*kept):
            y[place] = of_one_line(x[tuple(slice(None) if axis in axes else i for axis, i in enumerate(place))].ravel())
        return y if p["keepdims"] else y.reshape([n for axis, n in enumerate(x.shape) if axis not in axes])

    return define


def _softmax(p, z):
    return exp(z) / exp(z).sum(axis=p["axis"], keepdims=True)


def _sparsemax_line(z):
    ranked, sums = sorted(z, reverse=True), []
    for number in ranked:
        sums.append(number + (sums[-1] if sums else 0))
    kept = [
        total for rank, (number, total) in enumerate(zip(ranked, sums, strict=True), 1) if rank * number > total - 1
    ]
    tau = (sum(kept) - 1) / len(kept)
    return np.array([max(number - tau, mpmath.mpf(0)) for number in z], object)


def _glu(p, x):
    a, b = np.split(x, 2, axis=p["axis"])
    return a / (1 + exp(-b))


DEFINITIONS = {
    "divide": lambda p, x, y: x / y,
    "power": lambda p, x, y: power(x, y),
    "partial": _partial,
    "sum": _reduced(sum),
    "max": _reduced(max),
    "min": _reduced(min),
    "log_sum_exp": _reduced(lambda line: mpmath.log(sum(exp(line)))),
    "take": lambda p, x: np.moveaxis(
        np.array([np.moveaxis(x, p["axis"], 0)[i] for i in p["indices"]], object), 0, p["axis"]
    ),
    "prelu": lambda p, z: larger(z, mpmath.mpf(0)) + p["alpha"] * smaller(z, mpmath.mpf(0)),
    "add": lambda p, *xs: reduce(np.add, xs),
    "subtract": lambda p, x, y: x - y,
    "average": lambda p, *xs: reduce(np.add, xs) / len(xs),
    "multiply": lambda p, *xs: reduce(np.multiply, xs),
    "maximum": lambda p, *xs: reduce(larger, xs),
    "minimum": lambda p, *xs: reduce(smaller, xs),
    "concatenate": lambda p, *xs: np.concatenate(xs, axis=p["axis"]),
    "dot": _dot,
    "reshape": lambda p, x: x.reshape(p["target"]),
    "permute": _permute,
    "repeat": lambda p, x: np.array([x] * p["count"]),
    "batch_normalization": _batch_normalization,
    "normalization": _normalization,
    "rescaling": lambda p, x: x * p["scale"] + p["offset"],
    "layer_normalization": _layer_normalization,
    "rms_normalization": _rms_normalization,
    "unit_normalization": _unit_normalization,
    "softmax": _softmax,
    "log_softmax": lambda p, z: log(_softmax(p, z)),
    "sparsemax": lambda p, z: np.apply_along_axis(_sparsemax_line, p["axis"], z),
    "glu": _glu,
}


def value_and_jacobians(name, parameters, inputs):
    """Value (*out) and, for every input, Jacobian (*out, *in) at one sample, by central differences."""
    with mpmath.workdps(DIGITS):
        define, step = DEFINITIONS[name], mpmath.mpf(STEP)
        p = {key: exact(value) if isinstance(value, np.ndarray) else value for key, value in parameters.items()}
        xs = [np.asarray(exact(x), object) for x in inputs]
        y = define(p, *xs)
        blocks = []
        for which, x in enumerate(xs):
            block = np.empty((*y.shape, *x.shape))
            for place in np.ndindex(*x.shape):
                ends = []
                for side in (1, -1):
                    moved = x.copy()
                    moved[place] += side * step
                    ends.append(define(p, *xs[:which], moved, *xs[which + 1 :]))
                block[(..., *place)] = np.asarray((ends[0] - ends[1]) / (2 * step), object).astype(float)
            blocks.append(block)
        return y.astype(float), blocks
