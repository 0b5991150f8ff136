"""Messages and what they hand on."""

from __future__ import annotations

import numpy as np

from roomgrad import Message, MessageType, ModelStatus, Room

CAVE, HILL = Room("cave"), Room("hill")


def test_a_reply_inherits_root_status_and_seed() -> None:
    """One batch or question keeps its ROOT_ID, MODEL_STATUS and SEED for its whole life."""
    message = Message.open(CAVE, np.zeros(2, "<f4"), status=ModelStatus.VALIDATE, seed=3)
    reply = message.reply(HILL, np.ones(2, "<f4"))
    assert (reply.root_id, reply.status) == (message.root_id, ModelStatus.VALIDATE)
    assert (reply.seed, reply.reply(CAVE).seed) == (3, 3)
    assert (reply.room, reply.type) == ("hill", "DATA/FORWARD")
    assert reply.id != message.id
    assert not reply.learns


def test_a_gradient_carries_the_id_of_its_forward() -> None:
    """The ID says which forward message is answered."""
    message = Message.open(CAVE)
    gradient = message.reply(HILL, type=MessageType.GRADIENT, id=message.id)
    assert (gradient.id, gradient.type) == (message.id, "DATA/GRADIENT")


def test_ids_are_32_hexadecimal_digits_and_never_the_same() -> None:
    """As the original's."""
    messages = [Message.open(CAVE) for _ in range(100)]
    ids = {each for message in messages for each in (message.id, message.root_id)}
    assert len(ids) == 200
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in ids)


def test_fields_of_the_systems_own_stand_beside_the_data() -> None:
    """What is not of the envelope is a field."""
    message = Message.open(CAVE, FRAMES=5)
    assert message.fields == {"FRAMES": 5}
    assert message.reply(HILL, STATUS=[0]).fields == {"STATUS": [0]}
