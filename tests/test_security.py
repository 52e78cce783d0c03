"""SECURITY.md names the test that holds each line of its promise: these exist, and so do the limits that it gives."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

import refgrad
from refgrad.graph import Provenance, chain
from refgrad.ops import Elementwise
from tests.cases import GOLDEN
from tests.hostile import CASES

ROOT = GOLDEN.parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
TABLE = TEXT.partition("| | held by |\n|---|---|\n")[2].partition("\n\n")[0]
PROMISES = [tuple(line.split("|")[1:3]) for line in TABLE.splitlines()]


def test_there_is_a_table_of_promises():
    assert len(PROMISES) == 9


@pytest.mark.parametrize(("promise", "held"), PROMISES, ids=[promise.strip()[:30] for promise, _ in PROMISES])
def test_each_promise_names_tests_that_there_are(promise, held):
    files, rows = re.findall(r"`(tests/\w+\.py)`", held), re.findall(r"`(\w+): …`", held)
    assert files or rows or "rows" in held, promise
    for file in files:
        assert re.search(r"^def test_", (ROOT / file).read_text(), re.MULTILINE), file
    for kind in rows:
        assert any(name.startswith(f"{kind}: ") for name in CASES), kind


def test_the_limits_are_those_that_it_gives():
    limits = refgrad.Limits()
    numbers = {int(number.replace(" ", "")) for number in re.findall(r"\b\d+(?: \d{3})*\b", TEXT)}
    assert {limits.members, limits.json_levels, limits.layers, limits.name, limits.models, limits.calls} <= numbers
    assert {limits.objects, limits.crossed, limits.json_bytes >> 20, limits.chunk >> 20} <= numbers
    assert len(CASES) >= 250


@pytest.mark.parametrize("write", [refgrad.save, refgrad.to_keras])
def test_what_would_take_all_memory_to_record_is_not_written(write, tmp_path):
    """A Jacobian of 10⁷ outputs by 10⁷ inputs, from a config of a hundred letters."""
    wide = chain((10**7,), [("tanh", Elementwise("tanh"))], np.dtype("f4"), Provenance())
    start = time.process_time()
    with pytest.raises(refgrad.LimitError, match="numbers"):
        write(refgrad.Network(wide), tmp_path / ("net.npz" if write is refgrad.save else "net.keras"))
    assert time.process_time() < start + 1
