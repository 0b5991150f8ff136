"""The page's endpoints: what they do, and that what is wrong is said in a sentence."""

from __future__ import annotations

import contextlib
import io
import json
import re
import secrets
import wave
from typing import Any

import numpy as np
import pytest

from roomgrad.web import changes
from roomgrad_melody.genome import from_text
from roomgrad_melody.midi import from_midi
from tests.integration.conftest import OwnServer
from tests.pages.http_client import HttpClient
from tests.pages.melody.labelling_run import MELODIES, LabellingRun, heard, history
from tests.waiting import until

A, B, C = MELODIES[:3]


def given(labelling: LabellingRun, melody: str = A, **changed: Any) -> dict[str, Any]:
    root = (labelling.get("questions", melody) or {"root": "none"})["root"]
    answer = {"rater": "Ada", "melody": melody, "root": root, "rating": 4, "plays": 1}
    return {**answer, "id": secrets.token_hex(16), **changed}


# what it does


def test_a_question_is_taken_and_answered(labelling: LabellingRun, page_client: HttpClient) -> None:
    """The guess comes with the acknowledgement, and nowhere before."""
    labelling.ask(A, B, C)
    status, found = page_client.post("/api/questions", {"rater": "Ada", "count": 2})
    assert status == 200
    assert [each["melody"] for each in found["questions"]] == [A, B]
    assert all("guess" not in each and "probs" not in each for each in found["questions"])
    _, state = page_client.get("/api/state")
    assert "2.5" not in json.dumps(state)
    status, answer = page_client.post("/api/answers", given(labelling))
    assert (status, answer["guess"], answer["rating"]) == (200, 2.5, 4)
    assert [message.id for message in labelling.sent()] == [answer["id"]]
    status, found = page_client.get("/api/answers?rater=Ada")
    assert [each["melody"] for each in found["answers"]] == [A]


def test_a_pair_is_taken_and_compared(labelling: LabellingRun, page_client: HttpClient) -> None:
    """Both melodies come in the order to be shown; the vote is sent once, and is a last answer."""
    labelling.ask(B, against=A)
    labelling.ask(C, pair=[A, C], against=A, again=True)
    labelling.put("questions", C, **{**(labelling.get("questions", C) or {}), "rank": 1.0})
    _, found = page_client.post("/api/questions", {"rater": "Ada", "count": 2})
    shown = [[side["melody"] for side in each["shown"]] for each in found["questions"]]
    assert shown == [[A, B], [A, C]]
    assert all(side["notes"] for each in found["questions"] for side in each["shown"])
    vote = voted(labelling, listened=[1200, 3400])
    for _ in range(2):
        status, answer = page_client.post("/api/preferences", vote)
        assert (status, answer["prefer"], answer["listened"]) == (200, "second", [1200, 3400])
    [message] = labelling.sent()
    assert (message.id, message.fields["PREFER"]) == (vote["id"], "second")
    assert message.fields["LISTENED"].tolist() == [1200, 3400]
    _, found = page_client.get("/api/answers?rater=Ada")
    assert [(each["first"], each["second"]) for each in found["answers"]] == [(A, B)]
    assert [len(each["notes"]) for each in found["answers"]] == [2]


def voted(labelling: LabellingRun, **changed: Any) -> dict[str, Any]:
    root = (labelling.get("questions", B) or {"root": "none"})["root"]
    vote = {"rater": "Ada", "first": A, "second": B, "prefer": "second", "root": root}
    return {**vote, "id": secrets.token_hex(16), **changed}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"prefer": "third"}, "first, second, equal, neither"),
        ({"prefer": 1}, "first, second, equal, neither"),
        ({"prefer": None}, "first, second, equal, neither"),
        ({"prefer": "retracted"}, "no vote that could be taken back"),
        ({"first": B}, "two different melodies"),
        ({"first": "x" * 128}, "expected 128 characters"),
        ({"first": C}, "was never heard"),
        ({"second": 5}, "128 characters"),
        ({"root": "r"}, "no longer asked about"),
        ({"root": ""}, "root is a text"),
        ({"id": "abc"}, "id is a text"),
        ({"rater": ""}, "1 to 40 printable"),
        ({"listened": 5}, "a list of 2 whole numbers"),
        ({"listened": [1]}, "a list of 2 whole numbers"),
        ({"listened": [1, -1]}, "a list of 2 whole numbers"),
        ({"listened": [1, 1e9]}, "a list of 2 whole numbers"),
        ({"listened": [1, 10**12]}, "a list of 2 whole numbers"),
        ({"listened": [True, 1]}, "a list of 2 whole numbers"),
        ({"rating": 3}, "'rating' is unknown"),
    ],
)
def test_a_wrong_vote_is_refused_and_not_sent(
    labelling: LabellingRun, page_client: HttpClient, changed: dict[str, Any], reason: str
) -> None:
    labelling.ask(B, against=A)
    status, answer = page_client.post("/api/preferences", voted(labelling, **changed))
    assert status == 422
    assert reason in answer["reason"]
    assert labelling.sent() == []


