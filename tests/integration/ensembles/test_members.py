"""Members of an ensemble in one process: each learns from its own gradients, and from each once."""

from __future__ import annotations

import signal
import urllib.request

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from roomgrad import ModelStatus, weights
from roomgrad.inspect import models
from roomgrad.models import forward_seed
from roomgrad.redis import heartbeats
from roomgrad.runtime.health import check
from roomgrad.testing import wait_for
from tests.integration.ensembles.conftest import Zoo
from tests.integration.ensembles.zoo import ACT, ALL, MODELS, OUT, ZOO, Cell
from tests.integration.model.learner import BATCH
from tests.ports import neighbours
from tests.waiting import LIMIT_S, until

FORWARD = "DATA/FORWARD"


def test_a_member_that_is_asked_alone_learns_alone(zoo: Zoo) -> None:
    """What is for one leaves nothing in the groups, logs and memories of the others."""
    zoo.keep()
    process = zoo.start()
    before = {name: zoo.sha256(name) for name in MODELS.names}
    zoo.ask(MODELS.room(ACT, "model.1"), 5)
    until(lambda: zoo.home("model.1") == 5)
    assert zoo.learned() == {"model.0": 0, "model.1": 5, "model.2": 0}
    after = {name: zoo.sha256(name) for name in MODELS.names}
    assert [name for name in MODELS.names if before[name] != after[name]] == ["model.1"]
    for name in MODELS.names:
        room = MODELS.room(ACT, name)
        found = zoo.group(room, FORWARD, name)
        assert (found["lag"], found["pending"]) == (0, 0)
        assert zoo.client.xlen(zoo.names.stream(room.name, FORWARD)) == 5 * (name == "model.1")
        assert zoo.client.hlen(zoo.names.memory(name)) == 0
    assert zoo.dead() == 0
    assert zoo.served_by(process.pid) == {*MODELS.names}


def test_all_members_answer_what_is_sent_into_the_room_of_all(zoo: Zoo) -> None:
    """Each with its own weights; in the contract and in every list each has its own name."""
    zoo.start()
    root = zoo.ask(ALL, status=ModelStatus.VALIDATE)
    answers = []
    for name in MODELS.names:
        stream = ZOO.stream(MODELS.room(OUT, name), FORWARD)
        found = wait_for(zoo.client, zoo.names, stream, root_id=root, timeout_s=LIMIT_S)
        assert found.sent_by == name
        answers.append(found.array.tobytes())
    assert len(set(answers)) == 3


def test_members_begin_with_weights_of_their_own(zoo: Zoo) -> None:
    """The same in each run of one seed, by a documented formula."""
    zoo.start("--seed=7")
    for name in MODELS.names:
        expected = Cell(forward_seed(7, name, "weights"), BATCH).weight
        found = {each.name: each for each in models.stored(zoo.client, zoo.names, name).weights()}
        assert found["weight"].data == expected.tobytes()


def test_a_killed_process_loses_nothing_of_any_member(zoo: Zoo) -> None:
    zoo.keep()
    process = zoo.start()
    for name in MODELS.names:
        zoo.ask(MODELS.room(ACT, name), 30)
    until(lambda: sum(zoo.learned().values()) >= 10)
    process.kill()
    process.wait()
    left = zoo.learned()
    zoo.start()
    until(lambda: all(zoo.home(name) == 30 for name in MODELS.names))
    assert sum(left.values()) < 90
    assert zoo.learned() == dict.fromkeys(MODELS.names, 30)
    assert all(zoo.client.hlen(zoo.names.memory(name)) == 0 for name in MODELS.names)
    assert zoo.dead() == 0


