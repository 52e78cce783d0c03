"""TensorFlow: the model as Keras of the writer's generation loads it, differentiated by eager GradientTape."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

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
    if all(variable.dtype == dtype for variable in model.weights) and model.compute_dtype == dtype:
        return model

    def rewrite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: dtype if key == "dtype" else rewrite(item) for key, item in value.items()}
        return [rewrite(item) for item in value] if isinstance(value, list) else value

    twin = type(model).from_config(rewrite(model.get_config()))
    twin.set_weights([weight.astype(dtype) for weight in model.get_weights()])
    return twin


def _check_shapes(model: Any, question: Question) -> None:
    """Refuse a model of another shape before TensorFlow stumbles over it."""
    theirs = [[tuple(tensor.shape[1:]) for tensor in tensors] for tensors in (model.inputs, model.outputs)]
    ours = [[tuple(question.x.shape[1:])], [question.out]]
    if theirs != ours:
        msg = f"the model to compare with maps {theirs[0]} to {theirs[1]}; this network maps {ours[0]} to {ours[1]}"
        raise InputError(msg)


def ask(question: Question) -> Reference:
    """Value and Jacobian by TensorFlow: eager, since at kinks compiled TensorFlow may choose another slope."""
    model = question.model
    live = hasattr(model, "get_config")
    generation = (2 if type(model).__module__.startswith("tf_keras") else 3) if live else question.provenance.keras
    tf, keras = _frameworks(generation)
    model = model if live else _load(keras, question)
    if not getattr(model, "inputs", None):
        model.build((None, *question.x.shape[1:]))  # saved or made without its input's shape
    _check_shapes(model, question)
    model = _in_dtype(model, question.dtype.name)
    x = tf.constant(question.x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = model(x, training=False)
    n_out = math.prod(question.out)
    rows = []
    for j in range(n_out):
        cotangent = np.zeros((len(question.x), n_out), question.dtype)
        cotangent[:, j] = 1
        unit = tf.constant(cotangent.reshape(y.shape))
        rows.append(tape.gradient(y, x, output_gradients=unit, unconnected_gradients="zero").numpy())
    jacobian = np.stack(rows, axis=1).reshape(*y.shape, *question.x.shape[1:])
    how = f"{keras.__name__} {keras.__version__}, eager GradientTape, {question.dtype.name}"
    return Reference(y.numpy(), jacobian, f"TensorFlow {tf.__version__}, {how}")
