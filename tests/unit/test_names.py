"""Names of keys, channels and groups."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomgrad.errors import ContractError, SettingsError
from roomgrad.names import PLAIN, Names, encoded, is_client_group, room_of
from roomgrad.state import file_name


def test_plain_names_stand_in_keys_as_they_are() -> None:
    """What a person types into redis-cli is what the contract says."""
    names = Names("trebuchet")
    assert names.channel("input") == "{trebuchet}:input"
    assert names.stream("input", "DATA/GRADIENT") == "{trebuchet}:input:DATA/GRADIENT"
    assert names.memory("trainer") == "{trebuchet}:memory:trainer"
    assert names.model("controlmodel") == "{trebuchet}:model:controlmodel"
    assert names.counters("trainer") == "{trebuchet}:counters:trainer"
    assert names.done("trainer", "input", "DATA/GRADIENT") == (
        "{trebuchet}:done:trainer:input:DATA/GRADIENT"
    )
    assert names.dead() == "{trebuchet}:dead"
    assert names.channel(names.inbox("trainer")) == "{trebuchet}:@trainer"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a b", "a%20b"),
        ("a:b", "a%3Ab"),
        ("{x}", "%7Bx%7D"),
        ("*", "%2A"),
        ("näh", "n%C3%A4h"),
        ("100%", "100%25"),
        ("@a b", "@a%20b"),
    ],
)
def test_other_names_are_percent_encoded(name: str, key: str) -> None:
    """No name can break out of its key, its hash tag or a pattern."""
    assert encoded(name) == key
    assert Names(name).channel("room").startswith("{")


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_names_never_share_a_key(one: str, other: str) -> None:
    """Two rooms, or two runs, with different names have different keys."""
    try:
        same = encoded(one) == encoded(other)
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return
    assert same == (one == other)


@given(st.text(min_size=1, max_size=30))
def test_an_encoded_name_has_no_meaning_in_a_key_or_pattern(name: str) -> None:
    """Colons, braces, stars and brackets of a name never reach Redis."""
    try:
        text = encoded(name)
    except UnicodeEncodeError:
        return
    assert not set(text.removeprefix("@")) & set(":{}*?[]\\ \n")


@pytest.mark.parametrize("name", ["run", "dead", "taken", "a:b", ""])
def test_a_table_never_takes_a_key_of_the_runtime(name: str) -> None:
    """The names of tables and of what the runtime keeps stand side by side."""
    with pytest.raises(ContractError, match="may not be named"):
        Names("x").table(name)


def test_all_keys_of_a_run_lie_in_one_slot() -> None:
    """Every name begins with the hash tag of its run, so that one commit may touch them all."""
    names = Names("my run")
    for name, method in inspect.getmembers(names, inspect.ismethod):
        if name.startswith("_") or name in ("inbox", "client_group"):
            continue
        parameters = inspect.signature(method).parameters
        key = method(*["x"] * len(parameters))
        assert key.startswith("{my%20run}:"), name


def test_plain_has_the_limits_that_the_docs_name() -> None:
    """Letters, digits, underscore, dot and dash, up to 64 of them."""
    assert PLAIN.fullmatch("A-z_0.9")
    assert PLAIN.fullmatch("x" * 64)
    assert not PLAIN.fullmatch("x" * 65)
    assert not PLAIN.fullmatch("")
    assert not PLAIN.fullmatch("x\n")


@given(st.text(min_size=1, max_size=30))
def test_a_channel_tells_its_room(room: str) -> None:
    names = Names("my run")
    try:
        assert room_of(names.channel(room)) == room
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return


def test_groups_of_clients_are_known_by_their_names() -> None:
    """Nobody else's group looks like one."""
    assert Names.client_group("trainer") == "trainer@gateway"
    assert Names.client_group("trainer", 2) == "trainer@gateway:2"
    assert is_client_group("trainer@gateway:2")
    assert not is_client_group("trainer")
    assert not is_client_group("gateway")


@pytest.mark.parametrize("name", ["x" * 201, "ж" * 201, "\ud800"])
def test_a_name_that_no_run_can_have_is_refused_everywhere_alike(name: str) -> None:
    with pytest.raises(SettingsError, match="expected a name of at most 200 characters in UTF-8"):
        Names(name)


@pytest.mark.parametrize("name", ["plain", "ж" * 42, "ж" * 43, "ж" * 200, "x" * 200, "." * 200])
def test_every_name_of_a_run_is_the_name_of_a_file(name: str, tmp_path: Path) -> None:
    """Limits count characters, in any script; what is cut stays apart from others."""
    Names(name)
    found = file_name(name)
    (tmp_path / f"{found}.partial").touch()
    assert found != file_name(name[:-1] + "a")
    assert found == "plain" or "%" in found or len(found) == 200
