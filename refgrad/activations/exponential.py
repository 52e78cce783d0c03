"""Activations that are linear on one side and exponential on the other, and the exponential itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.activations.row import Activation, Kink, kinks, where

# Klambauer et al. 2017: λ and λα.
_SCALE, _SCALE_ALPHA = 1.0507009873554805, 1.7580993408473768


def _exponential(z: Any) -> Any:
    return np.exp(z)


def _elu(z: Any, alpha: Any) -> Any:
    return where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def _elu_slope(z: Any, alpha: Any) -> Any:
    return where(z > 0, 1, alpha * np.exp(np.minimum(z, 0)))


def _celu(z: Any, alpha: Any) -> Any:
    return where(z > 0, z, alpha * np.expm1(np.minimum(z, 0) / alpha))


def _celu_slope(z: Any, alpha: Any) -> Any:
    # The slope is 1 on both sides of 0. Keras adds max(z, 0) and a function of min(z, 0), and both count 0 as theirs.
    return where(z > 0, 1, where(z == 0, 2, np.exp(np.minimum(z, 0) / alpha)))


def _selu(z: Any) -> Any:
    return where(z > 0, _SCALE * z, _SCALE_ALPHA * np.expm1(np.minimum(z, 0)))


def _selu_slope(z: Any) -> Any:
    return where(z >= 0, _SCALE, _SCALE_ALPHA * np.exp(np.minimum(z, 0)))


ROWS = (
    Activation("exponential", _exponential, _exponential, source="keras.activations.exponential: eᶻ"),
    Activation(
        "elu",
        _elu,
        _elu_slope,
        source="keras.activations.elu: z if z > 0, else alpha·(eᶻ − 1)",
        parameters=(("alpha", 1.0),),
        kinks=lambda alpha: kinks(Kink(0.0, alpha, 1.0, alpha)),
    ),
    Activation(
        "celu",
        _celu,
        _celu_slope,
        source="keras.activations.celu: max(z, 0) + alpha·(exp(min(z, 0)/alpha) − 1)",
        parameters=(("alpha", 1.0),),
        kinks=lambda _: (Kink(0.0, 1.0, 1.0, 2.0),),
    ),
    Activation(
        "selu",
        _selu,
        _selu_slope,
        source="keras.activations.selu: λz if z > 0, else λα·(eᶻ − 1), with λ = 1.0507… and λα = 1.7580…",
        kinks=lambda: (Kink(0.0, _SCALE_ALPHA, _SCALE, _SCALE),),
    ),
)
