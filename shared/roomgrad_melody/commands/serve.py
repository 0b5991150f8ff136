"""`roomgrad run melody`: serve the melody maker for people until Ctrl+C."""

from __future__ import annotations

import time

from rich.console import Console

from roomgrad.cli import output
from roomgrad.cli.progress import status_line
from roomgrad.display import format_number
from roomgrad.local.plan import Plan
from roomgrad.local.session import Session, serve
from roomgrad_melody.commands import standing
from roomgrad_melody.commands.page import wait_for_page, where_to_look
from roomgrad_melody.commands.standing import Standing

POLL_S = 0.5


def run(plan: Plan, redis_url: str, *, fresh: bool, console: Console) -> None:
    """Serve until Ctrl+C or SIGTERM; the data is kept."""
    try:
        with serve(plan, redis_url, fresh=fresh, say=output.say) as session:
            output.say_marked(plan.run, "bold", f": {session.server_name()}")
            session.check_new()
            session.start(*plan.components)
            _welcome(session, wait_for_page(session))
            session.wait_alive(*plan.components)
            _watch(console, session)
    except KeyboardInterrupt:
        output.say(
            "",
            "stopped; labels, melodies and network are kept, and the same command",
            "without --fresh goes on with them.",
        )


def _welcome(session: Session, page: str) -> None:
    output.say("", f"  Listen and rate:  {page}", style="bold cyan")
    output.say(
        "",
        "Rate what you hear from 0 to 5. The network learns what you like, and breeding",
        "follows the network. Ctrl+C stops it; everything is kept.",
        "",
        *where_to_look(session.plan.names, session.url, up=False),
        "",
    )


def _watch(console: Console, session: Session) -> None:
    """Show the state of the run in one line."""
    with status_line(console) as show:
        while True:
            now = session.poll(standing.read)
            away = f"the server at {session.url} is away ..."
            show(line(now) if now else away)
            time.sleep(POLL_S)


def line(now: Standing) -> str:
    """Describe a moment of the run in one line."""
    training = f"training {now.batch} of {now.batches}" if now.batches else f"{now.runs} trainings"
    words = [
        f"generation {max(now.generation, 0)}",
        f"expected rating {format_number(now.mean)}, best {format_number(now.best)}",
        f"{now.labels} labels",
        f"{now.waiting} questions open",
        training,
    ]
    if now.dead:
        words.append(f"{now.dead} messages refused")
    return " · ".join(words)
