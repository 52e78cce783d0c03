"""Entries of a Functional model that are bare operations, as x + y makes one: which they are, and which row each is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from refgrad.errors import UnsupportedError
from refgrad.keras.arguments import operated
from refgrad.keras.calls import Tensors
from refgrad.keras.canonical import LayerConfig
from refgrad.keras.layers import LAYERS
from refgrad.keras.operations import OPERATIONS
from refgrad.keras.operations.arithmetic import casts_to
from refgrad.keras.policies import policy
from refgrad.keras.rows import check_entry

_KERAS_2 = ("TFOpLambda", "SlicingOpLambda")
_REASONS = (
    (r"\w*StopGradient|stop_gradient", "it hides a derivative from training that the function has"),
    (r"(math\.)?(Where|where|Greater\w*|greater\w*|Less\w*|less\w*|(Not)?Equal|(not_)?equal|Logical\w*|logical_\w+)",
     "conditions cannot be read; maximum, minimum, clip and the activations can"),
    (r"einsum", "Keras 2 leaves its tensors out of the file; matmul and tensordot can be read"),
    (r"\w*Conv\w*|\w*Pool\w*|nn\.\w*(conv|pool)\w*", "it convolves"),
    (r"(math\.)?(Floor|floor|Ceil|ceil|Round|round|rint|Mod|floormod|FloorDivide|floor_div)\w*", "it is made of jumps"),
)  # fmt: skip
"""Operation, as a regular expression → why it is not supported."""


def _is_unnamed(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of Keras 3's legacy container, which names no modules, is an operation and no layer.

    Layers note whether they are trainable. A merging layer takes a list, the operation of its name two tensors; where
    both take the same, they are the same.
    """
    class_name, config, nodes = entry["class_name"], entry["config"], entry.get("inbound_nodes")
    if class_name not in OPERATIONS[3] or not isinstance(config, dict) or "trainable" in config or "module" in entry:
        return False
    if class_name not in LAYERS or "newshape" in config:
        return True
    args = nodes[0].get("args") if isinstance(nodes, list) and nodes and isinstance(nodes[0], dict) else None
    return isinstance(args, list) and LAYERS[class_name].merges and len(args) == 2


def is_operation(entry: Mapping[str, Any], generation: int) -> bool:
    """Whether an entry is a bare operation: Keras 3 says so by its module, Keras 2 by a class of its own."""
    in_keras_3 = re.match(r"keras\.(\w+\.)?ops\.", str(entry.get("module"))) is not None
    return in_keras_3 or entry["class_name"] in _KERAS_2 or (generation == 3 and _is_unnamed(entry))


def operation(entry: Mapping[str, Any], name: str, inbound_nodes: Any) -> tuple[LayerConfig, tuple[Tensors, ...]]:
    """A bare operation, and the tensors of its calls."""
    class_name, options = entry["class_name"], dict(entry["config"])
    generation = 2 if class_name in _KERAS_2 else 3
    called = class_name if generation == 3 else str(options.get("function")).removeprefix("compat.v1.")
    custom = generation == 3 and entry.get("registered_name") not in (None, class_name)
    if custom or called not in OPERATIONS[generation]:
        why = next((f": {why}" for pattern, why in _REASONS if re.fullmatch(pattern, called[:60])), "")
        msg = (
            f"the operation {called!r:.60} is not supported{why}; docs/supported.md lists those that are. Save the "
            "part of the model before or after it as a model of its own"
        )
        raise UnsupportedError(msg)
    check_entry(entry)
    # Keras 2 notes a dtype here that it does not compute in; a cast of Keras 3 is to the one it notes.
    unused = {"name", "function", "trainable", *(() if called == "Cast" else ("dtype",))}
    used = {key: value for key, value in options.items() if key not in unused}
    noted = options.get("dtype") if generation == 3 else None
    dtype = casts_to(noted) if called == "Cast" else policy(noted)
    each = operated(inbound_nodes)
    arguments = tuple(found for _, found in each)
    row = OPERATIONS[generation][called]
    layer = LayerConfig(class_name, name, used, dtype, None, (), operation=row, arguments=arguments)
    return layer, tuple(tensors for tensors, _ in each)
