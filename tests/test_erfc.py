"""The kernels' complementary error function, and where its coefficients come from."""

from __future__ import annotations

import mpmath
import numba
import numpy as np
import pytest
from numba.core.config import DISABLE_JIT

from refgrad.kernels.erfc import CENTRE, POWERS, erfc


def _function(z):
    if z > 1_000:  # where mpmath's erfc comes to its end
        q = 1 / (2 * z * z)
        return (2 + 1 / z) / mpmath.sqrt(mpmath.pi) * (1 - q + 3 * q**2 - 15 * q**3 + 105 * q**4)
    return (1 + 2 * z) * mpmath.erfc(z) * mpmath.exp(z * z)


@pytest.mark.parametrize("terms", POWERS)
def test_the_coefficients_are_those_of_the_chebyshev_series(terms):
    """c_k = 2/N Σ g(cos θ_j) cos k θ_j, and each Chebyshev polynomial in powers of t."""
    points = 160
    with mpmath.workdps(60):
        angles = [mpmath.pi * (j + mpmath.mpf(1) / 2) / points for j in range(points)]
        values = [_function(CENTRE * (1 + mpmath.cos(angle)) / (1 - mpmath.cos(angle))) for angle in angles]
        series = [
            2 / mpmath.mpf(points) * sum(v * mpmath.cos(k * a) for v, a in zip(values, angles, strict=True))
            for k in range(terms)
        ]
        series[0] /= 2
        before, now, powers = [mpmath.mpf(1)], [mpmath.mpf(0), mpmath.mpf(1)], [mpmath.mpf(0)] * terms
        for c in series:
            powers = [p + c * (before[i] if i < len(before) else 0) for i, p in enumerate(powers)]
            doubled = [mpmath.mpf(0), *(2 * a for a in now)]
            before, now = now, [a - (before[i] if i < len(before) else 0) for i, a in enumerate(doubled)]
        np.testing.assert_allclose([float(power) for power in powers], POWERS[terms], rtol=1e-12, atol=1e-17)


@pytest.mark.skipif(DISABLE_JIT, reason="in Python nothing is fused, and z² is rounded")
@pytest.mark.parametrize(("dtype", "roundoffs"), [("float32", 6), ("float64", 8)])
def test_it_is_the_function(dtype, roundoffs):
    loop = numba.njit(lambda z, y: _fill(z, y))
    z = np.concatenate([np.linspace(-9, 26, 4_000), np.logspace(-30, 0, 60), -np.logspace(-30, 0, 60)]).astype(dtype)
    z = z[z < (8.5 if dtype == "float32" else 26)]  # beyond it is subnormal
    y = np.empty_like(z)
    loop(z, y)
    u = np.finfo(dtype).eps / 2
    errors = [abs(mpmath.mpf(float(a)) / mpmath.erfc(mpmath.mpf(float(b))) - 1) / u for a, b in zip(y, z, strict=True)]
    assert max(errors) < roundoffs
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30], dtype)
    found = np.empty_like(special)
    loop(special, found)
    np.testing.assert_array_equal(found, [np.nan, 0, 2, found[3], found[3], 0, 2])
    assert abs(found[3] - 1) <= 2 * u


@numba.njit
def _fill(z, y):
    for i in range(len(z)):
        y[i] = erfc(z[i])
