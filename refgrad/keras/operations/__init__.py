"""The table of bare operations that can be read: one row each, by what each generation of Keras calls them.

`x * 2` in a Functional model is an entry among its layers: of class `Multiply` in a module of `keras.ops` in Keras 3,
of class `TFOpLambda` with the function `math.multiply` since Keras 2.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refgrad.keras.operations import activating, arithmetic, linear, reducing, selecting, shaping
from refgrad.keras.operations.arithmetic import function
from refgrad.keras.operations.rows import Operation

_FUNCTIONS = {
    **{name: name for name in ("sign", "square", "sqrt", "expm1", "log", "log1p", "sin", "cos", "tan", "sinh", "cosh")},
    **{"exp": "exponential", "rsqrt": "rsqrt", "erf": "erf", "abs": "abs"},
}
"""What both call a row of the activation table."""

_ACTIVATIONS = ("relu", "relu6", "sigmoid", "tanh", "softplus", "softsign", "silu", "selu", "log_sigmoid")


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


_KERAS_3: Mapping[str, Operation] = {
    "Add": arithmetic.ADD,
    "Subtract": arithmetic.SUBTRACT,
    "Multiply": arithmetic.MULTIPLY,
    "Divide": arithmetic.DIVIDE,
    "TrueDivide": arithmetic.DIVIDE,
    "Power": arithmetic.POWER,
    "Maximum": arithmetic.MAXIMUM,
    "Minimum": arithmetic.MINIMUM,
    "Negative": arithmetic.NEGATIVE,
    "Reciprocal": arithmetic.RECIPROCAL,
    "Clip": arithmetic.CLIP,
    "Identity": arithmetic.IDENTITY,
    "Positive": arithmetic.IDENTITY,
    "Cast": arithmetic.CAST,
    **{_camel(name): function(row) for name, row in _FUNCTIONS.items()},
    "Absolute": function("abs"),
    "Log2": function("log2"),
    "Log10": function("log10"),
    "Arctan": function("arctan"),
    "Arcsinh": function("arcsinh"),
    **{_camel(name): activating.called(name) for name in _ACTIVATIONS},
    **{
        _camel(name): activating.called(name)
        for name in ("sparse_plus", "sparse_sigmoid", "hard_sigmoid", "hard_silu", "hard_tanh", "tanh_shrink")
    },
    "LeakyRelu": activating.LEAKY_RELU,
    "Gelu": activating.gelu(approximate=True),
    "Elu": activating.ELU,
    "Celu": activating.CELU,
    "HardShrink": activating.HARD_SHRINK,
    "SoftShrink": activating.SOFT_SHRINK,
    "Squareplus": activating.SQUAREPLUS,
    "Threshold": activating.THRESHOLD,
    "Softmax": activating.SOFTMAX,
    "LogSoftmax": activating.LOG_SOFTMAX,
    "Sparsemax": activating.SPARSEMAX,
    "Glu": activating.GATED,
    "Reshape": shaping.RESHAPE,
    "ExpandDims": shaping.EXPAND_DIMS,
    "Squeeze": shaping.SQUEEZE,
    "Transpose": shaping.TRANSPOSE,
    "Swapaxes": shaping.SWAPAXES,
    "Moveaxis": shaping.MOVEAXIS,
    "Flip": selecting.FLIP,
    "Roll": selecting.ROLL,
    "Repeat": selecting.REPEAT,
    "Tile": selecting.TILE,
    "Take": selecting.TAKE,
    "GetItem": selecting.GET_ITEM,
    "Split": selecting.SPLIT,
    "Unstack": selecting.UNSTACK,
    "Concatenate": shaping.CONCATENATE,
    "Stack": shaping.STACK,
    "Sum": reducing.SUM,
    "Mean": reducing.MEAN,
    "Max": reducing.MAX,
    "Amax": reducing.MAX,
    "Min": reducing.MIN,
    "Amin": reducing.MIN,
    "Prod": reducing.PRODUCT,
    "Var": reducing.VARIANCE,
    "Std": reducing.DEVIATION,
    "Logsumexp": reducing.LOG_SUM_EXP,
    "Norm": reducing.NORM,
    "Normalize": reducing.NORMALIZE,
    "Matmul": linear.MATMUL,
    "Dot": linear.DOT,
    "Tensordot": linear.TENSORDOT,
    "Einsum": linear.EINSUM,
}


def _named(operation: Operation, **renamed: str) -> Operation:
    return replace(operation, renamed=renamed)


_PAIRS = {
    **dict.fromkeys(("math.add", "__operators__.add"), arithmetic.ADD),
    **dict.fromkeys(("math.subtract", "__operators__.sub"), arithmetic.SUBTRACT),
    **dict.fromkeys(("math.multiply", "__operators__.mul"), arithmetic.MULTIPLY),
    **dict.fromkeys(("math.divide", "math.truediv", "realdiv", "__operators__.truediv"), arithmetic.DIVIDE),
    **dict.fromkeys(("math.pow", "__operators__.pow"), arithmetic.POWER),
    "math.maximum": arithmetic.MAXIMUM,
    "math.minimum": arithmetic.MINIMUM,
}
_ONES = {
    **{f"math.{name}": function(row) for name, row in _FUNCTIONS.items()},
    "math.atan": function("arctan"),
    "math.asinh": function("arcsinh"),
    "math.negative": arithmetic.NEGATIVE,
    "math.reciprocal": arithmetic.RECIPROCAL,
    **{f"nn.{name}": activating.called(name) for name in _ACTIVATIONS if name != "log_sigmoid"},
    **{f"math.{name}": activating.called(name) for name in ("sigmoid", "tanh", "softplus")},
    "nn.elu": activating.called("elu"),
    "nn.swish": activating.called("silu"),
    "math.log_sigmoid": function("log_sigmoid"),
    "identity": arithmetic.IDENTITY,
}
_REDUCTIONS = {
    "math.reduce_sum": reducing.SUM,
    "math.reduce_mean": reducing.MEAN,
    "math.reduce_max": reducing.MAX,
    "math.reduce_min": reducing.MIN,
    "math.reduce_prod": reducing.PRODUCT,
    "math.reduce_variance": reducing.VARIANCE,
    "math.reduce_std": reducing.DEVIATION,
    "math.reduce_logsumexp": reducing.LOG_SUM_EXP,
}
_KERAS_2: Mapping[str, Operation] = {
    **{name: _named(row, x="x1", y="x2") for name, row in _PAIRS.items()},
    **_ONES,
    "clip_by_value": _named(arithmetic.CLIP, t="x", clip_value_min="x_min", clip_value_max="x_max"),
    "math.add_n": arithmetic.ADD_N,
    "cast": arithmetic.CAST,
    "nn.bias_add": _named(arithmetic.ADD, value="x1", bias="x2"),
    "nn.leaky_relu": _named(activating.LEAKY_RELU, features="x", alpha="negative_slope"),
    "nn.gelu": _named(activating.gelu(approximate=False), features="x"),
    "nn.softmax": _named(activating.SOFTMAX, logits="x"),
    "nn.log_softmax": _named(activating.LOG_SOFTMAX, logits="x"),
    "reshape": _named(shaping.RESHAPE, tensor="x", shape="newshape"),
    "expand_dims": _named(shaping.EXPAND_DIMS, input="x"),
    "squeeze": _named(shaping.SQUEEZE, input="x"),
    "transpose": replace(_named(shaping.TRANSPOSE, a="x", perm="axes"), only={"conjugate": False}),
    "reverse": _named(selecting.FLIP, tensor="x"),
    "roll": _named(selecting.ROLL, input="x"),
    "repeat": _named(selecting.REPEAT, input="x"),
    "tile": _named(selecting.TILE, input="x", multiples="repeats"),
    "gather": replace(_named(selecting.TAKE, params="x"), only={"batch_dims": 0}),
    "__operators__.getitem": _named(selecting.GET_ITEM, slice_spec="key"),
    "split": _named(selecting.SPLIT_SIZES, value="x"),
    "unstack": _named(selecting.UNSTACK, value="x"),
    "concat": _named(shaping.CONCATENATE, values="xs"),
    "stack": _named(shaping.STACK, values="xs"),
    **{name: _named(row, input_tensor="x", keep_dims="keepdims") for name, row in _REDUCTIONS.items()},
    "norm": _named(reducing.NORM, tensor="x"),
    "math.l2_normalize": reducing.L2_NORMALIZE,
    "linalg.matmul": replace(
        _named(linear.MATMUL, a="x1", b="x2"),
        only=dict.fromkeys(("adjoint_a", "adjoint_b", "a_is_sparse", "b_is_sparse"), False),
    ),
    "tensordot": _named(linear.TENSORDOT, a="x1", b="x2"),
}
OPERATIONS: Mapping[int, Mapping[str, Operation]] = {
    2: {name: replace(row, inert=frozenset({"name"})) for name, row in _KERAS_2.items()},
    3: _KERAS_3,
}
"""Generation → class name or function → row."""
