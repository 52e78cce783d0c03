"""Dense."""

from __future__ import annotations

from collections.abc import Mapping

from refgrad.errors import MismatchError
from refgrad.keras import values
from refgrad.keras.layers.activating import activated, activator
from refgrad.keras.rows import REQUIRED, Config, Given, Roles, Row, initialized, initialized_by_keras_1
from refgrad.ops import Affine
from refgrad.sequential import Steps


def _roles(config: Config) -> Roles:
    return ("kernel", "bias") if config["use_bias"] else ("kernel",)


def _dense(given: Given) -> Steps:
    kernel, units = given.arrays["kernel"], given.config["units"]
    if kernel.ndim != 2 or kernel.shape[1] != units:
        msg = f"kernel has shape {kernel.shape}; units={units} needs (inputs, {units})"
        raise MismatchError(msg)
    called = given.config["activation"]
    name = f"{given.name}/{called if isinstance(called, str) else called.class_name}"
    affine = Affine(kernel, given.arrays.get("bias"))
    return [(given.name, affine), *activated(given, name, (*given.shape[:-1], units))]


ROWS: Mapping[str, Row] = {
    "Dense": Row(
        _dense,
        meaning={
            "units": (values.whole_number, REQUIRED),
            "activation": (activator, "linear"),
            "use_bias": (values.flag, True),
        },
        renamed={"output_dim": "units", "bias": "use_bias"},
        inert=initialized("kernel", "bias") | initialized_by_keras_1("W", "b"),
        only={"quantization_config": None, "lora_rank": None, "lora_alpha": None},
        roles=_roles,
    ),
}