def test_to_take_none_gives_all_back(labelling: LabellingRun, page_client: HttpClient) -> None:
    labelling.ask(A)
    page_client.post("/api/questions", {"rater": "Ada", "count": 1})
    assert (labelling.get("questions", A) or {})["rater"] == "Ada"
    assert page_client.post("/api/questions", {"rater": "Ada", "count": 0}) == (
        200,
        {"questions": []},
    )
    assert (labelling.get("questions", A) or {})["rater"] == ""


def test_the_state_shows_what_stands_in_the_tables(
    labelling: LabellingRun, page_client: HttpClient
) -> None:
    """Curves are thinned, and the error is the mean over 20 ratings."""
    history(labelling, labels=300, batches=1000)
    _, state = page_client.get("/api/state")
    assert state["learning"]["labels"] == 120
    assert state["population"]["generation"] == 59
    assert len(state["best"]) == 5
    assert state["best"][0]["fitness"] == 4.41
    assert [each["heard"] for each in state["best"]] == [None] * 5
    labelling.put("labels", state["best"][1]["melody"], rating=4)
    heard = page_client.get("/api/state")[1]["best"]
    assert [each["heard"] for each in heard] == [None, 4, None, None, None]
    assert len(state["losses"]["points"]) == 160
    assert state["losses"]["points"][-1][0] == 999
    curve = labelling.table("curve")
    last = [abs(curve[str(n)]["rating"] - curve[str(n)]["guess"]) for n in range(280, 300)]
    assert state["errors"]["points"][-1] == [299, pytest.approx(np.mean(last), abs=1e-3)]
    assert sum(error <= state["errors"]["range"] for error in last) == 16, "four of five"
    labelling.put("losses", "1000", step=1000, loss=0.5, chain=99)
    assert page_client.get("/api/state")[1]["losses"]["points"][-1] == [1000, 0.5]


def test_the_ladder_is_what_was_heard(labelling: LabellingRun, page_client: HttpClient) -> None:
    """The best ten, each with its votes; it stays while a new version scores them anew."""

    def ladder() -> list[str]:
        return [each["melody"] for each in page_client.get("/api/state")[1]["ladder"]]

    assert ladder() == [], "a run that only rates has none"
    heard(labelling, *MELODIES[:12])
    labelling.put("compared", A, votes=3, wins=2.5)
    assert ladder() == MELODIES[:10]
    found = page_client.get("/api/state")[1]["ladder"]
    assert [(each["votes"], each["wins"]) for each in found[:2]] == [(3, 2.5), (0, 0.0)]
    assert all(each["notes"] for each in found)
    heard(labelling, *reversed(MELODIES[:12]))
    record = labelling.get("learning", "heard") or {}
    labelling.put("learning", "heard", **{**record, "scored": np.arange(12) < 5})
    assert ladder() == MELODIES[:10]
    labelling.put("learning", "heard", **record)
    assert ladder() == MELODIES[11:1:-1]
    labelling.redis.delete(labelling.names.table("learning"))
    assert ladder() == []


