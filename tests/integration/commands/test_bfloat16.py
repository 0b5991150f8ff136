"""A system whose numbers are bfloat16, as commands and clients of the gateway see it."""

from __future__ import annotations

import contextlib
import json

from roomgrad import Array, Component, Context, Message, RuntimeSettings, Stream, System, on
from roomgrad.codec import INLINE_VALUES
from roomgrad.dtypes import from_name
from tests.integration.commands.command_line import found, refused, shown
from tests.integration.conftest import EchoRun
from tests.integration.echo import FORWARD, INPUT, OUTPUT
from tests.integration.gateway.gateway_process import GatewayProcess
from tests.waiting import until

HALVES = {"DATA": Array("bfloat16", ("n",))}
REQUESTS, REPLIES = Stream(INPUT, FORWARD, HALVES, ("echo",)), Stream(OUTPUT, FORWARD, HALVES)
SYSTEM = System("halves", (REQUESTS, REPLIES), ("echo",))
LARGE = INLINE_VALUES + 1


@on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])
def double(message: Message, context: Context) -> Message:
    """Reply with twice the input, and remember it."""
    context.memory.put(message.root_id, received=message.array)
    return message.reply(OUTPUT, message.array * from_name("bfloat16").type(2))


COMPONENT = Component("echo", SYSTEM, RuntimeSettings, [double])


def test_commands_send_and_show_bfloat16(echo: EchoRun) -> None:
    """0.1 is what bfloat16 makes of it; arrays are shown by this name, or as lists."""
    echo.start(COMPONENT)
    rounded = 0.10009765625
    answer = found(echo, "request", "input", "[0.1, 3]", "--answer", "output")
    assert answer["DATA"] == [2 * rounded, 6]
    many = json.dumps([0.1] * LARGE)
    answer = found(echo, "request", "input", many, "--answer", "output")
    shape = {"dtype": "bfloat16", "shape": [LARGE]}
    assert answer["DATA"] == {**shape, "first": [2 * rounded] * 6}
    shown(echo, "pub", "input", many)
    until(lambda: echo.client.xlen(echo.names.stream("output", FORWARD)) == 1)
    shown_ = shown(echo, "echo", "output", "--last", "1", "--count", "1", "--json", "--full")
    assert json.loads(shown_)["DATA"] == [2 * rounded] * LARGE
    assert f"DATA  bfloat16 ({LARGE},): 0.2" in shown(
        echo, "echo", "output", "--last", "1", "--count", "1"
    )
    assert "bfloat16 (n,)" in shown(echo, "info", "input")
    shown(echo, "pub", "input", many, "--status", "train", "--root", "mine")
    remembered = shown(echo, "memory", "echo", "mine")
    assert f"bfloat16 ({LARGE},)" in remembered
    assert "expected finite numbers" in refused(echo, "pub", "input", "[3.4e38]", code=1)


def test_a_client_of_the_gateway_gets_numbers(echo: EchoRun) -> None:
    """It knows no dtypes: what it sends is rounded to that of the contract."""
    echo.start(COMPONENT)
    with contextlib.ExitStack() as stack:
        gateway = GatewayProcess(echo.url, echo.client, echo.names, stack).open()
        ann = gateway.peer("ann", "output")
        for count in (2, LARGE):
            ann.say("input", [0.1] * count, TYPE="DATA/FORWARD")
            assert ann.receive()["DATA"] == [0.2001953125] * count
