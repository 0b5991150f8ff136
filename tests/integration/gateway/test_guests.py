"""A guest trains through clients of swergio: their replies belong to the guest's root."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from roomgrad.messages import Message
from roomgrad.redis.client import Client
from roomgrad.redis.guest_client import GuestClient
from roomgrad.rooms import ModelStatus
from roomgrad_trebuchet.contract import FORWARD, GRADIENT, MODEL, OUTPUT, TREBUCHET
from tests.integration.conftest import OwnServer
from tests.integration.gateway.conftest import MakeGateway, gateways
from tests.integration.gateway.gateway_process import GatewayProcess, Peer
from tests.waiting import LIMIT_S, until

LOGITS = np.array([[2, 0, 1], [1, 0, 0]], "<f4")


@pytest.fixture
def make_gateway(own_server: OwnServer) -> Iterator[MakeGateway]:
    yield from gateways(own_server.url)


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> GatewayProcess:
    return make_gateway(system="trebuchet")


@pytest.fixture
def guest(gateway: GatewayProcess) -> Iterator[GuestClient]:
    with (
        Client(TREBUCHET, gateway.names.run, gateway.url) as client,
        GuestClient(client, "ada", lease_s=LIMIT_S) as made,
    ):
        yield made


def received(peer: Peer, type_: str) -> dict[str, Any]:
    while (body := peer.receive())["TYPE"] != type_:
        pass
    return body


def asked_client(gateway: GatewayProcess, guest: GuestClient, root: Message) -> Peer:
    """Open a root; return the client that was asked."""
    simulator = gateway.peer("simulator", "model")
    guest.open(root, OUTPUT)
    received(simulator, FORWARD)
    return simulator


def test_answers_and_gradients_of_clients_come_to_the_guest(
    gateway: GatewayProcess, guest: GuestClient
) -> None:
    simulator = gateway.peer("simulator", "model", "output")
    listener = gateway.peer("listener", "output")
    guest.open(root := Message.open(MODEL, LOGITS), OUTPUT)
    asked = received(simulator, FORWARD)
    assert "GUEST" not in asked
    simulator.say("output", [3, 2], ROOT_ID=root.root_id, TYPE=FORWARD, ID="answer")
    answer = guest.wait(root.root_id, timeout_s=LIMIT_S)
    assert answer.array.tolist() == [3, 2]
    guest.send(answer.reply(OUTPUT, np.ones(2, "<f4"), type=GRADIENT, id=answer.id))
    assert received(simulator, GRADIENT)["ID"] == "answer"
    home = (2 * LOGITS).tolist()
    simulator.say("model", home, ROOT_ID=root.root_id, TYPE=GRADIENT, ID=asked["ID"])
    assert guest.wait(root.root_id, GRADIENT, timeout_s=LIMIT_S).array.tolist() == home
    assert received(listener, GRADIENT)["ROOT_ID"] == root.root_id  # the guest sent it there
    assert not gateway.stream("output", FORWARD)
    assert not gateway.stream("model", GRADIENT)


def test_an_answer_to_a_guest_that_is_gone_ends_its_root(
    gateway: GatewayProcess, guest: GuestClient
) -> None:
    simulator = asked_client(gateway, guest, root := Message.open(MODEL, LOGITS))
    gateway.client.delete(gateway.names.guest("ada"))  # its lease is over
    simulator.say("output", [3, 2], ROOT_ID=root.root_id, TYPE=FORWARD)
    inbox = gateway.names.inbox("controlmodel")
    until(lambda: [each["ROOT_ID"] for each in gateway.stream(inbox, "LOG/ERROR")])
    assert gateway.stream(inbox, "LOG/ERROR")[0]["ROOT_ID"] == root.root_id
    assert not gateway.stream("output", FORWARD)
    assert not gateway.client.exists(gateway.names.guest("ada"))


def test_an_answer_to_a_root_that_was_given_up_ends_it_again(
    gateway: GatewayProcess, guest: GuestClient
) -> None:
    """A component may remember the root although it had the notice before, so it gets another."""
    simulator = asked_client(gateway, guest, root := Message.open(MODEL, LOGITS))
    guest.give_up([root.root_id])
    inbox = gateway.names.inbox("controlmodel")
    assert len(gateway.stream(inbox, "LOG/ERROR")) == 1
    simulator.say("output", [3, 2], ROOT_ID=root.root_id, TYPE=FORWARD)
    until(lambda: len(gateway.stream(inbox, "LOG/ERROR")) == 2)
    assert {each["ROOT_ID"] for each in gateway.stream(inbox, "LOG/ERROR")} == {root.root_id}
    assert gateway.client.xlen(gateway.names.guest("ada")) == 1  # that it has joined


def test_an_answer_without_a_status_has_that_of_its_root(
    gateway: GatewayProcess, guest: GuestClient
) -> None:
    root = Message.open(MODEL, LOGITS, status=ModelStatus.VALIDATE)
    simulator = asked_client(gateway, guest, root)
    simulator.say("output", [3, 2], ROOT_ID=root.root_id, TYPE=FORWARD)
    answer = guest.wait(root.root_id, timeout_s=LIMIT_S)
    assert answer.status is ModelStatus.VALIDATE
    assert answer.array.tolist() == [3, 2]
