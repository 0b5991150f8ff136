"""`roomgrad run melody`: serves the melody maker for people, until Ctrl+C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from roomgrad.errors import RunMismatch
from roomgrad.local.plan import Plan
from roomgrad.local.session import Session, serve
from roomgrad.redis.addresses import without_password
from roomgrad_melody.commands import standing
from roomgrad_melody.commands.page import wait_for_page, where_to_look
from roomgrad_melody.commands.standing import Standing
from roomgrad_melody.contract import LEARNER

LOOK_S = 0.5
LINE_EVERY_S = 10.0  # where nothing can be drawn over


def run(plan: Plan, redis_url: str, *, fresh: bool, console: Console) -> None:
    """Serve until Ctrl+C or SIGTERM; its data stays."""
    try:
        with serve(
            plan, redis_url, fresh=fresh, say=partial(console.print, markup=False)
        ) as session:
            console.print(f"[bold]{escape(plan.run)}[/]: {session.server_text()}")
            check_new(session)
            session.start(*plan.components)
            _welcome(console, session, wait_for_page(session))
            session.wait_alive(*plan.components)
            _watch(console, session)
    except KeyboardInterrupt:
        console.print("\nstopped; labels, melodies and network are kept, and the same command")
        console.print("without --fresh goes on with them.")


def check_new(session: Session) -> None:
    """Raises RunMismatch where labels were given to begin with, but the run has begun before."""
    names = session.plan.names
    given = session.plan.settings.get(LEARNER, {}).get("labels-file")
    if given and session.client.hexists(names.run_info(), f"started:{LEARNER}"):
        raise RunMismatch(
            f"run {names.run!r} has begun before, so --labels-file would not be read: add its "
            f"labels by `roomgrad labels import {given}`, or begin again with --fresh"
        )


def _welcome(console: Console, session: Session, page: str) -> None:
    console.print()
    console.print(f"  Listen and rate:  [bold cyan]{escape(page)}[/]", soft_wrap=True)
    console.print()
    console.print("Rate what you hear from 0 to 5. The network learns what you like, and breeding")
    console.print("follows the network. Ctrl+C stops it; everything is kept.")
    console.print()
    for line in where_to_look(session.plan.names, session.url, up=False):
        console.print(line, soft_wrap=True, markup=False)
    console.print()


def _watch(console: Console, session: Session) -> None:
    """One line that says what happens; plain lines, some seconds apart, where it is no terminal."""
    show = _drawn_over if console.is_terminal else _one_by_one
    with show(console) as say:
        said = ""
        while True:
            session.look_after()
            now = session.glance(standing.read)
            words = (
                line(now) if now else f"the server at {without_password(session.url)} is away ..."
            )
            if words != said and say(words):
                said = words
            time.sleep(LOOK_S)


@contextmanager
def _drawn_over(console: Console) -> Iterator[Callable[[str], bool]]:
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def say(words: str) -> bool:
            live.update(Text(words, style="cyan", overflow="ellipsis", no_wrap=True), refresh=True)
            return True

        yield say


@contextmanager
def _one_by_one(console: Console) -> Iterator[Callable[[str], bool]]:
    printed_at = 0.0

    def say(words: str) -> bool:
        nonlocal printed_at
        early = time.monotonic() - printed_at < LINE_EVERY_S
        if not early:
            printed_at = time.monotonic()
            console.print(words, markup=False, soft_wrap=True)
        return not early

    yield say


def line(now: Standing) -> str:
    """What happens now, for a person."""
    training = f"training {now.batch} of {now.batches}" if now.batches else f"{now.runs} trainings"
    words = [
        f"generation {max(now.generation, 0)}",
        f"expected rating {now.mean:.2f}, best {now.best:.2f}",
        f"{now.labels} labels",
        f"{now.waiting} questions open",
        training,
    ]
    if now.dead:
        words.append(f"{now.dead} messages refused")
    return " · ".join(words)