def test_a_run_that_began_again_shows_nothing_of_the_former(
    labelling: LabellingRun, page_client: HttpClient
) -> None:
    history(labelling)
    assert page_client.get("/api/state")[1]["losses"]["points"]
    labelling.redis.delete(labelling.names.table("losses"), labelling.names.table("learning"))
    labelling.put("losses", "0", step=0, loss=1.5, chain=0)
    _, state = page_client.get("/api/state")
    assert state["losses"]["points"] == [[0, 1.5]]
    assert state["learning"] is None


def test_gathering_is_counted(labelling: LabellingRun, page_client: HttpClient) -> None:
    """Of the number that the learner was started with."""
    pool = np.zeros((37, 16), np.uint8)
    labelling.put("learning", "pool", genomes=pool, scored=np.zeros(37, bool))
    labelling.redis.hset(
        labelling.names.run_info(), "settings:learner", b'{"nr_of_unlabeled_data":200}'
    )
    assert page_client.get("/api/state")[1]["gathering"] == {"have": 37, "wanted": 200}


@pytest.mark.parametrize("command", ["START", "STOP", "ASK"])
def test_breeding_is_commanded(
    labelling: LabellingRun, page_client: HttpClient, command: str
) -> None:
    assert page_client.post("/api/breeding", {"command": command}) == (200, {"sent": command})
    [(_, fields)] = labelling.redis.xrange(labelling.names.stream("control", "COMMAND/CUSTOM"))
    assert json.loads(fields[b"m"])["CMD"] == command


def test_melodies_come_as_files(shared_page_client: HttpClient) -> None:
    """The MIDI file holds all bits, the WAV file lasts 32 notes."""
    status, headers, midi = shared_page_client.ask("GET", f"/api/melodies/{A}.mid")
    assert (status, headers["content-type"]) == (200, "audio/midi")
    assert re.fullmatch(
        r'attachment; filename="melody-[0-9a-f]{32}\.mid"', headers["content-disposition"]
    )
    assert np.array_equal(from_midi(midi), from_text(A))
    status, headers, data = shared_page_client.ask("GET", f"/api/melodies/{A}.wav")
    assert (status, headers["content-type"]) == (200, "audio/wav")
    with wave.open(io.BytesIO(data)) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(15.0)


# what is wrong


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/api/questions", {}, "rater is missing"),
        ("/api/questions", {"rater": "Ada"}, "count is missing"),
        ("/api/questions", {"rater": "", "count": 1}, "1 to 40 printable"),
        ("/api/questions", {"rater": "a\u0000", "count": 1}, "1 to 40 printable"),
        ("/api/questions", {"rater": "Ada", "count": 3}, "from 0 to 2, got 3"),
        ("/api/questions", {"rater": "Ada", "count": True}, "from 0 to 2, got True"),
        ("/api/questions", {"rater": "Ada", "count": 1, "x": 1}, "'x' is unknown"),
        ("/api/questions", {"rater": "Ada", "count": 1, "skipped": "01"}, "a list of at most"),
        ("/api/questions", {"rater": "Ada", "count": 1, "without": ["01"]}, "expected 128"),
        ("/api/answers", {"rater": "Ada"}, "melody is missing"),
        ("/api/preferences", {"rater": "Ada"}, "first is missing"),
        ("/api/breeding", {"command": "NEXT"}, "START, STOP or ASK, got 'NEXT'"),
        ("/api/breeding", {"command": ["START"]}, "START, STOP or ASK"),
        ("/api/breeding", [], "expected a JSON object, got list"),
        ("/api/breeding", b"{", "this is not JSON"),
        ("/api/breeding", b"\xff\xfe", "this is not JSON"),
        ("/api/breeding", b"", "this is not JSON"),
        ("/api/breeding", b"NaN", "this is not JSON"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(
    shared_page_client: HttpClient, path: str, body: Any, reason: str
) -> None:
    status, answer = shared_page_client.post(path, body)
    assert status == 422
    assert reason in answer["reason"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"rating": 6}, "whole number from 0 to 5"),
        ({"rating": 2.0}, "whole number from 0 to 5"),
        ({"rating": "3"}, "whole number from 0 to 5"),
        ({"melody": "x" * 128}, "expected 128 characters"),
        ({"melody": B}, "this melody is no longer asked about"),
        ({"root": ""}, "root is a text"),
        ({"root": 5}, "root is a text"),
        ({"id": "abc"}, "id is a text"),
        ({"plays": -1}, "plays is a whole number from 0"),
        ({"plays": 1.5}, "plays is a whole number from 0"),
        ({"guess": 3}, "'guess' is unknown"),
    ],
)
def test_a_wrong_answer_is_refused_and_not_sent(
    labelling: LabellingRun, page_client: HttpClient, changed: dict[str, Any], reason: str
) -> None:
    labelling.ask(A)
    status, answer = page_client.post("/api/answers", given(labelling, **changed))
    assert status == 422
    assert reason in answer["reason"]
    assert labelling.sent() == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/static/../page.py", 404),
        ("GET", "/static/%2e%2e/page.py", 404),
        ("GET", "/static/nothing.js", 404),
        ("GET", f"/api/melodies/{A}.exe", 422),
        ("GET", "/api/melodies/01.mid", 422),
        ("GET", "/api/answers", 422),
        ("DELETE", "/api/answers", 405),
    ],
)
def test_what_is_not_there_says_so(
    shared_page_client: HttpClient, method: str, path: str, status: int
) -> None:
    origin = {"Origin": f"http://{shared_page_client.name}"}
    found, headers, body = shared_page_client.ask(method, path, headers=origin)
    assert found == status
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["reason"]


