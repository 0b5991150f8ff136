"""GET and SET of weights by message: at one version, once, for every replica of a member."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from safetensors import numpy as safetensors

from roomgrad import Message, ModelStatus, weight_messages
from roomgrad.inspect import models
from roomgrad.redis import heartbeats
from roomgrad.redis.client import Client
from roomgrad.snapshots import pointers
from roomgrad.testing import call, running, wait_for
from tests.integration.ensembles.conftest import Zoo
from tests.integration.ensembles.zoo import (
    ACT,
    COMMAND,
    CUSTOM,
    EVOLVE,
    FORWARD,
    MODELS,
    OUT,
    ZOO,
    ZooSettings,
    member,
)
from tests.integration.model.learner import BATCH
from tests.waiting import LIMIT_S, until

ONES = np.ones(BATCH, "<f4")
ANSWERS = ZOO.stream(EVOLVE, CUSTOM)


class Members:
    """Members of a zoo in threads of the test, and what they are told about their weights."""

    def __init__(self, zoo: Zoo, stack: ExitStack) -> None:
        self.zoo, self._stack = zoo, stack
        self.asked = 0

    def start(self, *names: str) -> None:
        """Start one replica of each."""
        settings = ZooSettings(**vars(self.zoo.run.make_settings()))
        for name in names:
            replica = self._stack.enter_context(running(member(name), settings, self.zoo.run.url))
            alive = self.zoo.names.alive(replica.consumer)
            until(lambda key=alive: self.zoo.client.exists(key))

    def send(self, room: Any, **fields: Any) -> Message:
        message = Message.open(room, type=COMMAND, **fields)
        with Client(ZOO, self.zoo.names.run, self.zoo.run.url) as client:
            client.send(message)
        self.asked += 1
        return message

    def answer_to(self, message: Message, after: str = "0-0") -> Message:
        client, names, root = self.zoo.client, self.zoo.names, message.root_id
        limit: dict[str, Any] = {"after": after, "timeout_s": LIMIT_S}
        return wait_for(client, names, ANSWERS, root_id=root, **limit)

    def ask(self, name: str, **fields: Any) -> dict[str, Any]:
        """Ask one member, and return what it answers."""
        return dict(self.answer_to(self.send(MODELS.room(EVOLVE, name), **fields)).fields)

    def version(self, name: str) -> str:
        return str(self.zoo.client.hget(self.zoo.names.model(name), "version").decode())

    def stored(self, name: str) -> dict[str, Any]:
        """Return the state of a model, training state included."""
        content = models.stored(self.zoo.client, self.zoo.names, name).content
        return safetensors.load(bytes(content))

    def outputs(self, name: str) -> Any:
        """Return what a member answers to ones."""
        root = self.zoo.ask(MODELS.room(ACT, name), status=ModelStatus.VALIDATE)
        stream = ZOO.stream(MODELS.room(OUT, name), FORWARD)
        names, client = self.zoo.names, self.zoo.client
        return wait_for(client, names, stream, root_id=root, timeout_s=LIMIT_S).array


@pytest.fixture
def members(zoo: Zoo) -> Any:
    with ExitStack() as stack:
        yield Members(zoo, stack)


def packed(**arrays: Any) -> Any:
    return np.frombuffer(safetensors.save(arrays), "|u1")


def test_all_members_are_asked_for_their_weights_at_once(members: Members) -> None:
    members.start(*MODELS.names)
    request = members.send(EVOLVE, CMD="GET")
    found, after = {}, "0-0"
    for _ in MODELS.names:
        answer = members.answer_to(request, after)
        found[answer.sent_by], after = answer, answer.entry
    assert found.keys() == {*MODELS.names}
    for name, answer in found.items():
        assert answer.fields["VERSION"] == members.version(name)
        weights = safetensors.load(answer.fields["WEIGHTS"].tobytes())
        assert weights.keys() == {"weight"}
        assert weights["weight"].tobytes() == members.stored(name)["weight"].tobytes()


def test_other_weights_reach_every_replica_of_a_member(members: Members) -> None:
    """They keep the state of the optimizer and the step, and no other member changes."""
    zoo = members.zoo
    zoo.keep()
    members.start(*MODELS.names, "model.1")
    zoo.ask(MODELS.room(ACT, "model.1"), 3)
    until(lambda: zoo.home("model.1") == 3)
    before, others = members.stored("model.1"), [zoo.sha256("model.0"), zoo.sha256("model.2")]
    answer = members.ask(
        "model.1", CMD="SET", VERSION=members.version("model.1"), WEIGHTS=packed(weight=2 * ONES)
    )
    assert answer == {"CMD": "SET", "VERSION": members.version("model.1")}
    assert answer["VERSION"].startswith("3-")
    for _ in range(8):  # answered by both replicas
        assert members.outputs("model.1").tolist() == [4.0] * BATCH
    after = members.stored("model.1")
    assert after["weight"].tolist() == [2.0] * BATCH
    assert after["optimizer/speed"].tobytes() == before["optimizer/speed"].tobytes()
    assert [zoo.sha256("model.0"), zoo.sha256("model.2")] == others
    beats = heartbeats.find(zoo.client, zoo.names, "model.1")
    assert len(beats) == 2
    zoo.ask(MODELS.room(ACT, "model.1"), 2)
    until(lambda: zoo.home("model.1") == 5)
    assert zoo.client.hget(zoo.names.model("model.1"), "step") == b"5"
    assert zoo.dead() == 0


def test_weights_of_a_version_that_has_moved_on_are_refused(members: Members) -> None:
    """With a sentence for the sender, which asks for the weights again; the run goes on."""
    zoo = members.zoo
    zoo.keep()
    members.start("model.1")
    first = members.ask("model.1", CMD="GET")
    zoo.ask(MODELS.room(ACT, "model.1"))
    until(lambda: zoo.home("model.1") == 1)
    before = zoo.sha256("model.1")
    answer = members.ask("model.1", CMD="SET", VERSION=first["VERSION"], WEIGHTS=first["WEIGHTS"])
    now = members.version("model.1")
    assert answer == {
        "CMD": "SET",
        "VERSION": now,
        "REFUSED": f"{first['VERSION']} is not the version of model.1, which is {now}: GET the "
        "weights again",
    }
    assert zoo.sha256("model.1") == before
    answer = members.ask("model.1", CMD="SET", VERSION=now, WEIGHTS=packed(weight=ONES))
    assert "REFUSED" not in answer
    assert zoo.dead() == 0


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (packed(weight=np.ones(5, "<f4")), "weight: expected F32 (4,), got F32 (5,)"),
        (packed(weight=ONES.astype("<f8")), "weight: expected F32 (4,), got F64 (4,)"),
        (
            packed(bias=ONES, other=ONES),
            "bias: expected no such tensor, got F32 (4,); other: expected no such tensor, got F32 "
            "(4,); weight: expected F32 (4,), got none",
        ),
        (packed(weight=ONES * np.nan), "weight: expected finite numbers, got NaN or infinity"),
        (np.frombuffer(b"nonsense" * 4, "|u1"), "this is not a safetensors file"),
        (None, "SET: expected VERSION and WEIGHTS, as GET answers them"),
    ],
)
def test_weights_that_do_not_fit_become_a_dead_letter(
    members: Members, weights: Any, reason: str
) -> None:
    """Which names what does not fit; the model stays, and its member goes on."""
    zoo = members.zoo
    members.start("model.1")
    before = zoo.sha256("model.1")
    given = {} if weights is None else {"WEIGHTS": weights}
    members.send(
        MODELS.room(EVOLVE, "model.1"), CMD="SET", VERSION=members.version("model.1"), **given
    )
    until(zoo.dead)
    (_, letter), *_ = zoo.client.xrange(zoo.names.dead())
    assert reason in letter[b"history"].decode()
    assert zoo.sha256("model.1") == before
    assert members.ask("model.1", CMD="GET")["VERSION"] == members.version("model.1")


def test_a_gradient_of_older_weights_is_learned_on_the_new_ones(members: Members) -> None:
    """It is the gradient at the weights of its forward pass, as with every step in between."""
    zoo = members.zoo
    members.start("model.1")
    zoo.ask(MODELS.room(ACT, "model.1"))
    until(lambda: zoo.client.hlen(zoo.names.memory("model.1")) == 1)
    first = members.stored("model.1")["weight"]
    members.ask(
        "model.1", CMD="SET", VERSION=members.version("model.1"), WEIGHTS=packed(weight=ONES)
    )
    zoo.keep()
    until(lambda: zoo.home("model.1") == 1)
    expected = ONES - np.float32(0.01) * (2 * first)
    assert members.stored("model.1")["weight"].tobytes() == expected.astype("<f4").tobytes()
    assert zoo.client.hlen(zoo.names.memory("model.1")) == 0


def test_each_request_is_answered_once_although_its_process_is_killed(members: Members) -> None:
    """A replica that takes over finds the weights set, or sets them."""
    zoo = members.zoo
    process = zoo.start("--member=1")
    for number in range(1, 7):
        version = members.version("model.1")
        weights = packed(weight=ONES * number)
        request = members.send(
            MODELS.room(EVOLVE, "model.1"), CMD="SET", VERSION=version, WEIGHTS=weights
        )
        if number % 2 == 0:
            process.kill()
            process.wait()
            process = zoo.start("--member=1")
        answer = members.answer_to(request)
        assert "REFUSED" not in answer.fields
        assert answer.fields["VERSION"] == members.version("model.1") != version
        assert members.stored("model.1")["weight"].tolist() == [float(number)] * BATCH
    assert zoo.client.xlen(zoo.names.stream(EVOLVE.name, CUSTOM)) == members.asked
    assert zoo.dead() == 0


def test_snapshots_do_not_pile_up(members: Members) -> None:
    """Weights that were replaced are deleted with their snapshot, as those before a step are."""
    zoo = members.zoo
    members.start("model.1")
    for number in range(30):
        version = members.version("model.1")
        members.ask("model.1", CMD="SET", VERSION=version, WEIGHTS=packed(weight=ONES * number))
    found = pointers.from_json(zoo.client.hget(zoo.names.model("model.1"), pointers.FIELD.decode()))
    keys = list(zoo.client.scan_iter(zoo.names.snapshot_piece("model.1", "*", "*")))
    assert len(keys) == len(found) <= 10


def test_a_handler_is_tested_without_a_server() -> None:
    """As every other one, by `roomgrad.testing.call`."""
    room, component = MODELS.room(EVOLVE, "model.1"), member("model.1")
    got = call(component, Message.open(room, type=COMMAND, CMD="GET"))
    assert got.state is not None
    (reply,) = got.replies
    weights = packed(weight=3 * ONES)
    version = reply.fields["VERSION"]
    request = Message.open(room, type=COMMAND, CMD="SET", VERSION=version, WEIGHTS=weights)
    done = call(component, request, state=got.state)
    assert done.state is not None
    assert done.replies[0].fields["VERSION"] == done.state.version != version
    assert safetensors.load(done.state.content)["weight"].tolist() == [3.0] * BATCH
    assert weight_messages.ASKED.keys() == {"CMD", "VERSION", "WEIGHTS"}
