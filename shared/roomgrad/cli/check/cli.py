"""The command `roomgrad check`, as typer sees it."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from roomgrad.cli import options as typed


def check(
    component: Annotated[str, Argument(help="The component, like simulator.", metavar="NAME")],
    command: Annotated[
        str,
        Option(help="How it is started, like 'python house.py'; services.NAME if empty."),
    ] = "",
    run: Annotated[
        str, Option(help="Probe the one that runs in this run, instead of starting one.")
    ] = "",
    system: Annotated[
        str, Option(help="Its system, where the run does not say what its rooms carry.")
    ] = "",
    probes: Annotated[
        str, Option(help="Inputs to probe with: rows of this .npy file.", metavar="FILE")
    ] = "",
    count: Annotated[int, typed.number("--count", 1, 1000, "Directions that are compared.")] = 8,
    tolerance: Annotated[float, Option(help="Relative error that is allowed.", min=0)] = 0.01,
    seed: Annotated[int, typed.number("--seed", 0, 2**31, "Of inputs and directions.")] = 0,
    timeout: Annotated[float, Option(help="Seconds to wait for an answer.", min=0.1)] = 10.0,
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Check a component by its rooms: gradients against finite differences, IDs, shapes, errors.

    It is started in a run of its own, which is deleted afterwards. A component of another language
    is started by hand and named by --run; if it learns, it takes a few steps from the probes.
    """
    from roomgrad.cli.check import report
    from roomgrad.ops.check import settings

    asked = settings.Asked(component, command, run, system, probes, count, tolerance, seed, timeout)
    report.run(asked, redis, as_json=bool(as_json))
