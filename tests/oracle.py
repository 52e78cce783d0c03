"""The truth about a chain of Dense layers, from mpmath and plain formulas: it shares no code with refgrad."""

from __future__ import annotations

import mpmath
import numpy as np

DIGITS = 80


def _relu(z, max_value=mpmath.inf, negative_slope=0, threshold=0):
    return negative_slope * (z - threshold) if z <= threshold else min(z, mpmath.mpf(max_value))


FUNCTIONS = {
    "linear": lambda z: z,
    "relu": _relu,
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "tanh": mpmath.tanh,
}


def value(layers, x):
    """y for one sample; `layers` are (kernel, bias or None, activation name, parameters), numbers of any kind."""
    a = [mpmath.mpf(number) for number in x]
    for kernel, bias, activation, parameters in layers:
        z = [
            mpmath.fsum(a[i] * mpmath.mpf(float(kernel[i, j])) for i in range(len(a)))
            + (0 if bias is None else mpmath.mpf(float(bias[j])))
            for j in range(kernel.shape[1])
        ]
        a = [FUNCTIONS[activation](number, *parameters) for number in z]
    return a


def value_and_jacobian(layers, x):
    """Value (n_out,) and Jacobian (n_out, n_in) at one sample, by central differences with a step of 1e-25."""
    with mpmath.workdps(DIGITS):
        step = mpmath.mpf("1e-25")
        x = [mpmath.mpf(float(number)) for number in x]
        columns = []
        for i in range(len(x)):
            up, down = ([*x[:i], x[i] + side * step, *x[i + 1 :]] for side in (1, -1))
            above, below = value(layers, up), value(layers, down)
            columns.append([float((p - m) / (2 * step)) for p, m in zip(above, below, strict=True)])
        return np.array([float(number) for number in value(layers, x)]), np.array(columns).T
