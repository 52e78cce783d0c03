"""The compiled loops: value and Jacobian of a chain, one sample at a time, skipping what a ReLU switched off.

Every product here is one primitive, out[r, :] += Σ_k left[r, k] · matrix[k, :] over a list of the k that are not zero:
about half of them after a ReLU. It serves the value (one row), the forward mode (n_in rows, with W) and the reverse
mode (n_out rows, with Wᵀ). Samples never meet, so a result does not depend on its neighbours in the batch.

This module imports numba, so it is itself imported only where a kernel is about to run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numba.extending
import numpy as np

import refgrad.activations
from refgrad.activations import ACTIVATIONS, where
from refgrad.kernels.lower import CODES

_SOURCES = (Path(refgrad.activations.__file__), *sorted(Path(__file__).parent.glob("*.py")))
# "contract" allows fused multiply–adds and nothing that could change what NaN, infinity or a sum's order mean.
_jit: Any = partial(numba.njit, nogil=True, error_model="numpy", fastmath={"contract"})


def _source_digest() -> str:
    texts = b"".join(source.read_bytes() for source in _SOURCES)
    return hashlib.sha256(texts + f"{numba.__version__} {np.__version__}".encode()).hexdigest()[:16]


def _kernel(function: Callable[..., Any]) -> Any:
    """Compile with Numba's disk cache, keyed by all the sources that end up in the machine code.

    Numba itself looks only at the file of the cached function: after an edit of a callee in another file, such as an
    activation, it would run stale code. The digest is part of the function's name and so of the cache file's.
    """
    function.__qualname__ = f"{function.__name__}-{_source_digest()}"
    try:
        return _jit(function, cache=True)
    except RuntimeError:  # no folder for a cache can be written: compile anew in each process
        return _jit(function)


@numba.extending.overload(where, strict=False)  # strict would compare annotations too
def _where(condition: Any, then: Any, otherwise: Any) -> Any:
    """A choice between two scalars; a constant takes the dtype of the float beside it, as in NumPy."""
    del condition
    floats = [kind for kind in (then, otherwise) if isinstance(kind, numba.types.Float)]
    if len(floats) == 1:
        chosen = floats[0]
        return lambda condition, then, otherwise: chosen(then) if condition else chosen(otherwise)
    return lambda condition, then, otherwise: then if condition else otherwise


_relu, _relu_slope = _jit(ACTIVATIONS["relu"].f), _jit(ACTIVATIONS["relu"].df)
_sigmoid, _sigmoid_slope = _jit(ACTIVATIONS["sigmoid"].f), _jit(ACTIVATIONS["sigmoid"].df)
_tanh_slope = _jit(ACTIVATIONS["tanh"].df)
_RELU, _SIGMOID, _TANH = CODES["relu"], CODES["sigmoid"], CODES["tanh"]


@_jit
def _activate(code: Any, p: Any, z: Any) -> None:
    """z ← f(z)."""
    if code == _RELU:
        for j in range(len(z)):
            z[j] = _relu(z[j], p[0], p[1], p[2])
    elif code == _SIGMOID:
        for j in range(len(z)):
            z[j] = _sigmoid(z[j])
    elif code == _TANH:
        for j in range(len(z)):
            z[j] = np.tanh(z[j])


@_jit
def _slopes(code: Any, p: Any, z: Any, slope: Any) -> None:
    """slope = f′(z)."""
    if code == _RELU:
        for j in range(len(z)):
            slope[j] = _relu_slope(z[j], p[0], p[1], p[2])
    elif code == _SIGMOID:
        for j in range(len(z)):
            slope[j] = _sigmoid_slope(z[j])
    elif code == _TANH:
        for j in range(len(z)):
            slope[j] = _tanh_slope(z[j])
    else:
        slope[:] = 1


@_jit
def _nonzero(values: Any, active: Any) -> Any:
    """List the places that are not zero (NaN is not); returns how many."""
    count = 0
    for k in range(len(values)):
        active[count] = k
        count += values[k] != 0
    return count


@_jit
def _add_product(left: Any, active: Any, count: Any, matrix: Any, out: Any) -> None:
    """out[r, :] += Σ_{k ∈ active} left[r, k] · matrix[k, :], four k at a time to load and store `out` less often."""
    for r in range(out.shape[0]):
        row, coefficients = out[r], left[r]
        i = 0
        while i + 4 <= count:
            k0, k1, k2, k3 = active[i], active[i + 1], active[i + 2], active[i + 3]
            c0, c1, c2, c3 = coefficients[k0], coefficients[k1], coefficients[k2], coefficients[k3]
            m0, m1, m2, m3 = matrix[k0], matrix[k1], matrix[k2], matrix[k3]
            for j in range(len(row)):
                row[j] += c0 * m0[j] + c1 * m1[j] + c2 * m2[j] + c3 * m3[j]
            i += 4
        while i < count:
            c, m = coefficients[active[i]], matrix[active[i]]
            for j in range(len(row)):
                row[j] += c * m[j]
            i += 1


@_jit
def _offsets(widths: Any) -> Any:
    """Where each layer's matrix, and each layer's features, start in the flat arrays."""
    layers = len(widths) - 1
    matrix, unit = np.zeros(layers + 1, np.int64), np.zeros(layers + 1, np.int64)
    for layer in range(layers):
        matrix[layer + 1] = matrix[layer] + widths[layer] * widths[layer + 1]
        unit[layer + 1] = unit[layer] + widths[layer + 1]
    return matrix, unit


@_jit
def _affine(a: Any, kernel: Any, bias: Any, active: Any, z: Any) -> None:
    """z = a W + b for one sample."""
    z[:] = bias
    count = _nonzero(a, active)
    _add_product(a.reshape(1, len(a)), active, count, kernel, z.reshape(1, len(z)))


@_kernel
def value(x: Any, widths: Any, codes: Any, parameters: Any, kernels: Any, transposes: Any, biases: Any, y: Any) -> None:
    """y (batch, n_out) for x (batch, n_in)."""
    layers = len(codes)
    matrix, unit = _offsets(widths)
    widest = widths.max()
    buffers = np.empty((2, widest), x.dtype)
    active = np.empty(widest + 1, np.int64)
    for sample in range(len(x)):
        a = x[sample]
        for layer in range(layers):
            n, m = widths[layer], widths[layer + 1]
            z = buffers[layer % 2, :m]
            kernel = kernels[matrix[layer] : matrix[layer + 1]].reshape(n, m)
            _affine(a, kernel, biases[unit[layer] : unit[layer + 1]], active, z)
            _activate(codes[layer], parameters[layer], z)
            a = z
        y[sample] = a


@_kernel
def value_and_jacobian(
    x: Any,
    widths: Any,
    codes: Any,
    parameters: Any,
    kernels: Any,
    transposes: Any,
    biases: Any,
    forward: Any,
    y: Any,
    jacobian: Any,
) -> None:
    """y (batch, n_out) and jacobian (batch, n_out, n_in) for x (batch, n_in), pushing forward or pulling back."""
    layers = len(codes)
    matrix, unit = _offsets(widths)
    widest, n_in, n_out = widths.max(), widths[0], widths[layers]
    rows = n_in if forward else n_out
    here, there = np.empty(rows * widest, x.dtype), np.empty(rows * widest, x.dtype)
    slopes = np.empty(unit[layers], x.dtype)
    buffers = np.empty((2, widest), x.dtype)
    active = np.empty(widest + 1, np.int64)
    for sample in range(len(x)):
        a = x[sample]
        for layer in range(layers):
            n, m = widths[layer], widths[layer + 1]
            z = buffers[layer % 2, :m]
            kernel = kernels[matrix[layer] : matrix[layer + 1]].reshape(n, m)
            _affine(a, kernel, biases[unit[layer] : unit[layer + 1]], active, z)
            _slopes(codes[layer], parameters[layer], z, slopes[unit[layer] : unit[layer + 1]])
            _activate(codes[layer], parameters[layer], z)
            a = z
        y[sample] = a

        if forward:  # J = J_L ⋯ J_1, from the right: `here` holds its transpose, one row an input
            product = here[: n_in * widths[1]].reshape(n_in, widths[1])
            product[:] = kernels[: matrix[1]].reshape(n_in, widths[1])
            for layer in range(layers):
                slope = slopes[unit[layer] : unit[layer + 1]]
                product *= slope
                if layer + 1 < layers:
                    n, m = widths[layer + 1], widths[layer + 2]
                    following = there[: n_in * m].reshape(n_in, m)
                    following[:] = 0
                    kernel = kernels[matrix[layer + 1] : matrix[layer + 2]].reshape(n, m)
                    _add_product(product, active, _nonzero(slope, active), kernel, following)
                    product = following
                    here, there = there, here
            for i in range(n_in):
                jacobian[sample, :, i] = product[i]
        else:  # from the left: one row an output
            n = widths[layers - 1]
            product = here[: n_out * n].reshape(n_out, n)
            product[:] = transposes[matrix[layers - 1] : matrix[layers]].reshape(n_out, n)
            product *= slopes[unit[layers - 1] : unit[layers]].reshape(n_out, 1)
            for layer in range(layers - 2, -1, -1):
                slope = slopes[unit[layer] : unit[layer + 1]]
                product *= slope
                n, m = widths[layer + 1], widths[layer]
                following = there[: n_out * m].reshape(n_out, m)
                following[:] = 0
                transpose = transposes[matrix[layer] : matrix[layer + 1]].reshape(n, m)
                _add_product(product, active, _nonzero(slope, active), transpose, following)
                product = following
                here, there = there, here
            jacobian[sample] = product
