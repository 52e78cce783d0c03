"""Dense."""

from __future__ import annotations

from collections.abc import Mapping

from refgrad.errors import MismatchError
from refgrad.keras import values
from refgrad.keras.layers.activating import activation_name
from refgrad.keras.rows import REQUIRED, Config, Given, Roles, Row, initialized
from refgrad.sequential import Steps, dense


def _roles(config: Config) -> Roles:
    return ("kernel", "bias") if config["use_bias"] else ("kernel",)


def _dense(given: Given) -> Steps:
    kernel, units = given.arrays["kernel"], given.config["units"]
    if kernel.ndim != 2 or kernel.shape[1] != units:
        msg = f"kernel has shape {kernel.shape}; units={units} needs (inputs, {units})"
        raise MismatchError(msg)
    return dense(given.name, kernel, given.arrays.get("bias"), given.config["activation"], given.generation)


ROWS: Mapping[str, Row] = {
    "Dense": Row(
        _dense,
        meaning={
            "units": (values.whole_number, REQUIRED),
            "activation": (activation_name, "linear"),
            "use_bias": (values.flag, True),
        },
        inert=initialized("kernel", "bias"),
        only={"quantization_config": None, "lora_rank": None, "lora_alpha": None},
        roles=_roles,
    ),
}
