"""Ensembles: the names of their members, and in which processes these are started."""

from __future__ import annotations

import pytest

from roomgrad import Array, Ensemble, MessageType, Room, Stream, System, ensembles
from roomgrad.errors import ContractError, SettingsError
from roomgrad.inspect import members as tables
from roomgrad.local.plan import Plan, counted
from roomgrad.systems import Plugin, sized

ACT, FORWARD = Room("act"), MessageType.FORWARD
NUMBERS = {"DATA": Array("<f4", ("batch",))}


def contract(members: int = 3) -> System:
    models = Ensemble("model", members)
    return System("zoo", models.streams(Stream(ACT, FORWARD, NUMBERS)), ("teacher", *models.names))


def test_each_member_has_a_room_of_its_own() -> None:
    """Numbered as the member is."""
    models = Ensemble("model", 12)
    assert models.names[1] == "model.1"
    assert models.room(ACT, "model.11") == models.rooms(ACT)[11] == Room("act.11")
    found = models.streams(Stream(ACT, FORWARD, NUMBERS, about="so many"))
    assert [each.room.name for each in found] == [f"act.{number}" for number in range(12)]
    assert [each.consumers for each in found] == [(name,) for name in models.names]
    assert {each.about for each in found} == {"so many"}
    answers = models.streams(Stream(ACT, FORWARD, NUMBERS, ("teacher",)))
    assert {each.consumers for each in answers} == {("teacher",)}


@pytest.mark.parametrize("members", [0, -1, 1001])
def test_an_ensemble_has_members(members: int) -> None:
    with pytest.raises(ContractError, match=f"expected 1 to 1000 members, got {members}"):
        Ensemble("model", members)


def test_a_room_belongs_to_members_alone() -> None:
    with pytest.raises(ContractError, match="trainer is no member of an ensemble"):
        Ensemble("model", 2).room(ACT, "trainer")


def test_an_ensemble_is_served_by_one_program() -> None:
    """A component with a point in its name is none of its members, and one of an ensemble is."""
    names = ("gpt.2", "model.0", "model.1", "a.b.0", "trainer")
    assert ensembles.programs(names) == {
        "gpt.2": ("gpt.2",),
        "model": ("model.0", "model.1"),
        "a.b": ("a.b.0",),
        "trainer": ("trainer",),
    }
    assert ensembles.ensembles(names) == {"model": ("model.0", "model.1"), "a.b": ("a.b.0",)}
    assert ensembles.is_member("model.1", "model")
    assert not ensembles.is_member("model.1.0", "model")
    assert not ensembles.is_member("model.01", "model")


def test_a_process_may_run_some_of_the_members() -> None:
    names = Ensemble("model", 4).names
    assert ensembles.chosen(names, "") == names
    assert ensembles.chosen(names, "3,0-1,1") == ("model.3", "model.0", "model.1")


def test_names_of_members_are_sorted_by_number_and_shown_as_one() -> None:
    """The text of a span is one that `--member` takes."""
    names = Ensemble("model", 12).names
    assert sorted(names, key=tables.order) == list(names)
    assert tables.spans(["out", "out.1", *reversed(names)]) == ("model.0-11", "out", "out.1")
    some = [names[at] for at in (11, 0, 1, 2, 7, 9, 10)]
    [span] = tables.spans(some)
    assert span == "model.0-2,7,9-11"
    assert set(ensembles.chosen(names, span.removeprefix("model."))) == set(some)
    assert [*map(tables.family, ("out", "out.1", "out.x"))] == ["out", "out.*", "out.x"]


@pytest.mark.parametrize("text", ["4", "2-4", "3-2", "-1", "a", "1,", "1 2", "٣", "0x1"])
def test_a_process_runs_no_member_that_does_not_exist(text: str) -> None:
    with pytest.raises(SettingsError, match=r"expected members like 7 or 0-9,12.* 0 to 3"):
        ensembles.chosen(Ensemble("model", 4).names, text)


def test_the_size_is_given_for_all_processes_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROOMGRAD_MEMBERS", raising=False)
    assert len(sized(contract).components) == 4
    assert len(sized(contract, 7).components) == 8
    monkeypatch.setenv("ROOMGRAD_MEMBERS", "5")
    assert len(Plugin(contract, {}).system.components) == 6
    assert len(Plugin(contract, {}).sized(7).components) == 8
    for text in ("0", "1001", "-1", "many", "٣"):
        monkeypatch.setenv("ROOMGRAD_MEMBERS", text)
        with pytest.raises(SettingsError, match=f"ROOMGRAD_MEMBERS={text}: allowed is"):
            sized(contract)


def test_a_system_without_an_ensemble_has_no_size() -> None:
    alone = Plugin(System("lonely", (), ("teacher",)), {})
    with pytest.raises(SettingsError, match="--members 3: system lonely has no ensemble"):
        alone.sized(3)


def plan(*replicas: str) -> Plan:
    return Plan("zoo", "zoo", counted(contract().components, replicas, 0), {}, members=3)


def test_members_share_a_process() -> None:
    assert plan().modules == {"teacher": ("teacher",), "model": ("model.0", "model.1", "model.2")}
    assert plan().processes("model") == [("model.0", "model.1", "model.2")]
    assert plan().flags("model", ("model.0", "model.2")) == ["--run=zoo", "--member=0,2"]
    assert plan().flags("teacher", ("teacher",)) == ["--run=zoo"]


def test_replicas_are_those_of_an_ensemble_or_of_a_member() -> None:
    """A member with more replicas has them in processes of its own, one with none in none."""
    assert plan("model=2").processes("model") == [("model.0", "model.1", "model.2")] * 2
    found = plan("model.1=3,model.0=0")
    assert found.processes("model") == [("model.1", "model.2"), ("model.1",), ("model.1",)]
    assert found.replaced == ("model.0",)
    assert plan("model=2,model.1=1").replicas["model.1"] == 1
    with pytest.raises(SettingsError, match=r"there is no component 'modl', did you mean model\?"):
        plan("modl=2")
