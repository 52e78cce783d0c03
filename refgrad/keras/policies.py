"""The dtypes that a config declares: absent, by name, or as a policy object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.errors import MismatchError, UnsupportedError
from refgrad.keras.datasets import OPAQUE

POLICIES: Mapping[str, tuple[str, ...]] = {
    "float16": ("float16", "float32"),
    "bfloat16": ("bfloat16", "float32"),
    "float32": ("float32",),
    "float64": ("float64",),
    "mixed_float16": ("float32",),
    "mixed_bfloat16": ("float32",),
}
"""Policy → the dtypes that its layers' arrays may be stored in.

Batch normalisation is stored in float32 where the layer is declared in a half precision. Mixed policies compute in
another dtype than they store; refgrad computes in what is stored, in float32 at least.
"""

COMPUTES_IN: Mapping[str, str] = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
"""Policy → the dtype that its layers compute in, where they store in another: some arrays are stored in it too."""

PLAIN = ("float16", "float32", "float64")
"""The dtypes that arrays may be stored in where no policy is said: of bfloat16 there would be no sign."""

_ANY = ("infer", "_infer")
"""Policies by which TensorFlow 2.0 took the dtype from the input."""


def policy(value: Any) -> str | None:
    """The policy of a layer, or None where it is not said."""
    inner = value.get("config") if isinstance(value, dict) else None
    if isinstance(inner, dict) and "default_policy" in inner:
        if inner.get("policy_map"):
            msg = (
                f"dtype is a map of policies for {', '.join(inner['policy_map']):.80}; one policy for all is supported"
            )
            raise UnsupportedError(msg)
        return policy(inner.get("default_policy"))
    name = inner.get("name") if isinstance(inner, dict) else value
    if name is None and not isinstance(value, dict):
        return None
    if name in _ANY:
        return None
    if isinstance(name, str) and re.fullmatch(r"u?int\d+|bool", name):
        msg = f"dtype {name!r} is not supported: Keras cuts off fractions of what it is given; declare a float dtype"
        raise UnsupportedError(msg)
    if not isinstance(name, str) or name not in POLICIES:
        msg = f"dtype {name!r:.60} is not supported; these are: {', '.join(POLICIES)}"
        raise UnsupportedError(msg)
    return name


def stored_as(array: Array) -> str:
    """The name of the dtype that an array is stored in."""
    return "bfloat16" if array.dtype == OPAQUE else array.dtype.name


def check_stored(role: str, array: Array, policy: str | None, computed: bool) -> None:
    """Refuse an array of a dtype that its layer's policy does not explain; `computed`: the one computed in will do."""
    stored = stored_as(array)
    if stored not in POLICIES:
        msg = f"{role} is stored as {stored}, which is no dtype of weights that can be read"
        raise UnsupportedError(msg)
    declared = PLAIN if policy is None else POLICIES[policy]
    if stored not in declared and not (computed and stored == COMPUTES_IN.get(policy or "")):
        msg = f"{role} is stored as {stored}, its config says {policy or 'no dtype'}"
        raise MismatchError(msg)


def widened(array: Array) -> Array:
    """bfloat16 as float32, whose upper half it is; any other dtype as it is."""
    if stored_as(array) != "bfloat16":
        return array
    bits: Array = (array.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return bits
