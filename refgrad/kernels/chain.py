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

_ROOMS = (Path(refgrad.activations.__file__).parent, Path(__file__).parent)
_SOURCES = tuple(source for room in _ROOMS for source in sorted(room.glob("*.py")))
# "contract" allows fused multiply–adds and nothing that could change what NaN, infinity or a sum's order mean.
_jit: Any = partial(numba.njit, nogil=True, error_model="numpy", fastmath={"contract"})
# A called function counts references to every array of a tuple it is given, which costs more than small layers do.
_inline = partial(_jit, forceinline=True)


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
_tanh, _tanh_slope = _jit(ACTIVATIONS["tanh"].f), _jit(ACTIVATIONS["tanh"].df)
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
            z[j] = _tanh(z[j])


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
    """List the places that are not zero, NaN among them; returns how many. `active` has room for one place too many."""
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


@_inline
def _matrix(flat: Any, program: Any, layer: Any, transposed: Any) -> Any:
    """A layer's W (n_in, n_out), or Wᵀ (n_out, n_in), as a view of the flat array that holds them all."""
    widths, starts = program[0], program[6]
    rows, columns = widths[layer], widths[layer + 1]
    if transposed:
        rows, columns = columns, rows
    return flat[starts[layer] : starts[layer + 1]].reshape(rows, columns)


@_inline
def _evaluate(program: Any, x: Any, buffers: Any, active: Any, slopes: Any) -> Any:
    """The outputs of one sample, a view of `buffers`; f′ of every unit goes to `slopes`, if that is not empty."""
    _, codes, parameters, weights, _, biases, _, units = program
    a = x
    for layer in range(len(codes)):
        bias = biases[units[layer] : units[layer + 1]]
        z = buffers[layer % 2, : len(bias)]
        z[:] = bias
        count = _nonzero(a, active)
        _add_product(a.reshape(1, len(a)), active, count, _matrix(weights, program, layer, False), z.reshape(1, len(z)))
        if len(slopes) > 0:
            _slopes(codes[layer], parameters[layer], z, slopes[units[layer] : units[layer + 1]])
        _activate(codes[layer], parameters[layer], z)
        a = z
    return a


@_inline
def _multiply_out(program: Any, forward: Any, slopes: Any, active: Any, here: Any, there: Any) -> Any:
    """The product of one sample's Jacobians, a view of a buffer.

    Forward it is Jᵀ (n_in, n_out), one row an input: W_1, then · f′ and · W_l in turn. Backward it is J (n_out, n_in),
    one row an output: f′ · W_Lᵀ, then · f′ and · W_lᵀ in turn.
    """
    _, codes, _, weights, transposes, _, _, units = program
    last = len(codes) - 1
    flat = weights if forward else transposes
    first = _matrix(flat, program, 0 if forward else last, not forward)
    rows = len(first)
    product = here[: first.size].reshape(first.shape)
    product[:] = first
    if not forward:
        product *= slopes[units[last] : units[last + 1]].reshape(rows, 1)
    for step in range(last + 1 if forward else last):
        layer = step if forward else last - 1 - step
        slope = slopes[units[layer] : units[layer + 1]]
        product *= slope
        following = layer + 1 if forward else layer
        if following <= last:
            matrix = _matrix(flat, program, following, not forward)
            product, left = there[: rows * matrix.shape[1]].reshape(rows, matrix.shape[1]), product
            product[:] = 0
            _add_product(left, active, _nonzero(slope, active), matrix, product)
            here, there = there, here
    return product


@_kernel
def value(program: Any, x: Any, y: Any) -> None:
    """y (batch, n_out) for x (batch, n_in)."""
    widest = program[0].max()
    buffers, active = np.empty((2, widest), x.dtype), np.empty(widest + 1, np.int64)
    no_slopes = np.empty(0, x.dtype)
    for sample in range(len(x)):
        y[sample] = _evaluate(program, x[sample], buffers, active, no_slopes)


@_kernel
def value_and_jacobian(program: Any, x: Any, forward: Any, y: Any, jacobian: Any) -> None:
    """y (batch, n_out) and jacobian (batch, n_out, n_in) for x (batch, n_in), pushing forward or pulling back."""
    widths, units = program[0], program[7]
    widest, rows = widths.max(), widths[0] if forward else widths[-1]
    buffers, active = np.empty((2, widest), x.dtype), np.empty(widest + 1, np.int64)
    slopes = np.empty(units[-1], x.dtype)
    here, there = np.empty(rows * widest, x.dtype), np.empty(rows * widest, x.dtype)
    for sample in range(len(x)):
        y[sample] = _evaluate(program, x[sample], buffers, active, slopes)
        product = _multiply_out(program, forward, slopes, active, here, there)
        if forward:
            jacobian[sample] = product.T
        else:
            jacobian[sample] = product
