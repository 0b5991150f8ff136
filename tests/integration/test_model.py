"""A model in Redis: versions, kept weights, stale steps, validation.

The model of these tests is y = w x with one weight, without torch: what the runtime does with a
model does not depend on what it is.
"""

from __future__ import annotations

import threading
from typing import Any

import orjson
from numpy.typing import NDArray

from roomgrad import Component, Context, Message, RuntimeSettings, on
from roomgrad.models import ModelState
from roomgrad.redis.client import Client
from tests.integration.conftest import Cage
from tests.integration.parrots import ANSWERED, CAGE, FORWARD, GRADIENT, PARROTS, PERCH, numbers
from tests.waiting import until

RATE = 0.5


class Scale:
    """y = w x; the gradient of w is the sum of upstream x, a step takes RATE of it."""

    def __init__(self, settings: Any) -> None:
        self.weight = 1.0
        self.graphs: dict[str, tuple[str, float]] = {}
        self.recomputed = 0

    def initial(self) -> tuple[bytes, bytes]:
        return b"1.0", b"0"

    def load(self, state: ModelState) -> None:
        self.weight = float(state.weights)
        self.steps = int(state.optimizer)

    def forward(self, inputs: NDArray[Any], version: str, key: str | None) -> NDArray[Any]:
        if key is not None:
            self.graphs[key] = (version, self.weight)
        return (inputs * self.weight).astype("<f4")

    def backward(
        self, key: str, version: str, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[float, NDArray[Any]] | None:
        made, weight = self.graphs.pop(key, ("", 0.0))
        return products(weight, inputs, upstream) if made == version else None

    def recompute(
        self, weights: bytes, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[float, NDArray[Any]]:
        self.recomputed += 1
        return products(float(weights), inputs, upstream)

    def step(self, gradient: float, staleness: int = 0) -> tuple[bytes, bytes]:
        self.weight -= RATE * gradient
        self.steps += 1
        return repr(self.weight).encode(), b"%d" % self.steps


def products(
    weight: float, inputs: NDArray[Any], upstream: NDArray[Any]
) -> tuple[float, NDArray[Any]]:
    return float((inputs * upstream).sum()), (upstream * weight).astype("<f4")


@on(CAGE, FORWARD, replies=[(PERCH, FORWARD)])
def forward(message: Message, context: Context) -> Message:
    reply = message.reply(PERCH)
    reply.data = context.model.forward(message.array, key=reply.id)
    context.memory.put(reply.id, data=message.array, weights=context.model.version)
    return reply


@on(CAGE, GRADIENT, replies=[(PERCH, FORWARD)])
def gradient(message: Message, context: Context) -> Message:
    asked = context.memory.pop(message.id)
    of_weight, of_inputs = context.model.backward(
        message.id, asked["weights"], asked["data"], message.array
    )
    context.model.step(of_weight)
    return message.reply(PERCH, of_inputs, type=FORWARD)


def scale(*handlers: Any) -> Component:
    return Component(
        "parrot", PARROTS, RuntimeSettings, handlers or (forward, gradient), model=Scale
    )


def weight(cage: Cage) -> float:
    return float(cage.client.hget(cage.names.model("parrot"), "weights") or 0)


def kept(cage: Cage) -> dict[str, str]:
    found = cage.client.hgetall(cage.names.kept("parrot"))
    return {name.decode(): value.decode() for name, value in found.items()}


def answer(cage: Cage, reply: Message, *values: float) -> Message:
    """Answers a forward with a gradient, and waits for what comes of it."""
    message = reply.reply(CAGE, numbers(*values), type=GRADIENT, id=reply.id)
    with Client(PARROTS, cage.names.run, cage.url) as client:
        client.send(message)
    return cage.heard(reply, after=reply.entry)


def test_a_step_is_committed_with_its_reply(cage: Cage) -> None:
    """Weights, optimizer state, step number, version and ledger move together."""
    replica = cage.start(scale())
    reply = cage.heard(cage.say(2))
    assert reply.array.tolist() == [2.0]
    before = cage.client.hget(cage.names.model("parrot"), "version")
    of_inputs = answer(cage, reply, 1)
    assert of_inputs.array.tolist() == [1.0]  # at the weights of the forward, not after the step
    state = cage.client.hgetall(cage.names.model("parrot"))
    assert (state[b"weights"], state[b"optimizer"], state[b"step"]) == (b"0.0", b"1", b"1")
    assert state[b"version"].startswith(b"1-")
    assert state[b"version"] != before
    beat = cage.names.alive(replica.consumer)
    until(lambda: b'"version":"%s"' % state[b"version"] in (cage.client.get(beat) or b""))
    assert cage.client.zrange(cage.names.ledger("parrot"), 0, -1) == [reply.root_id.encode()]
    assert cage.counter("applied") == cage.counter("distinct") == 1
    assert not cage.client.exists(cage.names.memory("parrot"))
    assert kept(cage) == {}


def test_older_weights_are_kept_for_as_long_as_a_root_needs_them(cage: Cage) -> None:
    """Three forwards, then three gradients: kept once per version, freed with the last."""
    cage.start(scale())
    first, second = cage.heard(cage.say(1)), cage.heard(cage.say(2))
    [count] = kept(cage).items()
    assert count[1] == "2"  # open roots; the weights themselves are still the current ones
    answer(cage, first, 1)
    assert weight(cage) == 0.5
    third = cage.heard(cage.say(4))
    assert third.array.tolist() == [2.0]
    assert sorted(kept(cage).values()) == ["1", "1", "1.0"]
    assert answer(cage, second, 1).array.tolist() == [1.0]  # d x at w = 1
    assert weight(cage) == -0.5
    assert sorted(kept(cage).values()) == ["0.5", "1"]
    assert answer(cage, third, 1).array.tolist() == [0.5]  # d x at w = 0.5
    assert weight(cage) == -2.5
    assert kept(cage) == {}


def test_another_replica_computes_at_the_weights_of_the_forward(cage: Cage) -> None:
    """The replica that made the forward is gone: the next makes the graph again, at the same w."""
    first_replica = cage.start(scale())
    first, second = cage.heard(cage.say(1)), cage.heard(cage.say(2))
    first_replica.stop()
    until(lambda: not cage.client.exists(cage.names.alive(first_replica.consumer)))
    replica = cage.start(scale())
    answer(cage, first, 1)
    assert answer(cage, second, 3).array.tolist() == [3.0]
    model: Any = replica._store._trainable  # type: ignore[union-attr]
    assert model.recomputed == 2
    assert weight(cage) == 1 - RATE * 1 - RATE * 6
    assert kept(cage) == {}


def test_a_stale_step_is_applied_again_without_computing_it_again(cage: Cage) -> None:
    """Two replicas step from the same version: both gradients count, each once."""
    calls: list[str] = []
    meet = threading.Barrier(2, timeout=10)

    @on(CAGE, GRADIENT, replies=[(PERCH, FORWARD)])
    def together(message: Message, context: Context) -> Message:
        asked = context.memory.pop(message.id)
        of_weight, of_inputs = context.model.backward(
            message.id, asked["weights"], asked["data"], message.array
        )
        calls.append(message.id)
        if len(calls) <= 2:
            meet.wait()
        context.model.step(of_weight)
        return message.reply(PERCH, of_inputs, type=FORWARD)

    for _ in range(2):
        cage.start(scale(forward, together))
    replies = [cage.heard(cage.say(number)) for number in (1, 2)]
    for reply in replies:
        cage.inject(gradient_entry(reply), ANSWERED)
    for reply in replies:
        cage.heard(reply, after=reply.entry)
    assert len(calls) == 2  # the parameter gradients were not computed again
    assert weight(cage) == 1 - RATE * (1 + 2)
    assert cage.counter("applied") == cage.counter("distinct") == 2
    assert cage.client.hget(cage.names.model("parrot"), "optimizer") == b"2"
    assert kept(cage) == {}


def gradient_entry(reply: Message) -> dict[str, Any]:
    body = {"ID": reply.id, "ROOT_ID": reply.root_id, "TYPE": "DATA/GRADIENT", "DATA": [1.0]}
    return {"ID": reply.id, "ROOT_ID": reply.root_id, "m": orjson.dumps(body)}


def test_a_stale_forward_runs_again_at_the_newer_weights(cage: Cage) -> None:
    """The model moved on while a forward ran: its output is of the version that it records."""
    inside, release = threading.Event(), threading.Event()
    outputs: list[float] = []

    @on(CAGE, FORWARD, replies=[(PERCH, FORWARD)])
    def slow(message: Message, context: Context) -> Message:
        reply: Message = forward.function(message, context)  # type: ignore[assignment]
        outputs.append(float(reply.array[0]))
        if message.array[0] == 7 and len(outputs) == 2:
            inside.set()
            assert release.wait(20)
        return reply

    cage.start(scale(slow, gradient))
    reply = cage.heard(cage.say(1))
    message = cage.say(7)
    assert inside.wait(10)
    cage.start(scale(slow, gradient))
    answer(cage, reply, 1)
    release.set()
    assert cage.heard(message).array.tolist() == [3.5]
    assert outputs == [1.0, 7.0, 3.5]
    version = (cage.client.hget(cage.names.model("parrot"), "version") or b"").decode()
    assert kept(cage) == {f"{version}:open": "1"}


def test_the_version_that_is_read_is_the_version_that_is_used(cage: Cage) -> None:
    """A handler that asks for the version first records the weights that its forward uses."""

    @on(CAGE, FORWARD, replies=[(PERCH, FORWARD)])
    def early(message: Message, context: Context) -> Message:
        version = context.model.version
        if message.array[0] == 7 and not moved:
            moved.append(cage.client.hset(key, mapping={"version": "9-x", "weights": "3.0"}))
        reply = message.reply(PERCH)
        reply.data = context.model.forward(message.array, key=reply.id)
        context.memory.put(reply.id, data=message.array, weights=version)
        return reply

    key = cage.names.model("parrot")
    moved: list[int] = []
    cage.start(scale(early))
    assert cage.heard(cage.say(7)).array.tolist() == [21.0]
    assert kept(cage) == {"9-x:open": "1"}


def test_validation_leaves_no_memory_and_no_step(cage: Cage) -> None:
    """A question is answered by the model of now; nothing is kept, nothing is learned."""
    cage.start(scale())
    with Client(PARROTS, cage.names.run, cage.url) as client:
        found = client.ask(CAGE, FORWARD, numbers(3), answer=(PERCH, FORWARD))
    assert found.array.tolist() == [3.0]
    assert not cage.client.exists(cage.names.memory("parrot"))
    assert kept(cage) == {}
    assert cage.client.hget(cage.names.model("parrot"), "step") == b"0"


def test_a_root_that_is_given_up_frees_its_weights(cage: Cage) -> None:
    """Its memory goes, and with it what it kept."""
    cage.start(scale())
    first, second = cage.heard(cage.say(1)), cage.heard(cage.say(2))
    answer(cage, first, 1)
    assert sorted(kept(cage).values()) == ["1", "1.0"]
    fields = {"ID": "i", "ROOT_ID": second.root_id, "m": "no JSON"}
    cage.inject(fields, ANSWERED)
    until(lambda: kept(cage) == {})
    assert not cage.client.exists(cage.names.memory("parrot"))


def test_an_emptied_server_gets_the_initial_weights(own_cage: Cage) -> None:
    """Never those that a process happens to hold."""
    own_cage.start(scale())
    answer(own_cage, own_cage.heard(own_cage.say(1)), 1)
    assert weight(own_cage) == 0.5
    own_cage.client.flushall()
    until(lambda: weight(own_cage) == 1.0)
    assert own_cage.heard(own_cage.say(5)).array.tolist() == [5.0]


def test_a_server_that_fell_back_to_an_older_state_is_followed(own_cage: Cage) -> None:
    """A rollback brings back older weights under an older token: they count, work is redone."""
    own_cage.start(scale())
    key = own_cage.names.model("parrot")
    reply = own_cage.heard(own_cage.say(1))
    before = own_cage.client.dump(key)
    answer(own_cage, reply, 1)
    assert weight(own_cage) == 0.5
    own_cage.client.restore(key, 0, before or b"", replace=True)
    assert own_cage.heard(own_cage.say(6)).array.tolist() == [6.0]


def test_a_broken_ledger_leaves_nothing_half_done(cage: Cage, monkeypatch: Any) -> None:
    """The step waits until each key that it writes can be written."""
    monkeypatch.setattr("roomgrad.runtime.committer.REFUSED_PAUSE_S", 0.05)
    replica = cage.start(scale())
    broken = [
        (cage.names.counters("parrot"), "applied"),
        (cage.names.counters("parrot"), "distinct"),
        (cage.names.kept("parrot"), None),
    ]
    for key, field in broken:
        reply = cage.heard(cage.say(1))
        before = weight(cage)
        version = (cage.client.hget(cage.names.model("parrot"), "version") or b"").decode()
        number = cage.client.hget(key, field or f"{version}:open")
        cage.client.hset(key, field or f"{version}:open", "many")
        cage.inject(gradient_entry(reply), ANSWERED)
        until(lambda: cage.pending(ANSWERED) == 1 and replica.status.handling)
        assert weight(cage) == before
        assert cage.client.hexists(cage.names.memory("parrot"), reply.id)
        if number is None:
            cage.client.hdel(key, field or "")
        else:
            cage.client.hset(key, field or f"{version}:open", number)
        cage.heard(reply, after=reply.entry)
        assert weight(cage) == before - RATE
    assert cage.counter("applied") == cage.counter("distinct") == 3
    assert kept(cage) == {}


def test_an_idle_learner_asks_at_most_two_commands_a_second(own_cage: Cage) -> None:
    """Though it looks at the model's version behind every read."""
    from tests.integration.test_process import count_commands

    defaults = {"heartbeat_interval_s": 1.0, "heartbeat_lives_s": 3.0, "lease_s": 5.0}
    own_cage.start(scale(), block_s=RuntimeSettings().block_s, **defaults)
    assert count_commands(own_cage, beats=4) <= 2 * 4 + 1
