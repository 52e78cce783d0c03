"""Activations made of pieces of polynomials: ReLU and its relatives, clips, shrinks and thresholds.

A chain of `where` ends in `z` where only NaN is left over, so that NaN stays NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.activations.row import Activation, Kink, kinks, where


def _linear(z: Any) -> Any:
    return z


def _linear_slope(z: Any) -> Any:
    return np.ones_like(z)


def _relu(z: Any, max_value: Any, negative_slope: Any, threshold: Any) -> Any:
    # Where the slope is 0, `z` is replaced before the product: 0 · (−inf) would be NaN, and the limit is 0.
    below = negative_slope * (where(negative_slope == 0, threshold, z) - threshold)
    return where(z <= threshold, below, np.minimum(z, max_value))


def _relu_slope(z: Any, max_value: Any, negative_slope: Any, threshold: Any) -> Any:
    # At its kinks Keras computes relu by whichever TensorFlow op fits: leaky_relu takes the left slope at 0, relu6
    # takes 0 at 6, clip takes 1 at its maximum, and a threshold is a mask that is 0 on the threshold itself.
    is_leaky = (threshold == 0) & (max_value == np.inf)
    is_relu6 = (threshold == 0) & (max_value == 6)
    below = where((z < threshold) | is_leaky, negative_slope, 0)
    flat = (z > max_value) | ((z == max_value) & is_relu6)
    above = where(flat, 0, where(z <= max_value, 1, z))
    return where(z <= threshold, below, above)


def _relu_kinks(max_value: float, negative_slope: float, threshold: float) -> tuple[Kink, ...]:
    def slope(z: float) -> float:
        return float(_relu_slope(z, max_value, negative_slope, threshold))

    right_of_threshold = 1.0 if threshold < max_value else 0.0
    candidates = [Kink(threshold, negative_slope, right_of_threshold, slope(threshold))]
    if threshold < max_value < np.inf:
        candidates.append(Kink(max_value, 1.0, 0.0, slope(max_value)))
    return kinks(*candidates)


def _relu_jumps(max_value: float, negative_slope: float, threshold: float) -> tuple[float, ...]:
    return (threshold,) if min(threshold, max_value) > 0 else ()


def _hard_sigmoid(z: Any) -> Any:
    return np.minimum(np.maximum(z + 3, 0), 6) / 6


def _hard_sigmoid_slope(z: Any) -> Any:
    return where(np.abs(z) < 3, 1 / 6, where(np.abs(z) >= 3, 0, z))


def _hard_sigmoid_keras2(z: Any) -> Any:
    # (z + 2.5)/5 is 0.2 z + 0.5 without its cancellation near −2.5.
    return np.minimum(np.maximum(z + 2.5, 0), 5) / 5


def _hard_sigmoid_keras2_slope(z: Any) -> Any:
    return where(np.abs(z) <= 2.5, 0.2, where(np.abs(z) > 2.5, 0, z))


def _hard_silu(z: Any) -> Any:
    # max(z, −3), since −inf · 0 would be NaN, and the limit is 0.
    return np.maximum(z, -3) * (np.minimum(np.maximum(z + 3, 0), 6) / 6)


def _hard_silu_slope(z: Any) -> Any:
    return where(np.abs(z) < 3, (2 * z + 3) / 6, where(z >= 3, 1, where(z <= -3, 0, z)))


def _hard_tanh(z: Any) -> Any:
    return np.minimum(np.maximum(z, -1), 1)


def _hard_tanh_slope(z: Any) -> Any:
    return where(np.abs(z) <= 1, 1, where(np.abs(z) > 1, 0, z))


def _hard_shrink(z: Any, threshold: Any) -> Any:
    return where(np.abs(z) <= threshold, 0, z)


def _hard_shrink_slope(z: Any, threshold: Any) -> Any:
    return where(np.abs(z) <= threshold, 0, where(np.abs(z) > threshold, 1, z))


def _hard_shrink_kinks(threshold: float) -> tuple[Kink, ...]:
    if threshold > 0:
        return (Kink(-threshold, 1.0, 0.0, 0.0), Kink(threshold, 0.0, 1.0, 0.0))
    return (Kink(0.0, 1.0, 1.0, 0.0),) if threshold == 0 else ()


def _hard_shrink_jumps(threshold: float) -> tuple[float, ...]:
    return (-threshold, threshold) if threshold > 0 else ()


def _soft_shrink(z: Any, threshold: Any) -> Any:
    inside = where(np.abs(z) <= threshold, 0, z)
    return where(z > threshold, z - threshold, where(z < -threshold, z + threshold, inside))


def _soft_shrink_slope(z: Any, threshold: Any) -> Any:
    return where((z > threshold) | (z < -threshold), 1, where(np.abs(z) <= threshold, 0, z))


def _soft_shrink_kinks(threshold: float) -> tuple[Kink, ...]:
    if threshold > 0:
        return (Kink(-threshold, 1.0, 0.0, 0.0), Kink(threshold, 0.0, 1.0, 0.0))
    return (Kink(0.0, 1.0, 1.0, 0.0),) if threshold == 0 else ()


def _soft_shrink_jumps(threshold: float) -> tuple[float, ...]:
    return (threshold,) if threshold < 0 else ()


def _sparse_plus(z: Any) -> Any:
    return where(z >= 1, z, where(z <= -1, 0, (z + 1) * (z + 1) / 4))


def _sparse_sigmoid(z: Any) -> Any:
    return np.minimum(np.maximum(z + 1, 0), 2) / 2


def _sparse_sigmoid_slope(z: Any) -> Any:
    return where(np.abs(z) < 1, 0.5, where(np.abs(z) >= 1, 0, z))


def _threshold(z: Any, threshold: Any, default_value: Any) -> Any:
    return where(z <= threshold, default_value, z)


def _threshold_slope(z: Any, threshold: Any, default_value: Any) -> Any:
    return where(z <= threshold, 0, where(z > threshold, 1, z))


def _threshold_jumps(threshold: float, default_value: float) -> tuple[float, ...]:
    return (threshold,) if default_value != threshold else ()


ROWS = (
    Activation("linear", _linear, _linear_slope, source="keras.activations.linear: z"),
    Activation(
        "relu",
        _relu,
        _relu_slope,
        source="keras.activations.relu: negative_slope·(z − threshold) up to the threshold, then min(z, max_value)",
        parameters=(("max_value", np.inf), ("negative_slope", 0.0), ("threshold", 0.0)),
        kinks=_relu_kinks,
        jumps=_relu_jumps,
    ),
    Activation(
        "hard_sigmoid",
        _hard_sigmoid,
        _hard_sigmoid_slope,
        source="keras.activations.hard_sigmoid of Keras 3: min(max(z + 3, 0), 6)/6",
        kinks=lambda: (Kink(-3.0, 0.0, 1 / 6, 0.0), Kink(3.0, 1 / 6, 0.0, 0.0)),
    ),
    Activation(
        "hard_sigmoid_keras2",
        _hard_sigmoid_keras2,
        _hard_sigmoid_keras2_slope,
        source="keras.activations.hard_sigmoid of Keras 2: min(max(0.2 z + 0.5, 0), 1)",
        kinks=lambda: (Kink(-2.5, 0.0, 0.2, 0.2), Kink(2.5, 0.2, 0.0, 0.2)),
    ),
    Activation(
        "hard_silu",
        _hard_silu,
        _hard_silu_slope,
        source="keras.activations.hard_silu: z·min(max(z + 3, 0), 6)/6",
        kinks=lambda: (Kink(-3.0, 0.0, -0.5, 0.0), Kink(3.0, 1.5, 1.0, 1.0)),
    ),
    Activation(
        "hard_tanh",
        _hard_tanh,
        _hard_tanh_slope,
        source="keras.activations.hard_tanh: min(max(z, −1), 1)",
        kinks=lambda: (Kink(-1.0, 0.0, 1.0, 1.0), Kink(1.0, 1.0, 0.0, 1.0)),
    ),
    Activation(
        "hard_shrink",
        _hard_shrink,
        _hard_shrink_slope,
        source="keras.activations.hard_shrink: z if |z| > threshold, else 0",
        parameters=(("threshold", 0.5),),
        kinks=_hard_shrink_kinks,
        jumps=_hard_shrink_jumps,
    ),
    Activation(
        "soft_shrink",
        _soft_shrink,
        _soft_shrink_slope,
        source="keras.activations.soft_shrink: z − threshold above it, z + threshold below −threshold, else 0",
        parameters=(("threshold", 0.5),),
        kinks=_soft_shrink_kinks,
        jumps=_soft_shrink_jumps,
    ),
    Activation(
        "sparse_plus",
        _sparse_plus,
        _sparse_sigmoid,
        source="keras.activations.sparse_plus: 0 up to −1, (z + 1)²/4 up to 1, then z",
    ),
    Activation(
        "sparse_sigmoid",
        _sparse_sigmoid,
        _sparse_sigmoid_slope,
        source="keras.activations.sparse_sigmoid: min(max(z + 1, 0), 2)/2",
        kinks=lambda: (Kink(-1.0, 0.0, 0.5, 0.0), Kink(1.0, 0.5, 0.0, 0.0)),
    ),
    Activation(
        "threshold",
        _threshold,
        _threshold_slope,
        source="keras.activations.threshold: z if z > threshold, else default_value",
        parameters=(("threshold", 0.0), ("default_value", 0.0)),
        kinks=lambda threshold, _: (Kink(threshold, 0.0, 1.0, 0.0),),
        jumps=_threshold_jumps,
    ),
)
