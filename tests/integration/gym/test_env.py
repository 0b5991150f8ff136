"""An environment is a component of a run, and a room is an environment."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import orjson
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from roomgrad import Client, Message, ModelStatus, System, gym
from roomgrad.codec import unpack
from roomgrad.errors import ContractError, NoAnswer, SchemaError, SettingsError
from roomgrad.gym.components import FORWARD, REWARD, component_of, maker_of
from roomgrad.redis import heartbeats, registry
from roomgrad.redis.guest_client import GuestClient
from roomgrad.rooms import Room, Stream
from roomgrad.runtime.replica import Replica
from tests.forked import Forked
from tests.integration.conftest import QUICK, EchoRun
from tests.integration.gym import environments
from tests.waiting import LIMIT_S, until

ENTER, LEAVE = "actions", "observations"
Seen = list[Any]


def start(echo: EchoRun, environment: Any = "CartPole-v1", envs: int = 1, **limit: int) -> Replica:
    """Serve an environment in a thread."""
    make = maker_of(environment, **limit)
    return echo.start(component_of(echo.client, echo.names, make=make, envs=envs, name="env"))


@pytest.fixture
def env(echo: EchoRun) -> Iterator[Callable[[], gym.Env]]:
    made: list[gym.Env] = []

    def make() -> gym.Env:
        made.append(gym.Env(echo.names.run, redis_url=echo.url, timeout_s=LIMIT_S))
        return made[-1]

    yield make
    for each in made:
        each.close()


def rollout(
    environment: gymnasium.Env[Any, Any], seed: int, before: Callable[[int], object] = bool
) -> Seen:
    """Return all that an episode of random actions shows. before: called before each step."""
    random = np.random.default_rng(seed)
    observation, _ = environment.reset(seed=seed)
    seen: Seen = [observation.tolist()]
    while True:
        before(len(seen))
        observation, reward, *ends, _ = environment.step(random.integers(2))
        seen.append([observation.tolist(), reward, *ends])
        if any(ends):
            return seen


def assert_nothing_is_left(echo: EchoRun) -> None:
    until(lambda: echo.client.hlen(echo.names.memory("env")) == 0)


def test_episodes_are_those_of_the_environment(echo: EchoRun, env: Any) -> None:
    start(echo)
    room, alone = env(), gymnasium.make("CartPole-v1")
    for seed in range(3):
        assert rollout(room, seed) == rollout(alone, seed)
    assert_nothing_is_left(echo)
    assert echo.counter("episodes", "env") == 3
    assert echo.dead_letters() == []


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_a_room_passes_the_checks_of_gymnasium(echo: EchoRun, env: Any, name: str) -> None:
    start(echo, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of bounds, and that a room does not render
        check_env(env(), skip_render_check=True)
    assert echo.dead_letters() == []


def test_an_episode_that_is_left_is_given_up(echo: EchoRun, env: Any) -> None:
    start(echo)
    room = env()
    for seed in range(3):
        room.reset(seed=seed)
    room.close()
    until(lambda: echo.client.hlen(echo.names.memory("env")) == 0)
    assert echo.dead_letters() == []
    with pytest.raises(ResetNeeded, match="call reset first"):
        room.step(0)


# kills


@pytest.fixture
def serve(echo: EchoRun, tmp_path: Path) -> Callable[[str], Forked]:
    quick = {f"ROOMGRAD_{name.upper()}": str(value) for name, value in QUICK.items()}
    environ = quick | {environments.KILLED: str(tmp_path / "killed")}
    module = "tests.integration.gym.environments"

    def start(target: str) -> Forked:
        process = Forked(module, target, echo.names.run, echo.url, environ=environ)
        echo.stack.callback(process.close)
        until(lambda: process.pid in {e.pid for e in heartbeats.find(echo.client, echo.names)})
        return process

    return start


def test_a_killed_environment_is_played_again(echo: EchoRun, env: Any, serve: Any) -> None:
    """It is killed between steps, and the next process goes on with the same episode."""
    processes = [serve("CartPole-v1")]

    def replace(step: int) -> None:
        if step % 5 == 0 and len(processes) < 4:
            processes[-1].kill()
            processes[-1].wait()
            processes.append(serve("CartPole-v1"))

    assert rollout(env(), 6, replace) == rollout(gymnasium.make("CartPole-v1"), 6)
    assert len(processes) == 4
    assert_nothing_is_left(echo)
    assert echo.counter("episodes", "env") == 1


def test_a_step_in_which_it_dies_happens_once(echo: EchoRun, env: Any, serve: Any) -> None:
    """One of two processes is killed while it steps; the other one takes that step."""
    processes = [serve("lethal"), serve("lethal")]
    assert rollout(env(), 6) == rollout(gymnasium.make("CartPole-v1"), 6)
    assert sorted(each.poll() is None for each in processes) == [False, True]
    assert echo.counter("episodes", "env") == 1
    assert echo.dead_letters() == []


# several environments


@pytest.fixture
def guest(echo: EchoRun) -> Iterator[GuestClient]:
    with free_guest(echo) as made:
        yield made


@contextmanager
def free_guest(echo: EchoRun) -> Iterator[GuestClient]:
    """Yield a guest that sends anything: its contract has no schema for actions."""
    found, free = contract(echo), Stream(Room(ENTER), FORWARD, {}, ("env",))
    streams = tuple(free if each.key == free.key else each for each in found.streams)
    system = System(found.name, streams, found.components)
    with Client(system, echo.names.run, echo.url) as client, GuestClient(client) as made:
        yield made


@pytest.fixture
def pair(echo: EchoRun) -> Replica:
    return start(echo, envs=2)


def open_episode(guest: GuestClient, seed: int = 0, **options: Any) -> Message:
    message = Message.open(ENTER, seed=seed, **options)
    guest.open(message, LEAVE)
    return message


def act(guest: GuestClient, opened: Message, actions: Any) -> Message:
    guest.send(opened.reply(ENTER, np.asarray(actions)))
    return guest.wait(opened.root_id, timeout_s=LIMIT_S)


@pytest.mark.usefixtures("pair")
def test_two_environments_go_in_lockstep(echo: EchoRun, guest: GuestClient) -> None:
    """Row i is the environment with seed SEED + i, until it is done; then all of it is told."""
    opened, alone = open_episode(guest, 3), [gymnasium.make("CartPole-v1") for _ in range(2)]
    rows = [each.reset(seed=3 + i)[0] for i, each in enumerate(alone)]
    assert np.array_equal(guest.wait(opened.root_id, timeout_s=LIMIT_S).array, rows)
    done, lengths, random = [False, False], [0, 0], np.random.default_rng(0)
    while not all(done):
        actions, rewards = random.integers(2, size=2), [0.0, 0.0]
        for i in range(2):
            if not done[i]:
                rows[i], rewards[i], done[i], _, _ = alone[i].step(actions[i])
                lengths[i] += 1
        answer = act(guest, opened, actions)
        assert np.array_equal(answer.array, rows)
        assert answer.fields["REWARD"].tolist() == rewards
        assert answer.fields["DONE"].tolist() == done
        assert not answer.fields["TRUNCATED"].any()
    whole = whole_episode(echo)
    assert lengths[0] != lengths[1]
    assert whole.array.sum(axis=0).tolist() == lengths == whole.fields["LENGTHS"].tolist()
    assert whole.fields["OBSERVATIONS"].shape == (max(lengths) + 1, 2, 4)
    assert np.array_equal(whole.fields["OBSERVATIONS"][-1], rows)
    assert whole.fields["ACTIONS"].shape == (max(lengths), 2)
    assert echo.counter("steps", "env") == sum(lengths)


def whole_episode(echo: EchoRun) -> Message:
    """Return the first DATA/REWARD."""
    return echo.wait_for(contract(echo).stream(LEAVE, REWARD))


def contract(echo: EchoRun) -> System:
    found = registry.system_of_run(echo.client, echo.names)
    assert found is not None
    return found


@pytest.mark.usefixtures("pair")
def test_an_episode_to_validate_is_an_episode(echo: EchoRun) -> None:
    """Models answer its observations and remember nothing; the environment does."""
    stream = contract(echo).stream(LEAVE, FORWARD)
    with Client(contract(echo), echo.names.run, echo.url) as client:
        client.send(Message.open(ENTER, seed=0, status=ModelStatus.VALIDATE))
        answer = echo.wait_for(stream)
        while not answer.fields["DONE"].all():
            client.send(answer.reply(ENTER, np.array([1, 1])))
            answer = echo.wait_for(stream, after=answer.entry)
    whole = whole_episode(echo)
    assert whole.status is ModelStatus.VALIDATE
    assert whole.fields["LENGTHS"].max() < 20
    assert_nothing_is_left(echo)


@pytest.mark.usefixtures("pair")
def test_episodes_without_a_seed_differ(guest: GuestClient) -> None:
    opened = [Message.open(ENTER) for _ in range(2)]
    for each in opened:
        guest.open(each, LEAVE)
    one, other = (guest.wait(each.root_id, timeout_s=LIMIT_S).array for each in opened)
    assert not np.array_equal(one, other)


# bad input

NO_ROWS = np.zeros(2, "<f4")


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize(
    ("actions", "sentence"),
    [
        (np.array([1]), r"DATA: expected shape \(2,\), got \(1,\)"),
        (np.array([[0], [1]]), r"DATA: expected shape \(2,\), got \(2, 1\)"),
        (np.array([0, 2]), "DATA: expected numbers from 0 to 1, got 2"),
        (np.array([0.5, 1]), "DATA: expected integers"),
        (np.array([np.nan, 1], "<f4"), "DATA: "),
    ],
    ids=["row", "column", "value", "fraction", "nan"],
)
def test_actions_that_do_not_fit_end_their_root_alone(
    echo: EchoRun, guest: GuestClient, actions: Any, sentence: str
) -> None:
    bad, good = open_episode(guest), open_episode(guest)
    for each in (bad, good):
        guest.wait(each.root_id, timeout_s=LIMIT_S)
    with pytest.raises(NoAnswer, match=sentence):
        act(guest, bad, actions)
    assert act(guest, good, [0, 1]).fields["REWARD"].tolist() == [1, 1]
    until(lambda: echo.client.hlen(echo.names.memory("env")) == 1)


@pytest.mark.usefixtures("pair")
def test_memory_has_a_byte_of_each_action(echo: EchoRun, guest: GuestClient) -> None:
    """Each step writes all actions of its episode so far, for a replay."""
    opened = open_episode(guest)
    guest.wait(opened.root_id, timeout_s=LIMIT_S)
    for actions in ([0, 1], [1, 0]):
        act(guest, opened, actions)
    record = echo.client.hget(echo.names.memory("env"), opened.root_id)
    actions = unpack(bytes(record or b""))["actions"]
    assert (actions.dtype, actions.tolist()) == (np.int8, [[0, 1], [1, 0]])


def test_an_episode_ends_when_their_number_changes(echo: EchoRun, pair: Replica) -> None:
    with free_guest(echo) as guest:
        opened = open_episode(guest)
        guest.wait(opened.root_id, timeout_s=LIMIT_S)
        act(guest, opened, [0, 1])
        echo.stop(pair)
        start(echo, envs=3)
        with pytest.raises(NoAnswer, match=r"DATA: expected \(2,\) as in this episode so far"):
            act(guest, opened, [0, 1, 1])
    assert_nothing_is_left(echo)


@pytest.mark.usefixtures("pair")
def test_an_episode_is_opened_once_and_not_by_a_question(echo: EchoRun, guest: GuestClient) -> None:
    opened = open_episode(guest, status=ModelStatus.VALIDATE)
    with pytest.raises(NoAnswer, match="open an episode with MODEL_STATUS 1 or 3"):
        guest.wait(opened.root_id, timeout_s=LIMIT_S)
    opened = open_episode(guest)
    guest.wait(opened.root_id, timeout_s=LIMIT_S)
    guest.send(opened.reply(ENTER))
    until(lambda: len(echo.dead_letters()) == 2)
    assert act(guest, opened, [0, 1]).fields["REWARD"].tolist() == [1, 1]
    unknown = Message.open(ENTER, np.array([0, 1]))
    guest.open(unknown, LEAVE)
    until(lambda: len(echo.dead_letters()) == 3)
    reasons = [orjson.loads(each[b"history"])["reason"] for each in echo.dead_letters()[1:]]
    assert "has an episode already" in reasons[0]
    assert "it has ended, or was never opened" in reasons[1]


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (environments.Walk, "raised after 3 steps from seed 0: ZeroDivisionError: division by"),
        (environments.Wide, r"ValueError: observed shape \(3,\), expected \(2,\)"),
        (environments.Nan, "REWARD: expected finite numbers, got NaN"),
    ],
)
def test_an_environment_that_fails_ends_its_root_alone(
    echo: EchoRun, env: Any, target: Any, sentence: str
) -> None:
    start(echo, target)
    room, other = env(), env()
    for each in (room, other):
        each.reset(seed=0)
    with pytest.raises(NoAnswer, match=sentence):
        rollout(room, 0, lambda _: 1)
    with pytest.raises(ResetNeeded):
        room.step(1)
    assert other.step(0)[1] == 1.0
    until(lambda: echo.client.hlen(echo.names.memory("env")) == 1)
    assert len(echo.dead_letters()) == 1


def test_an_episode_that_never_ends_is_truncated(echo: EchoRun, env: Any) -> None:
    start(echo, environments.Walk, max_steps=5)
    room = env()
    room.reset()
    ends = [room.step(0)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    assert_nothing_is_left(echo)


@pytest.mark.parametrize(
    ("target", "options", "sentence"),
    [
        ("CartPole-v9", {}, "cannot be made, reset and stepped: .*CartPole"),
        (3, {}, "expected the name of an environment or a function that makes one, got 3"),
        (environments.Broken, {}, "RuntimeError: no display"),
        (environments.Nested, {}, "Dict.* is no space of one array: expected Box, Discrete"),
        ("CartPole-v1", {"envs": 0}, "envs: expected 1 to 4,096 environments, got 0"),
        ("CartPole-v1", {"max_steps": 0}, "max_steps: expected 1 step or more, got 0"),
    ],
)
def test_what_cannot_be_served_is_named(
    echo: EchoRun, target: Any, options: dict[str, int], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        start(echo, target, **options)


def test_a_room_of_several_environments_is_no_environment(echo: EchoRun, env: Any) -> None:
    start(echo, envs=2)
    with pytest.raises(ContractError, match=r"DATA in room actions is \(2,\): expected one"):
        env()


def test_an_env_refuses_what_cannot_be_sent(echo: EchoRun, env: Any) -> None:
    start(echo)
    room = env()
    with pytest.raises(SchemaError, match="expected none"):
        room.reset(options={"low": 1})
    room.reset(seed=0)
    for action in (2, -1, [0, 1], 0.5):
        with pytest.raises((SchemaError, TypeError)):
            room.step(action)
    assert room.step(1)[1] == 1.0
