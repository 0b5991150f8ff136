"""The commands that the doctor names: they exist, and work for the run, of any system."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator

import pytest
import redis

from roomgrad.inspect.doctor.findings import Finding
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.runtime import runs
from roomgrad.schema import contract_to_json
from roomgrad.testing import throwaway_server
from tests import roomgrad_command
from tests.integration.doctor.conftest import bad, examined
from tests.integration.echo import ECHO, INPUT

NAMES = Names("my own run")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with throwaway_server() as server:
        yield server.url


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(connect(url)) as client:
        client.flushall()
        yield client


def commands(finding: Finding) -> list[list[str]]:
    """Return the commands of roomgrad in a remedy, without the rest of its sentence."""
    found = re.findall(r"roomgrad (.*?--run (?:'[^']*'|\S+)(?: --redis \S+)?)", finding.do)
    return [shlex.split(each) for each in found]


def test_a_third_system_is_forgotten_as_the_doctor_says(client: redis.Redis, url: str) -> None:
    """Its contract is stored in the run, and installed nowhere; the server is named by --redis."""
    contract = contract_to_json(ECHO)
    runs.register(client, NAMES, "echo", {}, {"contract": contract})
    runs.create_groups(client, ECHO, NAMES)
    client.xadd(NAMES.stream(INPUT.name, "DATA/FORWARD"), {"m": "x"})
    ended = roomgrad_command.roomgrad("doctor", "--redis", url, environ={"REDIS_URL": ""})
    found = Finding(bad(examined(url))[0].level, "", "", do=ended.stdout)
    (forget,) = [each for each in commands(found) if each[0] == "forget"]
    assert forget == ["forget", "echo", "--run", "my own run", "--redis", url]
    ended = roomgrad_command.roomgrad(*forget, environ={"REDIS_URL": ""})
    assert ended.returncode == 0, ended.stderr
    assert not bad(examined(url))


def test_a_component_of_no_contract_is_forgotten_too(client: redis.Redis, url: str) -> None:
    """In a run of which nothing is known but its groups."""
    key = NAMES.stream("input", "DATA/FORWARD")
    runs.register(client, NAMES, "stranger", {})
    client.xgroup_create(key, "stranger", "0", mkstream=True)
    client.xadd(key, {"m": "x"})
    ((forget,),) = [commands(finding) for finding in bad(examined(url))]
    ended = roomgrad_command.roomgrad(*forget, environ={"REDIS_URL": url})
    assert ended.returncode == 0, ended.stderr
    assert not bad(examined(url))


def test_every_command_of_roomgrad_that_is_named_exists(client: redis.Redis, url: str) -> None:
    """Each is parsed with the words that the doctor gives it."""
    contract = contract_to_json(ECHO)
    runs.register(client, NAMES, "echo", {}, {"contract": contract})
    client.xadd(NAMES.dead(), {"m": "x"})
    client.hset(NAMES.memory("echo"), "root-7", "{}")
    found = [words for finding in bad(examined(url)) for words in commands(finding)]
    assert {words[0] for words in found} == {"dead"}
    for words in found:
        ended = roomgrad_command.roomgrad(*words, environ={"REDIS_URL": url})
        assert ended.returncode == 0, (words, ended.stderr)
