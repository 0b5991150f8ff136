"""The command `roomgrad`.

Whatever a command needs is imported when it runs, so that all the others start fast.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer import Argument, Exit, Option

from roomgrad.errors import RoomgradError, RunMismatch, SettingsError

if TYPE_CHECKING:
    from roomgrad.commands.plan import Plan

app = typer.Typer(
    help="Train a model through other programs: components in rooms, Redis between them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _whole(flag: str, low: int, high: int) -> Callable[[str | int], int]:
    """Reads a whole number, or says in one sentence which are allowed."""

    def parse(text: str | int) -> int:
        if not str(text).isdecimal() or not low <= int(text) <= high:
            raise SettingsError(f"{flag} {text}: allowed is a whole number from {low} to {high}")
        return int(text)

    return parse


def _number(flag: str, low: int, high: int, about: str) -> Any:
    return Option(flag, parser=_whole(flag, low, high), metavar="N", help=about)


def _preset(text: str) -> str:
    if text not in ("learn", "original"):
        raise SettingsError(f"--preset {text}: allowed is learn or original")
    return text


SystemName = Annotated[str, Argument(help="The system, like trebuchet.", metavar="SYSTEM")]
Steps = Annotated[int, _number("--steps", 1, 10**7, "How many batches are trained in all.")]
Seed = Annotated[int, _number("--seed", 0, 2**63 - 1, "Seed of the batches and first weights.")]
Preset = Annotated[
    str,
    Option(parser=_preset, metavar="NAME", help="learn, or original: as in the first version."),
]
Replicas = Annotated[
    list[str] | None,
    Option(metavar="NAME=N,...", help="How many of a component, like simulator=2,trainer=1."),
]
Window = Annotated[int, _number("--window", 1, 10_000, "How many batches are open at a time.")]
Threads = Annotated[int, _number("--threads", 0, 1024, "CPU threads of torch; 0: its own.")]
Redis = Annotated[str, Option(help="Address of a server; REDIS_URL or an embedded one if empty.")]
Run = Annotated[str, Option(help="Name of the run; the system's name if empty.")]
Fresh = Annotated[bool, Option("--fresh", help="Delete the run first.")]
AsJson = Annotated[bool, Option("--json", help="Print the result as one JSON object.")]


@app.command()
def run(
    system: SystemName,
    steps: Steps = 1000,
    seed: Seed = 0,
    preset: Preset = "learn",
    replicas: Replicas = None,
    window: Window = 1,
    threads: Threads = 1,
    redis: Redis = "",
    run: Run = "",
    fresh: Fresh = False,
    picture: Annotated[str, Option(help="Draw what was learned into this file.")] = "",
    as_json: AsJson = False,
) -> None:
    """Train a system, show how it learns, evaluate it, and stop everything again."""
    from rich.console import Console

    from roomgrad.commands import demo

    plan = _plan(system, steps, seed, preset, replicas, window, threads, run)
    console = Console(highlight=False)
    try:
        demo.run(plan, redis, fresh=fresh, picture=picture, as_json=as_json, console=console)
    except KeyboardInterrupt:
        _say("stopped; what was learned is kept, and the same command without --fresh goes on.")
        raise


@app.command()
def up(
    system: SystemName,
    steps: Steps = 1000,
    seed: Seed = 0,
    preset: Preset = "learn",
    replicas: Replicas = None,
    window: Window = 1,
    threads: Threads = 1,
    redis: Redis = "",
    run: Run = "",
    fresh: Fresh = False,
) -> None:
    """Serve a system in the background until `roomgrad down`."""
    from roomgrad.commands import up as background
    from roomgrad.commands.report import where_to_look

    plan = _plan(system, steps, seed, preset, replicas, window, threads, run)
    started, state = background.up(plan, redis, fresh=fresh)
    name = plan.names.run
    if started:
        print(f"{name} is up: {state['server']}, process {state['pid']}.")
    else:
        print(f"{name} is up already (process {state['pid']}); nothing was changed.")
    if "url" in state:
        print("\n".join(where_to_look(name, state["url"], up=True)))


@app.command()
def down(run: Run = "trebuchet") -> None:
    """Stop what `roomgrad up` serves; its data stays."""
    from roomgrad.commands import up as background

    if background.down(run):
        print(f"{run} is down; its data is kept, and `roomgrad up` goes on with it.")
    else:
        print(f"{run} is not up; nothing was to be done.")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def shoot(
    context: typer.Context,
    wind: Annotated[str, Option(help="Wind in m/s.")] = "",
    target: Annotated[str, Option(help="Distance of the target in m.")] = "",
    csv: Annotated[str, Option(help="File with the columns wind and target.")] = "",
    redis: Redis = "",
    run: Run = "",
    as_json: AsJson = False,
) -> None:
    """Ask the running trebuchet how to hit a target, and where that shot lands."""
    from roomgrad import project

    given = {"wind": wind, "target": target, "csv": csv, "redis-url": redis, "run": run}
    flags = [f"--{name}={value}" for name, value in given.items() if value]
    flags += ["--json"] if as_json else []
    # The service takes this process over: it starts once, and its exit code is ours.
    path = os.pathsep.join(filter(None, [str(project.root()), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "services.inference", *flags, *context.args]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})


@app.command()
def health(
    component: Annotated[str, Argument(help="The component, like trainer.")],
    run: Run = "",
    redis: Redis = "",
    handler_timeout_s: Annotated[
        float, Option(envvar="HANDLER_TIMEOUT_S", help="How long a handler may take.")
    ] = 600.0,
) -> None:
    """Succeed when this component's loop turns on this host; for containers."""
    import socket
    from contextlib import closing

    from roomgrad.commands import heartbeats
    from roomgrad.commands.plan import system_of
    from roomgrad.commands.session import password_file
    from roomgrad.names import Names
    from roomgrad.server import address, connect

    names = Names(run or os.environ.get("RUN", "") or system_of(component).name)
    with closing(connect(address(redis), password_file())) as client:
        host = socket.gethostname()
        trouble = heartbeats.trouble_on(client, names, component, host, handler_timeout_s)
    if trouble:
        raise RoomgradError(trouble)
    print(f"{component} is well.")


