"""The machine's vectors: how long they are, and what is made of them."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from refgrad.kernels.compiling import features


def vector_bytes() -> int:
    """Bytes of a vector register of this machine: 64 with AVX-512, also of shorter vectors, else 32."""
    return 64 if {"+avx512f", "+avx512vl"} <= set(features().split(",")) else 32


def size_of(number: Any) -> int:
    """Bytes of a number of LLVM's."""
    return int(number.get_abi_size(llvmlite.binding.create_target_data("")))


def panel_width(dtype: np.dtype[Any]) -> int:
    """P: how many numbers two vectors hold."""
    return 2 * vector_bytes() // dtype.itemsize


def product(values: Any, factors: Any) -> Any:
    """values ∘ factors, and 0 where a factor is: an inactive unit lets nothing through, not even an infinity."""
    return np.where(factors == 0, 0, values * factors)


def times_vector(builder: Any, values: Any, factors: Any) -> Any:
    """`product` of two of the machine's vectors."""
    nothing = ir.Constant(factors.type, [0.0] * factors.type.count)
    return builder.select(builder.fcmp_unordered("!=", factors, nothing), builder.fmul(values, factors), nothing)


@intrinsic
def _whole_vectors(typing):  # type: ignore[no-untyped-def]
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # llvmlite has no name for it, and a set of those that it knows.
        set.add(builder.function.attributes, f'"prefer-vector-width"="{8 * vector_bytes()}"')
        return context.get_dummy_value()

    return types.void(), code


def _nothing() -> None:
    """There is nothing to tell Python."""


whole_vectors = _nothing if numba.config.DISABLE_JIT else _whole_vectors
"""Let LLVM use the longest vectors in the loops of the function that calls this, which for some machines it would not.

It is called directly, for what an overload says would be of a function of its own.
"""


def spread(builder: Any, number: Any, lanes: int) -> Any:
    """A vector of one number."""
    nowhere = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    lane = builder.insert_element(nowhere, number, ir.Constant(ir.IntType(64), 0))
    return builder.shuffle_vector(lane, nowhere, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))
