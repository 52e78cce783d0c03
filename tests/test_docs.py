"""What the README and the documentation say is run: Python, command lines, and what they print; tables are compared."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import refgrad
from refgrad import cli
from refgrad.ops import OPS
from tests.cases import GOLDEN

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
BLOCK = re.compile(r"^(?:<!-- needs: ([\w ]+) -->\n)?```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
PRESENT = {
    "model.h5": "question-keras3.h5",
    "model.keras": "question-keras3.keras",
    "model.json": "question-keras3.json",
    "model.weights.h5": "question-keras3.weights.h5",
    "branches.keras": "branches-keras3.keras",
}
"""What a page finds in the folder it is run in, beside `x.csv`, `x.npy` and `both.npz`, and the golden file that is."""


def blocks(page):
    """The code of a page: (its line, what it needs, its language, its text, what it prints if that is said)."""
    found = []
    end = 0
    for match in BLOCK.finditer(page):
        needs, language, text = match.groups()
        follows = found and found[-1][2] == "python" and not page[end : match.start()].strip()
        if language == "text" and follows:
            found[-1] = (*found[-1][:4], text)
        else:
            found.append((page[: match.start(3)].count("\n"), needs, language, text, None))
        end = match.end()
    return [block for block in found if block[2] in ("python", "console")]


def words(text):
    return [word for word in re.split(r"[\s\[\](),]+", text) if word]


def assert_printed(printed, expected, where):
    """Word for word, numbers to a millionth: another machine may differ in the last digit. A line `…` is any lines."""
    head, gap, tail = (words(part) for part in expected.partition("\n…\n"))
    found = words(printed)
    if gap:
        assert len(found) >= len(head) + len(tail), f"{where} prints\n{printed}"
        found = [*found[: len(head)], *found[len(found) - len(tail) :]]
    assert len(found) == len(head) + len(tail), f"{where} prints\n{printed}"
    for word, wanted in zip(found, [*head, *tail], strict=True):
        try:
            same = float(word) == pytest.approx(float(wanted), rel=1e-6)
        except ValueError:
            same = word == wanted
        assert same, f"{where} says {wanted}, but prints\n{printed}"


def run_command(line, monkeypatch):
    """One command line, in this process: what it prints, and its exit status. `echo … |` may give it an input."""
    given, pipe, command = line.rpartition(" | ")
    argv = shlex.split(command, comments=True)
    assert argv[0] == "refgrad", f"{line}: only refgrad is run here"
    if pipe:
        assert given.startswith("echo "), f"{line}: only echo can come before it"
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(shlex.split(given)[1:]) + "\n"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = cli.main(argv[1:])
    return printed.getvalue(), status


def run_console(text, where, monkeypatch):
    """Lines `$ command`, each with what it prints below it; `$ echo $?` shows the status, which is 0 otherwise."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not parts[0], f"{where} does not begin with a command"
    shows_output = any(part.partition("\n")[2].strip() for part in parts)
    status, asked = 0, False
    for line, _, expected in (part.partition("\n") for part in parts[1:]):
        asked = line == "echo $?"
        if asked:
            assert expected.strip() == str(status), f"{where}: the exit status is {status}"
            status = 0
            continue
        assert status == 0, f"{where}: a command before {line!r} ends with {status}"
        printed, status = run_command(line, monkeypatch)
        if shows_output:
            assert_printed(printed, expected, f"{where}: {line}")
    assert status == 0, f"{where} ends with {status}"


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if blocks(page)])
def test_a_page_does_what_it_says(name, tmp_path, monkeypatch):
    for present, golden in PRESENT.items():
        shutil.copy(GOLDEN / golden, tmp_path / present)
    np.save(tmp_path / "x.npy", np.linspace(-10, 20, 7, dtype=np.float32)[:, None])
    with np.load(GOLDEN / "branches-keras3.npz") as truth:
        np.savez(tmp_path / "both.npz", action=truth["x_0"], state=truth["x_1"])
    (tmp_path / "x.csv").write_text("-10\n0.5\n20\n")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for line, needs, language, text, expected in blocks(PAGES[name]):
        where = f"{name}, line {line}"
        code = compile("\n" * line + text, name, "exec") if language == "python" else None
        if needs and not all(find_spec(module) for module in needs.split()):
            continue
        if code is None:
            run_console(text, where, monkeypatch)
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        assert_printed(printed.getvalue(), expected or "", where)


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_links_of_a_page_can_be_checked(name):
    """A command outside of a block would not be run; a link to a file that is not there would lead nowhere."""
    prose = BLOCK.sub("", PAGES[name])
    assert not re.findall(r"^(?: {4,}|\t|\$ )refgrad .*", prose, re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        assert "://" in target or ((ROOT / name).parent / target).exists(), target


def test_generated_pages_are_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    made = import_module("make_docs").pages()
    for name, text in made.items():
        assert PAGES[f"docs/{name}"] == text, f"docs/{name} is stale: run python scripts/make_docs.py"


def test_every_piece_of_source_that_a_page_shows_is_there(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    hook = import_module("source_in_docs")
    for page in PAGES.values():
        assert len(hook.DIRECTIVE.findall(page)) == len(re.findall(r"^<!-- (?:code|docstring)\b", page, re.MULTILINE))
        hook.expanded(page)
    with pytest.raises(LookupError, match=r"nothing defines Affine\.nonsense"):
        hook.expanded("<!-- code: refgrad/ops/affine.py Affine.nonsense -->")


def test_the_mathematics_shows_every_op():
    """With its equation, and its value and both products where they are its own and not its parent's."""
    page = PAGES["docs/mathematics/ops.md"]
    for op in OPS.values():
        path = op.__module__.replace(".", "/") + ".py"
        assert re.search(rf"<!-- docstring: {path} (?:\w+ )*{op.__name__}\b", page), op
        for method in ("forward", "jvp", "vjp"):
            home = next(parent for parent in op.__mro__ if method in vars(parent))
            assert f"{home.__name__}.{method}" in page, (op, method)


def test_the_reference_has_every_public_name():
    page = PAGES["docs/reference.md"]
    for name in set(refgrad.__all__) - {"__version__"}:
        assert f"\n::: refgrad.{name}\n" in page, name


def test_the_readme_has_code_and_the_two_commands():
    assert len(blocks(PAGES["README.md"])) >= 2
    assert "python scripts/demo.py" in PAGES["README.md"]
    assert "python scripts/test.py" in PAGES["README.md"]