@app.command()
def forget(
    component: Annotated[str, Argument(help="The component that will not come back.")],
    run: Run = "",
    redis: Redis = "",
) -> None:
    """Remove a component's groups for good, so that no message waits for it any more."""
    from contextlib import closing

    from roomgrad.commands.plan import system_of
    from roomgrad.commands.session import password_file
    from roomgrad.names import Names
    from roomgrad.runtime import runs
    from roomgrad.server import address, connect

    system = system_of(component)
    names = Names(run or system.name)
    with closing(connect(address(redis), password_file())) as client:
        removed = runs.forget(client, system, names, component)
    print(f"{component} is forgotten in run {names.run}: {removed} groups removed.")


def _plan(
    system: str,
    steps: int,
    seed: int,
    preset: str,
    replicas: list[str] | None,
    window: int,
    threads: int,
    run: str,
) -> Plan:
    from roomgrad.commands.plan import Plan, find_system, parse_replicas

    counts = parse_replicas(replicas or [], find_system(system))
    return Plan(system, run, steps, seed, preset, window, threads, counts)


def main() -> NoReturn:
    """The entry point: every error of ours ends as one sentence on stderr."""
    from roomgrad import log

    log.setup("warning")
    signal.signal(signal.SIGTERM, _terminated)
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


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def _usage(error: typer.TyperException) -> int:
    """What is wrong with the command line, in one sentence; nothing typed shows the help."""
    code = getattr(error, "exit_code", 2)
    format_message = getattr(error, "format_message", None)
    sentence = " ".join(str(format_message() if format_message else error).split())
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return 2  # it has shown the help already
    if context is not None and not sentence.endswith("."):
        sentence += f"; {context.command_path} --help shows what there is"
    _say(sentence)
    return code


def _say(sentence: str) -> None:
    print(f"roomgrad: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    main()
