"""What comes while a client is away waits for it; who is slow or frozen holds up nobody else."""

from __future__ import annotations

import numpy as np

from roomgrad import Message
from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.redis.client import Client
from roomgrad.runtime import runs
from roomgrad_trebuchet.contract import TREBUCHET
from tests.integration.gateway.conftest import MakeGateway
from tests.integration.gateway.gateway_process import GatewayProcess, Peer, busy
from tests.waiting import until

THREE = {"DATA": [[1, 2, 3]]}


def test_what_comes_while_a_client_is_away_waits_for_it(gateway: GatewayProcess, room: str) -> None:
    """From the moment it left, in all rooms that it was in, once."""
    ann, bob = gateway.peer(f"ann-{room}", room, f"b-{room}"), gateway.peer(f"bob-{room}", room)
    ann.say(room, "before", ROOT_ID="r0")
    bob.receive()
    bob.say(room, "answer", ROOT_ID="r0")
    assert ann.data() == ["answer"]
    bob.close()
    gateway.left(f"bob-{room}")
    for number in range(3):
        ann.say(room, number)
    ann.here()
    bob = gateway.peer(f"bob-{room}", room)
    ann.say(room, "after")
    assert bob.data(4) == [0, 1, 2, "after"]


def test_what_was_not_answered_is_sent_again(gateway: GatewayProcess, room: str) -> None:
    """The first and the third of three messages, as the second one was answered."""
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    for number in range(3):
        ann.say(room, number, ROOT_ID=f"r{number}")
    assert bob.data(3) == [0, 1, 2]
    bob.say(room, "to 1", ROOT_ID="r1")
    assert ann.data() == ["to 1"]
    bob.close()
    gateway.left(f"bob-{room}")
    ann.say(room, 3)
    bob = gateway.peer(f"bob-{room}", room)
    assert bob.data(3) == [0, 2, 3]


