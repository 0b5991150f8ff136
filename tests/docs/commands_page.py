"""Write `docs/commands.md`, the reference of the command line, from the commands themselves.

python -m tests.docs.commands_page
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import typer

from roomgrad.cli.main import app
from tests.docs.pages import ROOT

COMMON_FROM = 8  # an option that so many commands have is described once

HEAD = """\
# Commands

<!-- Written by `python -m tests.docs.commands_page`; change the commands in `roomgrad.cli`. -->

[Inspect a run](inspect.md) shows the most useful ones at work.
"""


def page() -> str:
    """Return the whole page."""
    commands = dict(_commands("roomgrad", typer.main.get_command(app)))
    counts = Counter(_row(each) for command in commands.values() for each in _options(command))
    by_name: dict[str, str] = {}  # of two descriptions of an option, the more frequent one
    for row, count in counts.most_common():
        if count >= COMMON_FROM:
            by_name.setdefault(row.split(" | ")[0], row)
    common = list(by_name.values())
    parts = [HEAD, "## Common options\n", *_table(common), ""]
    parts += [_section(name, command, common) for name, command in sorted(commands.items())]
    return "\n".join(parts)


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield each command by its full name, those of a group too."""
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    context = typer.Context(command)
    for word in command.list_commands(context):
        each = command.get_command(context, word)
        each = getattr(each, "command", each)
        if not each.hidden:
            yield from _commands(f"{name} {word}", each)


def _options(command: Any) -> list[Any]:
    return [each for each in command.params if each.name != "help" and not each.hidden]


def _section(name: str, command: Any, common: list[str]) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join([name, *(_argument(each) for each in arguments)])
    rows = [_row(each) for each in _options(command)]
    own = [row for row in rows if row not in common]
    also = [row.split(" | ")[0].strip("| ") for row in rows if row in common]
    parts = [f"## {name}\n", f"    {usage}\n", f"{_text(command.help)}\n"]
    parts += [*_table(own), ""] if own else []
    parts += [f"Common options: {', '.join(also)}.\n"] if also else []
    return "\n".join(parts)


def _table(rows: list[str]) -> list[str]:
    return ["| | |", "|---|---|", *rows]


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name).strip("[]{}").upper()
    return name if argument.required else f"[{name}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = _argument(parameter)
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
        name = ", ".join(parameter.opts) + value
    return f"| `{name}` | {_text(parameter.help)} |"


def _text(text: str | None) -> str:
    """Return help text as Markdown: paragraphs stay, and no line break is left in one."""
    paragraphs = (text or "").replace("\b", "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs).replace("|", "\\|")


if __name__ == "__main__":
    (ROOT / "docs" / "commands.md").write_text(page(), encoding="utf-8")
