"""An environment of gymnasium as a component between two rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import gymnasium
import numpy as np
import redis
from gymnasium.spaces import Space
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from roomgrad.component import Component, Handler, on
from roomgrad.context import Context
from roomgrad.errors import MessageError, SchemaError, SettingsError, StrayMessage, format_value
from roomgrad.gym.episodes import Episode, Episodes, Make
from roomgrad.gym.spaces import array_of
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import Array, MessageType, Room, Stream, System
from roomgrad.runtime import process
from roomgrad.serving.components import seed_of
from roomgrad.serving.serve import check_joining, load_settings, passage_of, prepared, to_stderr
from roomgrad.settings import RuntimeSettings

FORWARD, REWARD = MessageType.FORWARD, MessageType.REWARD

LONGEST = 10_000  # steps of an episode
MOST_ENVS = 4096

Environment = str | Callable[[], "gymnasium.Env[Any, Any]"]


def serve(
    environment: Environment,
    *,
    enter: str = "actions",
    leave: str = "observations",
    envs: int = 1,
    max_steps: int = LONGEST,
    run: str = "",
    name: str = "",
    redis_url: AnyAddress = "",
) -> NoReturn:
    """Serve an environment as a component between two rooms until SIGTERM or SIGINT.

    A root is one episode of each of `envs` environments, in lockstep. Its first message has no
    DATA; environment i begins with the seed SEED + i. Each answer has DATA, the observations
    `(envs, ...)`, with REWARD, DONE and TRUNCATED `(envs,)`, and waits for actions `(envs, ...)`
    of the same root, until DONE is true everywhere. The whole episode follows as DATA/REWARD.

    environment: a name that gymnasium knows, or a function that makes one.
    enter: the room of the actions. leave: the room of observations and rewards.
    envs: how many environments there are, from 1 to 4,096.
    max_steps: after how many steps an episode is truncated that has not ended.
    run: name of the run; RUN, or else `served`. name: that of the component.
    redis_url: address of a server; `REDIS_URL`, or else an embedded server.

    Raises SettingsError or ContractError for one that cannot be served there, and NoServer.
    """
    settings = load_settings(run)
    name = name or name_of(environment)
    make = maker_of(environment, max_steps)
    joined = partial(component_of, make=make, envs=envs, name=name, enter=enter, leave=leave)
    with prepared(joined, settings, redis_url) as (component, url):
        process.run(component, settings, url)


def component_of(
    client: redis.Redis,
    names: Names,
    *,
    make: Make,
    envs: int = 1,
    name: str,
    enter: str = "actions",
    leave: str = "observations",
) -> Component:
    """Return the component of an environment in a run. Raises SettingsError or ContractError."""
    passage = passage_of(client, names, name, enter, leave)
    own = System(names.run, streams(make, Room(enter), Room(leave), name, envs), (name,))
    system = registry.merge([each for each in (passage.system, own) if each])
    made = handlers(make, Room(enter), Room(leave), envs)
    component = Component(name, system, RuntimeSettings, made, joins=True)
    actions, observations = (system.stream(room, FORWARD).schema["DATA"] for room in (enter, leave))
    to_stderr(
        f"{name}: {envs} environments, actions {actions.describe()} in room {enter}, observations "
        f"{observations.describe()} in room {leave} of run {names.run}"
    )
    check_joining(client, names, component, to_stderr)
    return component


def name_of(environment: Environment) -> str:
    """Return the name of an environment without its namespace."""
    known = environment if isinstance(environment, str) else environment.__name__
    return known.rpartition("/")[2].rpartition(":")[2]


def maker_of(environment: Environment, max_steps: int = LONGEST) -> Make:
    """Return what makes an environment whose episodes end. Raises SettingsError for a wrong one."""
    if not isinstance(environment, str) and not callable(environment):
        raise SettingsError(
            f"expected the name of an environment or a function that makes one, got "
            f"{format_value(environment)}"
        )
    if max_steps < 1:
        raise SettingsError(f"max_steps: expected 1 step or more, got {max_steps}")
    if isinstance(environment, str):
        environment = partial(gymnasium.make, environment, disable_env_checker=True)
    make = environment
    return lambda: TimeLimit(make(), max_steps)


def streams(
    make: Make, enter: Room, leave: Room, name: str, envs: int = 1
) -> tuple[Stream, Stream, Stream]:
    """Return the contract of an environment: what its rooms carry.

    Raises SettingsError for an environment that cannot be made or stepped, or has other spaces.
    """
    if not 1 <= envs <= MOST_ENVS:
        raise SettingsError(f"envs: expected 1 to {MOST_ENVS:,} environments, got {envs}")
    action_space, observation_space = _spaces(make)
    actions, observations = array_of(action_space, envs), array_of(observation_space, envs)
    if observations.kind == "f":  # rounding may leave the bounds
        observations = replace(observations, low=None, high=None)
    flags = Array("|b1", (envs,))
    return (
        Stream(
            enter,
            FORWARD,
            {"DATA": replace(actions, optional=True)},
            (name,),
            "actions; without DATA the message opens an episode",
        ),
        Stream(
            leave,
            FORWARD,
            {
                "DATA": observations,
                "REWARD": Array("<f8", (envs,)),
                "DONE": flags,
                "TRUNCATED": flags,
            },
            (),
            "observations, rewards of the last actions, which rows are done, which were cut off",
        ),
        Stream(
            leave,
            REWARD,
            {
                "DATA": Array("<f8", ("steps", envs)),
                "ACTIONS": replace(actions, shape=("steps", *actions.shape)),
                "OBSERVATIONS": replace(observations, shape=("steps+1", *observations.shape)),
                "LENGTHS": Array("<i8", (envs,)),
                "TRUNCATED": flags,
            },
            (),
            "the rewards of a whole episode, with its actions and observations",
        ),
    )


def handlers(make: Make, enter: Room, leave: Room, envs: int = 1) -> list[Handler]:
    """Return the handlers of an environment, for a component with `streams` in its contract."""
    episodes = Episodes(make, envs)

    @on(enter, FORWARD, replies=[(leave, FORWARD), (leave, REWARD)])
    def act(message: Message, context: Context) -> Iterator[Message]:
        """Act: actions in, observations and rewards out. Without DATA, begin an episode."""
        episode = _played(episodes, message, context)
        yield _seen(message, leave, episode)
        if not episode.done.all():
            episodes.put(message.root_id, episode)
            return
        episode.close()
        context.memory.delete(message.root_id)
        context.counters.add("episodes", envs)
        context.counters.add("steps", int(episode.lengths.sum()))
        yield _whole(message, leave, episode)

    return [act]


def _played(episodes: Episodes, message: Message, context: Context) -> Episode:
    """Return the episode of a root after the actions of a message; stage what repeats it.

    Raises MessageError if the environment raises.
    """
    seed, actions = _staged(message, context)
    try:
        return episodes.take(message.root_id, seed, actions)
    except Exception as error:  # it would raise the same again
        raise MessageError(
            f"the environment raised after {len(actions)} steps from seed {seed}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _staged(message: Message, context: Context) -> tuple[int, NDArray[Any]]:
    """Return the seed of an episode and its actions `(steps, envs, ...)`, and remember them."""
    root_id, known = message.root_id, context.memory.get(message.root_id)
    if message.data is not None:
        if known is None:
            raise StrayMessage(f"root {root_id} has no episode: it has ended, or was never opened")
        before = known.get("actions", _smallest(message.data[None])[:0])
        if before.shape[1:] != message.data.shape:  # it was started with another number
            raise SchemaError(
                f"DATA: expected {before.shape[1:]} as in this episode so far, got "
                f"{message.data.shape}"
            )
        actions = np.concatenate([before, _smallest(message.data[None])])
        context.memory.hold(root_id, seed=known["seed"], actions=actions)
        return known["seed"], actions.astype(message.data.dtype)
    if known is not None:
        raise StrayMessage(f"root {root_id} has an episode already: expected actions in DATA")
    if message.guest and not message.wants_gradient:
        raise SchemaError("a question has one answer: open an episode with MODEL_STATUS 1 or 3")
    seed = seed_of(message, context) if message.seed is None else message.seed
    context.memory.hold(root_id, seed=seed)
    return seed, np.empty(0)


def _smallest(actions: NDArray[Any]) -> NDArray[Any]:
    """Return actions in the smallest integers that hold them: each step writes all so far."""
    for dtype in ("|i1", "<i2", "<i4"):
        small = actions.astype(dtype)
        if actions.dtype.kind == "i" and np.array_equal(small, actions):
            return small
    return actions


def _seen(message: Message, leave: Room, episode: Episode) -> Message:
    return message.reply(
        leave,
        episode.observations[-1],
        REWARD=episode.rewards[-1],
        DONE=episode.done.copy(),
        TRUNCATED=episode.truncated.copy(),
    )


def _whole(message: Message, leave: Room, episode: Episode) -> Message:
    return message.reply(
        leave,
        np.stack(episode.rewards[1:]),
        type=REWARD,
        ACTIONS=np.stack(episode.actions),
        OBSERVATIONS=np.stack(episode.observations),
        LENGTHS=episode.lengths,
        TRUNCATED=episode.truncated,
    )


def _spaces(make: Make) -> tuple[Space[Any], Space[Any]]:
    """Return the spaces of actions and of observations, after one step.

    Raises SettingsError if the environment cannot be made or stepped.
    """
    try:
        made = make()
        made.reset(seed=0)
        made.action_space.seed(0)
        made.step(made.action_space.sample())
        made.close()
    except Exception as error:
        raise SettingsError(
            f"the environment cannot be made, reset and stepped: {type(error).__name__}: {error}"
        ) from error
    return made.action_space, made.observation_space
