"""The package as others meet it: what importing costs, what its README says, what its scripts do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import refgrad
from tests.cases import GOLDEN

ROOT = Path(__file__).resolve().parents[1]


def fresh(script, cwd=ROOT):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def third_party(names):
    """Names of modules that come from installed packages."""
    top = {name.split(".")[0] for name in names}
    return {name for name in top - set(sys.stdlib_module_names) if "cython" not in name} - {"refgrad", "__main__"}


def test_importing_refgrad_loads_numpy_at_most():
    found = ast.literal_eval(
        fresh("import sys; before = set(sys.modules); import refgrad; print(set(sys.modules) - before)")
    )
    assert third_party(found) <= {"numpy"}


@pytest.mark.parametrize(
    ("work", "allowed"),
    [
        ("refgrad.Network.sequential([(np.eye(2), None, 'relu')])([1.0, 2], engine='numpy')", {"numpy"}),
        ("refgrad.load(artifact)([0.5], engine='numpy')", {"numpy"}),
        ("refgrad.load(golden)([0.5], engine='numpy')", {"numpy", "h5py"}),
        ("refgrad.to_keras(refgrad.load(artifact), artifact + '.keras')", {"numpy", "h5py"}),
    ],
)
def test_work_loads_what_it_needs_and_no_more(work, allowed, tmp_path):
    golden = GOLDEN / "question-keras3.keras"
    refgrad.save(refgrad.load(golden), tmp_path / "net.npz")
    script = f"""
import sys
before = set(sys.modules)
import numpy as np, refgrad
golden, artifact = {str(golden)!r}, {str(tmp_path / "net.npz")!r}
{work}
print(set(sys.modules) - before)
"""
    assert third_party(ast.literal_eval(fresh(script))) <= allowed


def test_public_names_are_there():
    assert set(refgrad.__all__) == set(dir(refgrad))
    for name in refgrad.__all__:
        assert getattr(refgrad, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = refgrad.nonsense
    for error in ("FormatError", "UnsupportedError", "MismatchError", "LimitError", "InputError", "KinkError"):
        assert issubclass(getattr(refgrad, error), refgrad.RefgradError)


def test_the_package_is_typed_and_carries_its_data():
    for name in ("py.typed", "data/question.keras", "data/question.npz", "data/versions.json"):
        assert (Path(refgrad.__file__).parent / name).is_file()
    assert (ROOT / "refgrad/data/question.keras").read_bytes() == (GOLDEN / "question-keras3.keras").read_bytes()


def test_dependencies_are_the_declared_ones():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", line).group() for line in project["dependencies"]}
    assert names == {"numpy", "h5py", "tqdm"}
    extras = " ".join(
        line for name, lines in project["optional-dependencies"].items() for line in lines if name != "torch"
    )
    assert "torch" not in extras
    assert "tensorflow-cpu" not in extras


def test_a_half_made_environment_is_noticed(tmp_path, monkeypatch):
    """Without its interpreter's pip an environment is no use: it is noticed, not trusted."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    environment = import_module("environment")
    assert environment.ROOT == ROOT
    broken = tmp_path / ".venv"
    (broken / "bin").mkdir(parents=True)
    (broken / "bin" / "python").symlink_to("/nonexistent")
    monkeypatch.setattr(environment, "PYTHON", broken / "bin" / "python")
    assert not environment._works()
    monkeypatch.setattr(environment, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(environment, "VENV", broken)
    monkeypatch.setattr(environment, "PACKAGES", ["numpy", "a_package_that_vanished"])
    assert environment._works(), "it was never filled"
    (broken / "refgrad-jit-plot.stamp").write_text("filled")
    assert not environment._works()
    monkeypatch.setattr(environment, "PACKAGES", ["numpy"])
    assert environment._works()
