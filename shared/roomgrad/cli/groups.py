"""Groups of commands; nothing is imported before it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from roomgrad.cli.commands import MODULES, PANELS, SETTINGS
from roomgrad.systems import installed, load


class Commands(TyperGroup):
    """The commands of roomgrad, and those of the installed systems."""

    def list_commands(self, context: Any) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        ours = [name for panel in PANELS.values() for name in panel]
        return [*dict.fromkeys([*super().list_commands(context), *ours, *_of_systems()])]

    def get_command(self, context: Any, name: str) -> Any:
        """Return a command of roomgrad, or else of a system."""
        for panel, commands in PANELS.items():
            if name in commands:
                return Listed(name, help=commands[name], rich_help_panel=panel)
        return super().get_command(context, name) or _of_systems().get(name)


class Listed(TyperCommand):
    """A command as the help lists it; the module of the command is imported when it is called."""

    @property
    def command(self) -> Any:
        """The command itself."""
        name = str(self.name)
        found = getattr(import_module(f"roomgrad.cli.{MODULES.get(name, name)}"), name)
        if not isinstance(found, typer.Typer):
            return command_of(name, found, str(self.help), SETTINGS.get(name, {}))
        group: Any = typer.main.get_command(found)
        group.help = self.help
        return group

    def make_context(self, *words: Any, **more: Any) -> Any:
        """Read the words after the name of the command."""
        return self.command.make_context(*words, **more)


class OfSystems(TyperGroup):
    """A command for each system: `roomgrad run SYSTEM`, `roomgrad up SYSTEM`."""

    module: ClassVar[str]
    """Its function `command_of(name)` returns the command of a system."""

    def list_commands(self, context: Any) -> list[str]:
        """Return the names of the systems."""
        return sorted(installed())

    def get_command(self, context: Any, name: str) -> Any:
        """Return the command of a system or a swarm file. Raises SettingsError."""
        return import_module(self.module).command_of(name)


class RunCommands(OfSystems):
    """`roomgrad run`."""

    module = "roomgrad.cli.run"


class UpCommands(OfSystems):
    """`roomgrad up`."""

    module = "roomgrad.cli.up"


def command_of(name: str, call: Any, about: str, settings: Any = None) -> Any:
    """Return the command that calls a function with its options."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, help=about, context_settings=settings)(call)
    return typer.main.get_command(app)


def _of_systems() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _, plugin in sorted(installed().items()):
        if plugin.commands:
            group: Any = typer.main.get_group(load(plugin.commands))
            found |= group.commands
    return found
