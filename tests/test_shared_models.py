"""Real files by other people: each is read exactly, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import refgrad

MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
INDEX = json.loads((MODELS / "INDEX.json").read_text()) if MODELS.is_dir() else []
READ = {
    "k211_customloss",
    "k22tf_dl4j_act2",
    "k22tf_dl4j_mlp36",
    "k23_dl4j_ReLU_2",
    "k24_caxenie_encoder",
    "k310_diploma",
    "k310_mpg_norm",
    "k311_patient_gen_h5",
    "k312_california",
    "k32_idaes_pt_relu",
    "k32_idaes_pt_sigmoid_jw",
    "k33_omlt_131_sig_softplus",
    "k39_flownet",
}
"""Models in spellings that can be read so far; the others must be refused."""

pytestmark = pytest.mark.skipif(not INDEX, reason="../shared/models is not here")


def load(entry):
    if entry["config_file"] is None:
        return refgrad.load(MODELS / entry["file"])
    return refgrad.load(MODELS / entry["config_file"], weights=MODELS / entry["file"])


@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["id"])
def test_each_is_read_exactly_or_refused(entry):
    if entry["id"] not in READ:
        with pytest.raises(refgrad.RefgradError) as caught:
            load(entry)
        assert str(caught.value).startswith(str(MODELS))
        assert "\n" not in str(caught.value)
        return
    net = load(entry)
    with np.load(MODELS / entry["ref"]) as reference:
        for dtype, bits, relative in (("float32", "32", 1e-5), ("float64", "64", 1e-9)):
            y, jacobian = net.astype(dtype).value_and_jacobian(reference["x"])
            for mine, theirs in ((y, reference[f"y{bits}"]), (jacobian, reference[f"j{bits}"])):
                assert np.abs(mine - theirs).max() <= relative * np.abs(theirs).max()


def test_the_models_that_can_be_read_are_all_there():
    assert {entry["id"] for entry in INDEX} >= READ
