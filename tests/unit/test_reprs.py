"""What `print` shows of the types that authors see: short, whatever is in them."""

from __future__ import annotations

import numpy as np
import pytest

from roomgrad import Message, MessageType, ModelStatus
from roomgrad.models import ModelState
from roomgrad.settings import RuntimeSettings
from roomgrad.testing import call
from roomgrad_trebuchet.contract import INPUT
from roomgrad_trebuchet.controlmodel.handlers import component

BATCH = np.ones((10_000, 2), "<f4")


def test_a_message_shows_dtype_and_shape_of_its_arrays() -> None:
    """And leaves out what has its default."""
    message = Message("cave", MessageType.FORWARD, "a", "b", BATCH, fields={"GENOMES": [BATCH] * 9})
    shown = "<float32 (10000, 2)>"
    listed = ", ".join([shown] * 4)
    assert repr(message) == (
        "Message(room='cave', type='DATA/FORWARD', id='a', root_id='b', "
        f"data={shown}, fields={{'GENOMES': [{listed}, ...]}})"
    ).replace("type='DATA/FORWARD'", f"type={MessageType.FORWARD!r}")
    assert "VALIDATE" in repr(Message("cave", "", "a", "b", status=ModelStatus.VALIDATE))


def test_a_call_shows_its_replies_and_no_weights() -> None:
    """Nor batches of its memory."""
    called = call(component, Message.open(INPUT, BATCH))
    assert len(repr(called)) < 600
    assert "data=<float32 (10000, 3)>" in repr(called)
    assert "content=<9936 bytes>" in repr(called)


@pytest.mark.parametrize("value", [component, ModelState("1-a", 1, b"x" * 10**6)])
def test_other_types_are_short(value: object) -> None:
    """A component without its contract, a model without its bytes."""
    assert len(repr(value)) < 600


def test_settings_do_not_show_the_address_of_the_server() -> None:
    """It may hold a password."""
    settings = RuntimeSettings(redis_url="redis://:Qj9Zx@one")
    assert "Qj9Zx" not in repr(settings)
    assert "run=''" in repr(settings)
