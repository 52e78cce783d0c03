"""TensorFlow: the model as Keras of the writer's generation loads it, differentiated by eager GradientTape."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refgrad.agreement import Answer
from refgrad.auditing.frameworks.reference import Question, Reference
from refgrad.errors import InputError, MissingExtraError, UnsupportedError
from refgrad.paths import is_json_text


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
        raise UnsupportedError(msg) from error
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
    ours = [[tuple(x.shape[1:]) for x in question.inputs], list(question.outputs)]
    if theirs != ours:
        msg = f"the model to compare with maps {theirs[0]} to {theirs[1]}; this network maps {ours[0]} to {ours[1]}"
        raise InputError(msg)


def _rows(tape: Any, y: Any, inputs: list[Any], constant: Callable[[Any], Any]) -> list[np.ndarray[Any, Any]]:
    """The Jacobians of one output by all inputs, a row at a time."""
    shape, n_out = y.shape, math.prod(y.shape[1:])
    rows: list[list[Any]] = [[] for _ in inputs]
    for j in range(n_out):
        cotangent = np.zeros((shape[0], n_out), y.dtype.as_numpy_dtype)
        cotangent[:, j] = 1
        unit = constant(cotangent.reshape(shape))
        parts = tape.gradient(y, inputs, output_gradients=unit, unconnected_gradients="zero")
        for row, part in zip(rows, parts, strict=True):
            row.append(part.numpy())
    return [np.stack(row, axis=1).reshape(*shape, *x.shape[1:]) for row, x in zip(rows, inputs, strict=True)]


def ask(question: Question) -> Reference:
    """Value and Jacobian by TensorFlow: eager, since at kinks compiled TensorFlow may choose another slope."""
    model = question.model
    live = hasattr(model, "get_config")
    generation = (2 if type(model).__module__.startswith("tf_keras") else 3) if live else question.provenance.keras
    tf, keras = _frameworks(generation)
    model = model if live else _load(keras, question)
    if not getattr(model, "inputs", None):
        model.build((None, *question.inputs[0].shape[1:]))  # saved or made without its input's shape
    _check_shapes(model, question)
    model = _in_dtype(model, question.dtype.name)
    inputs = [tf.constant(x) for x in question.inputs]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        given = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    outputs = tf.nest.flatten(given)
    jacobians = tuple(tuple(_rows(tape, y, inputs, tf.constant)) for y in outputs)
    how = f"{keras.__name__} {keras.__version__}, eager GradientTape, {question.dtype.name}"
    return Reference(Answer(tuple(y.numpy() for y in outputs), jacobians), f"TensorFlow {tf.__version__}, {how}")
