"""The rows of `refgrad.activations.mathematical` as real functions and their derivatives.

Outside its domain, and where value or slope are infinite, a function is the ball that holds everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flint import arb

from refgrad.exact.curves import Piece, polynomial, smooth

_exp, _expm1, _log, _log1p, _sqrt, _rsqrt = (
    np.frompyfunc(function, 1, 1) for function in (arb.exp, arb.expm1, arb.log, arb.log1p, arb.sqrt, arb.rsqrt)
)
_sin, _cos, _tan, _sinh, _cosh, _arctan, _arcsinh, _erf = (
    np.frompyfunc(function, 1, 1)
    for function in (arb.sin, arb.cos, arb.tan, arb.sinh, arb.cosh, arb.atan, arb.asinh, arb.erf)
)


def _inverse(z: Any) -> Any:
    """1/z above 0."""
    return np.where((z > 0).astype(bool), 1 / z, arb.nan())


def _logarithm(base: int) -> Piece:
    return smooth(lambda z: _log(z) / arb(base).log(), lambda z: _inverse(z) / arb(base).log())


WHOLE: Mapping[str, Piece] = {
    "square": polynomial(0, 0, 1),
    "sqrt": smooth(_sqrt, lambda z: _rsqrt(z) / 2),
    "rsqrt": smooth(_rsqrt, lambda z: -_rsqrt(z) / (2 * z)),
    "expm1": smooth(_expm1, _exp),
    "log": smooth(_log, _inverse),
    "log2": _logarithm(2),
    "log10": _logarithm(10),
    "log1p": smooth(_log1p, lambda z: _inverse(1 + z)),
    "sin": smooth(_sin, _cos),
    "cos": smooth(_cos, lambda z: -_sin(z)),
    "tan": smooth(_tan, lambda z: 1 / _cos(z) ** 2),
    "sinh": smooth(_sinh, _cosh),
    "cosh": smooth(_cosh, _sinh),
    "arctan": smooth(_arctan, lambda z: 1 / (1 + z * z)),
    "arcsinh": smooth(_arcsinh, lambda z: _rsqrt(1 + z * z)),
    "erf": smooth(_erf, lambda z: 2 * _exp(-z * z) / arb.pi().sqrt()),
}
"""Those of one piece."""
