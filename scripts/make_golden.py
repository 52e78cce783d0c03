"""Train the golden networks with real Keras 3 and real tf_keras, and record what each Keras said of them.

    python scripts/make_golden.py [NAME ...]

needs the `dev` extra. It rewrites `tests/golden/` and the demo's network in `refgrad/data/`, or the named networks
alone. Each network is saved in every container its writer knows; `NAME-WRITER.npz` holds `x`, and values and Jacobians
by TensorFlow's eager autodiff in both precisions (`y32`, `j32`, `y64`, `j64`: the float32 weights, cast exactly), for
networks of several inputs or outputs `x_0`, `x_1`, …, `y32_0`, …, `j32_0_1` (output 0 with respect to input 1);
`golden.json` holds the versions.
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


def branches(keras: Any) -> tuple[Any, list[np.ndarray]]:
    """Two inputs, two outputs; a shared Dense, a nested Sequential called twice, moments that training moved."""
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    layers = keras.layers
    a, b = layers.Input((4,), name="state"), layers.Input((3,), name="action")
    shared = layers.Dense(6, activation="tanh", name="shared")
    block = keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(momentum=0.8),
            layers.Dense(5),
        ],
        name="block",
    )
    from_a, from_b = shared(a), shared(layers.Dense(4)(b))
    joined = layers.Concatenate()([block(from_a), from_b, block(from_b), b])
    trunk = layers.Dense(9, activation="tanh")(layers.BatchNormalization(epsilon=1e-4)(joined))
    classes = layers.Dense(3, activation="softmax", name="classes")(trunk)
    amount = layers.Dense(2, name="amount")(trunk)
    # The inputs come in another order than the layers, so that an order by layers would be seen.
    model = keras.Model([b, a], [classes, amount], name="branches")
    x = [rng.normal(size=(256, 3)), rng.normal(size=(256, 4))]
    y = [np.eye(3)[np.argmax(x[0], axis=1)], np.stack([np.sin(x[1][:, 0]), x[0][:, 1] * x[1][:, 2]], axis=1)]
    model.compile(loss=["categorical_crossentropy", "mse"], optimizer="adam")
    model.fit(x, y, epochs=15, batch_size=16, verbose=0)
    return model, [rng.normal(size=(24, 3)), rng.normal(size=(24, 4))]


def every_layer(keras: Any) -> tuple[Any, list[np.ndarray]]:
    """Most layer classes once, on inputs of rank one and two; one output of rank two."""
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(4)
    layers = keras.layers
    normalization = layers.Normalization()
    normalization.adapt(rng.normal(size=(64, 4), loc=2, scale=3))
    vector, matrix = layers.Input((4,), name="vector"), layers.Input((3, 5), name="matrix")
    h = layers.LeakyReLU(0.2)(layers.Dense(6)(normalization(vector)))
    h = layers.LayerNormalization(name="ln")(layers.Dropout(0.1)(layers.GaussianNoise(0.01)(h)))
    g = layers.Permute((2, 1))(layers.Reshape((2, -1))(h))
    s = layers.PReLU(shared_axes=[1])(layers.SpatialDropout1D(0.1)(layers.Rescaling(0.3, offset=-0.1)(matrix)))
    d = layers.Dense(2)(layers.LayerNormalization(axis=[1, 2], center=False)(s))
    mean = layers.Average()([g, d, layers.Maximum()([g, d])])
    less = layers.Subtract()([layers.Multiply()([mean, layers.Minimum()([g, d])]), g])
    bn = layers.BatchNormalization(axis=1, scale=False, momentum=0.8)(layers.ActivityRegularization(1e-4)(less))
    e, soft = layers.ELU(0.7)(bn), layers.Softmax(axis=1)(bn)
    dot = layers.Dot(axes=(2, 2), normalize=True)([e, soft])
    more = layers.Add()([layers.RepeatVector(3)(layers.Dense(2)(h)), e])
    joined = layers.Concatenate(axis=2, name="joined")([dot, more])
    out = layers.Dense(3, activation="softmax", name="out")(layers.Flatten()(joined))
    model = keras.Model([vector, matrix], [out, joined], name="every_layer")
    x = [rng.normal(size=(256, 4), loc=2, scale=3), rng.normal(size=(256, 3, 5))]
    y = [np.eye(3)[np.argmax(x[1][:, :, 0], axis=1)], rng.normal(size=(256, 3, 5))]
    model.compile(loss=["categorical_crossentropy", "mse"], optimizer="adam")
    model.fit(x, y, epochs=10, batch_size=16, verbose=0)
    return model, [rng.normal(size=(12, 4), loc=2, scale=3), rng.normal(size=(12, 3, 5))]


NETWORKS = {
    "question": question,
    "mixed": mixed,
    "twelve": twelve,
    "branches": branches,
    "layers": every_layer,
}


def in_float64(model: Any) -> Any:
    """The same model computing in float64 with the same (exactly cast) weights."""

    def widen(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: "float64" if key == "dtype" else widen(item) for key, item in value.items()}
        return [widen(item) for item in value] if isinstance(value, list) else value

    twin = type(model).from_config(widen(model.get_config()))
    twin.set_weights(
        [weight.astype(np.float64) if weight.dtype.kind == "f" else weight for weight in model.get_weights()]
    )
    for layer in twin.layers:
        if hasattr(layer, "finalize_state"):  # Normalization takes its moments from its weights only here
            layer.finalize_state()
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


def values_and_jacobians(model: Any, xs: list[np.ndarray], bits: str) -> dict[str, np.ndarray]:
    """As `value_and_jacobian` for every output and input: y32_0, …, j32_0_1 of shape (batch, *out, *in)."""
    points = [tf.constant(x) for x in xs]
    with tf.GradientTape(persistent=True) as tape:
        for point in points:
            tape.watch(point)
        outputs = model(points, training=False)
    found = {}
    for i, y in enumerate(outputs):
        found[f"y{bits}_{i}"] = y.numpy()
        units = np.eye(int(np.prod(y.shape[1:])), dtype=y.numpy().dtype)
        rows = []
        for unit in units:
            weights = tf.constant(np.broadcast_to(unit.reshape(y.shape[1:]), y.shape))
            zero = tf.UnconnectedGradients.ZERO
            rows.append(tape.gradient(y, points, output_gradients=weights, unconnected_gradients=zero))
        for j, x in enumerate(xs):
            stacked = np.stack([row[j].numpy() for row in rows], axis=1)
            found[f"j{bits}_{i}_{j}"] = stacked.reshape(*y.shape, *x.shape[1:])
    return found


def truth(model: Any, x: np.ndarray | list[np.ndarray]) -> dict[str, np.ndarray]:
    """What TensorFlow says at x in float32, and of the same weights in float64."""
    twin = in_float64(model)
    if isinstance(x, list):
        xs = [part.astype(np.float32) for part in x]
        found = {f"x_{j}": part for j, part in enumerate(xs)}
        found |= values_and_jacobians(model, xs, "32")
        return found | values_and_jacobians(twin, [part.astype(np.float64) for part in xs], "64")
    x32 = x.astype(np.float32)
    y32, j32 = value_and_jacobian(model, x32)
    y64, j64 = value_and_jacobian(twin, x32.astype(np.float64))
    return {"x": x32, "y32": y32, "j32": j32, "y64": y64, "j64": j64}


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


def main(names: list[str]) -> None:
    """Make everything anew, or the named networks."""
    if not names:
        shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    DEMO.mkdir(parents=True, exist_ok=True)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "tensorflow": tf.__version__}
    for writer, module in WRITERS.items():
        keras = importlib.import_module(module)
        versions[writer] = keras.__version__
        for name in names or NETWORKS:
            keras.backend.clear_session()
            model, x = NETWORKS[name](keras)
            stem = f"{name}-{writer}"
            save_everywhere(model, stem, writer)
            found = truth(model, x)
            np.savez(GOLDEN / f"{stem}.npz", **found)
            pairs = [(found[key], found[key.replace("j32", "j64")]) for key in found if key.startswith("j32")]
            worst = max(abs(j32 - j64).max() / abs(j64).max() for j32, j64 in pairs)
            sys.stdout.write(f"{stem}: worst float32 against float64 {worst:.1e} of max|J|\n")
    if "question" in (names or NETWORKS):
        shutil.copy(GOLDEN / "question-keras3.keras", DEMO / "question.keras")
        shutil.copy(GOLDEN / "question-keras3.npz", DEMO / "question.npz")
        (DEMO / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")
    (GOLDEN / "golden.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
