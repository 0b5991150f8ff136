"""The registry of systems: plug-ins by entry points, and the modules of their components."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from roomgrad import systems
from roomgrad.errors import ContractError
from roomgrad.systems import Plugin, module_of
from roomgrad_melody.contract import MELODY
from roomgrad_trebuchet.contract import TREBUCHET

SERVICES = Path(__file__).parents[2] / "services"


def test_the_systems_of_this_checkout_are_installed() -> None:
    """By the names of their contracts."""
    assert {"melody", "trebuchet"} <= systems.installed().keys()


def test_a_component_is_started_as_the_module_of_its_own_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two systems may have a component of one name."""
    plugins = {
        "melody": Plugin(MELODY, {"house": "one.house"}),
        "trebuchet": Plugin(TREBUCHET, {"house": "two.house"}),
    }
    monkeypatch.setattr(systems, "installed", lambda: plugins)
    assert module_of("house", "melody") == "one.house"
    assert module_of("house", "trebuchet") == "two.house"
    assert module_of("house", "not installed") == "one.house"
    assert module_of("dashboard") == "roomgrad.web.dashboard"
    assert module_of("nothing", "melody") is None


def test_systems_and_their_commands_are_listed_without_numpy() -> None:
    """`roomgrad --help` loads no contract, as those import numpy, and those of others may more."""
    code = (
        "import sys, typer.main; from roomgrad.cli.main import app; from roomgrad import systems;"
    )
    code += "group = typer.main.get_command(app); print(*group.list_commands(None));"
    code += "assert systems.installed()['trebuchet'].metrics and 'numpy' not in sys.modules"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    assert {"run", "up", "shoot", "rate", "labels", "melody"} <= set(listed.stdout.split())


def test_a_reference_that_leads_nowhere_says_so() -> None:
    """The plug-in's author reads it."""
    with pytest.raises(ContractError, match="no_such_module"):
        systems.load("no_such_module:plugin")


@pytest.mark.parametrize(
    "main", sorted(SERVICES.glob("*/__main__.py")), ids=lambda path: path.parent.name
)
def test_a_component_has_one_name_however_it_is_started(main: Path) -> None:
    """A relative import would load it as `services.NAME`, too, whose numba cache is another's."""
    nodes = ast.walk(ast.parse(main.read_text()))
    assert not [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
