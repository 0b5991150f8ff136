"""The address of a run's page, and commands for the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import redis

from roomgrad import state, variables
from roomgrad.cli.hints import program, run_option
from roomgrad.codec import unpack
from roomgrad.errors import RoomgradError
from roomgrad.local.plan import Plan
from roomgrad.local.session import Session, password_file
from roomgrad.names import Names
from roomgrad.redis.addresses import for_run, redis_cli, subscribe_command
from roomgrad.redis.server import connect
from roomgrad.redis.server_address import AnyAddress
from roomgrad_melody.contract import LABELLING, LABELS_LOG, LEARNER, MELODY

PAGE_S = 60.0


def address(client: redis.Redis, names: Names, since: float) -> str:
    """Return the address that the page has stored since then; empty if it has not.

    Redis has no token: it is in the file that the settings name, or in the log of the page.
    """
    found = client.hget(names.table(LABELLING), "now")
    record = unpack(found) if isinstance(found, bytes) else {}
    if record.get("at", -1.0) < since:
        return ""
    url = str(record["url"])
    if not record.get("asks_for_token"):
        return url
    if file := variables.get("token_file"):
        return f"{url}?token={Path(file).read_text().strip()}"
    return f"{url} with the token in {state.run_directory(names.run) / f'{LABELLING}-0.log'}"


def wait_for_page(session: Session) -> str:
    """Return the address of the page once it listens. Raises RoomgradError if it does not."""

    def read() -> str:
        return session.poll(lambda client, names: address(client, names, session.began)) or ""

    return _waited(read, f"its log is {session.launcher.log_path(f'{LABELLING}-0')}")


def address_and_commands(plan: Plan, url: AnyAddress, since: float) -> list[str]:
    """Return the page of a run that is up, and commands for it."""
    names = plan.names
    if LABELLING not in plan.components:
        return where_to_look(names, url, up=True)
    with closing(connect(for_run(url, names.run), password_file())) as client:
        page = _waited(lambda: address(client, names, since), "see `roomgrad ps`")
    return ["", f"  Listen and rate:  {page}", "", *where_to_look(names, url, up=True)]


def _waited(read: Callable[[], str], otherwise: str) -> str:
    until = time.monotonic() + PAGE_S
    while not (found := read()):
        if time.monotonic() > until:
            raise RoomgradError(
                f"the page has not stored its address within {PAGE_S:.0f} s; {otherwise}"
            )
        time.sleep(0.02)
    return found


def where_to_look(names: Names, url: AnyAddress, *, up: bool) -> list[str]:
    """Return commands for a run."""
    me, cli = program(), redis_cli(url, names.run, password_file())
    option = run_option(names.run, MELODY.name)
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
