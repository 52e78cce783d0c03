"""Layers that hand on at inference what they are given."""

from __future__ import annotations

from collections.abc import Mapping

from refgrad.keras.rows import Row

_DROPOUT = Row(inert=frozenset({"rate", "p", "seed", "noise_shape", "data_format", "dim_ordering"}), pointwise=True)

ROWS: Mapping[str, Row] = {
    "InputLayer": Row(inert=frozenset({"optional"}), only={"sparse": False, "ragged": False}, pointwise=True),
    "Dropout": _DROPOUT,
    "SpatialDropout1D": _DROPOUT,
    "SpatialDropout2D": _DROPOUT,
    "SpatialDropout3D": _DROPOUT,
    "AlphaDropout": _DROPOUT,
    "GaussianDropout": _DROPOUT,
    "GaussianNoise": Row(inert=frozenset({"stddev", "sigma", "seed"}), pointwise=True),
    "ActivityRegularization": Row(inert=frozenset({"l1", "l2", "activity_regularizer"}), pointwise=True),
    "Identity": Row(pointwise=True),
}
