"""`roomgrad trace`: one root through all rooms."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated

from typer import Argument

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.inspect import guests, traces
from roomgrad.inspect.entries import StoredMessages
from roomgrad.inspect.format import format_time
from roomgrad.inspect.members import spans
from roomgrad.inspect.timings import Hop, Total, Trace, tree
from roomgrad.names import Names
from roomgrad.redis import heartbeats

COLUMNS = (
    *("at", "<room", "?<TYPE", "<from", "<to"),
    *("waited", "?decoded", "?handler", "?commit", "took"),
)
STYLES = {
    "pending": "yellow",
    "waiting": "yellow",
    "waits for others": "yellow",
    "dead": "bold red",
}


def trace(
    root: Annotated[
        str, Argument(help="The ROOT_ID; the newest finished root if empty.", metavar="[ROOT_ID]")
    ] = "",
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    with target.opened(run, redis) as (client, names, _):
        trace, stored = traces.find(client, names, root)
        alive = heartbeats.read(client, names)
        guest = guests.open_roots(client, names).get(trace.root_id, "")
    if as_json:
        output.print_json(traces.to_json(names, trace))
        return
    output.say(_heading(names, trace))
    if trace.hops:
        output.console().print(_table(trace))
    output.say(*_remarks(names, trace, stored, alive))
    if guest:
        output.say(f"Guest {guest} opened it, and gets what comes out of the rooms.")


def _heading(names: Names, trace: Trace) -> str:
    took = (trace.ended_us - trace.began_us) / 1000
    state = {
        "finished": f"finished after {took:,.3f} ms",
        "open": "open",
        "dead": "given up",
        "remembered": "open, though no message of it is under way",
    }[trace.state]
    began = f", begun {format_time(trace.began_us)}" if trace.hops else ""
    return f"Root {trace.root_id} of run {names.run}: {state}{began}. Times in ms."


def _table(trace: Trace) -> output.Table:
    hops = [
        (_cells(hop, trace.began_us, lines), STYLES.get(hop.state.value, ""))
        for lines, hop in tree(trace.hops)
    ]
    totals = [(_total_cells(*each), "bold") for each in trace.totals.items()]
    rows, styles = zip(*hops, *totals, strict=True)
    return output.table(COLUMNS, rows, styles)


def _cells(hop: Hop, began_us: int, lines: str) -> list[str]:
    message, timing = hop.message, hop.timing
    room, type_ = message.stream_key
    sender = f"{message.sent_by} (gateway)" if message.client else message.sent_by
    timed = timing.took is not None or not hop.by
    return [
        milliseconds(message.at_us - began_us, about=not message.exact),
        lines + room,
        type_,
        sender,
        hop.by,
        milliseconds(timing.waited, about=timing.about),
        *map(milliseconds, (timing.decoded, timing.handled, timing.committed)),
        milliseconds(timing.took, about=timing.about) if timed else hop.state.value,
    ]


def _total_cells(name: str, total: Total) -> list[str]:
    messages = f"{total.hops} message{'s' if total.hops > 1 else ''}"
    parts = [total.waited, total.decoded, total.handled, total.committed]
    cells = [milliseconds(part if total.timed else None) for part in parts]
    return ["", name, messages, "", "", *cells, milliseconds(total.took, about=total.about)]


def milliseconds(us: int | None, *, about: bool = False) -> str:
    """Return microseconds as milliseconds, with as many digits as are known; empty if unknown."""
    if us is None:
        return ""
    return f"~{us / 1000:,.0f}" if about else f"{us / 1000:,.3f}"


def _remarks(
    names: Names, trace: Trace, stored: StoredMessages, alive: Collection[str]
) -> Iterator[str]:
    """Yield what the table does not say: where the root is, what failed, what is unknown."""
    for hop in trace.open:
        yield _where(names, hop, stored, alive)
    for failure in trace.failures:
        yield (
            f"{' '.join(failure.stream_key)} {failure.entry} was given up by {failure.by}: "
            f"{failure.reason}; `roomgrad dead show {failure.letter} --run {names.run}` shows it."
        )
    for each in trace.waiting:
        came, missing = (", ".join(spans(names)) for names in (each.came, each.missing))
        yield f"{each.component} has {each.streams[0][1]} of {came}, and waits for {missing}."
    if trace.state == "remembered":
        yield f"It is still in the memory of {', '.join(trace.remembered_by)}."
    if trace.begins_before:
        yield "The message that its first message answers is not stored any more."
    if any(hop.timing.took is not None and hop.timing.handled is None for hop in trace.hops):
        yield (
            "Messages without parts: their sender records no times (setting trace_times), and the "
            "server's clock has milliseconds only."
        )


def _where(names: Names, hop: Hop, stored: StoredMessages, alive: Collection[str]) -> str:
    what = f"{' '.join(hop.message.stream_key)} {hop.message.entry}"
    if hop.held is None:
        since = (stored.now_us - hop.message.at_us) / 1e6
        runs = any(consumer.startswith(f"{hop.by}~") for consumer in alive)
        note = "" if runs else f", which does not run (`roomgrad doctor --run {names.run}`)"
        return f"{what} has waited for {hop.by} for {since:,.3f} s{note}."
    since = (stored.now_us - hop.held.since_us) / 1e6
    note = "" if hop.held.consumer in alive else ", which is dead"
    return (
        f"{what} has been pending at {hop.held.consumer}{note} for {since:,.3f} s, "
        f"delivery {hop.held.deliveries}."
    )
