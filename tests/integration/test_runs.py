"""Runs: continued with the same settings, refused with others, deleted, forgotten."""

from __future__ import annotations

import threading
from typing import Annotated

import pytest

from roomgrad import (
    Component,
    Context,
    Message,
    MessageType,
    OfRun,
    Room,
    RuntimeSettings,
    Stream,
    System,
    on,
)
from roomgrad.errors import ContractError, RunMismatch, ServerError
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.runtime import runs
from roomgrad.runtime.replica import Replica
from roomgrad.schema import Declaration
from roomgrad.settings import settings
from roomgrad.testing import running
from tests.integration.conftest import QUICK, EchoRun
from tests.integration.echo import (
    ECHO,
    FORWARD,
    GRADIENT,
    INPUT,
    OUTPUT,
    echo_component,
    numbers,
    repeat,
)
from tests.waiting import until


@settings
class PitchSettings(RuntimeSettings):
    """An echo component with a pitch."""

    pitch: Annotated[float, OfRun] = 1.0
    """How high it speaks."""

    mood: str = "good"
    """How it feels, which may change from day to day."""


def pitched() -> Component:
    handler = on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])(repeat)
    return Component("echo", ECHO, PitchSettings, [handler])


def make_settings(echo: EchoRun, **more: object) -> PitchSettings:
    return PitchSettings(run=echo.names.run, **{**QUICK, **more})  # type: ignore[arg-type]


def test_a_run_is_continued_with_the_same_settings(echo: EchoRun) -> None:
    """What is no part of a run's identity may change."""
    for mood in ("good", "bad"):
        replica = Replica(pitched(), make_settings(echo, mood=mood), echo.url)
        replica._connect()
        replica._connections.close()


def test_a_run_is_refused_with_other_settings(echo: EchoRun) -> None:
    """With a sentence that names the setting, both values and the ways out."""
    first = Replica(pitched(), make_settings(echo), echo.url)
    first._connect()
    first._connections.close()
    second = Replica(pitched(), make_settings(echo, pitch=2.0), echo.url)
    with pytest.raises(RunMismatch) as caught:
        second.run()
    text = str(caught.value)
    assert echo.names.run in text
    assert "was started with pitch = 1.0 of echo, not 2.0" in text
    assert "--run" in text
    assert "--fresh" in text


def test_a_setting_that_another_release_has_refuses_nobody(echo: EchoRun) -> None:
    """Neither the newer release that joins a run, nor the older one that comes back to it."""
    names = echo.names
    for settings_ in ({"pitch": 1.0}, {"pitch": 1.0, "vibrato": 0.5}, {"pitch": 1.0}):
        runs.register(echo.client, names, "echo", settings_)
    with pytest.raises(RunMismatch, match=r"pitch = 1\.0"):
        runs.register(echo.client, names, "echo", {"pitch": 2.0, "vibrato": 0.5})


def test_a_run_that_began_before_its_components_had_a_seed_goes_on(echo: EchoRun) -> None:
    """With any seed; a new run keeps the one that it began with."""
    runs.register(echo.client, echo.names, "echo", {"pitch": 1.0})
    replica = echo.start(pitched(), seed=7)
    assert echo.wait_reply(echo.send(1)).array.tolist() == [2]
    echo.stop(replica)
    runs.delete(echo.client, echo.names)
    echo.stop(echo.start(pitched(), seed=7))
    with pytest.raises(RunMismatch, match="was started with seed = 7 of echo, not 8"):
        Replica(pitched(), make_settings(echo, seed=8), echo.url).run()


def test_two_runs_know_nothing_of_each_other(echo: EchoRun) -> None:
    """One echo component each: neither hears what is said to the other."""
    other = Names(echo.names.run + "-other")
    echo.stack.callback(runs.delete, echo.client, other)
    echo.start(echo_component())
    with running(echo_component(), echo.make_settings(run=other.run), echo.url):
        echo.wait_reply(echo.send(1))
    assert echo.client.hget(other.counters("echo"), "received") is None


def test_deleting_a_run_leaves_nothing_of_it_and_everything_else(echo: EchoRun) -> None:
    """`--fresh` deletes the keys of this run, whatever other runs are called."""
    similar = [echo.names.run + "x", echo.names.run[:-1], f"[{echo.names.run}]", "*"]
    for name in similar:
        echo.client.set(Names(name).run_info(), "kept")
        echo.stack.callback(echo.client.delete, Names(name).run_info())
    replica = echo.start(echo_component())
    echo.wait_reply(echo.send(1))
    replica.stop()
    until(lambda: not echo.client.exists(echo.names.alive(replica.consumer)))
    assert runs.delete(echo.client, echo.names) > 5
    assert list(echo.client.scan_iter(match=echo.names.everything())) == []
    assert all(echo.client.exists(Names(name).run_info()) for name in similar)


