"""What commands print where names are hostile, and where it cannot be written."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.integration.commands.command_line import COMMAND, call, environ, shown
from tests.integration.conftest import EchoRun
from tests.integration.dead.dead_letters import make_dead_letter
from tests.integration.echo import echo_component

pytestmark = pytest.mark.timeout(120)

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\n[bold]fake[/]"
LETTER = "99999999999999-0"
SIGNS = ("\x1b", "\x9b", "\u202e", "\nfake", "\n[bold]")


@pytest.fixture
def evil(echo: EchoRun) -> EchoRun:
    """A run in which another program wrote hostile texts wherever a text may be."""
    echo.start(echo_component())
    body = {"ID": EVIL, "ROOT_ID": EVIL, "TYPE": EVIL, "SENT_BY": EVIL, EVIL: EVIL}
    echo.add({"ID": EVIL, "ROOT_ID": EVIL, EVIL: EVIL, "m": json.dumps(body)})
    echo.client.hset(echo.names.memory("echo"), EVIL, json.dumps({"ROOT_ID": EVIL, EVIL: EVIL}))
    beat = {"component": "echo", "host": EVIL, "pid": 1, "started": 0, "turn": 0, "version": EVIL}
    echo.client.set(echo.names.alive(f"echo~{EVIL}~1~abc"), json.dumps(beat))
    history = {"reason": EVIL, "group": EVIL, "stream": EVIL, "by": EVIL, EVIL: EVIL}
    echo.client.xadd(
        echo.names.dead(), {"history": json.dumps(history), "ID": EVIL, EVIL: EVIL}, id=LETTER
    )
    return echo


COMMANDS = [
    *("ps", "rooms", "info input", "lag", "memory echo", "top --once", "doctor", "asyncapi"),
    *("dead list", f"dead show {LETTER}", f"dead requeue {LETTER}", "trace ROOT"),
    *("memory echo ROOT", "echo input --last 5 --count 1", "echo input --last 5 --count 1 --full"),
    *("ps --run ROOT", "info ROOT", "memory ROOT", "dead show ROOT", "dead list --reason ROOT"),
    *("ps --json", "dead list --json", "trace ROOT --json", "memory echo --json"),
]


def test_no_text_of_others_controls_the_terminal(evil: EchoRun) -> None:
    """Neither of messages, memory and heartbeats, nor in errors about what was typed."""
    for command in COMMANDS:
        ended = call(evil, *[EVIL if word == "ROOT" else word for word in command.split()])
        printed = ended.stdout + ended.stderr
        assert printed, command
        assert "Traceback" not in printed, (command, printed)
        assert not [sign for sign in SIGNS if sign in printed], (command, printed)


def test_a_dead_letter_says_when_it_was_given_up(echo: EchoRun) -> None:
    """The history has seconds since 1970."""
    _, letter = make_dead_letter(echo)
    text = shown(echo, "dead", "show", letter)
    [at] = [line for line in text.splitlines() if line.startswith("at ")]
    [given_up] = [line for line in text.splitlines() if line.startswith("given up")]
    assert at.split()[1] == given_up.split()[2]  # the day
    assert letter in text


FULL = "standard output cannot be written (No space left on device)"


@pytest.mark.parametrize(
    "words", ["ps", "ps --json", "rooms", "asyncapi", "acl trebuchet", "dead list", "--help"]
)
def test_an_output_that_is_full_is_one_sentence(echo: EchoRun, words: str) -> None:
    echo.start(echo_component())
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*COMMAND, *words.split()],
            env=environ(echo),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 1, ended.stderr
    assert FULL in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [("echo input --last 500 --full", 0), ("hz input --every 0.1", 0), ("acl trebuchet", 1)],
)
def test_a_reader_that_leaves_ends_a_command_without_a_word(
    echo: EchoRun, words: str, code: int
) -> None:
    """What has no end has ended then; what has one did not print all of it."""
    echo.start(echo_component())
    for number in range(50):
        echo.add({"m": json.dumps({"TEXT": f"{number}" * 1000})})
    with subprocess.Popen(
        [*COMMAND, *words.split()],
        env={**environ(echo), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (code, "")


def test_without_an_output_it_works(echo: EchoRun) -> None:
    echo.start(echo_component())
    ended = subprocess.run(
        ["bash", "-c", f"{' '.join(COMMAND)} ps >&-"], env=environ(echo), capture_output=True
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
