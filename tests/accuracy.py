"""How far each row of the activation table is from the mathematics, over the finite normal numbers of either dtype."""

from __future__ import annotations

import mpmath
import numpy as np

from refgrad.activations import ACTIVATIONS
from tests.oracle import FUNCTIONS

PARAMETERS = {
    "relu": [
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
    ],
    "elu": [(0.5,), (2.0,)],
    "celu": [(0.5,), (2.0,)],
    "hard_shrink": [(0.0,), (2.0,), (-1.0,)],
    "soft_shrink": [(0.0,), (2.0,), (-1.0,)],
    "threshold": [(0.5, -1.0), (1.0, 20.0)],
    "squareplus": [(0.25,)],
}
"""Parameters beside the defaults; both dtypes hold them exactly."""

ROWS = [
    (name, parameters) for name, row in ACTIVATIONS.items() for parameters in [row.defaults, *PARAMETERS.get(name, ())]
]

_START, _LAST, _AGREED = 50, 6400, mpmath.mpf("1e-25")
_BELOW_ANY_FLOAT = mpmath.mpf("1e-400")


def grid(dtype):
    """Finite normal numbers of either sign over all magnitudes, dense where the functions bend."""
    info = np.finfo(dtype)
    sizes = [np.geomspace(info.tiny, info.max / 2, 120), np.linspace(0.01, 12, 180), np.linspace(12, 120, 60)]
    sizes = np.concatenate([*sizes, np.linspace(120, 800, 30), [info.max]])
    return np.concatenate([-sizes, sizes]).astype(dtype)


def typed(parameters, dtype):
    """Parameters as numbers of the dtype."""
    return [np.dtype(dtype).type(parameter) for parameter in parameters]


def _settled(function):
    """A number computed with ever more digits until two runs agree; 0 only with digits enough for any float."""
    digits, before = _START, None
    while digits <= _LAST:
        with mpmath.workdps(digits):
            now = function(digits)
        small = abs(now) < _BELOW_ANY_FLOAT
        if before is not None and (
            abs(now - before) <= _AGREED * abs(now) if not small else digits > 400 and abs(before) < _BELOW_ANY_FLOAT
        ):
            return now
        digits, before = 2 * digits, now
    msg = "no number of digits is enough"
    raise ArithmeticError(msg)


def true_value(name, parameters, z):
    """f(z)."""
    return _settled(lambda _: FUNCTIONS[name](mpmath.mpf(z), *parameters))


def true_slope(name, parameters, z):
    """f′(z) by central difference; its step keeps a third of the digits."""

    def quotient(digits):
        exact = mpmath.mpf(z)
        step = abs(exact) * mpmath.mpf(10) ** (-digits // 3)
        return (FUNCTIONS[name](exact + step, *parameters) - FUNCTIONS[name](exact - step, *parameters)) / (2 * step)

    return _settled(quotient)


def _worst(computed, truth, dtype):
    """The largest |error| in roundoffs of max(1, |truth|), and of |truth| itself where that is a normal number."""
    info = np.finfo(dtype)
    u, largest = mpmath.mpf(float(info.eps)) / 2, mpmath.mpf(float(info.max))
    absolute, relative = mpmath.mpf(0), mpmath.mpf(0)
    for number, exact in zip(computed.tolist(), truth, strict=True):
        if abs(exact) > largest * (1 + u / 2):
            assert number == np.inf * float(mpmath.sign(exact)), "the truth overflows"
            continue
        error = abs(mpmath.mpf(number) - exact)
        assert mpmath.isfinite(error), f"{number} for {exact}"
        absolute = max(absolute, error / (u * max(1, abs(exact))))
        if abs(exact) >= float(info.tiny):
            relative = max(relative, error / (u * abs(exact)))
    return float(absolute), float(relative)


def _rounded(error):
    """Two digits; what is less than a millionth of a roundoff is the truth's own rounding."""
    return float(f"{error:.1e}") if error > 1e-6 else 0.0


def measure(name, parameters, dtype):
    """The worst errors of a row's value and slope, in units of roundoff."""
    row = ACTIVATIONS[name]
    places = [*(kink.where for kink in row.kinks(*parameters)), *row.jumps(*parameters)]
    z, (lowest, highest) = grid(dtype), row.domain
    z = z[~np.isin(z, places) & (z > lowest) & (z < highest)]
    with np.errstate(all="ignore"):
        values, slopes = row.f(z, *typed(parameters, dtype)), row.df(z, *typed(parameters, dtype))
    found = {"row": name, "parameters": [str(number) for number in parameters], "dtype": dtype}
    for of, computed, truth in (("value", values, true_value), ("slope", slopes, true_slope)):
        exact = [truth(name, parameters, number) for number in z.tolist()]
        found[f"{of} absolute"], found[f"{of} relative"] = _worst(computed, exact, dtype)
    return {key: _rounded(value) if isinstance(value, float) else value for key, value in found.items()}
