"""`roomgrad keep`: which states of a model stay as checkpoints, and those that do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from typer import Option

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.clock import server_time
from roomgrad.errors import SettingsError
from roomgrad.inspect import checkpoints
from roomgrad.inspect.checkpoints import Kept
from roomgrad.names import Names
from roomgrad.ops import model_state
from roomgrad.snapshots.checkpoints import Policy
from roomgrad.snapshots.pointers import Snapshot

LAST = 3


def keep(
    component: typed.Component,
    every: Annotated[
        int | None,
        typed.number("--every", 1, 10**9, "Keep the state at each multiple of N steps."),
    ] = None,
    last: Annotated[
        int | None,
        typed.number("--last", 1, 1000, f"Keep the last N of them; {LAST} if not given."),
    ] = None,
    best: Annotated[
        str,
        Option(
            help="Keep the best one besides: by the mean of this metric in the records since the "
            "checkpoint before it, like losses.loss.",
            metavar="TABLE.FIELD",
        ),
    ] = "",
    highest: Annotated[bool, Option("--highest", help="The highest is best, not the lowest.")] = (
        False
    ),
    off: Annotated[bool, Option("--off", help="Keep no more; those that are kept stay.")] = False,
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    policy = _policy(every, last, best, highest, off)
    with target.opened(run, redis) as (client, names, _):
        target.choose_component(client, names, component)
        if best:
            checkpoints.check_metric(client, names, best)
        if policy is not None or off:
            model_state.keep(client, names, component, policy)
        kept = checkpoints.find(client, names, component)
        now = server_time(client)
    if as_json:
        output.print_json(_to_json(names, component, kept))
        return
    _show(component, kept, now)


def _policy(
    every: int | None, last: int | None, best: str, highest: bool, off: bool
) -> Policy | None:
    """Return the policy that the options describe; None without one. Raises SettingsError."""
    others = last is not None or best or highest
    if off and (every is not None or others):
        raise SettingsError("--off ends the policy: it goes with no other option")
    if every is None:
        if others:
            raise SettingsError("--last, --best and --highest need --every N")
        return None
    if highest and not best:
        raise SettingsError("--highest needs --best TABLE.FIELD")
    return Policy(every=every, last=last or LAST, best=best, highest=highest)


def _show(component: str, kept: Kept, now: float) -> None:
    if kept.checkpoints:
        rows = [_row(each, each is kept.best, now) for each in kept.checkpoints]
        output.print_table(("step", "version", "bytes", "taken", "metric", "mean", ""), rows)
        output.say(f"`roomgrad model {component} --rollback STEP` goes back to one.")
    policy = kept.policy
    if policy is None:
        command = f"roomgrad keep {component} --every 100"
        output.say(f"No policy keeps checkpoints of {component}: `{command}` sets one.")
        return
    best = f", and the best by {policy.best}" if policy.best else ""
    output.say(
        f"The state of {component} is kept at each multiple of {policy.every:,} steps; the last "
        f"{policy.last:,} stay{best}."
    )


def _row(each: Snapshot, is_best: bool, now: float) -> tuple[Any, ...]:
    metric, mean = (each.score.metric, f"{each.score.mean:.6g}") if each.score else ("", "")
    taken = f"{output.format_age(now - each.at)} ago"
    return each.step, each.version, each.size, taken, metric, mean, "best" if is_best else ""


def _to_json(names: Names, component: str, kept: Kept) -> dict[str, Any]:
    return {
        "run": names.run,
        "component": component,
        "policy": asdict(kept.policy) if kept.policy else None,
        "checkpoints": [
            {
                "step": each.step,
                "version": each.version,
                "bytes": each.size,
                "at": each.at,
                "place": each.place,
                "metric": each.score.metric if each.score else None,
                "mean": each.score.mean if each.score else None,
                "best": each is kept.best,
            }
            for each in kept.checkpoints
        ],
    }
