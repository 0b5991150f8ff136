"""The command `roomgrad`; `commands` lists its commands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, NoReturn

import typer
from typer import Exit, Option

from roomgrad.cli import output
from roomgrad.cli.commands import RUN, UP
from roomgrad.cli.groups import Commands, RunCommands, UpCommands
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError

app = typer.Typer(
    cls=Commands,
    help="Train a model through other programs: components in rooms, Redis between them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.say(f"roomgrad {metadata.version('roomgrad')}")
        raise Exit


@app.callback()
def before(
    version: Annotated[
        bool,
        Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Set up what all commands need."""
    from roomgrad import log  # which `roomgrad --help` does without

    log.setup("warning")


run = typer.Typer(
    name="run",
    cls=RunCommands,
    no_args_is_help=True,
    subcommand_metavar="SYSTEM [OPTIONS]",
    help=RUN,
)
up = typer.Typer(
    name="up",
    cls=UpCommands,
    no_args_is_help=True,
    subcommand_metavar="SYSTEM|swarm.yaml [OPTIONS]",
    help=UP,
)
app.add_typer(run)
app.add_typer(up)


def main() -> NoReturn:
    """Run the command; an error of ours becomes one sentence on stderr and the exit code 1 or 2."""
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, _terminated)  # which a shell's background job would ignore
    output.guard_output()
    code = _code_of(lambda: app(prog_name="roomgrad", standalone_mode=False))
    sys.exit(_code_of(sys.stdout.flush) or code)


def _code_of(call: Callable[[], object]) -> int:
    """Call something and return the exit code; say what went wrong."""
    try:
        code = call()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # what reads the output has read enough, like `| head`
        output.discard_output()
        return 1
    except Exit as leaving:
        return leaving.exit_code
    except RoomgradError as error:
        output.warn(str(error))
        return 2 if isinstance(error, SettingsError | RunMismatch) else 1
    except typer.TyperException as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if not type(error).__module__.startswith("redis."):  # which is slow to import
            raise
        output.warn(f"the server was lost meanwhile ({error}): try again")
        return 1


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
    output.warn(sentence)
    return code


if __name__ == "__main__":
    main()
