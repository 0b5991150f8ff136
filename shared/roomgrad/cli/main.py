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

from roomgrad.cli import options as typed
from roomgrad.cli.acl import acl
from roomgrad.cli.asyncapi import asyncapi
from roomgrad.cli.backup import backup
from roomgrad.cli.check import check
from roomgrad.cli.dashboard import dashboard
from roomgrad.cli.dead import dead
from roomgrad.cli.doctor import doctor
from roomgrad.cli.echo import echo
from roomgrad.cli.gateway import gateway
from roomgrad.cli.info import info
from roomgrad.cli.lag import lag
from roomgrad.cli.memory import memory
from roomgrad.cli.model import model
from roomgrad.cli.new.cli import new
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
from roomgrad_melody.commands.cli import labels, melody, rate

if TYPE_CHECKING:
    from roomgrad.cli.systems import Melody, Options, Trebuchet, Unattended
    from roomgrad.local.plan import Plan

PANELS: dict[str, tuple[Callable[..., object], ...]] = {
    "Inspect a run": (ps, rooms, info, lag, memory, model, top, trace, doctor),
    "Read and send messages": (echo, hz, bw, delay, pub, request, replay),
    "Save and restore": (backup, restore),
    "Your own components": (new, check, asyncapi, acl),
}

app = typer.Typer(
    help="Train a model through other programs: components in rooms, Redis between them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    system: typed.SystemName,
    steps: typed.Steps = None,
    seed: typed.Seed = None,
    preset: typed.Preset = None,
    window: typed.Window = None,
    rater: typed.Rater = None,
    labels: typed.Labels = None,
    seed_labels: typed.SeedLabels = None,
    generations: typed.Generations = None,
    strategy: typed.Strategy = None,
    labels_file: typed.LabelsFile = None,
    replicas: typed.Replicas = None,
    threads: typed.Threads = None,
    redis: typed.Redis = "",
    run: typed.Run = "",
    fresh: typed.Fresh = False,
    picture: typed.Picture = None,
    as_json: typed.AsJson = None,
) -> None:
    """Run a system from here until it is done, or until Ctrl+C.

    trebuchet: trains it, shows how it learns, and evaluates it.

    melody: serves it with its page; with --rater breeds and learns without people, and reports.
    """
    from roomgrad.cli import systems

    asked = systems.options(
        system,
        steps=steps,
        seed=seed,
        preset=preset,
        window=window,
        rater=rater,
        labels=labels,
        seed_labels=seed_labels,
        generations=generations,
        strategy=strategy,
        labels_file=labels_file,
        threads=threads,
        picture=picture,
        json=as_json or None,
    )
    if isinstance(asked, systems.Swarm):
        raise SettingsError(f"{system} runs in the background: `roomgrad up {system}` starts it")
    _run(asked, asked.plan(run, replicas or []), redis, fresh)


def _run(asked: Trebuchet | Melody | Unattended, plan: Plan, redis: str, fresh: bool) -> None:
    from rich.console import Console

    from roomgrad.cli.systems import Melody, Trebuchet

    console = Console(highlight=False)
    if isinstance(asked, Melody):
        from roomgrad_melody.commands import serve

        serve.run(plan, redis, fresh=fresh, console=console)
        return
    try:
        if isinstance(asked, Trebuchet):
            from roomgrad_trebuchet import run as demo

            demo.run(asked, plan, redis, fresh=fresh, console=console)
        else:
            from roomgrad_melody.commands import unattended

            unattended.run(asked, plan, redis, fresh=fresh, console=console)
    except KeyboardInterrupt:
        _say("stopped; what was learned is kept, and the same command without --fresh goes on.")
        raise


@app.command()
def up(
    system: typed.Served,
    steps: typed.Steps = None,
    seed: typed.Seed = None,
    preset: typed.Preset = None,
    window: typed.Window = None,
    strategy: typed.Strategy = None,
    labels_file: typed.LabelsFile = None,
    only: typed.Only = None,
    gateway: typed.Gateway = None,
    replicas: typed.ReplicasOrNone = None,
    threads: typed.Threads = None,
    redis: typed.Redis = "",
    run: typed.Run = "",
    fresh: typed.Fresh = False,
) -> None:
    """Serve a system, or the programs of a swarm file, in the background until `roomgrad down`."""
    from roomgrad.cli import systems
    from roomgrad.local import supervisor as background
    from roomgrad.local.plan import Plan

    asked = systems.options(
        system,
        steps=steps,
        seed=seed,
        preset=preset,
        window=window,
        strategy=strategy,
        labels_file=labels_file,
        only=only,
        gateway=gateway,
        threads=threads,
    )
    plan = asked.plan(run, replicas or [], least=0)
    started, state = background.up(plan, redis, fresh=fresh)
    if started:
        print(f"{plan.run} is up: {state['server']}, process {state['pid']}.")
    else:
        print(f"{plan.run} is up already (process {state['pid']}); nothing was changed.")
    if "url" in state:
        print("\n".join(_where_to_look(asked, Plan(**state["plan"]), state)))


