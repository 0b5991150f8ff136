"""`roomgrad dead`: letters are read whatever is in them, put back once for one, and deleted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from roomgrad import Component, Context, Message, RuntimeSettings, Stream, System, on
from roomgrad.commands.dead.letters import Letters, NotRequeued
from roomgrad.errors import ServerError
from roomgrad.runtime.replica import Replica
from roomgrad.server import connect
from roomgrad.testing import wait_for
from tests.integration.conftest import ROOT, Cage, OwnServer
from tests.integration.parrots import CAGE, FORWARD, HEARD, NUMBERS, PERCH, numbers, parrot, repeat
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def roomgrad(cage: Cage, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """The command, on the server and the run of a test."""
    environ = {**os.environ, "REDIS_URL": cage.url, "RUN": cage.names.run, "COLUMNS": "300"}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "roomgrad", "dead", *words],
        env=environ,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
    )


def bury(cage: Cage, *values: float) -> tuple[Message, str]:
    """A message that the parrot gives up at once, and the entry id of its letter."""
    before = cage.client.xlen(cage.names.dead())
    broken = cage.start(parrot(raising), max_deliveries=1)
    message = cage.say(*values)
    until(lambda: cage.client.xlen(cage.names.dead()) == before + 1)
    leave(cage, broken)
    return message, newest(cage)


def raising(message: Message, context: Context) -> None:
    raise RuntimeError("no such word")


def leave(cage: Cage, *replicas: Replica) -> None:
    """They stop, and have read their last message when this returns."""
    for replica in replicas:
        replica.stop()
        until(lambda replica=replica: not cage.client.exists(cage.names.alive(replica.consumer)))


def newest(cage: Cage) -> str:
    found: list[Any] = cage.client.xrevrange(cage.names.dead(), count=1)
    return str(found[0][0].decode())


def listed(cage: Cage, *words: str) -> dict[str, Any]:
    ended = roomgrad(cage, "list", "--json", *words)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


# list and show


def test_an_empty_list_is_said_plainly(cage: Cage) -> None:
    """In a run that is there."""
    cage.start(parrot())
    ended = roomgrad(cage, "list")
    assert ended.returncode == 0
    assert ended.stdout.strip() == f"Run {cage.names.run} has no dead letters."


def test_letters_are_listed_with_the_newest_last(cage: Cage) -> None:
    """Who gave up what, when, after how many tries and why, and how many there are in all."""
    entries = [bury(cage, value)[1] for value in (1, 2, 3)]
    ended = roomgrad(cage, "list", "--limit", "2")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == entries[1:]
    for word in ("parrot", "cage DATA/FORWARD", "1", "RuntimeError: no such word"):
        assert word in lines[1]
    assert "3 dead letters; shown are the newest 2." in lines[3]
    assert f"--run {cage.names.run}" in lines[3]


def test_letters_are_found_by_component_and_reason(cage: Cage) -> None:
    """And as one JSON object for programs."""
    _, entry = bury(cage, 1)
    cage.inject({"m": "no json"})
    cage.start(parrot())
    until(lambda: len(cage.dead()) == 2)
    found = listed(cage, "--reason", "SUCH WORD", "--component", "parrot")
    assert (found["total"], [each["entry"] for each in found["letters"]]) == (2, [entry])
    assert found["letters"][0]["root_given_up"] is True
    assert listed(cage, "--component", "listener")["letters"] == []
    assert "None of the 2 dead letters" in roomgrad(cage, "list", "--reason", "x-y").stdout


def test_a_letter_is_shown_whole(cage: Cage) -> None:
    """History, fields, arrays by dtype, shape and first values, and what to do."""
    message, entry = bury(cage, *range(20))
    shown = roomgrad(cage, "show", entry).stdout
    for text in (
        message.root_id,
        message.entry,
        "<f4 (20,): 0.0 1.0 2.0 3.0 4.0 5.0 …",
        f"roomgrad dead requeue {entry} --run {cage.names.run}",
        f"roomgrad dead drop {entry} --run {cage.names.run}",
        "Its root was given up",
    ):
        assert text in shown


HISTORY = {"reason": "because", "stream": "?", "group": "parrot", "deliveries": 1}

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


def test_letters_that_somebody_wrote_by_hand_are_read_and_never_crash(cage: Cage) -> None:
    """Without history, binary, deep, or of 20 MB: listed, shown, refused, deleted."""
    entries = [cage.client.xadd(cage.names.dead(), letter).decode() for letter in BAD]
    entries.append(cage.client.xadd(cage.names.dead(), {"a": "b"}, id="9" * 18 + "-1").decode())
    found = listed(cage)
    assert [each["entry"] for each in found["letters"]] == entries
    listing = roomgrad(cage, "list")
    assert listing.returncode == 0, listing.stderr
    for entry in entries:
        shown = roomgrad(cage, "show", entry)
        assert shown.returncode == 0, shown.stderr
        assert "cannot be put back" in shown.stdout
        assert not {"\x1b", "\x00", "\x07"} & set(shown.stdout + listing.stdout)
        assert len(shown.stdout) < 60_000
    ended = roomgrad(cage, "requeue", "--all")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == len(entries)
    assert cage.client.xlen(cage.names.dead()) == len(entries)
    assert roomgrad(cage, "drop", "--all", "--yes").returncode == 0
    assert not cage.dead()


# requeue


def test_a_requeued_message_is_handled_and_its_letter_is_gone(cage: Cage) -> None:
    """As it was, under a new entry id; it rings on its channel."""
    message, entry = bury(cage, 3, 4)
    cage.start(parrot())
    with cage.client.pubsub(ignore_subscribe_messages=True) as ears:
        ears.subscribe(cage.names.channel("cage"))
        ears.get_message(timeout=5)
        ended = roomgrad(cage, "requeue", entry)
        assert ended.returncode == 0, ended.stderr
        assert "its root was given up" in ended.stdout
        assert "1 of 1 dead letter of run" in ended.stdout
        assert (cage.heard(message).array == numbers(6, 8)).all()
        heard = until(lambda: ears.get_message(timeout=0.1))
    ring = json.loads(heard["data"])
    assert (ring["ID"], ring["ROOT_ID"]) == (message.id, message.root_id)
    (_, last), *_ = cage.client.xrevrange(cage.names.stream(*HEARD.key), count=1)
    assert last[b"ID"] == message.id.encode()
    assert not cage.dead()
    assert cage.counter("heard") == 1


BOTH = Stream(CAGE, FORWARD, NUMBERS, ("parrot", "listener"))
TWO = System("two", (BOTH, Stream(PERCH, FORWARD, NUMBERS)), ("parrot", "listener"))


def counting(name: str, function: Any = repeat) -> Component:
    """A component of `TWO` that counts what it hears."""
    handler = on(CAGE, FORWARD, replies=[(PERCH, FORWARD)])(function)
    return Component(name, TWO, RuntimeSettings, [handler])


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
def test_other_groups_of_the_stream_do_not_handle_it_twice(cage: Cage, away: bool) -> None:
    """What was given up by one consumer comes back to it alone, also where the other was away."""
    listening = cage.start(counting("listener"))
    broken = cage.start(counting("parrot", raising), max_deliveries=1)
    message = cage.say(1)
    until(lambda: cage.dead() and cage.counter("heard", "listener") == 1)
    leave(cage, broken)
    if away:
        leave(cage, listening)
    assert Letters(cage.client, cage.names, TWO).requeue(only(cage))
    cage.start(counting("parrot"))
    if away:
        cage.start(counting("listener"))
    wait_for(cage.client, cage.names, Stream(PERCH, FORWARD, NUMBERS), root_id=message.root_id)
    after = cage.say(2)  # behind it in the stream: whoever has handled this is past the other
    key = cage.names.stream(*BOTH.key)
    until(lambda: all(done(cage, group, after.entry) for group in BOTH.consumers))
    until(lambda: all(not each["pending"] for each in cage.client.xinfo_groups(key)))
    assert cage.counter("heard", "parrot") == 2
    assert cage.counter("heard", "listener") == 2
    assert not cage.dead()


def test_a_group_that_was_destroyed_meanwhile_passes_it_over_too(cage: Cage) -> None:
    """It is created again at the beginning of the stream, and finds the mark."""
    listening = cage.start(counting("listener"))
    broken = cage.start(counting("parrot", raising), max_deliveries=1)
    cage.say(1)
    until(lambda: cage.dead() and cage.counter("heard", "listener") == 1)
    leave(cage, listening, broken)
    cage.client.xgroup_destroy(cage.names.stream(*BOTH.key), "listener")
    assert Letters(cage.client, cage.names, TWO).requeue(only(cage))
    cage.start(counting("listener"))
    after = cage.say(2)
    until(lambda: done(cage, "listener", after.entry))
    assert cage.counter("heard", "listener") == 2


def only(cage: Cage) -> Any:
    (letter,) = Letters(cage.client, cage.names).newest_first()
    return letter


def done(cage: Cage, group: str, entry: str) -> bool:
    key = cage.names.done(group, *BOTH.key)
    return cage.client.zscore(key, entry) is not None


def test_many_operators_at_once_make_one_message_of_each_letter(cage: Cage) -> None:
    """Whoever comes later is told that the letter is gone."""
    leave(cage, cage.start(parrot()))
    key = cage.names.stream(*HEARD.key)
    history = json.dumps({"reason": "x", "stream": key, "group": "parrot", "deliveries": 1})
    for number in range(40):
        cage.client.xadd(cage.names.dead(), {"history": history, "ID": f"id-{number}", "m": "{}"})

    def operator(_: int) -> Sequence[str]:
        with connect(cage.url) as client:
            letters = Letters(client, cage.names)
            return [letters.requeue(letter) for letter in list(letters.newest_first())]

    with ThreadPoolExecutor(4) as pool:
        answers = [entry for each in pool.map(operator, range(4)) for entry in each]
    there = [fields[b"ID"] for _, fields in cage.client.xrange(key)]
    assert sorted(there) == sorted(f"id-{number}".encode() for number in range(40))
    assert len(list(filter(None, answers))) == 40
    assert not cage.dead()


def test_two_commands_at_once_requeue_each_letter_once(cage: Cage) -> None:
    """As two people at two terminals would."""
    message, _ = bury(cage, 1)
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: roomgrad(cage, "requeue", "--all"), range(2)))
    assert [each.returncode for each in ended] == [0, 0], ended
    cage.start(parrot())
    cage.heard(message)
    assert cage.client.xlen(cage.names.stream(*HEARD.key)) == 2


def test_an_operator_who_is_killed_leaves_the_letter_or_the_message(own_cage: Cage) -> None:
    """Of each letter exactly one of the two is there, wherever the process died."""
    leave(own_cage, own_cage.start(parrot()))
    key = own_cage.names.stream(*HEARD.key)
    history = json.dumps({"reason": "x", "stream": key, "group": "parrot", "deliveries": 1})
    many = 3000
    with own_cage.client.pipeline(transaction=False) as pipe:
        for number in range(many):
            pipe.xadd(own_cage.names.dead(), {"history": history, "ID": f"id-{number}", "m": "{}"})
        pipe.execute()
    environ = {**os.environ, "REDIS_URL": own_cage.url, "PYTHONPATH": str(ROOT / "shared")}
    command = [sys.executable, "-m", "roomgrad", "dead", "requeue", "--all"]
    command += ["--run", own_cage.names.run]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    until(lambda: own_cage.client.xlen(key) > 100, timeout_s=30)
    process.kill()
    process.wait()
    until(lambda: own_cage.client.info("clients")["connected_clients"] <= 2)
    moved = [fields[b"ID"] for _, fields in own_cage.client.xrange(key)]
    left = [fields[b"ID"] for fields in own_cage.dead()]
    assert left
    assert sorted(moved + left) == sorted(f"id-{number}".encode() for number in range(many))


def test_a_server_that_dies_keeps_the_letter_or_the_message(
    own_server: OwnServer, own_cage: Cage
) -> None:
    """The append-only file has the whole script, or nothing of it."""
    own_cage.client.config_set("appendfsync", "always")
    message, entry = bury(own_cage, 1)
    letters = Letters(own_cage.client, own_cage.names)
    assert letters.requeue(letters.get(entry))
    own_server.kill()
    own_server.restart()
    with connect(own_server.url) as client:
        found = client.xrange(own_cage.names.stream(*HEARD.key))
        assert [fields[b"ID"] for _, fields in found] == [message.id.encode()] * 2
        assert client.xlen(own_cage.names.dead()) == 0


def test_a_full_server_refuses_and_keeps_the_letter(own_cage: Cage) -> None:
    """Nothing of the script is done."""
    _, entry = bury(own_cage, 1)
    own_cage.client.config_set("maxmemory", "1mb")
    letters = Letters(own_cage.client, own_cage.names)
    with pytest.raises(ServerError, match="stays, the server refuses"):
        letters.requeue(letters.get(entry))
    own_cage.client.config_set("maxmemory", "0")
    assert own_cage.client.xlen(own_cage.names.stream(*HEARD.key)) == 1
    assert newest(own_cage) == entry


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stream": "{other}:cage:DATA/FORWARD"}, "names the stream '{other}"),
        ({"stream": "cage"}, "expected one like"),
        ({"stream": 3}, "expected one like"),
        ({"group": ""}, "which component"),
        ({"group": "nobody"}, "nobody has no group"),
        ({"stream": "RUN:attic:DATA/FORWARD"}, "there is no stream"),
        ({"stream": "RUN:counters:parrot"}, "is a hash, expected a stream"),
    ],
)
def test_a_letter_that_leads_nowhere_stays(cage: Cage, change: dict[str, Any], said: str) -> None:
    """With a sentence; no key is made up."""
    cage.start(parrot())
    cage.heard(cage.say(1))
    prefix = f"{{{cage.names.run}}}"
    good = {"reason": "x", "stream": cage.names.stream(*HEARD.key), "group": "parrot"}
    changed = {k: v.replace("RUN", prefix) if isinstance(v, str) else v for k, v in change.items()}
    letter = {"history": json.dumps(good | changed), "m": "{}"}
    entry = cage.client.xadd(cage.names.dead(), letter).decode()
    keys = set(cage.client.keys(cage.names.everything()))
    letters = Letters(cage.client, cage.names)
    with pytest.raises(NotRequeued) as caught:
        letters.requeue(letters.get(entry))
    assert said in str(caught.value)
    alive = {key for key in keys if b":alive:" not in key}
    assert alive <= set(cage.client.keys(cage.names.everything()))
    assert newest(cage) == entry


def test_a_stray_that_is_requeued_ends_as_a_stray_again(cage: Cage) -> None:
    """It is done when it is asked for, and what comes of it is a new letter."""
    first = cage.inject({"ID": "a", "ROOT_ID": "b", "m": '{"ID":"a","ROOT_ID":"b","DATA":"x"}'})
    cage.start(parrot())
    entry = until(lambda: cage.dead() and newest(cage))
    assert roomgrad(cage, "requeue", entry).returncode == 0
    again = until(lambda: newest(cage) if len(cage.dead()) == 1 and newest(cage) != entry else "")
    letters = Letters(cage.client, cage.names)
    assert letters.get(again).history["entry"] != first
    assert letters.get(again).pairs == [
        (b"ID", b"a"),
        (b"ROOT_ID", b"b"),
        (b"m", b'{"ID":"a","ROOT_ID":"b","DATA":"x"}'),
    ]


# drop, and what is typed wrong


def test_letters_are_deleted_after_a_question(cage: Cage) -> None:
    """Without a terminal nobody can answer it, so nothing is deleted."""
    entries = [bury(cage, value)[1] for value in (1, 2)]
    ended = roomgrad(cage, "drop", entries[0], typed="y\n")
    assert (ended.returncode, len(cage.dead())) == (2, 2)
    assert "add --yes" in ended.stderr
    ended = roomgrad(cage, "drop", entries[0], "--yes")
    assert ended.stdout.strip() == f"1 dead letter of run {cage.names.run} is deleted."
    assert newest(cage) == entries[1]


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1)])
def test_the_question_is_asked_on_a_terminal(cage: Cage, answer: str, left: int) -> None:
    """And the answer counts."""
    import pty

    bury(cage, 1)
    parent, child = pty.openpty()
    environ = {**os.environ, "REDIS_URL": cage.url, "PYTHONPATH": str(ROOT / "shared")}
    command = [sys.executable, "-m", "roomgrad", "dead", "drop", "--all", "--run", cage.names.run]
    with subprocess.Popen(command, env=environ, stdin=child, stdout=subprocess.PIPE) as process:
        os.write(parent, f"{answer}\n".encode())
        printed = process.communicate()[0].decode()
    os.close(parent)
    os.close(child)
    assert f"Delete 1 dead letter of run {cage.names.run} for good?" in printed
    assert len(cage.dead()) == left
    assert process.returncode == (0 if answer == "y" else 130)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("show 12", 2, ["'12' is no entry id", "dead list"]),
        ("show 1-0", 1, ["no dead letter 1-0"]),
        ("requeue 1-0", 1, ["no dead letter 1-0"]),
        ("requeue", 2, ["which letters?", "--all"]),
        ("requeue 1-0 --all", 2, ["either these or those"]),
        ("drop 1-0 --yes", 1, ["no dead letter 1-0"]),
        ("drop --reason x --all --yes", 2, ["either these or those"]),
        ("list --limit 0", 2, ["--limit 0", "whole number from 1"]),
        ("list tribuchet", 2, ["no system 'tribuchet'", "did you mean trebuchet?"]),
        ("list --run RUNx", 2, ["there is no run", "did you mean RUN?"]),
    ],
)
def test_what_is_typed_wrong_is_said_in_one_sentence(
    cage: Cage, words: str, code: int, said: list[str]
) -> None:
    """With what there is."""
    cage.start(parrot())
    run = cage.names.run
    ended = roomgrad(cage, *words.replace("RUN", run).split())
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
    assert "roomgrad up trebuchet" in ended.stderr


def test_a_user_who_may_not_is_told_so(own_cage: Cage) -> None:
    """One sentence, and the letter stays."""
    _, entry = bury(own_cage, 1)
    for name, rights in {"reader": ["+@all", "-xdel"], "nobody": ["+ping", "+hello"]}.items():
        own_cage.client.execute_command(
            "ACL", "SETUSER", name, "on", ">secret", "~*", "&*", *rights
        )
    where = own_cage.url
    own_cage.url = where.replace("//", "//reader:secret@")
    ended = roomgrad(own_cage, "requeue", entry)
    assert (ended.returncode, "no permission for XDEL" in ended.stderr) == (1, True), ended.stderr
    own_cage.url = where.replace("//", "//nobody:secret@")
    ended = roomgrad(own_cage, "list")
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "secret" not in ended.stderr
    assert newest(own_cage) == entry
