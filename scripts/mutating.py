"""Running tests on mutants in forked children of one process, which has collected the tests and run them once."""

from __future__ import annotations

import ast
import gc
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from children import in_children, say
from mutants import ROOMS, ROOT, Mutant, mutated

TRUTHS = {
    "tests.accuracy": ("true_value", "true_slope"),
    "tests.oracle": ("value_and_jacobian",),
    "tests.oracle_ops": ("value_and_jacobians",),
}
"""Slow functions of the tests that never look at refgrad: what they found for the same arguments is kept."""

Called = tuple[str, int, str]
"""A function's file, first line and name."""

_QUICK = 0.1
_spent: list[float] = []
_known_truths: dict[bytes, Any] = {}


def _keeping(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def kept(*arguments: Any) -> Any:
        key = pickle.dumps((name, arguments))
        if key not in _known_truths:
            tracer, started = sys.gettrace(), time.perf_counter()
            sys.settrace(None)
            _known_truths[key] = function(*arguments)
            sys.settrace(tracer)
            _spent.append(time.perf_counter() - started)
        return _known_truths[key]

    return kept


class _Tests:
    """What the two plugins of pytest share: truths are kept, and output goes nowhere."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self) -> None:
        for module, names in TRUTHS.items():
            for name in names if module in sys.modules else ():
                setattr(sys.modules[module], name, _keeping(name, getattr(sys.modules[module], name)))


class Chosen(_Tests):
    """Runs only some tests, in their order, and keeps the name of the one that failed."""

    def __init__(self, names: Sequence[str]) -> None:
        self.order = {name: place for place, name in enumerate(names)}
        self.failed = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Sort them, if any are chosen."""
        if self.order:
            kept = [item for item in session.items if item.nodeid in self.order]
            session.items[:] = sorted(kept, key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The first failure."""
        if report.failed and not self.failed:
            self.failed = report.nodeid


class Loader(SourceFileLoader):
    """Loads a module from a syntax tree."""

    tree: ast.Module

    def get_code(self, fullname: str) -> CodeType:
        """The tree's code, as if the file said so."""
        del fullname
        return compile(self.tree, self.path, "exec", dont_inherit=True)


@dataclass
class Hook:
    """Finds one module, for which it has another tree."""

    name: str
    tree: ast.Module

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The usual place, read by the loader above."""
        if name != self.name:
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None
        loader = Loader(name, str(spec.origin))
        loader.tree, spec.loader = self.tree, loader
        return spec


def _functions(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _functions(constant)


def patch(mutant: Mutant) -> bool:
    """Give every live function of the mutant's file the code that the mutant has in its place; whether that can be."""
    path = ROOT / mutant.path
    old, new = (list(_functions(compile(tree, str(path), "exec", dont_inherit=True))) for tree in _trees(mutant))
    if [code.co_qualname for code in old] != [code.co_qualname for code in new]:
        return False
    other = dict(zip(old, new, strict=True))
    for function in [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]:
        code = function.__code__
        if code.co_filename == str(path) and (changed := other.get(code, code)) != code:
            if code.co_freevars != changed.co_freevars:
                return False
            function.__code__ = changed
    return True


def _trees(mutant: Mutant) -> tuple[ast.Module, ast.Module]:
    """The file's and the mutant's."""
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    return mutated(source, None), mutated(source, mutant.place)


def fresh(mutant: Mutant | None, files: Sequence[str], names: Sequence[str], *options: str) -> str:
    """Import everything anew, the mutant among it, and run tests; what killed it, or nothing."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("refgrad", "tests")]:
        del sys.modules[name]
    if mutant is not None:
        name = mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        sys.meta_path.insert(0, Hook(name, _trees(mutant)[1]))  # type: ignore[arg-type]
    chosen = Chosen(names)
    code = pytest.main(["-x", "-q", "-s", "-p", "no:cacheprovider", *options, *files], plugins=[chosen])
    return "" if code == 0 else chosen.failed or "importing or collecting"


@dataclass
class Baseline(_Tests):
    """The tests as they are: how long each takes, and which functions it calls; then the mutants, one after the other.

    `heard` is told of every mutant and of what killed it.
    """

    mutants: Sequence[Mutant]
    jobs: int
    heard: Callable[[Mutant, str], None]
    collecting: set[Called] = field(default_factory=set)
    calls: dict[str, set[Called]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    items: dict[str, pytest.Item] = field(default_factory=dict)
    killers: list[str] = field(default_factory=list)
    failing: int = 0

    def pytest_collection(self) -> None:
        """Note what importing and collecting calls."""
        sys.settrace(called_into(self.collecting))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run every test once, and every mutant."""
        sys.settrace(None)
        for item in session.items:
            self._measure(item)
        say(f"{len(self.items)} tests take {sum(self.seconds.values()):.0f} s")
        say(f"{self.failing} are left out: they fail without Numba")
        gc.freeze()
        limit = 30 + 4 * sum(self.seconds.values())
        if control := next(in_children([None], self._kill, limit, 1))[1]:
            sys.exit(f"with no mutant at all a test fails: {control}")
        for mutant, killer in in_children(self.mutants, self._kill, limit, self.jobs):
            if killer in self.items:
                self.killers = [*(name for name in self.killers if name != killer), killer][-100:]
            self.heard(mutant, killer)
        return True

    def _measure(self, item: pytest.Item) -> None:
        calls, started = set(), time.perf_counter()
        _spent.clear()
        tracer = called_into(calls)
        threading.settrace(tracer)
        sys.settrace(tracer)
        passed = passes(item)
        threading.settrace(None)
        sys.settrace(None)
        seconds = time.perf_counter() - started - sum(_spent)
        if not passed:
            self.failing += 1
        elif calls or seconds < _QUICK:
            self.items[item.nodeid], self.calls[item.nodeid], self.seconds[item.nodeid] = item, calls, seconds

    def _names(self, mutant: Mutant) -> list[str]:
        """The tests that call the mutated function: the last killers first, then the quick ones.

        Where importing or collecting runs what is mutated, those that call anything in its file, and then all others
        that are quick: they may look at it.
        """
        last = {name: place for place, name in enumerate(self.killers)}
        ordered = sorted(self.items, key=lambda name: (-last.get(name, -1), self.seconds[name]))
        if not self._is_imported(mutant):
            return [name for name in ordered if (mutant.path, *mutant.code) in self.calls[name]]
        near = {name: any(path == mutant.path for path, *_ in self.calls[name]) for name in ordered}
        chosen = [name for name in ordered if near[name] or self.seconds[name] < _QUICK]
        return sorted(chosen, key=lambda name: not near[name])

    def _is_imported(self, mutant: Mutant) -> bool:
        return mutant.code is None or (mutant.path, *mutant.code) in self.collecting

    def _kill(self, mutant: Mutant | None) -> str:
        names = self._names(mutant) if mutant else [name for name in self.items if self.seconds[name] < _QUICK]
        if mutant is not None and mutant.code is not None and patch(mutant):
            for name in names:
                if not passes(self.items[name]):
                    return name
        return fresh(mutant, sorted({name.split("::")[0] for name in names}), names) if names else ""


def passes(item: pytest.Item) -> bool:
    """Run one test."""
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def called_into(calls: set[Called]) -> Callable[..., None]:
    """A trace function that notes the functions of the rooms that are called."""
    rooms = tuple(f"{ROOT}/refgrad/{room}/" for room in ROOMS)
    start = len(str(ROOT)) + 1

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        del event, argument
        code = frame.f_code
        if code.co_filename.startswith(rooms):
            calls.add((code.co_filename[start:], code.co_firstlineno, code.co_name))

    return trace
