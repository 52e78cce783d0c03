"""The table of slopes on kinks is what the installed frameworks say."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

import refgrad
from refgrad.activations import ACTIVATIONS
from refgrad.auditing.frameworks import conventions as table
from tests.conventions import FRAMEWORKS, SUBNORMAL, measured, places

pytestmark = pytest.mark.filterwarnings("ignore:CUDA initialization:UserWarning")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_table_is_what_the_framework_says(name):
    module = FRAMEWORKS[name][0]
    pytest.importorskip(module)
    if importlib.metadata.version(module) != table.measured()["versions"][module]:
        pytest.skip(f"the table was measured with another {module}")
    known = table.conventions(name)
    for (row, parameters, z), slope in measured(name).items():
        assert known[row, tuple(map(float, parameters))][z] == slope, (row, parameters, z)


def test_the_table_has_every_kink_and_what_eager_tensorflow_does_is_keras_own():
    known = table.conventions("tensorflow")
    assert {(row, z) for row, _, z in places()} == {(row, z) for (row, _), at in known.items() for z in at}
    for (row, parameters), at in known.items():
        for kink in ACTIVATIONS[row].kinks(*parameters) if row in ACTIVATIONS else ():
            assert at[kink.where] == pytest.approx(kink.keras, rel=1e-5), (row, parameters, kink)


def test_the_known_differences_are_in_it():
    """The figures of the issue: TensorFlow, JAX, torch."""
    leaky = ("relu", (np.inf, float(np.float32(0.2)), 0.0))
    expected = {
        ("maximum(x, 0)", ()): (1, 0.5, 0.5),
        leaky: (0.2, 1, 0.2),
        ("selu", ()): (1.0507, 1.7581, 1.7581),
        ("abs", ()): (0, 1, 0),
    }
    for key, slopes in expected.items():
        found = [table.conventions(name)[key][0.0] for name in ("tensorflow", "jax", "torch")]
        assert found == pytest.approx(slopes, rel=1e-4), key
    flushed = [table.conventions(name)["relu of a subnormal number", ()][SUBNORMAL] for name in FRAMEWORKS]
    assert set(flushed) <= {0, 1}


def test_of_others_nothing_is_known():
    with pytest.raises(refgrad.InputError, match="no slopes on kinks are known of 'fortran'"):
        table.conventions("fortran")
