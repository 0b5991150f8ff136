"""What a seat owes: answers by ROOT_ID, roots that are closed, limits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from roomgrad_swergio.gateway.bodies import Entry
from roomgrad_swergio.gateway.seats import MOST_OWED, OWN_UNREAD, Seat

KEY = ("cave", "DATA/CUSTOM")


def client(id_: str = "c1", *rooms: str) -> Any:
    return SimpleNamespace(id=id_, rooms={"cave", *rooms})


def seat(*clients: Any) -> Seat:
    made = Seat("ann", rooms={"cave": 1})
    made.connections.extend(clients or [client()])
    return made


def entry(number: int, root: str, type_: str = "DATA/CUSTOM", **more: Any) -> Entry:
    body = {"ID": more.pop("id", f"i{number}"), "ROOT_ID": root}
    return Entry(more.pop("room", "cave"), type_, f"{number}-0", body, **more)


def test_a_message_answers_whatever_of_its_root_was_sent() -> None:
    ann = client()
    made = seat(ann)
    for number, root in enumerate(("a", "b", "a")):
        made.sent(KEY, entry(number, root), ann, resend=True)
    assert made.answered("a") == [(KEY, "0-0"), (KEY, "2-0")]
    made.settle(made.answered("a"))
    assert made.answered("a") == []
    assert made.owed_to(ann) == [(KEY, "1-0")]
    assert made.load(ann) == 1


def test_a_root_that_came_here_is_not_opened_from_here() -> None:
    ann = client()
    made = seat(ann)
    assert made.opens("a")
    made.sent(KEY, entry(1, "a"), ann, resend=True)
    assert not made.opens("a")
    made.opened("b", "i", "cave")
    assert not made.opens("b")


def test_only_the_gradient_of_the_opening_message_closes_a_root() -> None:
    ann = client()
    made = seat(ann)
    made.opened("a", "first", "cave")
    gradient = ("cave", "DATA/GRADIENT")
    made.sent(gradient, entry(1, "a", "DATA/GRADIENT", id="second"), ann, resend=True)
    made.sent(KEY, entry(2, "a", id="first"), ann, resend=True)
    other = entry(3, "a", "DATA/GRADIENT", id="first", room="hall")
    made.sent(("hall", "DATA/GRADIENT"), other, ann, resend=True)
    assert len(made.answered("a")) == 3
    assert made.done == []
    made.sent(gradient, entry(4, "a", "DATA/GRADIENT", id="first"), ann, resend=True)
    assert made.done == [(gradient, "4-0")]


def test_what_is_owed_is_bounded_by_number_and_age() -> None:
    ann = client()
    made = seat(ann)
    for number in range(MOST_OWED + 10):
        made.sent(KEY, entry(number, f"r{number}"), ann, resend=True)
    assert len(made.owed_to(ann)) == MOST_OWED
    assert [at for _, at in made.done] == [f"{number}-0" for number in range(10)]
    made.settle_until(100)
    assert made.owed_to(ann)[0] == (KEY, "100-0")
    assert made.answered("r50") == []


def test_it_knows_its_own_messages() -> None:
    """Its clients' own; those of its name from before it was taken; not those of a living twin."""
    made = seat(client("c1"))
    made.taken_ms = 10
    assert made.is_own(entry(20, "r", sender="c1", sender_name="ann"))
    assert made.is_own(entry(5, "r", sender="gone", sender_name="ann"))
    assert not made.is_own(entry(20, "r", sender="twin", sender_name="ann"))
    assert not made.is_own(entry(5, "r", sender="b", sender_name="bob"))
    shared = seat(client("c1"), client("c2"))
    assert shared.is_own(entry(20, "r", sender="gone", sender_name="ann"))


def test_own_messages_wake_it_only_now_and_then() -> None:
    made = seat(client("c1"))
    for _ in range(OWN_UNREAD - 1):
        made.rang(KEY, "c1")
    assert not made.news.is_set()
    made.rang(KEY, "c1")
    assert made.news.is_set()
    assert made.take_fresh() == [KEY]
    made.news.clear()
    made.rang(KEY, "somebody")
    assert made.news.is_set()


def test_it_reads_only_in_rooms_in_which_somebody_is() -> None:
    made = seat(client("c1"))
    made.look([KEY, ("hall", "DATA/CUSTOM")])
    assert made.take_fresh() == [KEY]
    made.connections.append(client("c2", "hall"))
    assert made.take_fresh() == [("hall", "DATA/CUSTOM")]
