"""`roomgrad dead`: letters are read whatever is in them, and deleted when somebody says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, EchoRun
from tests.integration.dead.dead_letters import listed, make_dead_letter, newest, roomgrad
from tests.integration.echo import echo_component
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def test_an_empty_list_is_said_plainly(echo: EchoRun) -> None:
    """In a run that is there."""
    echo.start(echo_component())
    ended = roomgrad(echo, "list")
    assert ended.returncode == 0
    assert ended.stdout.strip() == f"Run {echo.names.run} has no dead letters."


def test_letters_are_listed_with_the_newest_last(echo: EchoRun) -> None:
    """Who gave up what, when, after how many tries and why, and how many there are in all."""
    entries = [make_dead_letter(echo, value)[1] for value in (1, 2, 3)]
    ended = roomgrad(echo, "list", "--limit", "2")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == entries[1:]
    for word in ("echo", "input DATA/FORWARD", "1", "RuntimeError: no such word"):
        assert word in lines[1]
    assert "3 dead letters; these are the newest 2." in lines[3]
    assert f"--run {echo.names.run}" in lines[3]


def test_letters_are_found_by_component_and_reason(echo: EchoRun) -> None:
    """And as one JSON object for programs."""
    _, entry = make_dead_letter(echo, 1)
    echo.add({"m": "no json"})
    echo.start(echo_component())
    until(lambda: len(echo.dead_letters()) == 2)
    found = listed(echo, "--reason", "SUCH WORD", "--component", "echo")
    assert (found["total"], [each["entry"] for each in found["letters"]]) == (2, [entry])
    assert found["letters"][0]["root_given_up"] is True
    assert listed(echo, "--component", "listener")["letters"] == []
    assert "None of the 2 dead letters" in roomgrad(echo, "list", "--reason", "x-y").stdout


def test_a_letter_is_shown_whole(echo: EchoRun) -> None:
    """History, fields, arrays by dtype, shape and first values, and what to do."""
    message, entry = make_dead_letter(echo, *range(20))
    shown = roomgrad(echo, "show", entry).stdout
    for text in (
        message.root_id,
        message.entry,
        "<f4 (20,): 0.0 1.0 2.0 3.0 4.0 5.0 …",
        f"roomgrad dead requeue {entry} --run {echo.names.run}",
        f"roomgrad dead drop {entry} --run {echo.names.run}",
        "Its root was given up",
    ):
        assert text in shown


HISTORY = {"reason": "because", "stream": "?", "group": "echo", "deliveries": 1}

BAD: list[dict[Any, Any]] = [
    {"hello": "world"},
    {"history": "no json", "m": "{"},
    {"history": "[1]", "m": "[2]"},
    {"history": json.dumps({"reason": {"a": [1]}, "stream": 7, "group": None, "deliveries": "x"})},
    {"history": json.dumps(HISTORY), b"\xff\x00\x1b[31m": b"\xfe\n\x1b]0;title\x07"},
    {"history": json.dumps(HISTORY), "m": "[" * 5000},
    {"history": json.dumps(HISTORY), "m": '{"a":' + "[" * 900 + "]" * 900 + "}"},
    {"history": json.dumps(HISTORY), "m": '{"DATA":{"$array":{"field":[],"dtype":5}},"x":{}}'},
    {
        "history": json.dumps(HISTORY),
        "m": '{"A":{"$array":{"dtype":"<f4","shape":[9]}}}',
        "A": "abc",
    },
    {"history": json.dumps(HISTORY | {"reason": "[red]\x1b[2J" + "ä" * 5000}), "m": "\ud7ff"},
    {"history": json.dumps(HISTORY | {f"field {n}": n for n in range(3000)}), "ID": "x" * 9999},
    {"history": b"\xff" * 30_000_000},
    {"m": b"x" * 20_000_000},
    {f"field {n}": n for n in range(9000)},
]


def test_letters_that_somebody_wrote_by_hand_are_read_and_never_crash(echo: EchoRun) -> None:
    """Without history, binary, deep, or of 20 MB: listed, shown, refused, deleted."""
    entries = [echo.client.xadd(echo.names.dead(), letter).decode() for letter in BAD]
    entries.append(echo.client.xadd(echo.names.dead(), {"a": "b"}, id="9" * 18 + "-1").decode())
    found = listed(echo)
    assert [each["entry"] for each in found["letters"]] == entries
    listing = roomgrad(echo, "list")
    assert listing.returncode == 0, listing.stderr
    for entry in entries:
        shown = roomgrad(echo, "show", entry)
        assert shown.returncode == 0, shown.stderr
        assert "cannot be requeued" in shown.stdout
        assert not {"\x1b", "\x00", "\x07"} & set(shown.stdout + listing.stdout)
        assert len(shown.stdout) < 60_000
    ended = roomgrad(echo, "requeue", "--all")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == len(entries)
    assert echo.client.xlen(echo.names.dead()) == len(entries)
    assert roomgrad(echo, "drop", "--all", "--yes").returncode == 0
    assert not echo.dead_letters()


# drop, and what is typed wrong


def test_letters_are_deleted_after_a_question(echo: EchoRun) -> None:
    """Without a terminal nobody can answer it, so nothing is deleted."""
    entries = [make_dead_letter(echo, value)[1] for value in (1, 2)]
    ended = roomgrad(echo, "drop", entries[0], typed="y\n")
    assert (ended.returncode, len(echo.dead_letters())) == (2, 2)
    assert "add --yes" in ended.stderr
    ended = roomgrad(echo, "drop", entries[0], "--yes")
    assert ended.stdout.strip() == f"1 dead letter of run {echo.names.run} is deleted."
    assert newest(echo) == entries[1]


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1)])
def test_the_question_is_asked_on_a_terminal(echo: EchoRun, answer: str, left: int) -> None:
    """And the answer counts."""
    import pty

    make_dead_letter(echo, 1)
    parent, child = pty.openpty()
    environ = {**os.environ, "REDIS_URL": echo.url, "PYTHONPATH": str(ROOT / "shared")}
    command = [sys.executable, "-m", "roomgrad", "dead", "drop", "--all", "--run", echo.names.run]
    with subprocess.Popen(command, env=environ, stdin=child, stdout=subprocess.PIPE) as process:
        os.write(parent, f"{answer}\n".encode())
        printed = process.communicate()[0].decode()
    os.close(parent)
    os.close(child)
    assert f"Delete 1 dead letter of run {echo.names.run} for good?" in printed
    assert len(echo.dead_letters()) == left
    assert process.returncode == (0 if answer == "y" else 130)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("show 12", 2, ["'12' is no entry ID", "dead list"]),
        ("show 1-0", 1, ["no dead letter 1-0"]),
        ("requeue 1-0", 1, ["no dead letter 1-0"]),
        ("requeue", 2, ["which dead letters?", "--all"]),
        ("requeue 1-0 --all", 2, ["takes one of these"]),
        ("drop 1-0 --yes", 1, ["no dead letter 1-0"]),
        ("drop --reason x --all --yes", 2, ["takes one of these"]),
        ("list --limit 0", 2, ["--limit 0", "whole number from 1"]),
        ("list tribuchet", 2, ["no system 'tribuchet'", "did you mean trebuchet?"]),
        ("list --run RUNx", 2, ["there is no run", "did you mean RUN?"]),
    ],
)
def test_what_is_typed_wrong_is_said_in_one_sentence(
    echo: EchoRun, words: str, code: int, said: list[str]
) -> None:
    """With what there is."""
    echo.start(echo_component())
    run = echo.names.run
    ended = roomgrad(echo, *words.replace("RUN", run).split())
    assert ended.returncode == code, ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert all(word.replace("RUN", run) in ended.stderr for word in said), ended.stderr


def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    """As all commands do."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "shared"), "ROOMGRAD_STATE": str(tmp_path)}
    environ.pop("REDIS_URL", None)
    command = [sys.executable, "-m", "roomgrad", "dead", "list"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "roomgrad up SYSTEM" in ended.stderr


def test_a_user_who_may_not_is_told_so(own_echo: EchoRun) -> None:
    """One sentence, and the letter stays."""
    _, entry = make_dead_letter(own_echo, 1)
    for name, rights in {"reader": ["+@all", "-xdel"], "nobody": ["+ping", "+hello"]}.items():
        own_echo.client.execute_command(
            "ACL", "SETUSER", name, "on", ">secret", "~*", "&*", *rights
        )
    where = own_echo.url
    own_echo.url = where.replace("//", "//reader:secret@")
    ended = roomgrad(own_echo, "requeue", entry)
    assert (ended.returncode, "no permission for XDEL" in ended.stderr) == (1, True), ended.stderr
    own_echo.url = where.replace("//", "//nobody:secret@")
    ended = roomgrad(own_echo, "list")
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "secret" not in ended.stderr
    assert newest(own_echo) == entry