def test_a_large_request_is_refused(shared_page_client: HttpClient) -> None:
    assert shared_page_client.post("/api/breeding", b" " * 20_000)[0] == 413


def test_a_server_that_is_away_is_503_and_comes_back(own_server: OwnServer) -> None:
    """Every endpoint says so in a sentence; when the server is back, all work again."""
    with contextlib.ExitStack() as stack:
        labelling = LabellingRun(own_server.url, stack)
        page_client = HttpClient(labelling.page())
        labelling.ask(A)
        labelling.ask(C, against=B)
        labelling.put("labels", B, rating=3)
        answer, vote = given(labelling), voted(labelling, first=B, second=C)
        vote["root"] = (labelling.get("questions", C) or {})["root"]
        own_server.kill()
        calls = [
            lambda: page_client.get("/api/state"),
            lambda: page_client.get("/api/answers?rater=Ada"),
            lambda: page_client.post("/api/questions", {"rater": "Ada", "count": 2}),
            lambda: page_client.post("/api/answers", answer),
            lambda: page_client.post("/api/preferences", vote),
            lambda: page_client.post("/api/breeding", {"command": "STOP"}),
        ]
        for call in calls:
            status, found = call()
            assert status == 503
            assert found["reason"].startswith("the server of this run")
            assert "Traceback" not in found["reason"]
        assert page_client.ask("GET", "/")[0] == 200
        own_server.restart()
        for call in calls:
            assert until(lambda call=call: call()[0] == 200)
        assert len(labelling.sent()) == 2


def test_health_says_whether_it_hears_the_server(shared_page_client: HttpClient) -> None:
    assert shared_page_client.get("/healthz") == (200, {"well": True})


# changes


def test_a_change_is_seen_by_the_next_request(labelling: LabellingRun) -> None:
    """Each response holds the whole state, and nothing if it is the same as before."""
    page_client = HttpClient(labelling.page())
    first = page_client.changes("state")
    assert first["topics"]["state"]["learning"] is None
    assert page_client.get(f"/api/changes?since={first['since']}")[1] == {**first, "topics": {}}
    history(labelling)
    later = page_client.changes("state", since=first["since"])
    learning = until(lambda: page_client.changes("state")["topics"]["state"]["learning"])
    assert learning["labels"] == 120
    assert later["since"] != first["since"]


def test_the_run_is_read_only_while_a_page_asks(
    labelling: LabellingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that comes back sees nothing old."""
    monkeypatch.setattr(changes, "FOLLOWED_S", 0.5)
    site = labelling.page()
    page_client = HttpClient(site)
    first = page_client.changes("state")
    until(lambda: not site.changes.holds_states)
    again = page_client.changes("state", since=first["since"])
    assert again["topics"]["state"] == first["topics"]["state"]
