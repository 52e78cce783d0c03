"""Have older Kerases write small networks, each in an environment of its own, and say what they compute of them.

    python scripts/make_golden_writers.py FOLDER [WRITER ...]

makes an environment for each writer in FOLDER, with the network's help and without touching the project's own, and
rewrites `tests/golden/writers/WRITER.zip`: each network in every container that this version writes; `NETWORK.npz`, as
`make_golden.py` makes it of several inputs and outputs (`x_0`, `y32_0`, `j32_0_1`, `y64_0`, …); and `about.json`, which
says what wrote the files and what differentiated. Values and Jacobians are the writer's own: by the TensorFlow that it
is part of, or, from Keras 3 on, by its JAX backend. Nothing here uses refgrad.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
WRITERS = ROOT / "tests" / "golden" / "writers"
OLD_TENSORFLOW = ("numpy<2", "h5py")
JAX = ("jax[cpu]==0.4.38", "numpy<2.1", "h5py", "packaging")
REQUIRED = {
    "tf-2.12": ("tensorflow-cpu==2.12.*", *OLD_TENSORFLOW),
    "tf-2.13": ("tensorflow-cpu==2.13.*", *OLD_TENSORFLOW),
    "tf-2.14": ("tensorflow-cpu==2.14.*", *OLD_TENSORFLOW),
    "tf-2.15": ("tensorflow-cpu==2.15.*", *OLD_TENSORFLOW),
    "keras-3.0": ("keras==3.0.*", *JAX),
    "keras-3.3": ("keras==3.3.*", *JAX),
    "keras-3.6": ("keras==3.6.*", *JAX),
    "keras-3.10": ("keras==3.10.*", *JAX),
}
"""What pip installs for each writer. TensorFlow 2.12 is the first with wheels for Python 3.11."""

OLDER = {
    "keras-2.6": ("keras==2.6.*", "keras-preprocessing==1.1.2"),
    "keras-2.8": ("keras==2.8.*", "keras-preprocessing==1.1.2"),
    "keras-2.11": ("keras==2.11.*",),
}
"""Kerases in pure Python, which pip puts on top of TensorFlow 2.12 without asking whether they go together."""

SAMPLES = 6


def chain(keras: Any) -> Any:
    """Fourteen Dense of one shape and few others, whose automatic names skip numbers: dense_9 comes before dense_10."""
    layers = keras.layers
    made: list[Any] = []
    for place in range(14):
        activation = ("tanh", "hard_sigmoid", "selu", "softplus", None)[place % 5]
        made.append(layers.Dense(3, activation=activation, use_bias=place % 4 != 3))
        if place in (1, 2, 6):
            layers.Dense(3)  # counted by Keras, and then forgotten
        if place % 6 == 5:
            made.append(layers.Dropout(0.2))
    return keras.Sequential([layers.Input((3,)), *made])


def branches(keras: Any) -> Any:
    """Two inputs, two outputs; a shared Dense, a model within a model that is called twice, moments before and in it.

    The inputs come in another order than the layers do, and in the nested model the moments come before a Dense.
    """
    layers = keras.layers
    state, action = layers.Input((4,), name="state"), layers.Input((2,), name="action")
    inner = keras.Sequential([layers.Input((3,)), layers.Dense(3, activation="elu"), layers.BatchNormalization()])
    start = layers.Input((3,))
    block = keras.Model(start, layers.Dense(3)(inner(layers.BatchNormalization(center=False)(start))), name="block")
    shared = layers.Dense(3, activation="tanh", name="shared")
    one, other = shared(state), shared(layers.Dense(4)(action))
    joined = layers.Concatenate()([block(one), other, block(layers.Subtract()([one, other])), action])
    trunk = layers.BatchNormalization(epsilon=1e-4)(layers.Dense(3, activation="tanh")(joined))
    classes = layers.Dense(3, activation="softmax", name="classes")(trunk)
    amount = layers.Dense(1, name="amount")(layers.Average()([trunk, one]))
    return keras.Model([action, state], [classes, amount], name="branches")


def kinds(keras: Any) -> Any:
    """Activations as layers, normalisations, and a Reshape on features of two axes; parameters that float32 holds."""
    layers = keras.layers
    normalization = layers.Normalization()
    normalization.adapt(numbers(5).normal(size=(64, 4), loc=2, scale=3).astype("float32"))
    start = layers.Input((4,))
    h = layers.LeakyReLU(0.25)(layers.Dense(4)(normalization(start)))
    h = layers.LayerNormalization()(layers.Activation("hard_sigmoid")(layers.Dense(4)(h)))
    h = layers.Reshape((2, -1))(layers.ReLU(max_value=1.5, negative_slope=0.125)(layers.Dense(4)(h)))
    h = layers.PReLU(shared_axes=[1])(layers.Permute((2, 1))(h))
    h = layers.ELU(0.5)(layers.Dense(3, activation="swish")(h))
    h = layers.Rescaling(0.5, offset=-0.25)(layers.BatchNormalization(scale=False)(h))
    h = layers.Dense(3, activation="softsign")(layers.Flatten()(layers.Softmax(axis=1)(h)))
    return keras.Model(start, h)


NETWORKS = {"chain": chain, "branches": branches, "kinds": kinds}


def numbers(seed: int) -> Any:
    """Random numbers, the same in every version of NumPy here."""
    return importlib.import_module("numpy").random.default_rng(seed)


def weights_of(model: Any) -> list[Any]:
    """Weights of all arrays of a model that hold floats: moderate, variances above 0; counts stay what they are."""
    rng = numbers(1)
    drawn = []
    for weight, array in zip(model.weights, model.get_weights(), strict=True):
        path = getattr(weight, "path", weight.name)
        if "normalization" in path and ("count" in path or not ("batch" in path or "layer" in path)):
            drawn.append(array)  # what adapt() found
        elif "variance" in path:
            drawn.append(rng.uniform(0.5, 1.5, size=array.shape).astype("float32"))
        else:
            drawn.append(rng.normal(size=array.shape, scale=0.8).astype("float32"))
    return drawn


def made(keras: Any, network: str, dtype: str, weights: list[Any] | None = None) -> Any:
    """The network computing in a dtype, with these weights or drawn ones."""
    keras.backend.clear_session()
    keras.backend.set_floatx(dtype)
    model = NETWORKS[network](keras)
    model.set_weights(weights_of(model) if weights is None else weights)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):  # Normalization takes its moments from its weights only here
            layer.finalize_state()
    return model


def by_tensorflow(model: Any, xs: list[Any]) -> tuple[list[Any], list[list[Any]]]:
    """Outputs and Jacobians (batch, *out, *in) by eager TensorFlow; samples do not depend on each other."""
    tf, np = map(importlib.import_module, ("tensorflow", "numpy"))
    points = [tf.constant(x) for x in xs]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(points)
        found = model(points if len(points) > 1 else points[0], training=False)
        outputs = found if isinstance(found, list) else [found]
        parts = [tf.unstack(tf.reshape(y, (len(y), -1)), axis=1) for y in outputs]
    rows = [[tape.gradient(part, points, unconnected_gradients="zero") for part in of_output] for of_output in parts]
    jacobians = [
        [
            np.stack([row[j].numpy() for row in of_output], axis=1).reshape(*y.shape, *x.shape[1:])
            for j, x in enumerate(xs)
        ]
        for y, of_output in zip(outputs, rows, strict=True)
    ]
    return [y.numpy() for y in outputs], jacobians


def by_jax(model: Any, xs: list[Any]) -> tuple[list[Any], list[list[Any]]]:
    """As `by_tensorflow`, by JAX's reverse mode without compilation."""
    jax, np = map(importlib.import_module, ("jax", "numpy"))

    def outputs(*points: Any) -> list[Any]:
        found = model(list(points) if len(points) > 1 else points[0], training=False)
        return found if isinstance(found, list) else [found]

    def summed(*points: Any) -> list[Any]:
        return [y.sum(axis=0) for y in outputs(*points)]

    rows = jax.jacrev(summed, argnums=tuple(range(len(xs))))(*xs)
    ys = [np.asarray(y) for y in outputs(*xs)]
    jacobians = [
        [np.moveaxis(np.asarray(block), y.ndim - 1, 0) for block in row] for row, y in zip(rows, ys, strict=True)
    ]
    return ys, jacobians


