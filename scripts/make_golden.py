"""Train the golden networks with real Keras 3 and real tf_keras, and record what each Keras said of them.

    python scripts/make_golden.py

needs the `dev` extra. It rewrites `tests/golden/` and the demo's network in `refgrad/data/`. Each network is saved in
every container its writer knows; `NAME-WRITER.npz` holds `x`, and values and Jacobians by TensorFlow's eager autodiff
in both precisions (`y32`, `j32`, `y64`, `j64`: the float32 weights, cast exactly); `golden.json` holds the versions.
Nothing here uses refgrad: these files are the truth it is tested against.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # oneDNN's blocking makes the last bits depend on the machine
os.environ["KERAS_BACKEND"] = "tensorflow"

import h5py
import numpy as np
import tensorflow as tf

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
DEMO = ROOT / "refgrad" / "data"
WRITERS = {"keras3": "keras", "tf_keras": "tf_keras"}
# Chosen among the first few so that training at 25 epochs ends with a fair fit around x = 0.5.
QUESTION_SEED = 7


def parabola(x: np.ndarray) -> np.ndarray:
    """The curve the question fits: y = (x - 5)² / 25."""
    return (x - 5) ** 2 / 25


def question(keras: Any) -> tuple[Any, np.ndarray]:
    """The network of the question, trained as the question says; inputs are its 1000 training points and 0.5."""
    keras.utils.set_random_seed(QUESTION_SEED)
    model = keras.Sequential(
        [
            keras.layers.Input((1,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Activation("linear"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Activation("linear"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1),
        ],
        name="question",
    )
    model.compile(loss="mse", optimizer="adam")
    x = np.linspace(-10, 20, 1000)[:, None]
    model.fit(x, parabola(x), epochs=25, batch_size=10, verbose=0)
    return model, np.concatenate([x, [[0.5]]])


def mixed(keras: Any) -> tuple[Any, np.ndarray]:
    """Every activation of the first issue, a Dense without bias, Dropout, and a ReLU layer with parameters.

    1.4 and 0.2 are not exactly representable: what Keras makes of them shows in float64.
    """
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    model = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Dense(8, activation="tanh", name="first"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(7, use_bias=False),
            keras.layers.Activation("sigmoid"),
            keras.layers.Dense(6, name="last_hidden"),
            keras.layers.ReLU(max_value=1.4, negative_slope=0.2),
            keras.layers.Dense(2, activation="sigmoid"),
        ],
        name="mixed",
    )
    x = rng.normal(size=(256, 3))
    y = np.stack([np.sin(x[:, 0]) > x[:, 1], x[:, 2] > 0], axis=1).astype(float)
    model.compile(loss="binary_crossentropy", optimizer="sgd")
    model.fit(x, y, epochs=20, batch_size=8, verbose=0)
    return model, rng.normal(size=(64, 3))


def twelve(keras: Any) -> tuple[Any, np.ndarray]:
    """Twelve Dense layers of equal shape: only the right order gives the right numbers (`dense_10` < `dense_2`)."""
    keras.utils.set_random_seed(2)
    rng = np.random.default_rng(2)
    layers = [keras.layers.Dense(4, activation=("tanh", "relu", "linear")[i % 3]) for i in range(12)]
    model = keras.Sequential([keras.layers.Input((4,)), *layers], name="twelve")
    x = rng.normal(size=(256, 4))
    model.compile(loss="mse", optimizer="adam")
    model.fit(x, np.cumsum(x, axis=1), epochs=10, batch_size=16, verbose=0)
    return model, rng.normal(size=(64, 4))


NETWORKS = {"question": question, "mixed": mixed, "twelve": twelve}


def in_float64(model: Any) -> Any:
    """The same model computing in float64 with the same (exactly cast) weights."""

    def widen(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: "float64" if key == "dtype" else widen(item) for key, item in value.items()}
        return [widen(item) for item in value] if isinstance(value, list) else value

    twin = type(model).from_config(widen(model.get_config()))
    twin.set_weights([weight.astype(np.float64) for weight in model.get_weights()])
    return twin


def value_and_jacobian(model: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (batch, n_out) and Jacobians (batch, n_out, n_in) by eager GradientTape, one row at a time."""
    point = tf.constant(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(point)
        y = model(point, training=False)
    rows = [
        tape.gradient(y, point, output_gradients=tf.one_hot([j] * len(x), y.shape[1], dtype=y.dtype))
        for j in range(y.shape[1])
    ]
    return y.numpy(), np.stack([row.numpy() for row in rows], axis=1)


def save_everywhere(model: Any, stem: str, writer: str) -> None:
    """One file for each container this writer has."""
    model.save(GOLDEN / f"{stem}.keras")
    model.save(GOLDEN / f"{stem}.h5")
    (GOLDEN / f"{stem}.json").write_text(model.to_json())
    model.save_weights(GOLDEN / f"{stem}.weights.h5")
    legacy = GOLDEN / f"{stem}.legacy_weights.h5"
    if writer == "tf_keras":
        model.save_weights(legacy)
    else:  # Keras 3 still has the legacy writer but no public call that reaches it for weights alone
        legacy_format = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
        with h5py.File(legacy, "w") as file:
            legacy_format.save_weights_to_hdf5_group(file, model)


def main() -> None:
    """Make everything anew."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    DEMO.mkdir(parents=True, exist_ok=True)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "tensorflow": tf.__version__}
    for writer, module in WRITERS.items():
        keras = importlib.import_module(module)
        versions[writer] = keras.__version__
        for name, make in NETWORKS.items():
            keras.backend.clear_session()
            model, x = make(keras)
            stem = f"{name}-{writer}"
            save_everywhere(model, stem, writer)
            x32 = x.astype(np.float32)
            y32, j32 = value_and_jacobian(model, x32)
            y64, j64 = value_and_jacobian(in_float64(model), x32.astype(np.float64))
            np.savez(GOLDEN / f"{stem}.npz", x=x32, y32=y32, j32=j32, y64=y64, j64=j64)
            sys.stdout.write(f"{stem}: worst float32 against float64 {abs(j32 - j64).max():.1e}\n")
    shutil.copy(GOLDEN / "question-keras3.keras", DEMO / "question.keras")
    shutil.copy(GOLDEN / "question-keras3.npz", DEMO / "question.npz")
    (DEMO / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")
    (GOLDEN / "golden.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    main()
