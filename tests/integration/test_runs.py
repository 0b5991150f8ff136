"""Runs: continued with the same settings, refused with others, deleted, forgotten."""

from __future__ import annotations

import threading
from typing import Annotated

import pytest

from roomgrad import Component, Message, OfRun, RuntimeSettings, on
from roomgrad.errors import RunMismatch, ServerError
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.runtime import runs
from roomgrad.runtime.replica import Replica
from roomgrad.schema import Declaration
from roomgrad.settings import settings
from roomgrad.testing import running
from tests.integration.conftest import QUICK, Cage
from tests.integration.parrots import CAGE, FORWARD, PARROTS, PERCH, numbers, parrot, repeat
from tests.waiting import until


@settings
class PitchSettings(RuntimeSettings):
    """A parrot with a pitch."""

    pitch: Annotated[float, OfRun] = 1.0
    """How high it speaks."""

    mood: str = "good"
    """How it feels, which may change from day to day."""


def pitched() -> Component:
    handler = on(CAGE, FORWARD, replies=[(PERCH, FORWARD)])(repeat)
    return Component("parrot", PARROTS, PitchSettings, [handler])


def make_settings(cage: Cage, **more: object) -> PitchSettings:
    return PitchSettings(run=cage.names.run, **{**QUICK, **more})  # type: ignore[arg-type]


def test_a_run_is_continued_with_the_same_settings(cage: Cage) -> None:
    """What is no part of a run's identity may change."""
    for mood in ("good", "bad"):
        replica = Replica(pitched(), make_settings(cage, mood=mood), cage.url)
        replica._connect()
        replica._connections.close()


def test_a_run_is_refused_with_other_settings(cage: Cage) -> None:
    """With a sentence that names the setting, both values and the ways out."""
    first = Replica(pitched(), make_settings(cage), cage.url)
    first._connect()
    first._connections.close()
    second = Replica(pitched(), make_settings(cage, pitch=2.0), cage.url)
    with pytest.raises(RunMismatch) as caught:
        second.run()
    text = str(caught.value)
    assert cage.names.run in text
    assert "was started with pitch = 1.0 of parrot, not 2.0" in text
    assert "--run" in text
    assert "--fresh" in text


def test_a_setting_that_another_release_has_refuses_nobody(cage: Cage) -> None:
    """Neither the newer release that joins a run, nor the older one that comes back to it."""
    names = cage.names
    for settings_ in ({"pitch": 1.0}, {"pitch": 1.0, "vibrato": 0.5}, {"pitch": 1.0}):
        runs.register(cage.client, names, "parrot", settings_)
    with pytest.raises(RunMismatch, match=r"pitch = 1\.0"):
        runs.register(cage.client, names, "parrot", {"pitch": 2.0, "vibrato": 0.5})


def test_two_runs_know_nothing_of_each_other(cage: Cage) -> None:
    """One parrot each: neither hears what is said to the other."""
    other = Names(cage.names.run + "-other")
    cage.stack.callback(runs.delete, cage.client, other)
    cage.start(parrot())
    with running(parrot(), cage.make_settings(run=other.run), cage.url):
        cage.heard(cage.say(1))
    assert cage.client.hget(other.counters("parrot"), "heard") is None


def test_deleting_a_run_leaves_nothing_of_it_and_everything_else(cage: Cage) -> None:
    """`--fresh` deletes the keys of this run, whatever other runs are called."""
    similar = [cage.names.run + "x", cage.names.run[:-1], f"[{cage.names.run}]", "*"]
    for name in similar:
        cage.client.set(Names(name).run_info(), "kept")
        cage.stack.callback(cage.client.delete, Names(name).run_info())
    replica = cage.start(parrot())
    cage.heard(cage.say(1))
    replica.stop()
    until(lambda: not cage.client.exists(cage.names.alive(replica.consumer)))
    assert runs.delete(cage.client, cage.names) > 5
    assert list(cage.client.scan_iter(match=cage.names.everything())) == []
    assert all(cage.client.exists(Names(name).run_info()) for name in similar)


