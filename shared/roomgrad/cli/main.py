"""The command `roomgrad`.

Whatever a command needs is imported when it runs, so that all the others start fast.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import typer
from typer import Exit

from roomgrad.cli.acl import acl
from roomgrad.cli.asyncapi import asyncapi
from roomgrad.cli.backup import backup
from roomgrad.cli.check import check
from roomgrad.cli.dashboard import dashboard
from roomgrad.cli.dead import dead
from roomgrad.cli.doctor import doctor
from roomgrad.cli.down import down
from roomgrad.cli.echo import echo
from roomgrad.cli.forget import forget
from roomgrad.cli.gateway import gateway
from roomgrad.cli.groups import Commands, RunCommands, UpCommands
from roomgrad.cli.health import health
from roomgrad.cli.info import info
from roomgrad.cli.lag import lag
from roomgrad.cli.memory import memory
from roomgrad.cli.model import model
from roomgrad.cli.new import new
from roomgrad.cli.ps import ps
from roomgrad.cli.pub import pub
from roomgrad.cli.rates import bw, delay, hz
from roomgrad.cli.replay import replay
from roomgrad.cli.request import request
from roomgrad.cli.restore import restore
from roomgrad.cli.rooms import rooms
from roomgrad.cli.top import top
from roomgrad.cli.trace import trace
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError

PANELS: dict[str, tuple[Callable[..., object], ...]] = {
    "Inspect a run": (ps, rooms, info, lag, memory, model, top, trace, doctor),
    "Read and send messages": (echo, hz, bw, delay, pub, request, replay),
    "Save and restore": (backup, restore),
    "Your own components": (new, check, asyncapi, acl),
}

app = typer.Typer(
    cls=Commands,
    help="Train a model through other programs: components in rooms, Redis between them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


run = typer.Typer(
    name="run",
    cls=RunCommands,
    no_args_is_help=True,
    subcommand_metavar="SYSTEM [OPTIONS]",
    help="Run a system in the foreground until it is done, or until Ctrl+C.",
)
up = typer.Typer(
    name="up",
    cls=UpCommands,
    no_args_is_help=True,
    subcommand_metavar="SYSTEM|swarm.yaml [OPTIONS]",
    help="Serve a system, or the programs of a swarm file, in the background until `down`.",
)

app.add_typer(run)
app.add_typer(up)
for common in (down, health, forget):
    app.command()(common)
for program in (gateway, dashboard):
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
        program
    )
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(dead)


def main() -> NoReturn:
    """Run the command; an error of ours becomes one sentence on stderr and the exit code 1 or 2."""
    from roomgrad import log

    log.setup("warning")
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, _terminated)  # which a shell's background job would ignore
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except Exit as leaving:
        sys.exit(leaving.exit_code)
    except RoomgradError as error:
        _say(str(error))
        sys.exit(2 if isinstance(error, SettingsError | RunMismatch) else 1)
    except typer.TyperException as error:
        sys.exit(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        if not type(error).__module__.startswith("redis."):  # which is slow to import
            raise
        _say(f"the server was lost meanwhile ({error}): try again")
        sys.exit(1)


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def _usage(error: typer.TyperException) -> int:
    """Say in one sentence what is wrong with the command line; return the exit code."""
    code = getattr(error, "exit_code", 2)
    format_message = getattr(error, "format_message", None)
    sentence = " ".join(str(format_message() if format_message else error).split())
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return 2  # the help has been shown already
    if context is not None and not sentence.endswith("."):
        sentence += f"; {context.command_path} --help shows what there is"
    _say(sentence)
    return code


def _say(sentence: str) -> None:
    print(f"roomgrad: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    main()
