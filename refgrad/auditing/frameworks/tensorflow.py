"""TensorFlow: the model as Keras of the writer's generation loads it, differentiated by GradientTape."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from refgrad.agreement import Answer
from refgrad.arrays import Array
from refgrad.auditing.frameworks.rebuild import Function, rebuilt
from refgrad.auditing.frameworks.reference import Question, Reference
from refgrad.auditing.frameworks.tensorflow_ops import MODES, Mode, differentiate, namespace
from refgrad.errors import InputError, MissingExtraError, UnsupportedError
from refgrad.graph import Graph
from refgrad.paths import is_json_text


class CannotLoadError(UnsupportedError):
    """Keras refuses the file."""


def _frameworks(generation: int) -> tuple[Any, Any]:
    """TensorFlow, and the Keras of a generation on it: tf_keras reads Keras ≤ 2 files as they were meant."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        import tensorflow as tf

        if generation < 3:
            import tf_keras as keras
        else:
            import keras
    except ImportError as error:
        msg = f"TensorFlow or its Keras is missing ({error}): pip install tensorflow tf_keras, or refgrad's extra 'tf'"
        raise MissingExtraError(msg) from None
    if generation >= 3 and keras.backend.backend() != "tensorflow":
        msg = f"keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=tensorflow before importing it"
        raise InputError(msg)
    return tf, keras


def _load(keras: Any, question: Question) -> Any:
    """The model from its file or files; whatever Keras says against them is one refusal."""
    path, config, weights = question.model, question.config, question.weights
    if str(path).endswith(".json"):
        path, config = None, path
    elif config is not None:
        path, weights = None, path
    try:
        if path is not None:
            return keras.models.load_model(path, compile=False)
        architecture = json.loads(config if is_json_text(config) else Path(config).read_text(encoding="utf-8"))
        # Compiled as the config says, the model would want an optimizer's state out of the weights file.
        architecture.pop("compile_config", None)
        model = keras.models.model_from_json(json.dumps(architecture))
        model.load_weights(weights)
    except Exception as error:  # Keras raises anything, and none of it is ours to mend
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"{keras.__name__} {keras.__version__} cannot load {question.model}: {reason:.300}"
        raise CannotLoadError(msg) from error
    return model


def _in_dtype(model: Any, dtype: str) -> Any:
    """The model computing in `dtype` throughout, its weights cast; the model itself where it does so already."""
    held = {variable.dtype if isinstance(variable.dtype, str) else variable.dtype.name for variable in model.weights}
    if {name for name in held if "float" in name} <= {dtype} and model.compute_dtype == dtype:
        return model

    def rewrite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: dtype if key == "dtype" else rewrite(item) for key, item in value.items()}
        return [rewrite(item) for item in value] if isinstance(value, list) else value

    twin = type(model).from_config(rewrite(model.get_config()))
    twin.set_weights([weight.astype(dtype) for weight in model.get_weights()])
    _finalize(twin)
    return twin


def _finalize(model: Any) -> None:
    """Normalization layers take their moments from their weights only when they are told to."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            _finalize(layer)
        elif hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _check_shapes(model: Any, question: Question) -> None:
    """Refuse a model of another shape before TensorFlow stumbles over it."""
    theirs = [[tuple(tensor.shape[1:]) for tensor in tensors] for tensors in (model.inputs, model.outputs)]
    ours = [
        [tuple(x.shape[1:]) for x in question.inputs],
        [question.graph.shapes[end] for end in question.graph.outputs],
    ]
    if theirs != ours:
        msg = f"the model to compare with maps {theirs[0]} to {theirs[1]}; this network maps {ours[0]} to {ours[1]}"
        raise InputError(msg)


def _model(tf: Any, keras: Any, question: Question) -> Function:
    """The Keras model, computing in the network's dtype, as a function of tensors."""
    model = question.model if hasattr(question.model, "get_config") else _load(keras, question)
    if not getattr(model, "inputs", None):
        model.build((None, *question.inputs[0].shape[1:]))  # saved or made without its input's shape
    _check_shapes(model, question)
    model = _in_dtype(model, question.graph.dtype.name)

    def run(*inputs: Any) -> list[Any]:
        found: list[Any] = tf.nest.flatten(model(list(inputs) if len(inputs) > 1 else inputs[0], training=False))
        return found

    return run


def _own_file(question: Question) -> Question:
    """The question about the file that the graph was read from."""
    files = question.graph.provenance.files
    if files.model is None:
        msg = "auditing against TensorFlow needs model= (on the command line --reference): the live model, or its file"
        raise InputError(msg)
    return replace(question, model=files.model, config=files.config, weights=files.weights)


def answer(graph: Graph, inputs: Sequence[Array], mode: Mode = "eager") -> Answer:
    """The rebuilt graph's value and Jacobian."""
    tf, _ = _frameworks(3)
    return differentiate(tf, rebuilt(graph, namespace(tf, graph.dtype)), inputs, mode)


def _ask(question: Question, mode: Mode) -> Reference:
    """Keras's model, or where Keras cannot load the graph's own file, the graph rebuilt in TensorFlow's ops."""
    given, graph = question.model is not None, question.graph
    asked = question if given else _own_file(question)
    live = hasattr(asked.model, "get_config")
    generation = (2 if type(asked.model).__module__.startswith("tf_keras") else 3) if live else graph.provenance.keras
    tf, keras = _frameworks(generation)
    try:
        function = _model(tf, keras, asked)
        who = f"{keras.__name__} {keras.__version__}"
    except CannotLoadError as error:
        if given:
            raise
        function = rebuilt(graph, namespace(tf, graph.dtype))
        who = f"refgrad's own graph rebuilt in TensorFlow's ops (how the file was read is not compared: {error})"
    how = f"TensorFlow {tf.__version__}, {who}, {MODES[mode]}, {graph.dtype.name}"
    return Reference(differentiate(tf, function, question.inputs, mode), how)


def eager(question: Question) -> Reference:
    """TensorFlow, op by op."""
    return _ask(question, "eager")


def function(question: Question) -> Reference:
    """TensorFlow in `tf.function`."""
    return _ask(question, "function")


def xla(question: Question) -> Reference:
    """TensorFlow compiled by XLA."""
    return _ask(question, "xla")
