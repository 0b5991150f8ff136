"""Unmodified clients of swergio take part in runs, beside components that are roomgrad's own."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest

from roomgrad import Message, ModelStatus
from roomgrad.redis.client import Client
from roomgrad_melody.contract import LEARNER
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import (
    CONTROLMODEL,
    INPUT,
    SIMULATOR,
    TRAINER,
    TREBUCHET,
)
from tests.systems.gateway import Build, GatewayRun, house
from tests.systems.gateway import build as build
from tests.systems.melody.play import Play, simulated
from tests.systems.melody.play import play as play
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

SCRIPTS = {CONTROLMODEL: "control", SIMULATOR: "simulator"}
FREE = "hall"  # the name of a run of no system that roomgrad knows


@pytest.fixture
def hall(build: Build) -> GatewayRun:
    """Free rooms, and the gateway with its defaults."""
    hall = build(FREE)
    hall.open()
    return hall


# rooms


def test_hello_world(hall: GatewayRun) -> None:
    """One greets a room, and hears what another one answers; neither hears itself."""
    ben = hall.invite("hello", "ben")
    ann = hall.invite("hello", "ann", greeting="Hello, World")
    [greeting] = ben.wait("heard")
    [answer] = ann.wait("heard")
    assert (greeting["heard"]["DATA"], greeting["heard"]["SENT_BY"]) == ("Hello, World", "ann")
    assert (answer["heard"]["DATA"], answer["heard"]["SENT_BY"]) == (
        "Hello ann, this is ben",
        "ben",
    )
    assert answer["heard"]["ROOT_ID"] == greeting["heard"]["ROOT_ID"]


def test_everybody_in_a_room_hears_everything_in_order(hall: GatewayRun) -> None:
    """And nobody hears what is said in a room that they are not in."""
    guests = [hall.invite("worker", name, "--rooms", "left") for name in ("ann", "ben")]
    other = hall.invite("worker", "cid", "--rooms", "right")
    speaker = hall.speaker()
    texts = [f"text {number}" for number in range(50)]
    for text in texts:
        speaker.say("left", text)
    speaker.say("right", "the end")
    assert [guest.wait("heard", 50) and guest.heard() for guest in guests] == [texts, texts]
    other.wait("heard")
    assert other.heard() == ["the end"]


def test_who_says_what_does_not_fit_is_told_so(build: Build) -> None:
    """With the field and what was expected; and they may go on talking."""
    trebuchet = build(TREBUCHET.name)
    trebuchet.open()
    watching = trebuchet.invite("worker", "eve", "--rooms", "input")
    client = trebuchet.speaker().client
    client.client.settimeout(60)
    question = {"TYPE": "DATA/FORWARD", "TO_ROOM": "input", "ROOT_ID": "of-mine"}
    client.send({**question, "DATA": [[1.0, 2.0, 3.0]]})
    answer = next(each for each in iter(client.receive, False) if each["TYPE"] == "LOG/ERROR")
    assert answer["ROOT_ID"] == "of-mine"
    assert "DATA" in answer["TEXT"]
    assert "2" in answer["TEXT"]
    client.send({**question, "DATA": [[1.0, 2.0]]})
    watching.wait("heard")
    assert watching.heard() == [[[1.0, 2.0]]]


# those who die, freeze, or share


def test_who_was_away_finds_what_came_meanwhile(hall: GatewayRun) -> None:
    """Killed with a message in its hands: that one again, and all that came; once each."""
    clerk = hall.invite("worker", "clerk", "--rooms", "done")
    speaker = hall.speaker()
    first = hall.invite("worker", "ann", "--rooms", "work", answers="done")
    speaker.say("work", "finished")
    clerk.wait("heard")
    first.kill()

    second = hall.invite("worker", "ann", "--rooms", "work", "--hold", answers="done")
    speaker.say("work", "in hand")
    second.wait("heard")
    assert second.heard() == ["in hand"]
    second.kill()
    speaker.say("work", "while away")
    speaker.say("work", "also while away")

    third = hall.invite("worker", "ann", "--rooms", "work", answers="done", wait=False)
    clerk.wait("heard", 4)
    speaker.say("work", "back")
    clerk.wait("heard", 5)
    assert third.heard() == ["in hand", "while away", "also while away", "back"]
    assert clerk.heard() == ["finished", *third.heard()]


def test_nothing_comes_twice_where_that_is_not_wanted(build: Build) -> None:
    """With --no-resend: what somebody had in hand when they died is gone, and only that."""
    hall = build(FREE)
    hall.open("--no-resend")
    speaker = hall.speaker()
    first = hall.invite("worker", "ann", "--rooms", "work", "--hold")
    speaker.say("work", "in hand")
    first.wait("heard")
    first.kill()
    hall.wait_left("ann")
    speaker.say("work", "while away")
    second = hall.invite("worker", "ann", "--rooms", "work")
    second.wait("heard")
    assert second.heard() == ["while away"]


def test_two_of_one_name_each_hear_everything(hall: GatewayRun) -> None:
    """As on the server that they know."""
    twins = [hall.invite("worker", "ann", "--rooms", "work") for _ in range(2)]
    speaker = hall.speaker()
    texts = [str(number) for number in range(20)]
    for text in texts:
        speaker.say("work", text)
    assert [twin.wait("heard", 20) and twin.heard() for twin in twins] == [texts, texts]


def test_two_of_one_name_can_share_their_work(build: Build) -> None:
    """With --share: each message is worked on once; when one of them dies, by the other one."""
    hall = build(FREE)
    hall.open("--share")
    clerk = hall.invite("worker", "clerk", "--rooms", "done")
    twins = [hall.invite("worker", "ann", "--rooms", "work", answers="done") for _ in range(2)]
    speaker = hall.speaker()
    texts = [str(number) for number in range(60)]
    for text in texts[:40]:
        speaker.say("work", text)
    clerk.wait("heard", 40)
    assert sorted(clerk.heard(), key=int) == texts[:40]
    assert all(twin.heard() for twin in twins)
    twins[0].kill()
    for text in texts[40:]:
        speaker.say("work", text)
    clerk.wait("heard", 60)
    assert sorted(clerk.heard(), key=int) == texts


def test_who_is_frozen_holds_up_nobody(hall: GatewayRun) -> None:
    """More than any buffer holds is said to it; everybody else hears all of it meanwhile."""
    frozen = hall.invite("worker", "ann", "--rooms", "left")
    awake = hall.invite("worker", "ben", "--rooms", "left")
    speaker = hall.speaker()
    frozen.freeze()
    texts = [f"{number:0100}" for number in range(300)]
    for text in texts:
        speaker.say("left", text + 100_000 * "x")
    awake.wait("heard", 300)
    assert awake.heard() == texts
    assert len(frozen.heard()) < 300
    frozen.thaw()
    frozen.wait("heard", 300)
    assert frozen.heard() == texts


def test_a_killed_gateway_has_forgotten_nothing(hall: GatewayRun) -> None:
    """What waited for somebody still waits, what was in their hands comes again."""
    clerk = hall.invite("worker", "clerk", "--rooms", "done")
    speaker = hall.speaker()
    ann = hall.invite("worker", "ann", "--rooms", "work", answers="done")
    speaker.say("work", "finished")
    clerk.wait("heard")
    ann.kill()
    holding = hall.invite("worker", "ann", "--rooms", "work", "--hold")
    speaker.say("work", "in hand")
    holding.wait("heard")
    speaker.say("work", "behind it")
    watching = hall.invite("worker", "eve", "--rooms", "work")
    speaker.say("work", "the last one")
    watching.wait("heard")  # so it has come as far as the rooms
    hall.kill_gateway()
    holding.kill()
    clerk.kill()

    clerk = hall.invite("worker", "clerk", "--rooms", "done")
    ann = hall.invite("worker", "ann", "--rooms", "work", answers="done", wait=False)
    ann.wait("heard", 3)
    assert ann.heard() == ["in hand", "behind it", "the last one"]
    answered = ["in hand", "behind it", "the last one"]
    until(lambda: [text for text in clerk.heard() if text != "finished"] == answered)


# the trebuchet


def misses(lines: list[dict[str, float]]) -> tuple[float, float]:
    """The mean miss in m of the first five batches and of the last ten."""
    found = [line["miss"] for line in lines]
    return float(np.mean(found[:5])), float(np.mean(found[-10:]))


def test_their_trainer_and_control_model_learn_from_our_simulator(build: Build) -> None:
    """The original loop, half of it ours: every batch comes home, the shots land nearer."""
    trebuchet = build(TREBUCHET.name)
    for component in (TRAINER, CONTROLMODEL):
        trebuchet.forget(TREBUCHET, component)
    trebuchet.start(SIMULATOR, weight_head="plus200")
    trebuchet.open()
    trebuchet.invite("control", CONTROLMODEL)
    trainer = trebuchet.invite("trainer", TRAINER, steps=60)
    [end] = trainer.wait("finished")
    assert end == {"finished": 60, "unanswered": 0}
    before, after = misses(trainer.wait("miss", 60))
    assert after < 0.5 * before


def train_ours(trebuchet: GatewayRun, component: str, steps: int) -> tuple[float, float]:
    """Our components train, but for one whose work a guest does; the mean misses in m."""
    trebuchet.forget(TREBUCHET, component)
    flags = {
        TRAINER: {"train_steps": steps},
        CONTROLMODEL: {"train_steps": steps, "threads": 1},
        SIMULATOR: {"weight_head": "plus200"},
    }
    trebuchet.open()
    trebuchet.invite(SCRIPTS[component], component)
    for name in flags.keys() - {component}:
        trebuchet.start(name, **flags[name])

    def finished() -> ledger.Ledger | None:
        trebuchet.launcher.check()
        found = ledger.read(trebuchet.client, trebuchet.names)
        return found if found.finished + found.dead >= steps else None

    found = until(finished)
    assert (found.sent, found.finished, found.dead, found.open) == (steps, steps, 0, 0)
    losses = ledger.losses(trebuchet.client, trebuchet.names)
    assert len(losses) == steps
    return misses([{"miss": loss.miss_m} for loss in losses])


def test_their_control_model_does_the_work_of_ours(build: Build) -> None:
    """Between our trainer and our simulator, which do not notice."""
    before, after = train_ours(build(TREBUCHET.name), CONTROLMODEL, 60)
    assert after < 0.5 * before


def test_their_simulator_does_the_work_of_ours(build: Build) -> None:
    """Our network learns to aim what it has never heard of."""
    before, after = train_ours(build(TREBUCHET.name), SIMULATOR, 60)
    assert after < 0.5 * before


def test_ours_and_theirs_answer_in_one_room(build: Build) -> None:
    """A message of ours is answered by both; a client that only listens receives all of it."""
    trebuchet = build(TREBUCHET.name)
    trebuchet.forget(TREBUCHET, TRAINER)
    trebuchet.open()
    watching = trebuchet.invite("worker", "eve", "--rooms", "input", "model", "output")
    trebuchet.invite("simulator", "second")
    for component in (CONTROLMODEL, SIMULATOR):
        trebuchet.start(component)
    with Client(TREBUCHET, trebuchet.names.run, trebuchet.launcher.environ["REDIS_URL"]) as client:
        data = np.array([[3.0, 60.0], [0.0, 40.0]], "<f4")
        client.send(Message.open(INPUT, data, status=ModelStatus.VALIDATE))
    heard = watching.wait("heard", 4)
    rooms = [(line["room"], line["by"]) for line in heard]
    assert rooms[:2] == [("input", "client"), ("model", CONTROLMODEL)]
    assert sorted(rooms[2:]) == [("output", "second"), ("output", SIMULATOR)]
    np.testing.assert_allclose(heard[0]["heard"], data)


# the melody maker


def test_their_user_rates_our_melodies(play: Play) -> None:
    """Questions reach the room `user`, the answers become labels, and are learned from."""
    run = play()
    with ExitStack() as stack:
        maker = house(run.launcher, run.client, run.names.run, stack)
        maker.open()
        user = maker.invite("user", "ada")
        until(lambda: len(run.records("labels")) >= 10)
    labels = run.records("labels")
    rated = {melody for line in user.lines("rated") for melody in line["rated"]}
    assert labels.keys() <= rated
    assert {label["rater"] for label in labels.values()} == {"ada"}
    assert [label["rating"] for label in labels.values()] == simulated(list(labels))
    until(lambda: run.applied > 0)
    assert run.client.xlen(run.names.dead()) == 0


def test_their_users_compare_our_melodies(play: Play) -> None:
    """The first answer to a question is a vote; that of the other user is refused."""
    run = play({LEARNER: {"ask": "pairs", "again": 0}})
    with ExitStack() as stack:
        maker = house(run.launcher, run.client, run.names.run, stack)
        maker.open()
        users = [maker.invite("user", name) for name in ("ada", "ben")]
        until(lambda: len(run.records("pairs")) >= 10)
    said = {
        tuple(line["compared"]): line["prefer"] for user in users for line in user.lines("compared")
    }
    votes = run.records("pairs")
    assert {vote["rater"] for vote in votes.values()} <= {"ada", "ben"}
    for vote in votes.values():
        assert vote["prefer"] == said[vote["first"], vote["second"]]
    assert run.records("labels") == {}
    until(lambda: run.applied > 0)
    for _, fields in run.client.xrange(run.names.dead()):
        assert b"was answered by" in fields[b"history"]
