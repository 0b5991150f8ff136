"""Where the page of a run is, and where else to look."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import closing

import redis

from roomgrad.codec import unpack
from roomgrad.errors import RoomgradError
from roomgrad.local.plan import Plan
from roomgrad.local.session import Session, password_file
from roomgrad.names import Names
from roomgrad.redis.addresses import for_run, redis_cli, subscribe_command
from roomgrad.redis.server import connect
from roomgrad_melody.contract import LABELLING, LABELS_LOG, LEARNER, MELODY
from roomgrad_trebuchet.report import command

PAGE_S = 60.0


def address(client: redis.Redis, names: Names, since: float) -> str:
    """The address that the page has written down since then; empty if it has not."""
    found = client.hget(names.table(LABELLING), "now")
    record = unpack(found) if isinstance(found, bytes) else {}
    return str(record["url"]) if record.get("at", -1.0) >= since else ""


def wait_for_page(session: Session) -> str:
    """The address of the page, once it listens. Raises RoomgradError if it does not."""

    def look() -> str:
        session.look_after()
        return session.glance(lambda client, names: address(client, names, session.began)) or ""

    return _waited(look, f"its log is {session.launcher.log_path(f'{LABELLING}-0')}")


def shown_of(plan: Plan, url: str, since: float) -> list[str]:
    """The page of a run that is up, and where else to look."""
    names = plan.names
    if LABELLING not in plan.components:
        return where_to_look(names, url, up=True)
    with closing(connect(for_run(url, names.run), password_file())) as client:
        page = _waited(lambda: address(client, names, since), f"see `{command()} down`")
    return ["", f"  Listen and rate:  {page}", "", *where_to_look(names, url, up=True)]


def _waited(look: Callable[[], str], otherwise: str) -> str:
    until = time.monotonic() + PAGE_S
    while not (found := look()):
        if time.monotonic() > until:
            raise RoomgradError(
                f"the page has not said where it is within {PAGE_S:.0f} s; {otherwise}"
            )
        time.sleep(0.02)
    return found


def where_to_look(names: Names, url: str, *, up: bool) -> list[str]:
    """Commands with which one sees more, and does more."""
    me, cli = command(), redis_cli(url, names.run, password_file())
    option = "" if names.run == MELODY.name else f" --run {shlex.quote(names.run)}"
    lines = [
        "Where to look:",
        f"  {me} rate{option}   # the same in a terminal",
        f"  {me} labels export labels.csv{option}",
        f"  {me} melody export melodies{option}   # the best ones, as MIDI",
        f"  {cli} {subscribe_command(url)} '{names.channel('user')}'",
        f"  {cli} XREVRANGE '{names.log(LABELS_LOG)}' + - COUNT 5",
        f"  {cli} HGETALL '{names.counters(LEARNER)}'",
    ]
    return [*lines, f"  {me} down melody{option}"] if up else lines
