"""`roomgrad trace` shows a root that branches or joins as a tree."""

from __future__ import annotations

import json

from roomgrad import Message
from tests.integration.commands.command_line import call
from tests.integration.conftest import EchoRun
from tests.integration.graphs.branch import ASKED, BRANCH, batch, encoder, heads
from tests.integration.graphs.graph_run import ENTER, GraphRun
from tests.integration.graphs.joins import EMBEDDED, JOINED, head
from tests.waiting import until


def test_what_follows_from_a_branch_is_below_it(own_echo: EchoRun) -> None:
    """Each gradient stands under the message that it answers, indented."""
    run = GraphRun(own_echo, BRANCH, "branch")
    run.start(encoder(), *heads())
    root = run.open(batch(0))
    run.home(root)
    ended = call(own_echo, "trace", root.root_id)
    lines = [line for line in ended.stdout.splitlines() if "DATA/" in line]
    rows = [line.split()[1:5] for line in lines]
    indents = [line.index(row[0]) for line, row in zip(lines, rows, strict=True)]
    assert rows[0] == ["enter", "DATA/FORWARD", "client", "encoder"]
    for name in ASKED:
        number = rows.index(["hidden", "DATA/FORWARD", "encoder", name])
        assert rows[number + 1] == ["hidden", "DATA/GRADIENT", name, "encoder"]
        assert indents[number] == indents[number + 1] == indents[0] + 2


def test_a_part_that_waits_is_remembered(own_echo: EchoRun) -> None:
    run = GraphRun(own_echo, JOINED, "joins")
    run.start(head())
    part = run.send(Message.open(EMBEDDED, batch(0)), "left")
    until(lambda: run.memory("head"))
    ended = call(own_echo, "trace", part.root_id, "--json")
    found = json.loads(ended.stdout)
    assert (found["state"], found["remembered_by"]) == ("remembered", ["head"])
    assert ENTER.name not in ended.stdout