def legacy_weights(keras: Any, model: Any, path: str) -> None:
    """Weights in the layout of Keras 1 and 2, which lists layers by name."""
    if keras.__version__.startswith("2."):
        model.save_weights(path)
        return
    # Keras 3 still has the legacy writer but no public call that reaches it for weights alone
    legacy_format = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    with importlib.import_module("h5py").File(path, "w") as file:
        legacy_format.save_weights_to_hdf5_group(file, model)


def save_everywhere(keras: Any, model: Any, stem: Path) -> dict[str, str]:
    """A file for each container that this version writes; those that it cannot write, and what it says.

    Keras 2.12 writes HDF5 under the name .keras unless it is told another format.
    """
    new = {"save_format": "keras_v3"} if keras.__version__.startswith("2.12") else {}
    before = keras.__version__.startswith("2.") and int(keras.__version__.split(".")[1]) < 12
    ways: dict[str, Any] = {
        "keras": lambda path: model.save(path, **new),
        "h5": model.save,
        "json": lambda path: Path(path).write_text(model.to_json()),
        "weights.h5": model.save_weights,
        "legacy_weights.h5": lambda path: legacy_weights(keras, model, path),
    }
    if before:  # neither container was there yet
        ways = {suffix: save for suffix, save in ways.items() if suffix not in ("keras", "weights.h5")}
    refused = {}
    for suffix, save in ways.items():
        path = Path(f"{stem}.{suffix}")
        try:
            save(str(path))
        except ValueError as error:
            path.unlink(missing_ok=True)
            refused[path.name] = str(error)
    return refused


