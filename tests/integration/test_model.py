"""A model in Redis: versions, kept weights, stale steps, validation.

The model of these tests is y = w x with one weight, without torch: what the runtime does with a
model does not depend on what it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from numpy.typing import NDArray

from roomgrad import Component, Context, Message, RuntimeSettings, backprop, on
from roomgrad.inspect import models
from roomgrad.models import Arrays, ForwardPass
from roomgrad.ops import model_state
from roomgrad.redis.client import Client
from tests.integration.conftest import EchoRun
from tests.integration.echo import ECHO, FORWARD, GRADIENT, GRADIENTS, INPUT, OUTPUT, numbers
from tests.waiting import until

RATE = 0.5


@dataclass(frozen=True)
class Moved:
    """A finished gradient."""

    gradient: float
    staleness: int
    nbytes: int = 8


class Scale:
    """y = w x; the gradient of w is the sum of upstream x, a step takes RATE of it."""

    accumulate = 1
    graphs_bytes = 0

    def __init__(self, settings: Any) -> None:
        self.weight, self.steps = 1.0, 0
        self.graphs: dict[str, tuple[str, float]] = {}
        self.recomputed = 0

    def dump(self) -> memoryview:
        return memoryview(b"%r %d" % (self.weight, self.steps))

    def load(self, content: bytes | bytearray | memoryview) -> None:
        weight, steps = bytes(content).split()
        self.weight, self.steps = float(weight), int(steps)

    def weights(self) -> float:
        return self.weight

    def drop(self, key: str) -> None:
        """Do nothing: it holds no graphs."""

    def fingerprint(self) -> str:
        return repr(self.weight)

    def forward(self, made: ForwardPass, key: str | None) -> Arrays:
        if key is not None:
            self.graphs[key] = (made.version, self.weight)
        return {"DATA": (made.inputs["DATA"] * self.weight).astype("<f4")}

    def backward(
        self, key: str, made: ForwardPass, upstream: Arrays, weights: Callable[[], float | None]
    ) -> tuple[float, Arrays]:
        version, weight = self.graphs.pop(key, ("", 0.0))
        if version != made.version:
            self.recomputed += 1
            stored = weights()
            weight = self.weight if stored is None else stored
        return products(weight, made.inputs["DATA"], upstream["DATA"])

    def prepare(
        self, gradient: float, made: ForwardPass, *, moved_on: bool, staleness: int
    ) -> Moved:
        return Moved(gradient, staleness)

    def apply(self, update: Moved) -> None:
        self.weight -= RATE * update.gradient
        self.steps += 1

    def encode(self, update: Moved) -> dict[str, Any]:
        return {"gradient": update.gradient, "staleness": update.staleness}

    def decode(self, record: Mapping[str, Any]) -> Moved:
        return Moved(record["gradient"], record["staleness"])


def products(weight: float, inputs: NDArray[Any], upstream: NDArray[Any]) -> tuple[float, Arrays]:
    return float((inputs * upstream).sum()), {"DATA": (upstream * weight).astype("<f4")}


@on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])
def forward(message: Message, context: Context) -> Message:
    return backprop.forward(message, context, OUTPUT)


@on(INPUT, GRADIENT, replies=[(OUTPUT, FORWARD)])
def gradient(message: Message, context: Context) -> Message:
    asked = context.memory.pop(message.id)
    of_inputs = context.model.learn(message.id, ForwardPass.of(asked), {"DATA": message.array})
    return message.reply(OUTPUT, of_inputs["DATA"], type=FORWARD)


def scale(*handlers: Any) -> Component:
    return Component("echo", ECHO, RuntimeSettings, handlers or (forward, gradient), model=Scale)


def state(echo: EchoRun) -> tuple[float, int]:
    """Return weight and number of steps, as the run has them now."""

    def now() -> bytearray | None:
        found = models.stored(echo.client, echo.names, "echo")
        return None if found.behind else found.content

    weight, steps = bytes(until(now)).split()
    return float(weight), int(steps)


def weight(echo: EchoRun) -> float:
    return state(echo)[0]


def replace_weight(echo: EchoRun, weight: float) -> str:
    """Continue with another weight, as `roomgrad model --import` does; return the version."""
    content = bytearray(b"%r 0" % weight)
    return model_state.replace(echo.client, echo.names, "echo", content).snapshot.version


def kept(echo: EchoRun) -> dict[str, str]:
    found = echo.client.hgetall(echo.names.kept("echo"))
    return {name.decode(): value.decode() for name, value in found.items()}


def answer(echo: EchoRun, reply: Message, *values: float) -> Message:
    """Answers a forward with a gradient, and waits for what comes of it."""
    message = reply.reply(INPUT, numbers(*values), type=GRADIENT, id=reply.id)
    with Client(ECHO, echo.names.run, echo.url) as client:
        client.send(message)
    return echo.wait_reply(reply, after=reply.entry)


def test_a_step_is_committed_with_its_reply(echo: EchoRun) -> None:
    """Version, step number, record of the step and ledger move together."""
    replica = echo.start(scale())
    reply = echo.wait_reply(echo.send(2))
    assert reply.array.tolist() == [2.0]
    before = echo.client.hget(echo.names.model("echo"), "version")
    of_inputs = answer(echo, reply, 1)
    assert of_inputs.array.tolist() == [1.0]  # at the weights of the forward, not after the step
    version, step = echo.client.hmget(echo.names.model("echo"), "version", "step")
    assert step == b"1"
    assert version.startswith(b"1-")
    assert version != before
    [(_, record)] = echo.client.xrange(echo.names.steps("echo"))
    assert (record[b"before"], record[b"version"], record[b"step"]) == (before, version, b"1")
    assert state(echo) == (0.0, 1)
    beat = echo.names.alive(replica.consumer)
    until(lambda: b'"version":"%s"' % version in (echo.client.get(beat) or b""))
    assert echo.client.zrange(echo.names.ledger("echo"), 0, -1) == [reply.root_id.encode()]
    assert echo.counter("applied") == echo.counter("distinct") == 1
    assert not echo.client.exists(echo.names.memory("echo"))
    assert kept(echo) == {}


def test_older_weights_are_kept_for_as_long_as_a_root_needs_them(echo: EchoRun) -> None:
    """Three forwards, then three gradients: counted per version, freed with the last."""
    echo.start(scale())
    first, second = echo.wait_reply(echo.send(1)), echo.wait_reply(echo.send(2))
    assert list(kept(echo).values()) == ["2"]  # open roots
    answer(echo, first, 1)
    assert weight(echo) == 0.5
    third = echo.wait_reply(echo.send(4))
    assert third.array.tolist() == [2.0]
    assert sorted(kept(echo).values()) == ["1", "1"]
    assert answer(echo, second, 1).array.tolist() == [1.0]  # d x at w = 1
    assert weight(echo) == -0.5
    assert list(kept(echo).values()) == ["1"]
    assert answer(echo, third, 1).array.tolist() == [0.5]  # d x at w = 0.5
    assert weight(echo) == -2.5
    assert kept(echo) == {}


def test_another_replica_computes_at_the_weights_of_the_forward(echo: EchoRun) -> None:
    """The replica that made the forward is gone: the next makes the graph again, at the same w."""
    first_replica = echo.start(scale())
    first, second = echo.wait_reply(echo.send(1)), echo.wait_reply(echo.send(2))
    first_replica.stop()
    until(lambda: not echo.client.exists(echo.names.alive(first_replica.consumer)))
    replica = echo.start(scale())
    answer(echo, first, 1)
    assert answer(echo, second, 3).array.tolist() == [3.0]
    model: Any = replica._loop._store.follower.trainable  # type: ignore[union-attr]
    assert model.recomputed == 2
    assert weight(echo) == 1 - RATE * 1 - RATE * 6
    assert kept(echo) == {}


def test_a_stale_step_is_applied_again_without_computing_it_again(echo: EchoRun) -> None:
    """Two replicas step from the same version: both gradients count, each once, in both of them."""
    calls: list[str] = []
    apart: list[str] = []
    meet = threading.Barrier(2, timeout=60)

    @on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])
    def answer(message: Message, context: Context) -> Message:
        apart.append(message.id)
        if 2 < len(apart) <= 4:
            meet.wait()
        return forward.function(message, context)  # type: ignore[return-value]

    @on(INPUT, GRADIENT, replies=[(OUTPUT, FORWARD)])
    def together(message: Message, context: Context) -> Message:
        reply: Message = gradient.function(message, context)  # type: ignore[assignment]
        calls.append(message.id)
        if len(calls) <= 2:
            meet.wait()
        return reply

    for _ in range(2):
        echo.start(scale(answer, together))
    replies = [echo.wait_reply(echo.send(number)) for number in (1, 2)]
    for reply in replies:
        echo.add(gradient_entry(reply), GRADIENTS)
    for reply in replies:
        echo.wait_reply(reply, after=reply.entry)
    assert len(calls) == 2  # the parameter gradients were not computed again
    assert weight(echo) == 1 - RATE * (1 + 2)
    assert echo.counter("applied") == echo.counter("distinct") == 2
    assert state(echo)[1] == 2
    assert kept(echo) == {}
    # the stored weights are those of one replica: each of the two is asked for its own
    outputs = [echo.wait_reply(sent) for sent in (echo.send(4), echo.send(8))]
    assert [output.array.tolist() for output in outputs] == [[-2.0], [-4.0]]


def gradient_entry(reply: Message) -> dict[str, Any]:
    body = {"ID": reply.id, "ROOT_ID": reply.root_id, "TYPE": "DATA/GRADIENT", "DATA": [1.0]}
    return {"ID": reply.id, "ROOT_ID": reply.root_id, "m": orjson.dumps(body)}


def test_a_stale_forward_runs_again_at_the_newer_weights(echo: EchoRun) -> None:
    """The model moved on while a forward ran: its output is of the version that it records."""
    inside, release = threading.Event(), threading.Event()
    outputs: list[float] = []

    @on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])
    def slow(message: Message, context: Context) -> Message:
        reply: Message = forward.function(message, context)  # type: ignore[assignment]
        outputs.append(float(reply.array[0]))
        if message.array[0] == 7 and len(outputs) == 2:
            inside.set()
            assert release.wait(60)
        return reply

    echo.start(scale(slow, gradient))
    reply = echo.wait_reply(echo.send(1))
    message = echo.send(7)
    assert inside.wait(60)
    echo.start(scale(slow, gradient))
    answer(echo, reply, 1)
    release.set()
    assert echo.wait_reply(message).array.tolist() == [3.5]
    assert outputs == [1.0, 7.0, 3.5]
    version = (echo.client.hget(echo.names.model("echo"), "version") or b"").decode()
    assert kept(echo) == {f"{version}:open": "1"}


def test_the_version_that_is_read_is_the_version_that_is_used(echo: EchoRun) -> None:
    """A handler that asks for the version first records the weights that its forward uses."""

    @on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])
    def early(message: Message, context: Context) -> Message:
        version = context.model.version
        if message.array[0] == 7 and not moved:
            moved.append(replace_weight(echo, 3.0))
        reply = message.reply(OUTPUT)
        reply.fill(context.model.forward({"DATA": message.array}, key=reply.id))
        context.memory.put(reply.id, **context.model.forward_pass.record() | {"weights": version})
        return reply

    moved: list[str] = []
    echo.start(scale(early))
    assert echo.wait_reply(echo.send(7)).array.tolist() == [21.0]
    assert kept(echo) == {f"{moved[0]}:open": "1"}


def test_validation_leaves_no_memory_and_no_step(echo: EchoRun) -> None:
    """A question is answered by the model of now; nothing is kept, nothing is learned."""
    echo.start(scale())
    with Client(ECHO, echo.names.run, echo.url) as client:
        found = client.ask(INPUT, FORWARD, numbers(3), answer=(OUTPUT, FORWARD))
    assert found.array.tolist() == [3.0]
    assert not echo.client.exists(echo.names.memory("echo"))
    assert kept(echo) == {}
    assert echo.client.hget(echo.names.model("echo"), "step") == b"0"


def test_a_root_that_is_given_up_frees_its_weights(echo: EchoRun) -> None:
    """Its memory goes, and with it what it kept."""
    echo.start(scale())
    first, second = echo.wait_reply(echo.send(1)), echo.wait_reply(echo.send(2))
    answer(echo, first, 1)
    assert list(kept(echo).values()) == ["1"]
    fields = {"ID": "i", "ROOT_ID": second.root_id, "m": "no JSON"}
    echo.add(fields, GRADIENTS)
    until(lambda: kept(echo) == {})
    assert not echo.client.exists(echo.names.memory("echo"))


def test_an_emptied_server_gets_the_initial_weights(own_echo: EchoRun) -> None:
    """Never those that a process happens to hold."""
    own_echo.start(scale())
    answer(own_echo, own_echo.wait_reply(own_echo.send(1)), 1)
    assert weight(own_echo) == 0.5
    own_echo.client.flushall()
    until(lambda: own_echo.client.exists(own_echo.names.model("echo")))
    assert weight(own_echo) == 1.0
    assert own_echo.wait_reply(own_echo.send(5)).array.tolist() == [5.0]


def test_a_server_that_fell_back_to_an_older_state_is_followed(own_echo: EchoRun) -> None:
    """A rollback brings back older weights under an older token: they count, work is redone."""
    own_echo.start(scale())
    key, log = own_echo.names.model("echo"), own_echo.names.steps("echo")
    reply = own_echo.wait_reply(own_echo.send(1))
    before = own_echo.client.dump(key)
    answer(own_echo, reply, 1)
    assert weight(own_echo) == 0.5
    own_echo.client.delete(log)
    own_echo.client.restore(key, 0, before or b"", replace=True)
    assert own_echo.wait_reply(own_echo.send(6)).array.tolist() == [6.0]


def test_a_broken_ledger_leaves_nothing_half_done(echo: EchoRun, monkeypatch: Any) -> None:
    """The step waits until each key that it writes can be written."""
    monkeypatch.setattr("roomgrad.runtime.committer.REFUSED_PAUSE_S", 0.05)
    replica = echo.start(scale())
    broken = [
        (echo.names.counters("echo"), "applied"),
        (echo.names.counters("echo"), "distinct"),
        (echo.names.kept("echo"), None),
    ]
    for key, field in broken:
        reply = echo.wait_reply(echo.send(1))
        before = weight(echo)
        version = (echo.client.hget(echo.names.model("echo"), "version") or b"").decode()
        number = echo.client.hget(key, field or f"{version}:open")
        echo.client.hset(key, field or f"{version}:open", "many")
        echo.add(gradient_entry(reply), GRADIENTS)
        until(lambda: echo.pending(GRADIENTS) == 1 and replica.status.refused)
        assert weight(echo) == before
        assert echo.client.hexists(echo.names.memory("echo"), reply.id)
        if number is None:
            echo.client.hdel(key, field or "")
        else:
            echo.client.hset(key, field or f"{version}:open", number)
        echo.wait_reply(reply, after=reply.entry)
        assert weight(echo) == before - RATE
    assert echo.counter("applied") == echo.counter("distinct") == 3
    assert kept(echo) == {}


def test_an_idle_learner_asks_at_most_three_commands_a_second(own_echo: EchoRun) -> None:
    """Though it looks at the model's version behind every read."""
    from tests.integration.test_process import count_commands

    defaults = {"heartbeat_interval_s": 1.0, "heartbeat_lives_s": 3.0, "lease_s": 5.0}
    own_echo.start(scale(), block_s=RuntimeSettings().block_s, **defaults)
    assert count_commands(own_echo, beats=4) <= 3 * (4 + 1)
