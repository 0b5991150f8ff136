"""The contract of a system as JSON."""

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomgrad import Array, Component, MessageType, Room, RuntimeSettings, Stream, dtypes, on
from roomgrad.cli.acl import declarations
from roomgrad.errors import ContractError
from roomgrad.inspect.asyncapi import payload
from roomgrad.redis.registry import systems
from roomgrad.rooms import System
from roomgrad.schema import Declaration, check_gradients, contract_from_json, contract_to_json
from roomgrad.systems import Plugin, installed
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.trainer.handlers import component as trainer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("system", systems().values(), ids=lambda system: system.name)
def test_a_contract_that_was_written_is_read_as_it_was(system: System) -> None:
    assert contract_from_json(contract_to_json(system)) == system


def test_of_a_field_only_what_differs_from_the_plainest_is_written() -> None:
    written = json.loads(contract_to_json(systems()["trebuchet"]))
    assert written["streams"][0]["fields"] == {
        "DATA": {"array": "<f4", "shape": ["batch", 2]},
        "FRAMES": {"array": "<i8", "shape": [], "optional": True},
    }


@pytest.mark.parametrize("dtype", dtypes.NAMES)
def test_a_contract_of_any_dtype_is_read_as_it_was(dtype: str) -> None:
    """And AsyncAPI tells floats from whole numbers and booleans."""
    stream = Stream(Room("room"), "DATA/FORWARD", {"DATA": Array(dtype, ())})
    system = System("s", (stream,), ())
    assert contract_from_json(contract_to_json(system)) == system
    lists, raw = payload(stream)["properties"]["DATA"]["oneOf"]
    kinds = {"f": "number", "i": "integer", "u": "integer", "b": ["boolean", "integer"]}
    assert lists["type"] == kinds["f" if dtype == "bfloat16" else dtype[1]]
    assert raw["properties"]["$array"]["properties"]["dtype"] == {"const": dtype}


def test_a_gradient_has_all_that_is_required_or_nothing_in_asyncapi() -> None:
    fields = {"A": Array("<f4", ()), "B": Array("<f4", ()), "C": Array("<f4", (), optional=True)}
    schema = payload(Stream(Room("room"), "DATA/GRADIENT", fields))
    empty = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/GRADIENT"}
    for fits in ({}, {"A": 1, "B": 2}, {"A": 1, "B": 2, "C": 3}):
        jsonschema.validate({**empty, **fits}, schema)
    for half in ({"A": 1}, {"C": 1}, {"B": 2, "C": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**empty, **half}, schema)


def test_what_a_component_declares_is_read_as_it_was() -> None:
    declared = Declaration.of(controlmodel)
    assert Declaration.from_json(declared.to_json()) == declared
    assert (declared.learns, declared.starts) == (True, False)
    assert Declaration.of(trainer).starts
    forward = declared.handlers[0]
    assert (forward.room, forward.type) == ("input", "DATA/FORWARD")
    assert forward.replies == (("model", "DATA/FORWARD"),)
    assert forward.about.endswith(".")


@given(st.binary() | st.text() | JSON.map(json.dumps))
def test_anything_else_is_refused_in_a_sentence(written: Any) -> None:
    for read in (contract_from_json, Declaration.from_json):
        with pytest.raises(ContractError, match="this is no"):
            read(written)


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("array", "no dtype"),
        ("array", "O"),
        ("array", "|O8"),
        ("array", 7),
        ("shape", "batch"),
        ("shape", 3),
        ("shape", [None]),
        ("shape", [-1]),
        ("unheard", 1),
        ("low", "much"),
        ("optional", "perhaps"),
    ],
)
def test_a_field_that_no_contract_can_have_is_refused(part: str, wrong: object) -> None:
    written = json.loads(contract_to_json(systems()["trebuchet"]))
    written["streams"][0]["fields"]["DATA"][part] = wrong
    with pytest.raises(ContractError):
        contract_from_json(json.dumps(written))


