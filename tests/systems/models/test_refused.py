"""What a model cannot learn from is refused with a sentence, and leaves nothing half done."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from numpy.typing import NDArray
from torch import nn, optim
from torch.optim import lr_scheduler

from roomgrad.errors import ModelError, SchemaError
from roomgrad.learning import TorchModel
from roomgrad.runtime.replica import Replica
from roomgrad.testing import running
from tests.systems.models import networks, reference, replicas
from tests.systems.models.networks import INPUTS, OUTPUTS, WIDTH, mlp
from tests.systems.models.reference import Result, difference
from tests.systems.models.refused import FAILING, REFUSALS, Refusal, enlarged
from tests.systems.models.rooms import Rooms
from tests.systems.models.zoo import FORWARD, LEAVE, MODEL
from tests.waiting import LIMIT_S, until

STEPS = 4
BAD = 1000  # the number of the bad batch


def dead_letters(run: Rooms) -> list[str]:
    """Return the reasons of the dead letters."""
    found: Any = run.client.redis.xrange(run.names.dead())
    return [orjson.loads(fields[b"history"])["reason"] for _, fields in found]


def model(run: Rooms) -> list[Any]:
    """Return version and step of the model, and how many steps its log has."""
    client, names = run.client.redis, run.names
    found: Any = client.hmget(names.model(MODEL), "version", "step")
    return [*found, client.xlen(names.steps(MODEL))]


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_changes_nothing(name: str, rooms: Callable[..., Rooms]) -> None:
    """Neither what is stored, nor what the replica holds: the next batches are learned as ever."""
    refusal = REFUSALS[name]
    run = rooms("plain")
    run.start_all(1)
    result = Result()
    for number in range(STEPS):
        if number == STEPS // 2:
            before = model(run)
            send(run, refusal)
            [reason] = until(lambda: dead_letters(run))
            assert re.search(refusal.reason, reason)
            until(lambda: not run.client.redis.exists(run.names.memory(MODEL)))
            assert model(run) == before
            result.answers.append(run.validate())
        result.gradients.append(run.finish(run.open(number), number))
    expected = replicas.ask("plain", reference.train, STEPS)
    assert not difference(run.finished(result), expected)


def send(run: Rooms, refusal: Refusal) -> None:
    """Send a batch, or a gradient, that is refused."""
    sent = run.send(BAD, refusal.batch(run.case.batch(BAD)))
    if refusal.upstream is not None:
        outputs = run.wait(LEAVE, FORWARD, sent.root_id)
        run.answer(outputs, refusal.upstream(run.case.upstream(BAD, outputs.arrays())))


def test_a_scalar_is_no_batch(rooms: Callable[..., Rooms]) -> None:
    """And the state is as before."""
    run = rooms("scalars")
    run.start_all(1)
    before = model(run)
    run.send(0, {"DATA": np.array(1, "<f4")})
    [reason] = until(lambda: dead_letters(run))
    assert "DATA: expected a batch of at least one row" in reason
    assert model(run) == before


@pytest.mark.parametrize("name", FAILING)
def test_an_optimizer_that_goes_wrong_ends_its_component_with_a_sentence(
    name: str, rooms: Callable[..., Rooms], url: str
) -> None:
    """The step is committed before it is applied, so that no other message can be handled."""
    with pytest.raises(ModelError, match=FAILING[name]):
        run_until_it_ends(rooms(name), url)


def run_until_it_ends(run: Rooms, url: str) -> None:
    """Run a replica in a thread; send it a gradient that is too large."""
    with running(replicas.component(run.case), run.settings, url) as replica:
        outputs = run.open(0)
        run.answer(outputs, enlarged(run.case.upstream(0, outputs.arrays())))
        until(lambda: model(run)[1] == b"1")
        until(lambda: not run.client.redis.exists(run.names.alive(replica.consumer)))


# another network under the name of the model


def deeper() -> nn.Sequential:
    return nn.Sequential(*mlp(), nn.Tanh(), nn.Linear(OUTPUTS, OUTPUTS))


def noted() -> nn.Sequential:
    """A network with one more buffer."""
    network = mlp()
    network.register_buffer("note", torch.zeros(2))
    return network


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a layer of another width": (
        lambda: nn.Sequential(nn.Linear(INPUTS, 9), nn.Tanh(), nn.Linear(9, OUTPUTS)),
        r"0\.weight is F32 \(8, 4\) there, and F32 \(9, 4\) here",
    ),
    "a layer of another dtype": (
        lambda: networks.Cast(mlp(), torch.float64).inner,
        r"0\.weight is F32 \(8, 4\) there, and F64 \(8, 4\) here",
    ),
    "a layer more": (deeper, r"4\.weight is missing there, and F32 \(3, 3\) here"),
    "a layer less": (
        lambda: nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Tanh()),
        r"2\.weight is F32 \(3, 8\) there, and missing here",
    ),
    "a buffer more": (noted, r"note is missing there, and F32 \(2,\) here"),
    "other names": (
        lambda: nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Tanh(), *mlp()[2:]),
        r"3\.weight is missing there, and F32 \(3, 8\) here",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_network_of_the_same_name_is_refused(
    name: str, rooms: Callable[..., Rooms], url: str
) -> None:
    """With the first parameter that differs; the run goes on as if it had never started."""
    network, reason = OTHERS[name]
    run = rooms("adam")
    run.start_all(1)
    result = Result()
    for number in range(STEPS):
        if number == STEPS // 2:
            other = dataclasses.replace(run.case, network=network)
            with pytest.raises(ModelError, match=f"of another network than this one: {reason}"):
                Replica(replicas.component(other), run.settings, url).run()
            result.answers.append(run.validate())
        result.gradients.append(run.finish(run.open(number), number))
    assert not dead_letters(run)
    expected = replicas.ask("adam", reference.train, STEPS)
    assert not difference(run.finished(result), expected)


def test_of_two_networks_that_start_together_one_becomes_the_model(
    rooms: Callable[..., Rooms], url: str
) -> None:
    """The other one ends with a sentence, whichever was first."""
    run = rooms("adam")
    ended: list[str] = []
    ready = threading.Barrier(2)

    def start(replica: Replica) -> None:
        ready.wait()
        try:
            replica.run()
        except ModelError as error:
            ended.append(str(error))

    cases = [run.case, dataclasses.replace(run.case, network=deeper)]
    both = [Replica(replicas.component(each), run.settings, url) for each in cases]
    threads = [threading.Thread(target=start, args=[each], daemon=True) for each in both]
    try:
        for thread in threads:
            thread.start()
        [reason] = until(lambda: ended)
        assert re.search(r"4\.weight is (missing|F32 \(3, 3\)) there, and", reason)
        for number in range(STEPS):
            run.finish(run.open(number), number)
        assert model(run)[1] == b"%d" % STEPS
    finally:
        for replica, thread in zip(both, threads, strict=True):
            replica.stop()
            thread.join(LIMIT_S)


# arrays in other layouts


def strided(array: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(array, 2, axis=1)[:, ::2]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


@pytest.mark.parametrize("layout", [np.asfortranarray, strided, read_only])
def test_an_array_of_any_layout_is_taken(
    layout: Callable[[NDArray[Any]], NDArray[Any]], rooms: Callable[..., Rooms]
) -> None:
    """As the values that it holds, in batches, gradients and questions."""
    run = rooms("adam")
    run.layout = layout
    run.start_all(1)
    assert not difference(run.train(STEPS), replicas.ask("adam", reference.train, STEPS))


def big_endian(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder(">"))


def test_a_big_endian_array_is_refused_where_it_is_sent(rooms: Callable[..., Rooms]) -> None:
    """And never read as other numbers."""
    run = rooms("adam")
    run.layout = big_endian
    with pytest.raises(SchemaError, match="DATA: expected dtype <f4, got >f4"):
        run.send(0, run.case.batch(0))


# models


class Stateful(optim.SGD):
    """An optimizer that stores an object with each step."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["seen"] = object()