def _where_to_look(asked: Options, plan: Plan, state: dict[str, Any]) -> list[str]:
    from roomgrad.cli.systems import Melody, Swarm
    from roomgrad_trebuchet import report

    if isinstance(asked, Swarm):
        lines = report.where_to_look_of_swarm(plan, asked.file)
    elif isinstance(asked, Melody):
        from roomgrad_melody.commands import page

        lines = page.shown_of(plan, state["url"], state["began"])
    else:
        lines = report.where_to_look(plan.run, state["url"], up=True)
    return [*lines, *report.where_to_connect(plan)]


@app.command()
def down(
    system: Annotated[
        str, Argument(help="The system: trebuchet, melody or a swarm file.")
    ] = "trebuchet",
    run: typed.Run = "",
) -> None:
    """Stop what `roomgrad up` or `run` serves; its data stays."""
    from roomgrad.local import supervisor as background
    from roomgrad.local.plan import served_as
    from roomgrad.redis.registry import systems

    name = run or served_as(system)
    if background.down(name):
        print(f"{name} is down; its data is kept, and `roomgrad up` goes on with it.")
        return
    others = [each for each in systems() if each != name and not run and background.is_up(each)]
    more = "".join(f" {each} is: `roomgrad down {each}` stops it." for each in others)
    error = background.last_error(name)
    more = f" It had ended by itself: {error}" if error else more
    print(f"{name} is not up; nothing was to be done.{more}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def shoot(
    context: typer.Context,
    wind: Annotated[str, Option(help="Wind in m/s.")] = "",
    target: Annotated[str, Option(help="Distance of the target in m.")] = "",
    csv: Annotated[str, Option(help="File with the columns wind and target.")] = "",
    redis: typed.Redis = "",
    run: typed.Run = "",
    as_json: typed.AsJson = False,
) -> None:
    """Ask the running trebuchet how to hit a target, and where that shot lands."""
    from roomgrad import state

    given = {"wind": wind, "target": target, "csv": csv, "redis-url": redis, "run": run}
    flags = [f"--{name}={value}" for name, value in given.items() if value]
    flags += ["--json"] if as_json else []
    # The service takes this process over: it starts once, and its exit code is ours.
    path = os.pathsep.join(filter(None, [str(state.root()), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "roomgrad_trebuchet.inference", *flags, *context.args]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})


@app.command()
def health(
    component: Annotated[str, Argument(help="The component, like trainer.")],
    run: typed.Run = "",
    redis: typed.Redis = "",
    handler_timeout_s: Annotated[
        float, Option(envvar="HANDLER_TIMEOUT_S", help="How long a handler may take.")
    ] = 600.0,
    patient: Annotated[
        bool, Option("--patient", help="Succeed while no server answers, too: it is waited for.")
    ] = False,
) -> None:
    """Succeed when this component's loop turns on this host; for containers."""
    from roomgrad.local.plan import run_of
    from roomgrad.runtime import health

    name = run or os.environ.get("RUN", "") or run_of(component)
    print(health.check(component, name, redis, handler_timeout_s, patient=patient))


@app.command()
def forget(
    component: Annotated[str, Argument(help="The component that will not come back.")],
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Remove a component's groups for good, so that no message waits for it any more."""
    from roomgrad.cli.target import connected
    from roomgrad.local.plan import system_of
    from roomgrad.names import Names
    from roomgrad.runtime import runs

    system = system_of(component)
    names = Names(run or system.name)
    with connected(redis) as (client, _):
        removed = runs.forget(client, system, names, component)
    print(f"{component} is forgotten in run {names.run}: {removed} groups removed.")


for service in (gateway, dashboard):
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
        service
    )
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.command()(rate)
app.add_typer(labels)
app.add_typer(melody)
app.add_typer(dead)


def main() -> NoReturn:
    """The entry point: every error of ours ends as one sentence on stderr."""
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
