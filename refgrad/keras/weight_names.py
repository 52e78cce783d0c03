"""How every Keras names layers, groups and weights by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

_KERAS_1 = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "alphas": "alpha",
}
"""Role in Keras 1 → role. What it calls "std" is the variance."""


def plain(name: str) -> tuple[str, ...]:
    """The parts of a weight's name, the role last, without the number of TensorFlow's output.

    Keras 1 joins layer and role, `dense_1_W`. TensorFlow 1 numbers a name that it has met before, `kernel_1`. An array
    without a name is `param_<i>`.
    """
    *scope, last = re.sub(r":\d+$", "", name).split("/")
    if unnamed := re.fullmatch(r"param_(\d+)", last):
        return (*scope, unnamed[1])
    if met_before := re.fullmatch(rf"({'|'.join(_KERAS_1.values())})_\d+", last):
        return (*scope, met_before[1])
    joined = re.fullmatch(rf"(.+)_({'|'.join(_KERAS_1)})(_\d+)?", last)
    return (*scope, last) if joined is None else (*scope, joined[1], _KERAS_1[joined[2]])


def snake_case(class_name: str) -> str:
    """Keras 3's name for a class's groups: `ReLU` → `re_lu`."""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def ranks(names: Sequence[str], stems: Sequence[str]) -> list[tuple[str, int]] | None:
    """Keras's automatic names without their numbers, and which of its kind each is; None if some are not automatic."""
    found = [re.fullmatch(rf"{stem}(?:_(\d{{1,9}}))?", name) for name, stem in zip(names, stems, strict=True)]
    numbers = [int(match[1] or 0) for match in found if match is not None]
    if len(numbers) < len(names):
        return None
    of_kind: dict[str, list[int]] = {}
    for stem, number in zip(stems, numbers, strict=True):
        of_kind.setdefault(stem, []).append(number)
    order = {stem: sorted(numbers) for stem, numbers in of_kind.items()}
    return [(stem, order[stem].index(number)) for stem, number in zip(stems, numbers, strict=True)]
