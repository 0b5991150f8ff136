"""Tables for people: members of an ensemble that are alike share a line, others have their own."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from roomgrad import Ensemble, MessageType
from roomgrad.cli import output, ps, rooms
from roomgrad.inspect.replicas import ReplicaState, step_of
from roomgrad.inspect.rooms import Member, RoomState

NAMES = Ensemble("model", 12).names
FORWARD, GRADIENT = MessageType.FORWARD.value, MessageType.GRADIENT.value


def cells(table: output.Table) -> list[list[str]]:
    """The cells of each line, two blanks or more between them; blanks at the end are left out."""
    console = Console(file=io.StringIO(), width=200, markup=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()[1:]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def replica(name: str, pid: int = 7, step: int = 4) -> ReplicaState:
    version = f"{step}-00ff"
    return ReplicaState(
        name, "vm", pid, f"{name}~vm~{pid}", True, 30.0, version=version, model=version, pending=1
    )


def test_members_that_are_alike_share_a_line() -> None:
    """Their pending messages are added up; a span of steps tells which are behind."""
    found = [replica(name, step=4 + (name == "model.3")) for name in NAMES]
    assert cells(ps.table(found)) == [
        ["model.0-11", "alive", "vm", "7", "30.0 s", "12", "step 4-5"]
    ]


def test_a_member_that_is_not_like_the_others_has_a_line() -> None:
    """One without a replica, one in another process, and one whose handler is busy."""
    found = {name: replica(name) for name in NAMES}
    found["model.1"] = ReplicaState("model.1", model="4-00ff")
    found["model.2"] = replica("model.2", pid=8)
    found["model.3"] = replace(found["model.3"], handling_s=60.0)
    lines = cells(ps.table([*found.values(), replica("teacher", step=0)]))
    assert [line[:2] for line in lines] == [
        ["model.0,4-11", "alive"],
        ["model.1", "no replica"],
        ["model.2", "alive"],
        ["model.3", "in one handler for 60.0 s"],
        ["teacher", "alive"],
    ]


def room(name: str, type_: str, sender: str, *members: Member) -> RoomState:
    return RoomState(name, type_, (sender,), members, 0.5, 2, 3, 0, 10, 20, name)


def test_rooms_of_members_share_a_line() -> None:
    """The rooms of one component with that number are no others than those of the ensemble."""
    asked = [
        room(f"act.{at}", FORWARD, "teacher", Member(n, 1, 2, 3)) for at, n in enumerate(NAMES)
    ]
    asked[5] = replace(asked[5], members=(Member("model.5", 0, 2, 3),))
    everyone = room("act", FORWARD, "teacher", *(Member(name, 1, 0, 0) for name in NAMES))
    answers = [
        room(f"act.{at}", GRADIENT, n, Member("teacher", 1, 0, 0)) for at, n in enumerate(NAMES)
    ]
    assert cells(rooms.table([*asked, everyone, *answers])) == [
        ["act.0-4,6-11", FORWARD, "teacher", "model.0-4,6-11 x1", "5.5", "22", "33", "0", "110"],
        ["act.5", FORWARD, "teacher", "model.5 x0", "0.5", "2", "3", "0", "10"],
        ["act", FORWARD, "teacher", "model.0-11 x1", "0.5", "2", "3", "0", "10"],
        ["act.0-11", GRADIENT, "model.0-11", "teacher x1", "6.0", "24", "36", "0", "120"],
    ]


@pytest.mark.parametrize(
    ("version", "step"),
    [("12-a1", 12), ("", 0), ("x", 0), ("-1", 0), ("9" * 5000 + "-a", 0), ("\x1b[2J", 0)],
)
def test_the_step_of_a_version_that_a_foreign_program_wrote_is_no_error(
    version: str, step: int
) -> None:
    assert step_of(version) == step
