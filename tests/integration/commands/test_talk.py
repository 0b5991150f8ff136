"""The commands that listen and speak in rooms, with real servers."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from bisect import bisect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roomgrad import Context, Message
from roomgrad.redis.client import Client
from tests.integration.commands.command_line import (
    COMMAND,
    call,
    environ,
    found,
    refused,
    shown,
    start,
)
from tests.integration.conftest import EchoRun
from tests.integration.echo import ECHO, INPUT, REQUESTS, echo_component, listener, numbers
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def hear(message: Message, context: Context) -> None:
    context.counters.add("received")


def listens(echo: EchoRun, room: str = "input") -> None:
    """Until a command waits in a blocking read of a stream of a room."""
    until(lambda: any(each["cmd"] == "xread" for each in echo.client.client_list()))


def lines(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_echo_shows_what_comes_and_nothing_else(echo: EchoRun) -> None:
    """From now on; arrays by dtype, shape and first values."""
    echo.start(echo_component())
    echo.send(-1)
    process = start(echo, "echo", "input", "--json")
    listens(echo)
    message = echo.send(*range(100))
    (seen,) = lines(process, 1)
    assert (seen["ID"], seen["entry"], seen["type"]) == (message.id, message.entry, REQUESTS.type)
    assert seen["DATA"] == {"dtype": "<f4", "shape": [100], "first": [0, 1, 2, 3, 4, 5]}
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, "Ctrl+C is how it is meant to end"


def test_echo_begins_with_the_last_messages(echo: EchoRun) -> None:
    echo.start(echo_component())
    said = [echo.send(number) for number in range(5)]
    ended = shown(echo, "echo", "input", "--last", "2", "--count", "2", "--json", "--full")
    seen = [json.loads(line) for line in ended.splitlines()]
    assert [each["ID"] for each in seen] == [message.id for message in said[-2:]]
    assert [each["DATA"] for each in seen] == [[3.0], [4.0]]
    text = shown(echo, "echo", "input", "--last", "1", "--count", "1")
    assert text.splitlines()[0].split()[:3] == [said[-1].entry, "input", "DATA/FORWARD"]
    assert "DATA  [4.0]" in text


def test_echo_misses_none_of_a_flood(echo: EchoRun) -> None:
    """And ends quietly when nobody reads any more."""
    echo.start(echo_component())
    process = start(echo, "echo", "input", "--json")
    listens(echo)
    with Client(ECHO, echo.names.run, echo.url) as client:
        sent = [Message.open(INPUT, numbers(number)) for number in range(2000)]
        talker = threading.Thread(target=lambda: [client.send(each) for each in sent])
        talker.start()
        assert [each["ID"] for each in lines(process, 2000)] == [each.id for each in sent]
        talker.join()
    command = " ".join([*COMMAND, "echo", "input", "--last", "500", "--json", "| head -1"])
    piped = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=environ(echo),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (piped.returncode, piped.stderr, piped.stdout.count("\n")) == (0, "", 1)


def test_what_cannot_be_read_is_shown_as_it_is(echo: EchoRun) -> None:
    echo.start(echo_component())
    echo.add({"m": "no \x1b[2J JSON", "x": b"\xff"})
    text = shown(echo, "echo", "input", "--last", "1", "--count", "1")
    assert "unreadable  not JSON" in text
    assert "\x1b" not in text
    seen = found(echo, "echo", "input", "--last", "1", "--count", "1")
    assert seen["unreadable"].startswith("not JSON")


def test_echo_outlives_its_server(own_echo: EchoRun, own_server: Any) -> None:
    """It says once that the server is away, and goes on where it was."""
    echo = own_echo
    echo.start(echo_component())
    process = start(echo, "echo", "input", "--json")
    listens(echo)
    first = echo.send(1)
    assert lines(process, 1)[0]["ID"] == first.id
    own_server.kill()
    assert process.stderr is not None
    assert "is away" in process.stderr.readline()
    own_server.restart()
    assert "is back" in process.stderr.readline()
    until(lambda: echo.client.ping())
    message = echo.send(2)
    seen = lines(process, 1)
    while seen[0]["ID"] != message.id:  # what the server had not saved is done again
        seen = lines(process, 1)


def test_measures_count_what_comes(echo: EchoRun) -> None:
    """Rate, bytes, and how long messages waited and were handled."""
    echo.start(echo_component())
    echo.start(listener(hear))
    stop, sent = threading.Event(), []

    def talk() -> None:
        while not stop.is_set():
            echo.send(*range(1000))
            sent.append(time.monotonic())
            stop.wait(0.02)

    def counted(messages: int, seconds: float) -> bool:
        """Compare with what was sent in so many seconds, as fast as this machine was then."""
        begins = range(bisect(sent, sent[-1] - seconds))
        counts = [bisect(sent, sent[begin] + seconds) - begin for begin in begins]
        return min(counts) / 2 <= messages <= max(counts) * 2

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        rate = found(echo, "hz", "input", "--count", "1")
        bytes_ = found(echo, "bw", "input", "--count", "1")
        delay = found(echo, "delay", "input", "--count", "1")
        texts = [shown(echo, each, "input", "--count", "1") for each in ("hz", "bw", "delay")]
    finally:
        stop.set()
        talker.join()
    assert rate["rate"] == pytest.approx(rate["messages"] / rate["seconds"], rel=0.01)
    assert all(counted(each["messages"], each["seconds"]) for each in (rate, bytes_, delay))
    assert rate["min"] >= 15 <= rate["mean"]
    assert 4000 < bytes_["min"] <= bytes_["max"] < 5000
    assert bytes_["rate"] == pytest.approx(
        bytes_["messages"] * bytes_["mean"] / bytes_["seconds"], rel=0.01
    )
    assert 0 <= delay["min"] <= delay["mean"] <= delay["max"] < 1000
    assert delay["handler"] > 0
    assert "messages/s   every" in texts[0]
    assert "messages of 4." in texts[1]
    assert "waited" in texts[2]


def test_nothing_comes_and_that_is_said(echo: EchoRun) -> None:
    echo.start(echo_component())
    assert found(echo, "hz", "output", "--count", "1", "--every", "0.1")["rate"] == 0
    for measure in ("hz", "bw", "delay"):
        assert shown(echo, measure, "output", "--count", "1", "--every", "0.1").startswith("  ")


def test_pub_puts_a_message_into_its_room(echo: EchoRun, tmp_path: Path) -> None:
    """From the command line, standard input, or a file."""
    echo.start(echo_component())
    sent = found(echo, "pub", "input", "[1, 2.5]")
    (heard,) = echo.client.xrange(echo.names.stream(*REQUESTS.key))
    assert heard[0].decode() == sent["entry"]
    body = json.loads(heard[1][b"m"])
    assert (body["MODEL_STATUS"], body["DATA"], body["SENT_BY"]) == (2, [1.0, 2.5], "roomgrad")
    fields, more = '{"DATA": [3], "HOW": 4}', ("--status", "train", "--root", "mine", "--seed", "6")
    again = found(echo, "pub", "input", "-", *more, typed=fields)
    assert again["ROOT_ID"] == "mine"
    (_, heard_again), *_ = echo.client.xrevrange(echo.names.stream(*REQUESTS.key), count=1)
    assert heard_again[b"SEED"] == b"6"
    file = tmp_path / "numbers.npy"
    np.save(file, np.arange(50, dtype="<f4"))
    shown(echo, "pub", "input", "--file", str(file))
    assert "3 messages were sent" in shown(echo, "pub", "input", "[1]", "--times", "3")
    until(lambda: echo.reply_count() == 6)


def test_what_does_not_fit_is_refused_before_it_is_sent(echo: EchoRun, tmp_path: Path) -> None:
    echo.start(echo_component())
    assert "expected shape (n,), got (1, 1)" in refused(echo, "pub", "input", "[[1]]", code=1)
    assert "unknown field 'X'" in refused(echo, "pub", "input", '{"DATA":[1],"X":2}', code=1)
    assert "field DATA of shape (n,) is missing" in refused(echo, "pub", "input", code=1)
    assert "no JSON" in refused(echo, "pub", "input", "[1")
    assert "belongs to the envelope" in refused(echo, "pub", "input", '{"ID":"x","DATA":[1]}')
    assert "did you mean input?" in refused(echo, "pub", "inpt", "[1]")
    assert "did you mean DATA/GRADIENT?" in refused(
        echo, "pub", "input", "[1]", "--type", "DATA/GRADIENTS"
    )
    assert "either as JSON or by --file" in refused(echo, "pub", "input", "[1]", "--file", "x.npy")
    assert "cannot be read" in refused(echo, "pub", "input", "--file", str(tmp_path / "none.npy"))
    (tmp_path / "bad.npy").write_bytes(b"\x80\x04.")
    assert "no array" in refused(echo, "pub", "input", "--file", str(tmp_path / "bad.npy"))
    assert echo.client.xlen(echo.names.stream(*REQUESTS.key)) == 0


def test_request_shows_the_answer_of_its_root(echo: EchoRun) -> None:
    """In the room to which the components hand it on."""
    echo.start(echo_component())
    echo.send(100)
    answer = found(echo, "request", "input", "[1, 2]", "--answer", "output")
    assert (answer["DATA"], answer["SENT_BY"]) == ([2.0, 4.0], "echo")
    assert 0 < answer["seconds"] < 10
    assert "answered after" in shown(echo, "request", "input", "[1]", "--answer", "output")
    assert "output" in refused(echo, "request", "input", "[1]", "--answer", "parch")
    assert "in which room" in refused(echo, "request", "output", "[1]")


def test_who_does_not_answer_is_named(echo: EchoRun) -> None:
    echo.stop(echo.start(echo_component()))
    words = ("request", "input", "[1]", "--answer", "output", "--timeout", "0.2")
    assert "no answer in room output" in refused(echo, *words, code=1)


def test_what_was_recorded_is_played_again(echo: EchoRun, tmp_path: Path) -> None:
    """As new messages, which belong together as before, in their pace or at once."""
    echo.start(echo_component())
    seeds = (None, 1, 2)
    said = [echo.send(*range(n, n + 40), HOW=n, seed=seed) for n, seed in enumerate(seeds)]
    until(lambda: echo.reply_count() == 3)
    file = tmp_path / "recorded.jsonl"
    file.write_text(shown(echo, "echo", "input", "--last", "3", "--count", "3", "--json", "--full"))
    assert "3 messages were sent again" in shown(echo, "replay", str(file), "--speed", "0")
    until(lambda: echo.reply_count() == 6)
    entries = echo.client.xrange(echo.names.stream(*REQUESTS.key))[3:]
    bodies = [json.loads(pairs[b"m"]) for _, pairs in entries]
    assert [body["HOW"] for body in bodies] == [0, 1, 2]
    assert [pairs[b"DATA"] for _, pairs in entries] == [each.array.tobytes() for each in said]
    assert not {body["ID"] for body in bodies} & {each.id for each in said}
    assert len({body["ROOT_ID"] for body in bodies}) == 3
    assert {body["MODEL_STATUS"] for body in bodies} == {2}
    assert [pairs.get(b"SEED") for _, pairs in entries] == [None, b"1", b"2"]


def test_what_was_not_recorded_whole_is_refused_by_its_line(echo: EchoRun, tmp_path: Path) -> None:
    echo.start(echo_component())
    echo.send(*range(40))
    file = tmp_path / "recorded.jsonl"
    file.write_text(shown(echo, "echo", "input", "--last", "1", "--count", "1", "--json"))
    assert "line 1: DATA" in refused(echo, "replay", str(file))
    file.write_text("no JSON\n")
    assert "line 1: expected a message" in refused(echo, "replay", str(file))
    assert "cannot be read" in refused(echo, "replay", str(tmp_path / "none"))


def test_who_has_said_nothing_cannot_be_spoken_to(echo: EchoRun) -> None:
    """A run of whose rooms nobody knows what they carry."""
    echo.client.hset(echo.names.run_info(), "settings:stranger", "{}")
    assert "contract of run" in call(echo, "pub", "input", "[1]").stderr