@pytest.mark.parametrize("name", ["*", "a[b]c", "what?", "ä {x}:", "100%", "x" * 180, "ж" * 180])
def test_a_run_may_have_any_name(echo: EchoRun, name: str) -> None:
    """Its keys are its own, and it is deleted alone."""
    echo.names = Names(echo.names.run + name)
    echo.stack.callback(runs.delete, echo.client, echo.names)
    other = Names(echo.names.run + "b")
    echo.client.set(other.run_info(), "kept")
    echo.start(echo_component())
    echo.wait_reply(echo.send(1))
    runs.delete(echo.client, echo.names)
    assert echo.client.delete(other.run_info()) == 1


def test_a_run_deleted_under_its_components_starts_again(echo: EchoRun) -> None:
    """As with an emptied server."""
    echo.start(echo_component(on_start=lambda context: Message.open(INPUT, numbers(1))))
    until(lambda: echo.reply_count() == 1)
    before = echo.client.hget(echo.names.run_info(), "token")
    runs.delete(echo.client, echo.names)
    until(lambda: echo.client.hget(echo.names.run_info(), "token") not in (None, before))
    until(lambda: echo.reply_count() == 1)


def test_a_client_is_held_back_while_its_consumers_are_behind(echo: EchoRun) -> None:
    """What opens a root waits; the error names who is behind, and by how much."""
    runs.create_groups(echo.client, ECHO, echo.names)
    key = echo.names.stream("input", "DATA/FORWARD")
    with echo.client.pipeline(transaction=False) as pipe:
        for _ in range(1000):
            pipe.xadd(key, {"m": "x"})
        pipe.execute()
    with (
        Client(ECHO, echo.names.run, echo.url) as client,
        pytest.raises(ServerError, match="echo is 1000 messages behind"),
    ):
        client.send(Message.open(INPUT, numbers(1)))


def test_a_run_that_is_emptied_while_it_is_registered_is_a_new_one(own_echo: EchoRun) -> None:
    """Somebody empties the server between any two commands: nobody is told of other settings."""
    stop = threading.Event()

    def empty() -> None:
        with connect(own_echo.url) as client:
            while not stop.is_set():
                client.flushall()

    thread = threading.Thread(target=empty)
    thread.start()
    try:
        for _ in range(3000):
            runs.register(own_echo.client, own_echo.names, "echo", {"seed": 1})
    finally:
        stop.set()
        thread.join()


def test_who_looks_at_a_run_needs_no_code_of_its_components(echo: EchoRun) -> None:
    """Its contract stands in it, and what each component handles and sends."""
    assert registry.system_of_run(echo.client, echo.names) is None
    echo.start(echo_component())
    assert registry.system_of_run(echo.client, echo.names) == ECHO
    (said,) = registry.declared_in(echo.client, echo.names).values()
    assert said == Declaration.of(echo_component())


def test_a_contract_that_cannot_be_read_is_as_good_as_none(echo: EchoRun) -> None:
    """Anybody may have written it."""
    info = echo.names.run_info()
    written = {"contract": "nothing", "declares:echo": "7", "settings:echo": "{}"}
    echo.client.hset(info, mapping=written)
    assert registry.system_of_run(echo.client, echo.names) is None
    assert registry.declared_in(echo.client, echo.names) == {}
    echo.start(echo_component())
    assert registry.system_of_run(echo.client, echo.names) == ECHO


def test_who_is_refused_says_nothing_of_the_run(echo: EchoRun) -> None:
    """Neither what its rooms carry, nor what it would have done in them."""
    first = Replica(pitched(), make_settings(echo), echo.url)
    first._connect()
    first._connections.close()
    before = registry.declared_in(echo.client, echo.names)
    other = echo_component(answered=repeat)
    stranger = Component("echo", ECHO, PitchSettings, other.handlers)
    with pytest.raises(RunMismatch):
        Replica(stranger, make_settings(echo, pitch=2.0), echo.url).run()
    assert registry.declared_in(echo.client, echo.names) == before


SHARED = Room("shared")
BRANCHED = System(
    "branched",
    (Stream(SHARED, FORWARD, {}, ("one", "two", "log")), Stream(SHARED, GRADIENT, {})),
    ("one", "two", "log"),
)


def consumer(name: str, *replies: tuple[Room, MessageType]) -> Component:
    def handle(message: Message, context: Context) -> None:
        context.counters.add("seen")

    handler = on(SHARED, FORWARD, replies=replies)(handle)
    return Component(name, BRANCHED, RuntimeSettings, [handler])


def test_a_second_component_that_answers_with_a_gradient_is_refused(echo: EchoRun) -> None:
    """It leaves nothing in the run; a logger joins, and so does the second one without a first."""
    first = echo.start(consumer("one", (SHARED, GRADIENT)))
    echo.start(consumer("log"))
    second = consumer("two", (SHARED, GRADIENT))
    with pytest.raises(ContractError, match="one and two answer the same DATA/FORWARD of room"):
        Replica(second, echo.make_settings(), echo.url).run()
    assert registry.components_of(echo.client, echo.names) == {"one", "log"}
    echo.stop(first)
    runs.forget(echo.client, BRANCHED, echo.names, "one")
    echo.start(second)
