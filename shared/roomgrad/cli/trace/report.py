"""`roomgrad trace`: a root as a table, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from roomgrad.cli import target
from roomgrad.inspect import traces
from roomgrad.inspect.entries import Streams
from roomgrad.inspect.format import printable
from roomgrad.inspect.keys import scanned
from roomgrad.inspect.timings import Hop, State, Sum, Trace
from roomgrad.names import Names

WIDE = 160  # columns where the output is no terminal and has no width of its own
COLUMNS = ("room", "TYPE", "from", "to", "waited", "decoded", "handler", "commit", "took")
STYLES = {State.HELD: "yellow", State.WAITING: "yellow", State.DEAD: "bold red"}


def run(root_id: str, run: str, redis_url: str, *, as_json: bool) -> None:
    """Show one root of a run."""
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        trace, streams = traces.find(client, names, root_id)
        living = frozenset(scanned(client, _heartbeats(names), "string"))
    if as_json:
        print(json.dumps(traces.as_object(names, trace)))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    console.print(Text(printable(heading(names, trace))))
    if trace.hops:
        console.print(_table(trace))
    for sentence in remarks(names, trace, streams, living):
        console.print(Text(printable(sentence)), soft_wrap=True)


def _heartbeats(names: Names) -> str:
    """The heartbeats of a run, as SCAN looks for them."""
    return names.everything().removesuffix("*") + "alive:*"


def heading(names: Names, trace: Trace) -> str:
    """Which root, what became of it, and when it was."""
    took = (trace.ended_us - trace.began_us) / 1000
    said = {
        "finished": f"finished after {took:,.3f} ms",
        "open": "open",
        "dead": "given up",
        "remembered": "open, though no message of it is under way",
    }[trace.state]
    began = f", begun {traces.clock(trace.began_us)}" if trace.hops else ""
    return f"Root {trace.root_id} of run {names.run}: {said}{began}. Times in ms."


def _table(trace: Trace) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("at", justify="right", no_wrap=True)
    for name in COLUMNS[:4]:
        table.add_column(name, overflow="fold")
    for name in COLUMNS[4:]:
        table.add_column(name, justify="right", no_wrap=True)
    for hop in trace.hops:
        table.add_row(*_cells(hop, trace.began_us), style=STYLES.get(hop.state))
    for name, each in trace.sums.items():
        messages = f"{each.hops} message{'s' if each.hops > 1 else ''}"
        cells = [Text(""), Text(name), Text(messages), Text(""), Text("")]
        table.add_row(*cells, *map(Text, _sum_cells(each)), style="bold")
    return table


def _cells(hop: Hop, began_us: int) -> Iterator[Text]:
    message = hop.message
    sender = f"{message.sent_by} (gateway)" if message.client else message.sent_by
    yield Text(milliseconds(message.at_us - began_us, about=not message.exact))
    for text in (*message.place, sender, hop.by):
        yield Text(printable(text))
    spent = hop.spent
    yield Text(milliseconds(spent.waited, about=spent.about))
    for part in (spent.decoded, spent.handled, spent.committed):
        yield Text(milliseconds(part))
    timed = spent.took is not None or hop.state is State.UNREAD
    yield Text(milliseconds(spent.took, about=spent.about) if timed else hop.state.value)


def _sum_cells(each: Sum) -> list[str]:
    parts = [each.waited, each.decoded, each.handled, each.committed]
    shown = [milliseconds(part if each.timed else None) for part in parts]
    return [*shown, milliseconds(each.took, about=each.about)]


def milliseconds(us: int | None, *, about: bool = False) -> str:
    """As many digits as are known; nothing where nobody wrote it down."""
    if us is None:
        return ""
    return f"~{us / 1000:,.0f}" if about else f"{us / 1000:,.3f}"


def remarks(names: Names, trace: Trace, streams: Streams, living: frozenset[str]) -> Iterator[str]:
    """What the table does not say: where it is now, what was given up, what is not known."""
    for hop in trace.open:
        yield _where(names, hop, streams, living)
    for death in trace.deaths:
        yield (
            f"{' '.join(death.place)} {death.entry} was given up by {death.by}: {death.reason}; "
            f"`roomgrad dead show {death.letter} --run {names.run}` shows it."
        )
    if trace.state == "remembered":
        yield f"It still stands in the memory of {', '.join(trace.remembered_by)}."
    if trace.begins_before:
        yield "What its first message answers is not kept any more."
    if any(hop.spent.took is not None and hop.spent.handled is None for hop in trace.hops):
        yield (
            "Without parts: whose sender writes no times (setting trace_times); the server's clock "
            "has milliseconds only."
        )


def _where(names: Names, hop: Hop, streams: Streams, living: frozenset[str]) -> str:
    what = f"{' '.join(hop.message.place)} {hop.message.entry}"
    if hop.held is None:
        since = (streams.now_us - hop.message.at_us) / 1e6
        alive = any(each.startswith(names.alive(f"{hop.by}~")) for each in living)
        note = "" if alive else f", which does not run (`roomgrad doctor --run {names.run}`)"
        return f"{what} waits for {hop.by} since {since:,.3f} s{note}."
    since = (streams.now_us - hop.held.since_us) / 1e6
    note = "" if names.alive(hop.held.consumer) in living else ", which lives no more"
    return (
        f"{what} is in the hands of {hop.held.consumer}{note}, since {since:,.3f} s, "
        f"delivery {hop.held.deliveries}."
    )
