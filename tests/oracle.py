"""The truth about a chain of Dense layers, from mpmath and plain formulas: it shares no code with refgrad."""

from __future__ import annotations

import mpmath
import numpy as np

DIGITS = 80


def _relu(z, max_value=mpmath.inf, negative_slope=0, threshold=0):
    return negative_slope * (z - threshold) if z <= threshold else min(z, mpmath.mpf(max_value))


def _clip(z, lowest, highest):
    return min(max(z, lowest), highest)


def _selu(z):
    scale, alpha = mpmath.mpf("1.0507009873554804934193349852946"), mpmath.mpf("1.6732632423543772848170429916717")
    return scale * (z if z > 0 else alpha * mpmath.expm1(z))


def _soft_shrink(z, threshold):
    return z - threshold if z > threshold else z + threshold if z < -threshold else mpmath.mpf(0)


def _gelu(z):
    # mpmath's erfc fails on huge numbers; from 10⁴ on it is 0 or 2 to 10⁷ digits.
    return z / 2 * mpmath.erfc(_clip(-z, -10000, 10000) / mpmath.sqrt(2))


def _gelu_tanh(z):
    return z / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + mpmath.mpf("0.044715") * z**3)))


FUNCTIONS = {
    "linear": lambda z: z,
    "relu": _relu,
    "hard_sigmoid": lambda z: _clip(z / 6 + mpmath.mpf(1) / 2, 0, 1),
    "hard_sigmoid_keras2": lambda z: _clip(z / 5 + mpmath.mpf(1) / 2, 0, 1),
    "hard_silu": lambda z: z * _clip(z / 6 + mpmath.mpf(1) / 2, 0, 1),
    "hard_tanh": lambda z: _clip(z, -1, 1),
    "hard_shrink": lambda z, threshold: z if abs(z) > threshold else mpmath.mpf(0),
    "soft_shrink": _soft_shrink,
    "sparse_plus": lambda z: mpmath.mpf(0) if z <= -1 else z if z >= 1 else (z + 1) ** 2 / 4,
    "sparse_sigmoid": lambda z: _clip((z + 1) / 2, 0, 1),
    "threshold": lambda z, threshold, default_value: z if z > threshold else mpmath.mpf(default_value),
    "exponential": mpmath.exp,
    "elu": lambda z, alpha: z if z > 0 else alpha * mpmath.expm1(z),
    "celu": lambda z, alpha: z if z > 0 else alpha * mpmath.expm1(z / alpha),
    "selu": _selu,
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "log_sigmoid": lambda z: -mpmath.log(1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log(1 + mpmath.exp(z)),
    "tanh": mpmath.tanh,
    "tanh_shrink": lambda z: z - mpmath.tanh(z),
    "softsign": lambda z: z / (1 + abs(z)),
    "squareplus": lambda z, b: (z + mpmath.sqrt(z**2 + b)) / 2,
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "abs": abs,
    "sign": mpmath.sign,
    "square": lambda z: z * z,
    "sqrt": mpmath.sqrt,
    "rsqrt": lambda z: 1 / mpmath.sqrt(z),
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log2": lambda z: mpmath.log(z) / mpmath.log(2),
    "log10": mpmath.log10,
    "log1p": lambda z: mpmath.log(1 + z),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tan": mpmath.tan,
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
    "arctan": mpmath.atan,
    "arcsinh": mpmath.asinh,
    # mpmath's erf fails on huge numbers; from 10⁴ on it is ±1 to 10⁷ digits.
    "erf": lambda z: mpmath.erf(_clip(z, -10000, 10000)),
    "mish": lambda z: z * mpmath.tanh(mpmath.log(1 + mpmath.exp(z))),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
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
