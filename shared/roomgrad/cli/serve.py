"""`roomgrad serve`: a component of one object."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import orjson
import typer
from numpy.typing import ArrayLike
from typer import Argument, Option

from roomgrad import state, strict_json, variables
from roomgrad.cli import arrays, output
from roomgrad.cli import options as typed
from roomgrad.errors import SettingsError
from roomgrad.local.launcher import Launcher
from roomgrad.local.plan import MOST_REPLICAS
from roomgrad.redis.server import address
from roomgrad.redis.server_address import AnyAddress
from roomgrad.runtime import process
from roomgrad.serving.objects import load_object
from roomgrad.serving.program import Program
from roomgrad.serving.serve import RUN, Offer, Options, load_settings, prepared


def serve(
    context: typer.Context,
    enter: Annotated[str, Option(help="The room of its inputs.", metavar="ROOM")],
    leave: Annotated[str, Option(help="The room of its outputs.", metavar="ROOM")],
    target: Annotated[
        str, Argument(help="The object, like aim.py:net.", metavar="[FILE:OBJECT]")
    ] = "",
    command: Annotated[
        str,
        Option(help="A program instead: a batch as a JSON line from stdin, one to stdout."),
    ] = "",
    name: Annotated[str, Option(help="Name of the component; the object's if empty.")] = "",
    like: Annotated[
        str,
        Option(help="Rows like those that come, like '[[3, 60]]', or a .npy file of them."),
    ] = "",
    optimizer: Annotated[
        str, Option(help="That of a network, with its rate; adam:1e-3 if empty.")
    ] = "",
    gradient: Annotated[
        str, Option(help="Of a black box: central, forward, spsa or spsa:DIRECTIONS.")
    ] = "",
    vjp: Annotated[
        str, Option(help="That of a numpy function: vjp(x, upstream).", metavar="FILE:OBJECT")
    ] = "",
    check: Annotated[
        bool, Option("--check/--no-check", help="Compare the gradient with differences first.")
    ] = True,
    replicas: Annotated[
        int, typed.number("--replicas", 1, MOST_REPLICAS, "How many processes of it.")
    ] = 1,
    run: Annotated[str, Option(help=f"Name of the run; {RUN} if empty.")] = "",
    redis: typed.Redis = "",
) -> None:
    settings = load_settings(run, context.args)
    options: Options = {
        "name": name or target.rpartition(":")[2],
        "gradient": gradient,
        "optimizer": optimizer,
        "check": check,
    }
    if like:
        options["like"] = _rows(like)
    if vjp:
        options["vjp"] = load_object(vjp)
    if bool(command) == bool(target):
        raise SettingsError("serve what? Name one object as FILE:OBJECT, or a program by --command")
    offer = Offer(Program(command) if command else load_object(target), enter, leave, options)
    with prepared(offer.component, settings, redis) as (component, url):
        if replicas == 1:
            process.run(component, settings, url)
        _replicate(offer.name, settings.run, replicas, url)


def _rows(text: str) -> ArrayLike:
    if text.endswith(".npy"):
        return arrays.read(Path(text), "--like")
    try:
        found: ArrayLike = strict_json.loads(text.encode())
    except orjson.JSONDecodeError as error:
        raise SettingsError(
            f"--like {text}: expected rows as JSON, like '[[3, 60]]', or a .npy file: {error}"
        ) from error
    return found


def _replicate(name: str, run: str, count: int, url: AnyAddress) -> NoReturn:
    """Start this command as several processes, and those that die again, until Ctrl+C."""
    command = [sys.executable, "-m", "roomgrad", *sys.argv[1:], "--replicas=1"]
    folder, logs = state.current_directory(), state.run_directory(run)
    environ = variables.exported(redis_url=address(url).url)
    with Launcher(folder, logs, environ, output.say) as launcher:
        for number in range(count):
            launcher.start_command(f"{name}-{number}", command)
        output.say(f"{name} x{count}, logs in {logs}")
        while True:
            launcher.wait_failed(60.0)