def test_nothing_is_sent_again_where_that_is_turned_off(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(resend=False)
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    ann.say("cave", 0)
    assert bob.data() == [0]
    bob.close()
    gateway.left("bob")
    ann.say("cave", 1)
    ann.here()
    bob = gateway.peer("bob", "cave")
    assert bob.data() == [1]


def test_the_gradient_that_closes_a_root_is_not_sent_again(
    gateway: GatewayProcess, room: str
) -> None:
    """It answers the message with which the client opened the root: nothing can follow it.

    Otherwise a trainer that starts again would be given every batch that it has ever finished.
    """
    ann, bob = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    for root in ("r0", "r1"):
        ann.send({"TYPE": "DATA/FORWARD", "TO_ROOM": room, "ID": f"f-{root}", "ROOT_ID": root})
        assert bob.receive()["ID"] == f"f-{root}"
        gradient = {"TYPE": "DATA/GRADIENT", "TO_ROOM": room, "ROOT_ID": root}
        bob.send({**gradient, "ID": f"f-{root}", "DATA": root})
        assert ann.data() == [root]
    bob.say(room, "a question", ROOT_ID="r2")
    assert ann.data() == ["a question"]
    ann.close()
    gateway.left(f"ann-{room}")
    ann = gateway.peer(f"ann-{room}", room)
    assert ann.data() == ["a question"]
    ann.hears_nothing_before(bob, room, "end")


def test_clients_of_one_name_all_get_everything(gateway: GatewayProcess, room: str) -> None:
    """Also what another one of them says; and nothing waits while one of them is there."""
    ann = gateway.peer(f"ann-{room}", room)
    one, two = gateway.peer(f"bob-{room}", room), gateway.peer(f"bob-{room}", room)
    ann.say(room, "all")
    assert one.data() == two.data() == ["all"]
    one.say(room, "from one")
    assert two.data() == ann.data() == ["from one"]
    two.say(room, "from two")
    assert one.data() == ["from two"]
    one.close()
    until(lambda: gateway.seat(f"bob-{room}@gateway") is None)
    ann.say(room, "two alone")
    assert two.data() == ["two alone"]
    two.say(room, "answer", ROOT_ID="r")
    assert ann.data(2) == ["from two", "answer"]
    three = gateway.peer(f"bob-{room}", room)
    three.hears_nothing_before(ann, room, "from now on")


def test_a_client_that_is_back_before_its_end_was_noticed(
    gateway: GatewayProcess, room: str
) -> None:
    """A machine loses its power: its connection looks alive for a while, and takes messages."""
    ann, dead = gateway.peer(f"ann-{room}", room), gateway.peer(f"bob-{room}", room)
    ann.say(room, "answered", ROOT_ID="r1")
    ann.say(room, "into the void")
    assert dead.data(2) == ["answered", "into the void"]
    dead.say(room, "answer", ROOT_ID="r1")
    assert ann.data() == ["answer"]
    bob = gateway.peer(f"bob-{room}", room)
    ann.say(room, "live")
    assert bob.data() == ["live"]
    dead.close()
    assert bob.data() == ["into the void"]
    bob.hears_nothing_before(ann, room, "end")


def test_clients_of_one_name_share_the_work(make_gateway: MakeGateway) -> None:
    """Each message goes to one of them, to the one with the least to do."""
    gateway = make_gateway(share=True)
    ann = gateway.peer("ann", "cave")
    bobs = [gateway.peer("bob", "cave") for _ in range(3)]
    for number in range(30):
        ann.say("cave", number, ROOT_ID=f"r{number}")
    parts = [bob.data(10) for bob in bobs]
    assert sorted(number for part in parts for number in part) == list(range(30))
    bobs[0].say("cave", "mine")  # a name does not get its own messages
    assert ann.data() == ["mine"]
    ann.say("cave", "last", ROOT_ID="last")
    assert bobs[0].data() == ["last"]


def test_what_a_dead_one_had_not_answered_goes_to_the_others(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(share=True)
    ann, one, two = (gateway.peer(name, "cave") for name in ("ann", "bob", "bob"))
    for number in range(4):
        ann.say("cave", number, ROOT_ID=f"r{number}")
    first, second = one.data(2), two.data(2)
    assert sorted(first + second) == [0, 1, 2, 3]
    one.say("cave", "done", ROOT_ID=f"r{first[0]}")
    assert ann.data() == ["done"]
    one.close()
    assert two.data() == [first[1]]
    ann.say("cave", "last", ROOT_ID="last")
    assert two.data() == ["last"]  # and nothing of what its twin had said


def test_the_newest_wait_and_older_ones_are_dead_letters(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(wait_count=3)
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    bob.close()
    gateway.left("bob")
    for number in range(5):
        ann.say("cave", number)
    until(lambda: len(gateway.letters()) == 2)
    bob = gateway.peer("bob", "cave")
    assert bob.data(3) == [2, 3, 4]
    letter = gateway.letters()[0]
    assert letter["group"] == "bob@gateway"
    assert "more than 3 messages wait for bob" in letter["reason"]
    assert not letter["root_given_up"]
    bob.hears_nothing_before(ann, "cave", "end")


def test_a_dead_letter_that_is_put_back_reaches_its_client_alone(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(wait_count=1)
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    cat = gateway.peer("cat", "cave")
    bob.close()
    gateway.left("bob")
    for number in range(2):
        ann.say("cave", number)
    assert cat.data(2) == [0, 1]
    until(gateway.letters)
    letters = DeadLetters(gateway.client, gateway.names)
    (letter,) = letters.newest_first("", "bob@gateway")
    assert letters.requeue(letter)
    until(lambda: len(gateway.letters()) == 1)  # of which one more has to go now
    bob = gateway.peer("bob", "cave")
    assert bob.data() == [0]
    cat.hears_nothing_before(ann, "cave", "end")
    assert bob.data() == ["end"]


def test_who_stays_away_for_long_is_forgotten(make_gateway: MakeGateway) -> None:
    """What waited becomes dead letters, its groups go, and it begins anew when it comes back."""
    gateway = make_gateway(wait_s=1)
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    bob.close()
    gateway.left("bob")
    ann.say("cave", "too late")
    until(lambda: gateway.seat("bob@gateway") is None)
    assert [letter["group"] for letter in gateway.letters()] == ["bob@gateway"]
    groups = gateway.client.xinfo_groups(gateway.names.stream("cave", "DATA/CUSTOM"))
    assert [group["name"] for group in groups] == [b"ann@gateway"]
    bob = gateway.peer("bob", "cave")
    bob.hears_nothing_before(ann, "cave", "anew")


def test_a_name_that_overflows_again_and_again_is_given_up(make_gateway: MakeGateway) -> None:
    """So that somebody who only listened cannot fill the server with dead letters."""
    gateway = make_gateway(wait_count=5)
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    bob.close()
    gateway.left("bob")

    def talk() -> bool:
        ann.say("cave", "word")
        ann.here()
        return gateway.seat("bob@gateway") is None

    until(talk)
    count = len(gateway.letters())
    assert count >= 10
    for _ in range(20):
        ann.say("cave", "word")
    ann.here()
    assert len(gateway.letters()) == count


def test_a_root_of_a_contract_ends_with_the_client_that_stands_in(
    make_gateway: MakeGateway,
) -> None:
    """A batch that waits for a missing control model is given up with its root."""
    gateway = make_gateway(system="trebuchet", wait_s=1)
    trainer = gateway.peer("orig", "input")
    control = gateway.peer("controlmodel", "input")
    control.close()
    gateway.left("controlmodel")
    trainer.send({"TYPE": "DATA/FORWARD", "TO_ROOM": "input", "ROOT_ID": "r", "DATA": [[1.0, 2.0]]})
    until(lambda: len(gateway.letters()) == 1)
    assert gateway.letters()[0]["root_given_up"]
    assert gateway.stream("@trainer", "LOG/ERROR")[0]["ROOT_ID"] == "r"


def test_who_stands_in_begins_with_what_nobody_has_heard(make_gateway: MakeGateway) -> None:
    """The trainer has spoken before the client comes that takes the place of the control model.

    When the client was away for too long, it begins with what came after that, and with nothing
    that it had heard before.
    """
    gateway = make_gateway(system="trebuchet", wait_s=1)
    runs.forget(gateway.client, TREBUCHET, gateway.names, "controlmodel")
    with Client(TREBUCHET, gateway.names.run, gateway.url) as trainer:
        for number in (1, 2):
            batch = np.array([[number, 50]], "<f4")
            message = Message.open("input", batch)
            trainer.send(message)
            control = gateway.peer("aim", "input")
            assert control.data() == [batch.tolist()]
            answer = {"TYPE": "DATA/FORWARD", "TO_ROOM": "model", "ROOT_ID": message.root_id}
            control.send({**answer, "DATA": [[1, 2, 3]]})
            control.here()
            control.close()
            until(lambda: gateway.seat("aim@gateway") is None)
    assert not gateway.letters()


def test_clients_that_stand_in_may_start_in_any_order(make_gateway: MakeGateway) -> None:
    """The trainer sends its first batch before the control model is there, which gets it.

    Who comes later gets what is open then, and nothing that was answered.
    """
    gateway = make_gateway(system="trebuchet")
    for component in ("trainer", "controlmodel"):
        runs.forget(gateway.client, TREBUCHET, gateway.names, component)
    trainer = gateway.peer("teach", "input")
    control: Peer | None = None
    for number in range(3):
        body = {"TYPE": "DATA/FORWARD", "TO_ROOM": "input", "ROOT_ID": f"r{number}"}
        trainer.send({**body, "DATA": [[number, 50]]})
        trainer.here()
        control = control or gateway.peer("aim", "input")
        assert control.data() == [[[number, 50]]]
        control.send({"TYPE": "DATA/FORWARD", "TO_ROOM": "model", "ROOT_ID": f"r{number}"} | THREE)
        control.here()
    late = gateway.peer("look", "input")
    late.hears_nothing_before(trainer, "input", "end")


def test_a_frozen_client_holds_up_nobody(make_gateway: MakeGateway) -> None:
    """It takes nothing while megabytes come for it; what it does not take waits in Redis."""
    gateway = make_gateway()
    ann, bob, ice = (gateway.peer(name, "cave") for name in ("ann", "bob", "ice"))
    text = "x" * 500_000
    for _ in range(30):
        ann.say("cave", text)
        assert bob.data() == [text]
    assert busy([ann, bob], "cave") < 5
    assert gateway.waiting("ice", "cave") > 10
    assert ice.data(30) == [text] * 30  # it thaws


def test_a_client_that_stays_frozen_is_disconnected(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(frozen_s=0.5)
    ann = gateway.peer("ann", "cave")
    gateway.peer("ice", "cave")
    text = "x" * 500_000
    for _ in range(30):
        ann.say("cave", text)
    gateway.left("ice")
    until(lambda: gateway.logged("it has taken nothing for 0.5 s"))
    ice = gateway.peer("ice", "cave")
    assert ice.data(30) == [text] * 30  # all of it was kept, and sent again


def test_new_work_is_held_back_while_a_client_is_far_behind(make_gateway: MakeGateway) -> None:
    """Only who opens roots waits, only in that room, and a reply never does."""
    gateway = make_gateway()
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "hall")
    ice = gateway.peer("ice", "cave")
    ann.socket.settimeout(5.0)
    sent = 0
    try:
        while sent < 20_000:
            ann.say("cave", "x" * 20_000)
            sent += 1
    except TimeoutError:
        pass
    assert 1000 < sent < 20_000
    until(lambda: gateway.logged("new work is held back"))
    assert 1000 <= gateway.waiting("ice", "cave") < 2500
    busy([bob, gateway.peer("cat", "hall")], "hall")
    took = ice.receive()
    ice.say("cave", "a reply", ROOT_ID=took["ROOT_ID"])  # while ann still waits
    until(lambda: gateway.stream("cave")[-1]["DATA"] == "a reply" or _read(ice))


def _read(peer: Peer) -> bool:
    peer.receive()
    return False


def test_a_room_that_is_not_joined_again_keeps_waiting(gateway: GatewayProcess, room: str) -> None:
    """A client that comes back with one room less gets the messages of the others; then joins."""
    ann = gateway.peer(f"ann-{room}", room, f"b-{room}")
    bob = gateway.peer(f"bob-{room}", room, f"b-{room}")
    bob.close()
    gateway.left(f"bob-{room}")
    ann.say(room, "a")
    ann.say(f"b-{room}", "b")
    ann.here()
    bob = gateway.peer(f"bob-{room}", f"b-{room}")
    assert bob.data() == ["b"]
    bob.hears_nothing_before(ann, f"b-{room}", "c")
    bob.join(room)
    assert bob.data() == ["a"]


def test_history_is_trimmed_but_not_what_waits(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(history_entries=10, resend=False)
    ann, bob = gateway.peer("ann", "cave"), gateway.peer("bob", "cave")
    busy([ann, bob], "cave", 25)
    key = gateway.names.stream("cave", "DATA/CUSTOM")
    until(lambda: gateway.client.xlen(key) == 10)
    bob.close()
    gateway.left("bob")
    for number in range(40):
        ann.say("cave", number)
    ann.here()
    busy([ann, gateway.peer("cat", "cave")], "cave", 25)
    until(lambda: 90 <= gateway.client.xlen(key) <= 91)  # and not the ten before
    bob = gateway.peer("bob", "cave")
    assert bob.data(40) == list(range(40))
