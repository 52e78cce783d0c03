"""The complementary error function of single numbers, made of sums and products as the functions of `elementary` are.

    erfc z = e^(−z²) g(t)/(1 + 2z) for z ≥ 0,  t = (z − 3)/(z + 3)        erfc(−z) = 2 − erfc z

g(t) = (1 + 2z) e^(z²) erfc z is smooth on −1 ≤ t ≤ 1, which is all z ≥ 0, and between 1 and 1.3. The coefficients are
those of its Chebyshev series, cut off below half a unit roundoff and written in powers of t; a test computes them anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from refgrad.kernels.compiling import inline
from refgrad.kernels.elementary import abs, exp, fused  # noqa: A004

CENTRE, BEYOND = 3.0, 28.0
"""The z where t is 0, and from where on e^(−z²) is 0 in float64 as well."""

POWERS = {
    13: (
        1.2530080582534238, -0.1356210694002736, -0.04756229269565379, 0.1296441143440814, -0.11927369132068087,
        0.06831656777114085, -0.023770334675484478, 0.0024991168696069477, 0.0018881128646091253,
        -0.0007264536790340485, -0.00010413071427970404, 7.731024224076895e-05, 3.861849136821459e-06,
    ),
    26: (
        1.2530080582697296, -0.1356211061245812, -0.0475622943534492, 0.12964515870276475, -0.11927366341538638,
        0.06830802734384515, -0.02377051491717134, 0.0025293918180474668, 0.0018886903449991718,
        -0.0007798322884823084, -0.00010515971958448065, 0.0001250994355712812, 4.949196649968345e-06,
        -2.0100843094844725e-05, -7.308281468783614e-07, 3.473024167841533e-06, 3.557608668408059e-07,
        -6.175617678992324e-07, -1.4047654315428457e-07, 1.027799748827107e-07, 4.106401366794032e-08,
        -1.3906145791731073e-08, -8.21759505871144e-09, 1.2019719440136088e-09, 8.393734858690855e-10,
        -3.4514974876648186e-11,
    ),
}  # fmt: skip
"""Of g: so many for float32, and for float64."""

_P32 = tuple(np.float32(power) for power in POWERS[13])
_P64 = tuple(np.float64(power) for power in POWERS[26])


@inline
def _four(t: Any, rest: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """a + b t + c t² + d t³ + rest t⁴."""
    return fused(t, fused(t, fused(t, fused(t, rest, d), c), b), a)


def smooth(t: Any) -> Any:
    """g(t)."""
    return (_smooth32 if t.dtype == np.float32 else _smooth64)(t)


@overload(smooth, strict=False)
def _smooth(t):  # type: ignore[no-untyped-def]
    return (lambda t: _smooth32(t)) if t == types.float32 else (lambda t: _smooth64(t))


@inline
def _smooth32(t: Any) -> Any:
    a, b, c, d, e, f, g, h, i, j, k, l, m = _P32  # noqa: E741
    return _four(t, _four(t, _four(t, m, i, j, k, l), e, f, g, h), a, b, c, d)


@inline
def _smooth64(t: Any) -> Any:
    a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, u, v, w, x, y, z, last = _P64  # noqa: E741
    high = _four(t, _four(t, fused(t, last, z), v, w, x, y), q, r, s, u)
    return _four(t, _four(t, _four(t, _four(t, high, m, n, o, p), i, j, k, l), e, f, g, h), a, b, c, d)


@inline
def erfc(z: Any) -> Any:
    """The complementary error function; e^(−z²) is corrected by what z² lost in rounding."""
    number = type(z)
    a = abs(z)
    a = number(BEYOND) if a > number(BEYOND) else a
    square = a * a
    lost = fused(a, a, -square)
    tail = smooth((a - number(CENTRE)) / (a + number(CENTRE))) / (a + a + number(1))
    tail *= exp(-square) * (number(1) - lost)
    return number(2) - tail if z < 0 else tail
