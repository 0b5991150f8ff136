"""Groups of commands that the installed systems fill; nothing is loaded before it is needed."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """The commands of roomgrad, and those of the installed systems."""

    def list_commands(self, context: Any) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return [*dict.fromkeys(["run", "up", *super().list_commands(context), *_of_systems()])]

    def get_command(self, context: Any, name: str) -> Any:
        """Return a command of roomgrad, or else of a system."""
        return super().get_command(context, name) or _of_systems().get(name)


class RunCommands(TyperGroup):
    """A command `roomgrad run SYSTEM` for each system."""

    def list_commands(self, context: Any) -> list[str]:
        """Return the names of the systems."""
        return _systems()

    def get_command(self, context: Any, name: str) -> Any:
        """Return the command of a system. Raises SettingsError if there is no such system."""
        from roomgrad.cli import run

        return run.command_of(name)


class UpCommands(TyperGroup):
    """A command `roomgrad up SYSTEM` for each system, and one for each swarm file."""

    def list_commands(self, context: Any) -> list[str]:
        """Return the names of the systems."""
        return _systems()

    def get_command(self, context: Any, name: str) -> Any:
        """Return the command of a system or a swarm file. Raises SettingsError."""
        from roomgrad.cli import up

        return up.command_of(name)


def _systems() -> list[str]:
    from roomgrad.systems import installed

    return sorted(installed())


def _of_systems() -> dict[str, Any]:
    from roomgrad.systems import installed, load

    found: dict[str, Any] = {}
    for _, plugin in sorted(installed().items()):
        if plugin.commands:
            group: Any = typer.main.get_group(load(plugin.commands))
            found |= group.commands
    return found