@pytest.mark.parametrize("name", ["*", "a[b]c", "what?", "ä {x}:", "100%", "x" * 200])
def test_a_run_may_have_any_name(cage: Cage, name: str) -> None:
    """Its keys are its own, and it is deleted alone."""
    cage.names = Names(cage.names.run + name)
    cage.stack.callback(runs.delete, cage.client, cage.names)
    other = Names(cage.names.run + "b")
    cage.client.set(other.run_info(), "kept")
    cage.start(parrot())
    cage.heard(cage.say(1))
    runs.delete(cage.client, cage.names)
    assert cage.client.delete(other.run_info()) == 1


def test_a_run_deleted_under_its_components_starts_again(cage: Cage) -> None:
    """As with an emptied server."""
    cage.start(parrot(on_start=lambda context: Message.open(CAGE, numbers(1))))
    until(lambda: cage.said() == 1)
    before = cage.client.hget(cage.names.run_info(), "token")
    runs.delete(cage.client, cage.names)
    until(lambda: cage.client.hget(cage.names.run_info(), "token") not in (None, before))
    until(lambda: cage.said() == 1)


def test_a_client_is_held_back_while_its_consumers_are_behind(cage: Cage) -> None:
    """What opens a root waits; the error names who is behind, and by how much."""
    runs.create_groups(cage.client, PARROTS, cage.names)
    key = cage.names.stream("cage", "DATA/FORWARD")
    with cage.client.pipeline(transaction=False) as pipe:
        for _ in range(1000):
            pipe.xadd(key, {"m": "x"})
        pipe.execute()
    with (
        Client(PARROTS, cage.names.run, cage.url) as client,
        pytest.raises(ServerError, match="parrot is 1000 messages behind"),
    ):
        client.send(Message.open(CAGE, numbers(1)))


def test_a_run_that_is_emptied_while_it_is_registered_is_a_new_one(own_cage: Cage) -> None:
    """Somebody empties the server between any two commands: nobody is told of other settings."""
    stop = threading.Event()

    def empty() -> None:
        with connect(own_cage.url) as client:
            while not stop.is_set():
                client.flushall()

    thread = threading.Thread(target=empty)
    thread.start()
    try:
        for _ in range(3000):
            runs.register(own_cage.client, own_cage.names, "parrot", {"seed": 1})
    finally:
        stop.set()
        thread.join()


def test_who_looks_at_a_run_needs_no_code_of_its_components(cage: Cage) -> None:
    """Its contract stands in it, and what each component handles and sends."""
    assert registry.system_of_run(cage.client, cage.names) is None
    cage.start(parrot())
    assert registry.system_of_run(cage.client, cage.names) == PARROTS
    (said,) = registry.declared_in(cage.client, cage.names).values()
    assert said == Declaration.of(parrot())


def test_a_contract_that_cannot_be_read_is_as_good_as_none(cage: Cage) -> None:
    """Anybody may have written it."""
    info = cage.names.run_info()
    written = {"contract": "nothing", "declares:parrot": "7", "settings:parrot": "{}"}
    cage.client.hset(info, mapping=written)
    assert registry.system_of_run(cage.client, cage.names) is None
    assert registry.declared_in(cage.client, cage.names) == {}
    cage.start(parrot())
    assert registry.system_of_run(cage.client, cage.names) == PARROTS


def test_who_is_refused_says_nothing_of_the_run(cage: Cage) -> None:
    """Neither what its rooms carry, nor what it would have done in them."""
    first = Replica(pitched(), make_settings(cage), cage.url)
    first._connect()
    first._connections.close()
    before = registry.declared_in(cage.client, cage.names)
    other = parrot(answered=repeat)
    stranger = Component("parrot", PARROTS, PitchSettings, other.handlers)
    with pytest.raises(RunMismatch):
        Replica(stranger, make_settings(cage, pitch=2.0), cage.url).run()
    assert registry.declared_in(cage.client, cage.names) == before
