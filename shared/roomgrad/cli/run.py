"""`roomgrad run SYSTEM`: serve a run in the foreground until it is done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
from rich.console import Console

from roomgrad.cli import launch, output
from roomgrad.cli import options as typed
from roomgrad.cli.progress import progress, status_line
from roomgrad.errors import SettingsError
from roomgrad.inspect import snapshot
from roomgrad.local.plan import SWARM_FILES, Plan, find_system
from roomgrad.local.session import Session, serve
from roomgrad.names import Names
from roomgrad.systems import Progress, installed, load

POLL_S = 0.2


@dataclass(frozen=True)
class AnyRun(launch.AnySystem):
    """`roomgrad run` of a system that declares no options of its own."""

    def run(self, plan: Plan, redis_url: str, fresh: bool, console: Console) -> None:
        """Serve it until its ledger says that it is done; without a ledger until Ctrl+C."""
        with stopped_by_user(), serve(plan, redis_url, fresh=fresh, say=output.say) as session:
            greet(session)
            session.start_all()
            _watch(console, session)
        output.say("done; its data is kept.")


def command_of(name: str) -> Any:
    """Return the command `roomgrad run NAME`. Raises SettingsError if there is no such system."""
    if name.endswith(SWARM_FILES):
        raise SettingsError(f"{name} runs in the background: `roomgrad up {name}` starts it")
    plugin = installed()[find_system(name).name]
    about = f"Run {name} until it is done, or until Ctrl+C."
    if plugin.run:
        return launch.command(name, run_here, load(plugin.run), about)
    return launch.command(name, run_here, AnyRun, about, system=name)


def run_here(
    asked: launch.RunOptions,
    replicas: typed.Replicas = None,
    redis: typed.Redis = "",
    run: typed.Run = "",
    fresh: typed.Fresh = False,
) -> None:
    """Serve a run in this process."""
    plan = asked.plan(run, replicas or [], 1)
    asked.run(plan, redis, fresh, output.console())


def greet(session: Session, about: str = "") -> None:
    """Print what is about to be started, and on which server."""
    plan = session.plan
    output.say_marked(plan.run, "bold", f": {about}" if about else "")
    output.say(f"  server   {session.server_name()} at {session.url}")
    counts = [_count(plan, module) for module in plan.modules]
    output.say(f"  started  {', '.join(counts)}")


def _count(plan: Plan, module: str) -> str:
    served = plan.modules[module]
    if served == (module,):
        return f"{module} x{plan.replicas[module]}"
    return f"{module} x{len(plan.processes(module))} of {len(served)} members"


@contextlib.contextmanager
def stopped_by_user() -> Iterator[None]:
    """Say on Ctrl+C that the run can be continued."""
    try:
        yield
    except KeyboardInterrupt:
        output.warn(
            "stopped; what was learned is kept, and the same command without --fresh goes on."
        )
        raise


def _watch(console: Console, session: Session) -> None:
    """Show the progress until the run is done."""
    ledger = installed()[session.plan.system].progress
    read = load(ledger) if ledger else _traffic
    with contextlib.ExitStack() as stack:
        show: Callable[[Progress], None] | None = None
        while True:
            now: Progress | None = session.poll(read)
            if now is not None:
                show = show or _shown(console, now, stack)
                show(now)
                if now.total is not None and now.done >= now.total:
                    return
            time.sleep(POLL_S)


def _shown(
    console: Console, first: Progress, stack: contextlib.ExitStack
) -> Callable[[Progress], None]:
    """Return what shows the progress: a bar for a run with an end, else one line."""
    if first.total is None:
        line = stack.enter_context(status_line(console))
        return lambda now: line(" · ".join([f"{now.done:,} {now.unit}", *now.details]))
    bar = stack.enter_context(progress(console, first.unit, first.total, ""))
    return lambda now: bar(now.done, "   ".join(now.details))


def _traffic(client: redis.Redis, names: Names) -> Progress:
    """Return how many messages a run has sent and how many roots are open."""
    now = snapshot.take(client, names)
    sent = sum(each.added for each in now.streams)
    details = [f"{sum(now.open.values())} records open"]
    if now.dead_letters:
        details.append(f"{now.dead_letters} dead letters")
    return Progress(sent, None, "messages", tuple(details))
