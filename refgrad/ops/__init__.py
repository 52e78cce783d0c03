"""The ops a graph is made of: one file each, and the table that names them all."""

from __future__ import annotations

from refgrad.ops.affine import Affine
from refgrad.ops.batch_normalization import BatchNormalization
from refgrad.ops.combination import Add, Average, Subtract
from refgrad.ops.concatenate import Concatenate
from refgrad.ops.divide import Divide
from refgrad.ops.dot import Dot
from refgrad.ops.elementwise import Elementwise
from refgrad.ops.extreme import Max, Min
from refgrad.ops.extremum import Maximum, Minimum
from refgrad.ops.glu import GLU
from refgrad.ops.layer_normalization import LayerNormalization
from refgrad.ops.log_sum_exp import LogSumExp
from refgrad.ops.multiply import Multiply
from refgrad.ops.normalization import Normalization
from refgrad.ops.op import Op
from refgrad.ops.partial import Partial
from refgrad.ops.permute import Permute
from refgrad.ops.power import Power
from refgrad.ops.prelu import PReLU
from refgrad.ops.reduction import Sum
from refgrad.ops.repeat import Repeat
from refgrad.ops.rescaling import Rescaling
from refgrad.ops.reshape import Reshape
from refgrad.ops.rms_normalization import RMSNormalization
from refgrad.ops.softmax import LogSoftmax, Softmax
from refgrad.ops.source import Source
from refgrad.ops.sparsemax import Sparsemax
from refgrad.ops.take import Take
from refgrad.ops.unit_normalization import UnitNormalization

_ALL: tuple[type[Op], ...] = (
    *(Source, Affine, Elementwise, PReLU, GLU, Softmax, LogSoftmax, Sparsemax),
    *(Add, Subtract, Average, Multiply, Divide, Power, Maximum, Minimum, Partial, Concatenate, Dot),
    *(Sum, Max, Min, LogSumExp, Reshape, Permute, Repeat, Take),
    *(BatchNormalization, LayerNormalization, RMSNormalization, UnitNormalization, Normalization, Rescaling),
)
OPS: dict[str, type[Op]] = {op.name: op for op in _ALL}

__all__ = [
    "GLU",
    "OPS",
    "Add",
    "Affine",
    "Average",
    "BatchNormalization",
    "Concatenate",
    "Divide",
    "Dot",
    "Elementwise",
    "LayerNormalization",
    "LogSoftmax",
    "LogSumExp",
    "Max",
    "Maximum",
    "Min",
    "Minimum",
    "Multiply",
    "Normalization",
    "Op",
    "PReLU",
    "Partial",
    "Permute",
    "Power",
    "RMSNormalization",
    "Repeat",
    "Rescaling",
    "Reshape",
    "Softmax",
    "Source",
    "Sparsemax",
    "Subtract",
    "Sum",
    "Take",
    "UnitNormalization",
]