ROOM, OTHER = Room("out"), Room("else")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
BRANCHED = System(
    "branched",
    (
        Stream(ROOM, FORWARD, {}, ("one", "two", "log")),
        Stream(ROOM, GRADIENT, {}),
        Stream(OTHER, FORWARD, {}, ("one", "two")),
        Stream(OTHER, GRADIENT, {}),
    ),
    ("one", "two", "log", "old"),
)


def declares(*replies: tuple[Room, MessageType], room: Room = ROOM, **more: Any) -> Declaration:
    handler = on(room, FORWARD, replies=replies)(lambda message, context: None)
    more = {"everyone": room is OTHER, **more}
    return Declaration.of(Component("one", BRANCHED, RuntimeSettings, [handler], **more))


ANSWERS, SENDS = declares((ROOM, GRADIENT)), declares(sends=[(ROOM, GRADIENT)])
LISTENS, ELSEWHERE = declares(), declares((OTHER, GRADIENT), room=OTHER)
BOTH = declares((ROOM, GRADIENT), everyone=True)


@pytest.mark.parametrize(
    "declared",
    [
        {"one": ANSWERS, "two": ANSWERS, "log": LISTENS},
        {"log": ANSWERS, "two": SENDS},
        {"one": ANSWERS, "watcher": BOTH},
    ],
)
def test_two_gradients_of_one_message_break_the_contract(declared: dict[str, Declaration]) -> None:
    """One of them alone would be learned from."""
    first, last = sorted(name for name, each in declared.items() if each is not LISTENS)
    with pytest.raises(ContractError, match=rf"{first} and {last} answer the same DATA/FORWARD"):
        check_gradients(BRANCHED, declared)


@pytest.mark.parametrize(
    "declared",
    [
        {"one": ANSWERS, "two": LISTENS, "log": LISTENS},
        {"one": ANSWERS, "old": ANSWERS},
        {"one": ANSWERS, "two": ELSEWHERE},
        {},
    ],
)
def test_what_reads_without_a_gradient_may_be_many(declared: dict[str, Declaration]) -> None:
    """Loggers and validators, what the contract no longer names, and consumers of other rooms."""
    check_gradients(BRANCHED, declared)


def with_senders(*names: str) -> System:
    """Return the same system, whose contract says that several answer."""
    streams = (
        replace(each, senders=names) if each.key == (ROOM.name, GRADIENT.value) else each
        for each in BRANCHED.streams
    )
    return replace(BRANCHED, streams=tuple(streams))


@pytest.mark.parametrize(
    "declared", [{"one": ANSWERS, "two": ANSWERS, "log": LISTENS}, {"two": SENDS}, {}]
)
def test_senders_of_the_contract_may_be_many(declared: dict[str, Declaration]) -> None:
    """Also before all of them have ever run."""
    system = with_senders("two", "one")
    check_gradients(system, declared)
    assert contract_from_json(contract_to_json(system)) == system
    assert system.senders("out") == ("two", "one")
    assert system.senders("else") == system.senders("nowhere") == ()


@pytest.mark.parametrize(
    ("senders", "declared", "said"),
    [
        (("one", "two"), {"one": ANSWERS, "log": ANSWERS}, "log and one answer the same"),
        (("one",), {"one": ANSWERS, "two": ANSWERS}, "one and two answer the same"),
        (("one", "two"), {"one": ANSWERS, "two": LISTENS}, "two would never answer"),
        (("one", "old"), {"one": ANSWERS}, "old would never answer"),
    ],
)
def test_a_sum_that_can_never_be_complete_breaks_the_contract(
    senders: tuple[str, ...], declared: dict[str, Declaration], said: str
) -> None:
    with pytest.raises(ContractError, match=said):
        check_gradients(with_senders(*senders), declared)


def test_only_gradients_are_added_up() -> None:
    with pytest.raises(ContractError, match="senders are added up, expected those of DATA/GRAD"):
        Stream(ROOM, FORWARD, {}, senders=("one",))
    with pytest.raises(ContractError, match="not among its components"):
        with_senders("stranger")


@pytest.mark.parametrize("plugin", installed().values(), ids=lambda plugin: plugin.system.name)
def test_each_installed_system_has_one_gradient_of_a_message(plugin: Plugin) -> None:
    check_gradients(plugin.system, declarations(plugin))
