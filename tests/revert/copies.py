"""Copies of the tree in which guards are missing, and tests that run there.

Each run is a fork of this process, which has the libraries loaded: that saves most of the time that
a test of a single guard takes.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

from tests.revert.guards import ROOT

LIBRARIES = ("hypothesis.strategies", "numpy", "orjson", "redis.asyncio", "structlog", "torch")
LEFT_OUT = (".*", "build", "node_modules")
PYTEST = ("-q", "-x", "-p", "no:cacheprovider", "-p", "pytest_timeout")
PYTEST += ("-o", "timeout_func_only=true")  # the start of a server takes long on a busy machine
# Code that cannot run at all proves nothing.
BROKEN = ("SyntaxError", "ImportError", "NameError", "script compilation", "compiling script")
TIME_LIMIT = "time limit"


class Outcome(NamedTuple):
    """What a run of tests ended in."""

    passed: bool
    noticed: str
    """The type of the exception with which a test failed; empty if none did by itself."""

    text: str
    seconds: dict[str, float]
    """How long each test took."""


@dataclass
class Run:
    """A process that runs tests in a copy."""

    folder: Path
    process: int
    ends_at: float
    began: float

    def outcome(self) -> Outcome | None:
        """Return how it ended, or None while it runs."""
        late = time.monotonic() > self.ends_at
        if late:
            self._kill()
        ended, status = os.waitpid(self.process, 0 if late else os.WNOHANG)
        if not ended:
            return None
        self._kill()  # what its tests have left
        text = (self.folder / "output").read_text(errors="replace")
        passed = status == 0 and "skipped" not in text
        report = self.folder / "report.xml"
        cases = [*ET.parse(report).iter("testcase")] if report.exists() else []
        seconds = {_id(each): float(each.get("time", 0)) for each in cases}
        return Outcome(passed, TIME_LIMIT if late else _failure(cases), text, seconds)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)


def _id(case: ET.Element) -> str:
    """Return the ID by which pytest finds a test."""
    return f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"


def _failure(cases: Iterable[ET.Element]) -> str:
    """Return the type of the exception with which a test failed by itself, not before it ran."""
    found = [each.get("message", "") for case in cases for each in case.iter("failure")]
    if not found or any(word in found[0] for word in BROKEN):
        return ""
    if "Timeout" in found[0]:
        return TIME_LIMIT
    name = found[0].split(":")[0].split("\n")[0]
    return "AssertionError" if name.startswith("assert ") else name


class Copy:
    """A copy of the tree."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "tree"
        self._moments = itertools.count(1_000_000_000, 10)
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(*LEFT_OUT))

    def write(self, file: str, text: str) -> str:
        """Write a file; return what it was before."""
        path = self.root / file
        before = path.read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        moment = next(self._moments)  # Python takes compiled code of the same second as current
        os.utime(path, (moment, moment))
        return before

    def start(self, tests: Iterable[str], test_limit_s: float, limit_s: float) -> Run:
        """Start tests in a process of their own; each has a limit, and so have all of them."""
        (self.folder / "report.xml").unlink(missing_ok=True)
        began = time.monotonic()
        process = os.fork()
        if not process:
            self._execute([f"--timeout={test_limit_s}", *tests])
        with suppress(ProcessLookupError, PermissionError):
            os.setpgid(process, process)
        return Run(self.folder, process, began + limit_s, began)

    def _execute(self, words: list[str]) -> NoReturn:
        os.setpgid(0, 0)
        output = os.open(self.folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(output, number)
        os.chdir(self.root)
        own = [str(self.root), str(self.root / "shared")]
        os.environ["PYTHONPATH"] = os.pathsep.join(own)
        os.environ.pop("LEFT_OUT", None)
        sys.dont_write_bytecode = False  # most of the time of a run, otherwise
        sys.path[:] = own + [each for each in sys.path if each not in ("", *_PATHS)]
        for name in [each for each in sys.modules if each.split(".")[0] == "tests"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        code = 1
        try:
            code = int(pytest.main([*PYTEST, f"--junitxml={self.folder}/report.xml", *words]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)


_PATHS = (str(ROOT), str(ROOT / "shared"))


@contextmanager
def copies(count: int) -> Iterator[list[Copy]]:
    """Load the libraries and make copies of the tree; remove those afterwards."""
    os.environ.setdefault("MKL_CBWR", "AUTO")  # as components set it; MKL reads it at its first use
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # loading them takes longer than most tests
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # pytest collects garbage at its end; what was loaded here is left alone
    with tempfile.TemporaryDirectory(prefix="roomgrad-revert-") as folder:
        yield [Copy(Path(folder, str(number))) for number in range(count)]
