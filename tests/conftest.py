"""Skip what this machine cannot run, and list it with how to enable it.

REQUIRE_ALL=1 makes whatever was left out a failure. LEFT_OUT names a file that carries the list
from one run of pytest to the next, so that the last run of `make test` shows all of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Generator, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("MKL_CBWR", "AUTO")  # as components set it; MKL reads it at its first use

NO_DOCKER = (
    "no Docker engine answers `docker info`: install Docker with its compose plugin and start it"
)
NO_BROWSER = (
    "no Chromium, or no playwright to drive it: install Chromium (Debian and Ubuntu: apt install "
    "chromium), and playwright by `make install`"
)

NO_PROMETHEUS = (
    "no Prometheus with its promtool: install it (Debian and Ubuntu: apt install prometheus); it "
    "need not run"
)

NO_KUBECTL = (
    "no kubectl with kustomize 4 or newer: install one (Debian 13: apt install kubernetes-client); "
    "it needs no cluster"
)


# testcontainers would start a clean-up container from an image that this project does not name.
# The fixtures remove their containers themselves. It reads this variable when it is imported.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

# The duration of an example depends on how busy the machine is.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


@cache
def has_docker() -> bool:
    """Return whether an engine answers, and compose is there."""
    commands = (["docker", "info"], ["docker", "compose", "version"])
    try:
        return all(subprocess.run(each, capture_output=True).returncode == 0 for each in commands)
    except OSError:
        return False


@cache
def has_kubectl() -> bool:
    """Return whether there is a kubectl that names its kustomize, as all recent ones do."""
    try:
        told = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True)
    except OSError:
        return False
    return "Kustomize" in told.stdout


@cache
def chromium() -> str:
    """Return the program of a Chromium, or "" if it or its driver is missing."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), "")
    return found if find_spec("playwright") else ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the tests that may take longest if one after the other is handed out."""
    if getattr(config.option, "loadgroup", False):  # as xdist tells its processes
        items.sort(key=_most_seconds, reverse=True)


def _most_seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else item.config.getini("timeout"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") and not chromium():
        pytest.skip(NO_BROWSER)
    if item.get_closest_marker("docker") and not has_docker():
        pytest.skip(NO_DOCKER)
    if item.get_closest_marker("kubectl") and not has_kubectl():
        pytest.skip(NO_KUBECTL)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if left_out(session.config) and os.environ.get("REQUIRE_ALL") == "1" and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None]:
    yield  # first what pytest itself has to say, so that this block ends the output
    if not hasattr(config, "workerinput"):  # a process of xdist reports to one that prints
        _show(terminalreporter, carried(Counter(left_out(config))))


def _show(reporter: pytest.TerminalReporter, reasons: Counter[str]) -> None:
    if not reasons:
        return
    reporter.section("left out on this machine", yellow=True)
    for reason, count in reasons.items():
        reporter.line(f"{count:4} test{'s' if count > 1 else ' '}  {reason}")
    if os.environ.get("REQUIRE_ALL") == "1":
        reporter.line("REQUIRE_ALL=1: this counts as a failure.", red=True)


def left_out(config: pytest.Config) -> list[str]:
    """Return the reason of each test that was skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return list(_reasons(reporter)) if reporter else []


def _reasons(reporter: pytest.TerminalReporter) -> Iterator[str]:
    for report in reporter.stats.get("skipped", []):
        if not hasattr(report, "wasxfail"):
            longrepr = report.longrepr
            reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
            yield reason.removeprefix("Skipped: ")


def carried(reasons: Counter[str]) -> Counter[str]:
    """Add these reasons to those of earlier runs, which are stored in the file LEFT_OUT."""
    name = os.environ.get("LEFT_OUT")
    if not name:
        return reasons
    lines = [reason for reason, count in reasons.items() for _ in range(count)]
    with Path(name).open("a+") as file:
        file.writelines(f"{' '.join(line.split())}\n" for line in lines)
        file.seek(0)
        return Counter(file.read().splitlines())