def test_a_member_may_have_more_replicas_than_others(zoo: Zoo) -> None:
    """The second one goes on while the process of all members is away."""
    zoo.keep()
    process, more = zoo.start(), zoo.start("--member=1")
    assert zoo.served_by(more.pid) == {"model.1"}
    process.kill()
    process.wait()
    zoo.ask(MODELS.room(ACT, "model.1"), 5)
    until(lambda: zoo.home("model.1") == 5)
    zoo.ask(MODELS.room(ACT, "model.2"))
    zoo.start("--member=0,2")
    until(lambda: zoo.home("model.2") == 1)
    assert zoo.learned() == {"model.0": 0, "model.1": 5, "model.2": 1}


def test_an_ensemble_may_have_one_member(zoo: Zoo) -> None:
    """It is asked for by `--member` like the members of any other, as `roomgrad run` does."""
    process = zoo.spawn("--member=0", environ={"ROOMGRAD_MEMBERS": "1"})
    until(lambda: zoo.served_by(process.pid) == {"model.0"})


def test_it_stops_with_all_members(zoo: Zoo) -> None:
    """On SIGTERM each member finishes, and deletes its heartbeat."""
    process = zoo.start()
    assert check("model", zoo.names.run, zoo.run.url) == "model is well."
    assert check("model.2", zoo.names.run, zoo.run.url) == "model.2 is well."
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0
    assert not heartbeats.find(zoo.client, zoo.names)


@pytest.mark.parametrize(
    ("word", "members", "sentence"),
    [
        ("--member=3", "", "--member 3: expected members like 7 or 0-9,12"),
        ("--member=x", "", "--member x: expected members"),
        ("--wide=1", "2", "was started with 3 members of model, not 2: continue it with"),
    ],
)
def test_wrong_members_are_refused(zoo: Zoo, word: str, members: str, sentence: str) -> None:
    zoo.keep()
    process = zoo.spawn(word, environ={"ROOMGRAD_MEMBERS": members})
    assert process.wait(LIMIT_S) == 2, process.log()
    assert sentence in process.log()


def test_a_member_whose_model_is_another_one_is_named(zoo: Zoo) -> None:
    """Members may differ; a stored model that a member cannot load ends the process."""
    process = zoo.start()
    process.terminate()
    process.wait(LIMIT_S)
    process = zoo.spawn("--wide=1")
    assert process.wait(LIMIT_S) == 1
    assert process.log().splitlines()[-1].startswith("model.1: ")
    found = models.stored(zoo.client, zoo.names, "model.1").weights()
    assert weights.sha256(found) == zoo.sha256("model.1")
    zoo.keep()
    zoo.start()


def test_members_of_a_process_have_their_metrics_at_one_port(zoo: Zoo) -> None:
    """Each metric once, with a label of each member; another process has them at the next port."""
    port = neighbours(2)
    zoo.keep()
    zoo.start(f"--metrics-port={port}")
    zoo.ask(MODELS.room(ACT, "model.1"), 5)
    until(lambda: zoo.home("model.1") == 5)
    found = scraped(port)
    assert len(found) == len({family.name for family in found})
    by_name = {family.name: family.samples for family in found}
    ups = {each.labels["component"]: each.value for each in by_name["roomgrad_server_up"]}
    assert ups == dict.fromkeys(MODELS.names, 1.0)
    handled = [each for each in by_name["roomgrad_messages"] if each.name.endswith("_total")]
    assert {each.labels["component"]: each.value for each in handled if each.value == 5} == {
        "model.1": 5.0
    }
    steps = {each.labels["component"]: each.value for each in by_name["roomgrad_step"]}
    assert steps == {"model.0": 0.0, "model.1": 5.0, "model.2": 0.0}
    zoo.spawn(f"--metrics-port={port}", "--member=1")
    until(lambda: heartbeats.living(zoo.client, zoo.names)["model.1"] == 2)
    [up] = [
        each
        for family in scraped(port + 1)
        if family.name == "roomgrad_server_up"
        for each in family.samples
    ]
    assert up.labels["component"] == "model.1"


def scraped(port: int) -> list[Metric]:
    """What Prometheus would get."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return [each for each in text_string_to_metric_families(text) if each.name.startswith("room")]