def stand_in_for_what_is_gone() -> None:
    """What Kerases before 2.12 take from Python and TensorFlow when they are imported; nothing here uses it."""
    os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
    fields = ("args", "varargs", "keywords", "defaults")
    vars(inspect)["ArgSpec"] = NamedTuple("ArgSpec", [(name, Any) for name in fields])
    vars(inspect)["getargspec"] = lambda of: tuple(inspect.getfullargspec(of)[:4])
    tracking = importlib.import_module("tensorflow.compat.v2").__internal__.tracking
    for name in ("TrackableSaver", "ObjectGraphView"):  # of checkpoints
        setattr(tracking, name, lambda *_, **__: None)


def write(writer: str, folder: Path) -> None:
    """Inside the writer's environment: its files, what it computes of them, and what it is."""
    logging.disable(logging.WARNING)  # that no model here is compiled
    with_jax = any(name.startswith("jax") for name in REQUIRED.get(writer, ()))
    os.environ["KERAS_BACKEND"] = "jax" if with_jax else "tensorflow"
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    if writer in OLDER:
        stand_in_for_what_is_gone()
    keras, np, h5py = map(importlib.import_module, ("keras", "numpy", "h5py"))
    derives = importlib.import_module(os.environ["KERAS_BACKEND"])
    if with_jax:
        derives.config.update("jax_enable_x64", True)
    answer = by_jax if with_jax else by_tensorflow
    refused = {}
    for network in NETWORKS:
        model = made(keras, network, "float32")
        refused |= save_everywhere(keras, model, folder / network)
        xs = [numbers(2).normal(size=(SAMPLES, *x.shape[1:])).astype("float32") for x in model.inputs]
        found = {f"x_{j}": x for j, x in enumerate(xs)}
        for bits in ("32", "64"):
            dtype = f"float{bits}"
            held = [array.astype(dtype) if array.dtype.kind == "f" else array for array in model.get_weights()]
            y, jacobian = answer(made(keras, network, dtype, held), [x.astype(dtype) for x in xs])
            found |= {f"y{bits}_{i}": value for i, value in enumerate(y)}
            found |= {f"j{bits}_{i}_{j}": block for i, row in enumerate(jacobian) for j, block in enumerate(row)}
            said = [array for key, array in found.items() if key[1:3] == bits]
            assert all(array.dtype == dtype and array.any() for array in said), f"{network}: no test of {dtype}"
        np.savez(folder / f"{network}.npz", **found)
    about = {
        "keras": keras.__version__,
        "derivatives": f"{derives.__name__} {derives.__version__}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "cannot write": refused,
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")


def packed(folder: Path, target: Path) -> None:
    """All files of a folder in a zip that depends on nothing but them."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)


def main(folder: Path, writers: list[str]) -> None:
    """Make an environment for each writer, unless it is there, and run this script in it."""
    WRITERS.mkdir(parents=True, exist_ok=True)
    for writer in writers or (*REQUIRED, *OLDER):
        home = folder / writer
        python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if not python.exists():
            venv.create(home, with_pip=True)
            quiet = ("--quiet", "--no-cache-dir", "--disable-pip-version-check")
            pip = [str(python), "-m", "pip", "install", *quiet]
            subprocess.run([*pip, *REQUIRED["tf-2.12" if writer in OLDER else writer]], check=True)
            if writer in OLDER:
                subprocess.run([*pip, "--no-deps", *OLDER[writer]], check=True)
        with tempfile.TemporaryDirectory() as made_here:
            # In its own process: TensorFlow's messages are silenced, and nothing of this environment is seen.
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
            command = [str(python), __file__, "--write", writer, made_here]
            subprocess.run(command, env=environment, check=True)
            packed(Path(made_here), WRITERS / f"{writer}.zip")
        sys.stdout.write(f"{writer}: {(WRITERS / f'{writer}.zip').stat().st_size:,} bytes\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], Path(sys.argv[3]))
    elif len(sys.argv) > 1 and set(sys.argv[2:]) <= {*REQUIRED, *OLDER}:
        main(Path(sys.argv[1]), sys.argv[2:])
    else:
        sys.exit(f"{__doc__}\nwriters: {', '.join((*REQUIRED, *OLDER))}")