def sgd(parameters: list[nn.Parameter]) -> optim.Optimizer:
    return optim.SGD(parameters, lr=0.1)


MODELS: dict[str, tuple[str, Callable[[], TorchModel]]] = {
    "LBFGS": (
        "LBFGS computes the loss several times in a step",
        lambda: TorchModel(mlp(), optim.LBFGS),
    ),
    "a scheduler that needs the loss": (
        "ReduceLROnPlateau needs the loss",
        lambda: TorchModel(mlp(), sgd, scheduler=lr_scheduler.ReduceLROnPlateau),  # type: ignore[arg-type]
    ),
    "a state that cannot be stored": (
        r"seen.*0\.weight|0\.weight.*seen",
        lambda: TorchModel(mlp(), lambda parameters: Stateful(parameters, lr=0.1)),
    ),
    "lazy modules without an example": (
        r"0\.weight has no shape.*example=",
        lambda: TorchModel(networks.lazy(), sgd),
    ),
    "autocast that needs a loss scaler": (
        r"autocast=torch\.float16: expected torch\.bfloat16",
        lambda: TorchModel(mlp(), sgd, autocast=torch.float16),
    ),
    "parameters of another network": (
        "none of the network's",
        lambda: TorchModel(mlp(), lambda _: sgd(list(mlp().parameters()))),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_rooms_cannot_train_is_refused_when_it_is_made(name: str) -> None:
    """With what is wrong, and with which parameter."""
    reason, make = MODELS[name]
    with torch.random.fork_rng(), pytest.raises(ModelError, match=reason):
        make()
