"""`roomgrad trace` shows a root that branches or joins as a tree."""

from __future__ import annotations

import json

import pytest

from roomgrad import Component, Context, Message, Parts, RuntimeSettings, Stream, System, join
from tests.integration.commands.command_line import call
from tests.integration.conftest import EchoRun
from tests.integration.graphs.branch import ASKED, BRANCH, batch, encoder, heads
from tests.integration.graphs.graph_run import ENTER, GraphRun
from tests.integration.graphs.joins import (
    EMBEDDED,
    FORWARD,
    JOINED,
    NUMBERS,
    OUT,
    OWNERS,
    head,
    owner,
)
from tests.waiting import until


def test_what_follows_from_a_branch_is_below_it(own_echo: EchoRun) -> None:
    """Each gradient stands under the message that it answers, behind the lines of the branches."""
    run = GraphRun(own_echo, BRANCH, "branch")
    run.start(encoder(), *heads())
    root = run.open(batch(0))
    run.home(root)
    ended = call(own_echo, "trace", root.root_id)
    lines = [line for line in ended.stdout.splitlines() if "DATA/" in line]
    rows = [[word for word in line.split() if word not in "├│└"][1:5] for line in lines]
    marks = [line[: line.index(row[0])][-2:] for line, row in zip(lines, rows, strict=True)]
    assert rows[0] == ["enter", "DATA/FORWARD", "client", "encoder"]
    for name in sorted(ASKED):
        number = rows.index(["hidden", "DATA/FORWARD", "encoder", name])
        assert rows[number + 1] == ["hidden", "DATA/GRADIENT", name, "encoder"]
        last = name == max(ASKED)
        assert marks[number : number + 2] == (["└ ", "  "] if last else ["├ ", "│ "])


def test_a_part_is_joined_and_its_gradient_is_for_its_sender(own_echo: EchoRun) -> None:
    """What another reader of the room leaves alone is no message to it."""
    run = GraphRun(own_echo, JOINED, "joins")
    run.start(head(), *map(owner, OWNERS))
    root = run.open(batch(0))
    until(lambda: all(run.echo.counter("home", name) == 1 for name in OWNERS))
    found = json.loads(call(own_echo, "trace", root.root_id, "--json").stdout)
    hops = [hop for hop in found["hops"] if hop["room"] == EMBEDDED.name]
    states = [hop["state"] for hop in hops if hop["type"] == "DATA/FORWARD"]
    assert sorted(states) == ["done", "joined"]
    gradients = [hop["to"] for hop in hops if hop["type"] == "DATA/GRADIENT"]
    assert sorted(gradients) == [*OWNERS]


@pytest.mark.parametrize("by_id", [False, True])
def test_a_part_that_waits_is_remembered(own_echo: EchoRun, by_id: bool) -> None:
    """Until the others have come, which are named."""
    run = GraphRun(own_echo, JOINED, "joins")
    run.start(head(by_id=by_id))
    part = run.send(Message.open(EMBEDDED, batch(0)), "left")
    until(lambda: run.memory("head"))
    ended = call(own_echo, "trace", part.root_id, "--json")
    found = json.loads(ended.stdout)
    assert (found["state"], found["remembered_by"]) == ("remembered", ["head"])
    assert ENTER.name not in ended.stdout
    assert found["hops"][0]["state"] == "waits for others"
    assert found["waiting"] == [
        {
            "component": "head",
            "streams": [[EMBEDDED.name, "DATA/FORWARD"]],
            "came": ["left"],
            "missing": ["right"],
            "id": part.id if by_id else "",
        }
    ]
    shown = call(own_echo, "trace", part.root_id).stdout
    assert "head has DATA/FORWARD of left, and waits for right." in shown


def test_the_parts_of_several_rooms_wait_for_each_other(own_echo: EchoRun) -> None:
    """They have the names of their rooms, also in the contract that others read."""
    run = GraphRun(own_echo, ROOMS, "joins")
    run.start(joiner())
    part = run.send(Message.open(ENTER, batch(0)))
    until(lambda: run.memory("head"))
    assert f"head has DATA/FORWARD of {ENTER}, and waits for {OUT}." in (
        call(own_echo, "trace", part.root_id).stdout
    )
    operations = json.loads(call(own_echo, "asyncapi", "--json").stdout)["operations"]
    about = {each["summary"] for each in operations.values() if each["action"] == "receive"}
    assert about == {f"head handles it. Those of one ROOT_ID from {ENTER}, {OUT} together."}
    refused = call(own_echo, "check", "head", "--run", own_echo.names.run)
    assert f"head joins parts of {ENTER}, {OUT}: check these one by one" in refused.stderr
    other = run.send(part.reply(OUT, batch(0)))
    until(lambda: own_echo.counter("joined", "head") == 1)
    found = json.loads(call(own_echo, "trace", other.root_id, "--json").stdout)
    assert [hop["state"] for hop in found["hops"]] == ["joined", "joined"]


ROOMS = System(
    "rooms",
    tuple(Stream(room, FORWARD, NUMBERS, ("head",)) for room in (ENTER, OUT)),
    ("head",),
)


def joiner() -> Component:
    """Return a component that joins the messages of two rooms."""

    @join([ENTER, OUT], FORWARD)
    def forward(parts: Parts, context: Context) -> None:
        context.counters.add("joined")

    return Component("head", ROOMS, RuntimeSettings, [forward])
