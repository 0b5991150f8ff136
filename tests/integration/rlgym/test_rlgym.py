"""An ensemble of three in processes: it votes, learns and is bred, whichever process is killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from roomgrad import Message, MessageType, Room, codec, exact_json
from roomgrad.inspect import models
from roomgrad.redis.client import Client
from roomgrad.weight_messages import SET
from roomgrad_rlgym.aggregation.handlers import aggregation
from roomgrad_rlgym.contract import (
    ACTIONS,
    COMMAND,
    CUSTOM,
    ENOUGH,
    ENVS,
    EVOLUTION,
    FORWARD,
    FOUND,
    LEARNED,
    POLICIES,
    REPLACED,
    RLGYM,
    VOTES,
    contract,
)
from roomgrad_rlgym.plugin import PROGRAMS
from roomgrad_rlgym.progress import progress
from tests.forked import Forked
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.graphs.graph_run import killed
from tests.waiting import LIMIT_S, until

pytestmark = pytest.mark.timeout(300)

MEMBERS, GENERATIONS = 3, 2
SYSTEM = contract(MEMBERS)
NAMES = POLICIES.names[:MEMBERS]


@dataclass
class Ensemble:
    """A run of the system with three members, in processes."""

    echo: EchoRun
    stored: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def spawn(self, name: str, die_at: str = "") -> Forked:
        given = {"threads": 1}
        if name == "control":  # an episode has 500 steps at most, so that no luck ends the run
            given |= {"generations": GENERATIONS, "episodes": 1, "aim": 501.0}
        environ = {"DIE_AT": die_at, "ROOMGRAD_MEMBERS": str(MEMBERS)}
        module = "tests.integration.rlgym.dying"
        return self.echo.spawn_module(module, name, environ=environ, **given)

    def finish(self) -> None:
        """Wait for the last validation, when every key of a root is gone."""
        until(lambda: len(self.table("generations")) == GENERATIONS, timeout_s=3 * LIMIT_S)
        client, names = self.echo.client, self.echo.names
        until(lambda: not any(client.exists(names.memory(each)) for each in SYSTEM.components))

    def table(self, name: str) -> list[dict[str, float]]:
        """Return the records of a table, in order."""
        found = self.echo.client.hgetall(self.echo.names.table(name))
        return [exact_json.loads(found[key]) for key in sorted(found, key=int)]

    def weights(self) -> dict[str, dict[str, bytes]]:
        """Return the weights of each member."""
        return {name: self._weights(name) for name in NAMES}

    def _weights(self, name: str) -> dict[str, bytes]:
        found = models.stored(self.echo.client, self.echo.names, name, wait_s=LIMIT_S)
        assert found.behind == 0
        return {each.name: each.data for each in found.weights()}

    def messages(self, room: Room, type_: MessageType) -> list[Message]:
        """Return all messages of a stream, in order."""
        stream = SYSTEM.stream(room, type_)
        key = self.echo.names.stream(*stream.key)
        return [
            codec.decode(entry.decode(), [part for pair in fields.items() for part in pair], stream)
            for entry, fields in self.echo.client.xrange(key)
        ]


@pytest.fixture
def ensemble(embedded_url: str) -> Iterator[Ensemble]:
    for echo in make_echo_run(embedded_url):
        yield Ensemble(echo)


@pytest.fixture(scope="module")
def whole(embedded_url: str) -> Iterator[Ensemble]:
    """A run of which no process is killed."""
    for echo in make_echo_run(embedded_url):
        found = Ensemble(echo)
        for name in PROGRAMS:
            found.spawn(name)
        found.finish()
        found.stored = found.weights()
        yield found


def test_the_members_learn_and_are_validated(whole: Ensemble) -> None:
    episodes, generations = whole.table("episodes"), whole.table("generations")
    assert [each["number"] for each in episodes] == [0, 2, 3, 5]
    assert episodes[2]["mean_return"] > episodes[0]["mean_return"] > 10
    now = progress(whole.echo.client, whole.echo.names)
    assert now is not None
    assert (now.done, now.total, now.unit) == (GENERATIONS, GENERATIONS, "generations")
    assert now.details == (f"mean return {generations[-1]['mean_return']:.1f}",)
    assert whole.echo.counter("episodes", "cartpole") == 4 * ENVS
    assert whole.echo.dead_letters() == []


def test_weights_and_contributions_are_those_of_one_generation(whole: Ensemble) -> None:
    """And each evolution runs once: nothing of an earlier one is left that would begin it again."""
    learned = whole.messages(LEARNED, CUSTOM)
    asked = whole.messages(EVOLUTION, COMMAND)
    assert len(asked) == GENERATIONS
    for number, evolution in enumerate(asked):
        episode = [each for each in learned if each.learns][number * MEMBERS :][:MEMBERS]
        told = {each.sent_by: float(each.fields["CONTRIBUTION"]) for each in episode}
        np.testing.assert_array_equal(evolution.array, [told[name] for name in NAMES])
    found = whole.messages(FOUND, CUSTOM)
    for member in range(MEMBERS):
        sets = whole.messages(Room(f"weights.{member}"), COMMAND)
        assert [each.fields["CMD"] for each in sets] == [SET] * GENERATIONS
        own = [each for each in found if each.sent_by == NAMES[member]]
        assert [each.fields["VERSION"] for each in sets] == [each.fields["VERSION"] for each in own]


def test_the_evolution_is_done_when_the_weights_have_arrived(whole: Ensemble) -> None:
    replaced = whole.messages(REPLACED, CUSTOM)
    for done in whole.messages(EVOLUTION, CUSTOM):
        before = [each for each in replaced if each.root_id == done.root_id]
        assert {each.sent_by for each in before} == {*NAMES}
        assert max(_moment(each) for each in before) <= _moment(done)
        assert int(done.fields["REFUSED"]) == 0


def _moment(message: Message) -> tuple[int, ...]:
    return tuple(map(int, message.entry.split("-")))[:1]


def test_processes_that_are_killed_change_no_bit(ensemble: Ensemble, whole: Ensemble) -> None:
    """All members and the environments, amid an episode, which goes on."""
    for name in ("aggregation", "selection", "control"):
        ensemble.spawn(name)
    members, environments = (
        ensemble.spawn("policy", "send 25"),
        ensemble.spawn("cartpole", "send 30"),
    )
    killed(members)
    ensemble.spawn("policy")
    killed(environments)
    ensemble.spawn("cartpole")
    ensemble.finish()
    assert ensemble.weights() == whole.stored
    for table in ("episodes", "generations"):
        assert ensemble.table(table) == whole.table(table)
    assert ensemble.echo.dead_letters() == []


@pytest.mark.slow
def test_a_dead_letter_ends_an_episode_and_not_the_run(ensemble: Ensemble) -> None:
    """Of an environment that raises, and of an episode that another program has opened."""
    for name in PROGRAMS:
        ensemble.spawn("raising" if name == "cartpole" else name)
    with Client(SYSTEM, ensemble.echo.names.run, ensemble.echo.url) as client:
        client.send(Message.open(ACTIONS, seed=1000))
    ensemble.finish()
    until(lambda: len(ensemble.echo.dead_letters()) == 2)
    reasons = b" ".join(b" ".join(each.values()) for each in ensemble.echo.dead_letters())
    assert b"raised after 3 steps from seed 0: RuntimeError: the pole is broken" in reasons
    assert b"was not opened by control" in reasons
    assert ensemble.echo.counter("dead", "control") == 1
    assert [each["number"] for each in ensemble.table("episodes")] == [2, 3, 5]


def test_a_vote_that_is_lost_stops_nothing(ensemble: Ensemble) -> None:
    """The others are enough after a time, and a late one is counted."""
    ensemble.echo.start(aggregation(wait_s=0.3))
    vote = Message.open(VOTES, np.full((ENVS, 2), 0.5, "<f4"))
    with Client(RLGYM, ensemble.echo.names.run, ensemble.echo.url) as client:
        for name in POLICIES.names[:ENOUGH]:
            vote.sent_by = name
            client.send(vote)
        stream = RLGYM.stream(ACTIONS, FORWARD)
        action = ensemble.echo.wait_for(stream, root_id=vote.root_id)
        assert {*action.array} == {0, 1}
        vote.sent_by = POLICIES.names[-1]
        client.send(vote)
        until(lambda: ensemble.echo.counter("late_parts", "aggregation") == 1)
