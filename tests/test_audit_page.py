"""The report as a page, in words and as JSON: whole, bounded, readable, and never somebody else's markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import refgrad
from refgrad.auditing.coverage import Coverage, LayerCoverage
from refgrad.auditing.page import html
from refgrad.auditing.provenance import digest
from refgrad.auditing.report import SCHEMA, Report
from refgrad.auditing.text import coloured, headline, reproduce, summary
from refgrad.auditing.verdicts import SAMPLE, VERDICTS
from refgrad.cli import main
from refgrad.cli.say import shows_colour
from tests.cases import GOLDEN

EVIL = "<script>alert(1)</script>\"'&\x1b[31m\u202e"


def rows(count, dtype=SAMPLE):
    made = np.zeros(count, dtype)
    made["verdict"], made["where"], made["distance"] = "ok", "dy[0]/dx[1]", np.inf
    made["ratio"] = np.linspace(0, 3, count)
    return made


def mixed(name="dense_1"):
    """A sample of each verdict after forty that are right, all about a layer of this name."""
    samples = rows(40 + len(VERDICTS))
    tail = samples[40:]
    tail["verdict"], tail["side"] = list(VERDICTS), "theirs"
    tail["layer"] = tail["units"] = tail["fault"] = tail["where"] = name
    tail["error"], tail["bound"], tail["ratio"], tail["distance"] = 0.5, 1e-6, 1e5, np.geomspace(0.1, 1e3, len(tail))
    tail["ours"], tail["theirs"], tail["truth"] = float.fromhex("0x1.f4996p-5"), -0.7677, 0.1
    return samples


def report(samples, against="TensorFlow", **more):
    judged = 1.0 if len(samples) else 0.0
    model = {"digest": "d" * 64, "dtype": "float32", "writer": None, "container": "arrays"}
    return Report(samples, against, model, 2.0, judged, judged < 0.9, **more)


REACHED = Coverage(9, (LayerCoverage(EVIL, 3, 2, 1, 1, 0, 1, 4),))
REPORTS = {
    "empty": report(rows(0)),
    "one": report(rows(1)),
    "passing": report(rows(200)),
    "mixed": report(mixed()),
    "evil": report(
        mixed(EVIL),
        EVIL,
        provenance={"cpu": {"name": EVIL}, "command": EVIL},
        coverage=REACHED,
    ),
}
NAN = rows(20)
for field in ("error", "bound", "ratio", "value_error", "value_ratio", "distance", "ours", "theirs", "truth"):
    NAN[field] = np.nan
REPORTS["not a number"] = report(NAN)
HUGE = rows(20)
HUGE["error"], HUGE["ratio"], HUGE["value_ratio"], HUGE["distance"] = 1e308, np.inf, 5e-324, 5e-324
REPORTS["huge"] = report(HUGE)


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, "elements are left open"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_is_whole_and_accessible(name):
    text = html(REPORTS[name])
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert {"title", "main", "nav", "h1"} <= set(tags)
    ids = [given["id"] for _, given in page.tags if "id" in given]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels)), levels
    for tag, given in page.tags:
        for key in ("aria-labelledby", "href"):
            assert set(given.get(key, "").replace("#", "").split()) <= set(ids), given
        assert tag != "th" or given["scope"] in ("row", "col")
        assert tag != "svg" or (given["role"], len(given["aria-labelledby"].split())) == ("img", 2)
        assert given.get("role") != "region" or given["aria-label"]
        assert not any(key.startswith("on") or key == "src" for key in given)
    assert tags.count("caption") == tags.count("table") > 0
    assert not {"script", "link", "img", "iframe", "object"} & set(tags)
    assert not re.search(r"https?:|url\(|@import", text)
    assert tags.count("svg") == (2 if len(REPORTS[name].samples) else 0)
    numbers = re.findall(r' (?:x|y|cx|cy|x1|y1|width|height|r)="([^"]*)"', text)
    assert np.isfinite([float(number) for number in numbers]).all()


def test_names_of_a_file_stay_text():
    text = html(REPORTS["evil"])
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>alert(1)</script>" in "".join(Page(text).text)
    assert "\x1b" not in summary(REPORTS["evil"])


def luminance(colour):
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out(scheme):
    """WCAG 2: (L₁ + 0.05) / (L₂ + 0.05) is at least 4.5, of pictures too."""
    css = (Path(refgrad.__file__).parent / "data" / "audit.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]))
    assert set(re.findall(r"var\(--(\w+)\)", css)) <= set(colours)
    assert not re.search(r"#[0-9a-f]{3,}", css.split("* { box-sizing")[1]), "a colour of its own"
    for ground in ("paper", "panel"):
        for name in set(colours) - {"paper", "panel", "line"}:
            pair = sorted((luminance(colours[name]), luminance(colours[ground])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (name, ground)


def test_the_verdict_comes_first_and_in_words():
    page = "".join(Page(html(REPORTS["mixed"])).text)
    assert "Audit failed" in page
    assert page.index("2 of 50 samples differ by more than rounding explains.") < page.index("What it says")
    assert "All 200 samples agree to rounding." in "".join(Page(html(REPORTS["passing"])).text)
    assert headline(REPORTS["empty"]) == "No samples: too few to tell."


def test_the_worst_samples_show_exact_numbers():
    page = Page(html(REPORTS["mixed"])).text
    for said in (repr(float.fromhex("0x1.f4996p-5")), "0x1.f4996p-5", "-0.7677", "0x1.999999999999ap-4"):
        assert said in page, said
    order = [text for text in page if text in VERDICTS]
    after = order[len(REPORTS["mixed"].counts) :]
    assert set(after[:2]) == {"discrepant_suspect", "discrepant_proved"}


def test_any_number_of_samples_is_a_page_of_bounded_size():
    narrow = np.dtype([(name, "U20" if SAMPLE[name].kind == "U" else SAMPLE[name]) for name in SAMPLE.names])
    rng, count = np.random.default_rng(0), 300_000
    samples = np.zeros(count, narrow)
    samples["verdict"] = np.array(["ok", "near_kink", "discrepant_suspect"])[rng.integers(3, size=count)]
    samples["layer"] = np.array([f"layer_{k}" for k in range(500)])[rng.integers(500, size=count)]
    samples["error"], samples["ratio"], samples["distance"] = 10 ** rng.uniform(-9, 9, (3, count))
    text = html(report(samples))
    assert len(text) < 600_000
    assert "And 460 more." in text
    assert text.count("<tr>") < 250
    assert f"{int((samples['verdict'] == 'ok').sum()):,}" in text


def test_the_histogram_counts_every_sample_once():
    samples = rows(9)
    samples["ratio"] = [0, 1e-30, 1, 7.9, 8.1, 1e9, np.inf, np.nan, 0]
    samples["value_ratio"] = [0, 0, 0, 0, 0, 0, 0, np.nan, 9]
    samples["verdict"][5] = "discrepant_proved"
    body = html(report(samples)).split("Samples by error ÷ noise</caption>")[1].split("</table>")[0]
    counts = re.findall(r"<td>(\d+)</td><td>(\d+)</td>", body)
    assert np.sum(np.array(counts, int), axis=0).tolist() == [9, 1]
    assert "9 samples; 5 have an error beyond 8 times the noise; 1 fail." in html(report(samples))


def test_text_has_colours_only_when_asked(monkeypatch):
    found = REPORTS["mixed"]
    assert summary(found) == found.summary() == re.sub(r"\x1b\[\d+m", "", summary(found, coloured))
    assert summary(found, coloured).startswith("\x1b[31mFAILED\x1b[0m")
    assert "theirs; layer dense_1; dense_1; sample" in found.summary()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert shows_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not shows_colour()


def fits(value, schema, root):
    """Whether plain data is what a part of the schema says; only the words of JSON Schema that ours uses."""
    known = {"$schema", "$id", "$defs", "$ref", "title", "description", "type", "const", "enum", "anyOf", "items"}
    assert set(schema) <= known | {"properties", "required", "additionalProperties", "minimum", "maximum"}
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool}
    types = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])

    def of(kind):
        if kind == "null":
            return value is None
        return isinstance(value, kinds[kind]) and (kind == "boolean" or not isinstance(value, bool))

    if types and not any(map(of, types)):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "anyOf" in schema and not any(fits(value, part, root) for part in schema["anyOf"]):
        return False
    if isinstance(value, dict):
        named, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        parts = [(part, named.get(key, others)) for key, part in value.items()]
        whole = set(schema.get("required", ())) <= set(value) and all(part is not False for _, part in parts)
        return whole and all(fits(part, rule, root) for part, rule in parts)
    if isinstance(value, list):
        return all(fits(part, schema.get("items", {}), root) for part in value)
    if isinstance(value, int | float):
        return schema.get("minimum", -np.inf) <= value <= schema.get("maximum", np.inf)
    return True


SCHEMA_FILE = json.loads(
    (Path(__file__).resolve().parents[1] / "docs" / "audit-report.schema.json").read_text(encoding="utf-8")
)
NET = refgrad.Network.sequential([(np.array([[1.0, -2.0]]), None, "relu"), (np.array([[1.0], [3.0]]), None, "linear")])


def honest(x):
    return NET.value_and_jacobian(x, engine="numpy")


@pytest.mark.parametrize("name", [*REPORTS, "real"])
def test_json_is_what_its_schema_says(name):
    found = refgrad.audit(NET, np.linspace(1, 2, 30), honest, engine="numpy") if name == "real" else REPORTS[name]
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert fits(data, SCHEMA_FILE, SCHEMA_FILE)
    assert data["schema"] == SCHEMA
    for key in data:
        assert not fits({other: part for other, part in data.items() if other != key}, SCHEMA_FILE, SCHEMA_FILE), key
    assert not fits(data | {"surprise": 1}, SCHEMA_FILE, SCHEMA_FILE)
    assert not fits(data | {"samples": [{"verdict": "ok"}]}, SCHEMA_FILE, SCHEMA_FILE)


def test_the_schema_is_of_all_fields_and_verdicts():
    sample = SCHEMA_FILE["$defs"]["sample"]
    assert list(sample["properties"]) == sample["required"] == list(SAMPLE.names)
    assert sample["properties"]["verdict"]["enum"] == list(VERDICTS)
    assert SCHEMA_FILE["properties"]["counts"]["required"] == list(VERDICTS)


def test_provenance_says_who_what_and_where():
    x = np.linspace(1, 2, 30)
    found = refgrad.audit(NET, x, honest, engine="numpy").provenance
    assert found["digests"] == {"network": NET.digest, "inputs": digest([x[:, None]])}
    assert digest([x]) != digest([x[:, None]]) != digest([x[::-1, None]])
    assert found["versions"]["refgrad"] == refgrad.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["cpu"]["name"]
    assert found["options"]["engine"] == "numpy"


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    REPORTS["passing"].to_html(target)
    assert target.read_text(encoding="utf-8") == html(REPORTS["passing"])

    def broken(_):
        raise RuntimeError

    monkeypatch.setattr("refgrad.auditing.report.html", broken)
    with pytest.raises(RuntimeError):
        REPORTS["mixed"].to_html(target)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "Audit passed" in target.read_text(encoding="utf-8")


def test_the_command_line_writes_a_page_that_says_how_to_do_it_again(tmp_path, capsys):
    pytest.importorskip("flint")
    model, target = GOLDEN / "mixed-keras3.keras", tmp_path / "r.html"
    words = ["audit", str(model), "--against", "exact", "--engine", "numpy", "--samples", "20", "--seed", "3"]
    assert main([*words, "--html", str(target)]) == 0
    assert "Audit passed" in target.read_text(encoding="utf-8")
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["provenance"]["command"]
    assert f"refgrad audit {model} --against exact --engine numpy" in command
    assert command.endswith("--samples 20 --seed 3")
    assert command in "".join(Page(target.read_text(encoding="utf-8")).text)
    assert reproduce(REPORTS["mixed"])[0] == "import refgrad"


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_browser_shows_it(tmp_path):
    REPORTS["evil"].to_html(tmp_path / "r.html")
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [*words, "--dump-dom", (tmp_path / "r.html").as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert Page(shown.stdout).tags.count(("main", {})) == 1
    assert "<script" not in shown.stdout
