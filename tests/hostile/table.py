"""The table of hostile files: how each is made, and what must come of it."""

from __future__ import annotations

import io
import json
import os
import zipfile
from dataclasses import dataclass

import h5py

from tests.cases import GOLDEN

SAME = "the golden network"
"""What comes of a file that says the same as the golden one in an unusual way."""

KERNEL = "first/mixed/first/kernel"


@dataclass(frozen=True)
class Hostile:
    """A file: `make` writes it into a folder and returns its path and the other arguments of `load`.

    `outcome` is SAME, the number of nodes of the network, or the class of the refusal, which says `message`.
    """

    make: object
    outcome: object
    message: str = ""


CASES: dict[str, Hostile] = {}


def hostile(name, outcome, message=""):
    def add(make):
        assert name not in CASES
        CASES[name] = Hostile(make, outcome, message)
        return make

    return add


def canaries(folder):
    """Files that nothing may touch; the module would tell by a file that it was imported."""
    (folder / "canary.txt").write_text("secret")
    (folder / "canary_module.py").write_text("open('imported', 'w').write('x')\n\n\ndef f(x):\n    return x\n")
    with h5py.File(folder / "canary.h5", "w") as file:
        file["x"] = [[1.0] * 8] * 3
    os.mkfifo(folder / "canary.pipe")


def golden_config():
    return json.loads((GOLDEN / "mixed-keras3.json").read_text())


def layer(config, name):
    return next(entry for entry in config["config"]["layers"] if entry["config"]["name"] == name)


def text(folder, content, weights="mixed-keras3.weights.h5"):
    """A config beside golden weights."""
    path, beside = folder / "model.json", folder / "model.weights.h5"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    beside.write_bytes((GOLDEN / weights).read_bytes())
    return path, {"weights": beside}


def edited(name, outcome, message=""):
    """A row whose config is the golden one, changed."""

    def add(edit):
        def make(folder):
            config = golden_config()
            edit(config)
            return text(folder, json.dumps(config))

        hostile(name, outcome, message)(make)
        return edit

    return add


def dense(name, outcome, message="", /, **changes):
    """A row whose first Dense says something else."""
    edited(name, outcome, message)(lambda config: layer(config, "first")["config"].update(changes))


def model(name, outcome, message, make):
    """A row that is a config without weights: `make` gives the model or its text."""

    def write(folder):
        content = make()
        path, others = text(folder, content if isinstance(content, str | bytes) else json.dumps(content))
        with h5py.File(others["weights"], "w") as file:
            file.create_group("layers")
        return path, others

    hostile(name, outcome, message)(write)


def hdf5(name, outcome, message="", source="mixed-keras3.legacy_weights.h5", after=None):
    """A row whose weights are the golden ones, changed by h5py, and then in their bytes by `after`."""

    def add(edit):
        def make(folder):
            content = io.BytesIO((GOLDEN / source).read_bytes())
            here = os.getcwd()  # noqa: PTH109
            os.chdir(folder)
            try:
                with h5py.File(content, "r+") as file:
                    edit(file)
            finally:
                os.chdir(here)
            path, config = folder / "weights.h5", folder / "model.json"
            path.write_bytes(after(content.getvalue()) if after else content.getvalue())
            config.write_bytes((GOLDEN / "mixed-keras3.json").read_bytes())
            return path, {"config": config}

        hostile(name, outcome, message)(make)
        return edit

    return add


def golden_members():
    with zipfile.ZipFile(GOLDEN / "mixed-keras3.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members, method=zipfile.ZIP_STORED):
    """A zip of pairs of name (or ZipInfo) and content, whatever they are."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, held in members:
            archive.writestr(name, held)
    return content.getvalue()


def archive(name, outcome, message=""):
    """A row that is a zip: `make` gives its bytes from the golden members."""

    def add(make):
        def write(folder):
            path = folder / "model.keras"
            path.write_bytes(make(golden_members()))
            return path, {}

        hostile(name, outcome, message)(write)
        return make

    return add
