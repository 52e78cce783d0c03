"""What each generation of Keras calls the rows of the table: every name of one that its `activations.get` takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refgrad.activations import ACTIVATIONS

Named = tuple[str, tuple[float, ...]]
"""A row of the table, and its parameters."""


def _own(*names: str) -> dict[str, Named]:
    return {name: (name, ACTIVATIONS[name].defaults) for name in names}


def _leaky(slope: float) -> Named:
    """A leaky ReLU as TensorFlow's op computes it: its slope is a float32, whatever the dtype of its input."""
    return "relu", (np.inf, float(np.float32(slope)), 0.0)


_BOTH: Mapping[str, Named] = {
    **_own("linear", "relu", "sigmoid", "tanh", "elu", "selu", "exponential"),
    **_own("softplus", "softsign", "silu", "mish", "gelu"),
    "swish": ("silu", ()),
    "relu6": ("relu", (6.0, 0.0, 0.0)),
    "leaky_relu": _leaky(0.2),
}

NAMES: Mapping[int, Mapping[str, Named]] = {
    2: {
        **_BOTH,
        "hard_sigmoid": ("hard_sigmoid_keras2", ()),
        # tf_keras takes the class of a layer, too, and makes one with its default parameters.
        "ReLU": ("relu", ACTIVATIONS["relu"].defaults),
        "LeakyReLU": _leaky(0.3),
        "ThresholdedReLU": ("relu", (np.inf, 0.0, 1.0)),
        "ELU": ("elu", (1.0,)),
    },
    3: {
        **_BOTH,
        **_own("hard_sigmoid", "hard_silu", "hard_tanh", "hard_shrink", "soft_shrink", "tanh_shrink"),
        **_own("celu", "log_sigmoid", "squareplus", "sparse_plus", "sparse_sigmoid"),
        "hard_swish": ("hard_silu", ()),
    },
}


def named(called: str, keras: int) -> Named | None:
    """The row and the parameters of what a generation of Keras, 2 or 3, calls by a name; None where it is no row's."""
    return NAMES[keras].get(called)
