"""Subscriptions: answers by ROOT_ID, roots that are closed, limits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from roomgrad_swergio.gateway.codec import Entry
from roomgrad_swergio.gateway.subscriptions import MAX_OWN_UNREAD, MAX_UNACKNOWLEDGED, Subscription

KEY = ("cave", "DATA/CUSTOM")


def client(id_: str = "c1", *rooms: str) -> Any:
    return SimpleNamespace(id=id_, rooms={"cave", *rooms})


def subscription(*clients: Any) -> Subscription:
    made = Subscription("ann", rooms={"cave": 1})
    made.connections.extend(clients or [client()])
    return made


def entry(number: int, root: str, type_: str = "DATA/CUSTOM", **more: Any) -> Entry:
    body = {"ID": more.pop("id", f"i{number}"), "ROOT_ID": root}
    return Entry(more.pop("room", "cave"), type_, f"{number}-0", body, **more)


def test_a_message_answers_whatever_of_its_root_was_sent() -> None:
    ann = client()
    made = subscription(ann)
    for number, root in enumerate(("a", "b", "a")):
        made.sent(KEY, entry(number, root), ann, resend=True)
    assert made.answered_by("a") == [(KEY, "0-0"), (KEY, "2-0")]
    made.settle(made.answered_by("a"))
    assert made.answered_by("a") == []
    assert made.unacknowledged_by(ann) == [(KEY, "1-0")]
    assert made.load(ann) == 1


def test_a_root_that_came_here_is_not_opened_from_here() -> None:
    ann = client()
    made = subscription(ann)
    assert made.opens("a")
    made.sent(KEY, entry(1, "a"), ann, resend=True)
    assert not made.opens("a")
    made.opened("b", "i", "cave")
    assert not made.opens("b")


def test_the_seed_of_a_root_is_remembered() -> None:
    """That of the first message, whichever side has sent it."""
    ann = client()
    made = subscription(ann)
    made.opened("mine", "i", "cave", 5)
    theirs = entry(1, "theirs")
    theirs.body["SEED"] = 0
    made.sent(KEY, theirs, ann, resend=True)
    made.sent(KEY, entry(2, "without"), ann, resend=True)
    seeds = [made.known(root).seed for root in ("mine", "theirs", "without", "?")]
    assert seeds == [5, 0, None, None]


def test_only_the_gradient_of_the_opening_message_closes_a_root() -> None:
    ann = client()
    made = subscription(ann)
    made.opened("a", "first", "cave")
    gradient = ("cave", "DATA/GRADIENT")
    made.sent(gradient, entry(1, "a", "DATA/GRADIENT", id="second"), ann, resend=True)
    made.sent(KEY, entry(2, "a", id="first"), ann, resend=True)
    other = entry(3, "a", "DATA/GRADIENT", id="first", room="hall")
    made.sent(("hall", "DATA/GRADIENT"), other, ann, resend=True)
    assert len(made.answered_by("a")) == 3
    assert made.settled == []
    made.sent(gradient, entry(4, "a", "DATA/GRADIENT", id="first"), ann, resend=True)
    assert made.settled == [(gradient, "4-0")]


def test_what_is_owed_is_bounded_by_number_and_age() -> None:
    ann = client()
    made = subscription(ann)
    for number in range(MAX_UNACKNOWLEDGED + 10):
        made.sent(KEY, entry(number, f"r{number}"), ann, resend=True)
    assert len(made.unacknowledged_by(ann)) == MAX_UNACKNOWLEDGED
    assert [at for _, at in made.settled] == [f"{number}-0" for number in range(10)]
    made.give_up_before(100)
    assert made.unacknowledged_by(ann)[0] == (KEY, "100-0")
    assert made.answered_by("r50") == []


def test_it_knows_its_own_messages() -> None:
    """Its clients' own; those of its name from before it was taken; not those of a living twin."""
    made = subscription(client("c1"))
    made.attached_ms = 10
    assert made.is_own(entry(20, "r", sender="c1", sender_name="ann"))
    assert made.is_own(entry(5, "r", sender="gone", sender_name="ann"))
    assert not made.is_own(entry(20, "r", sender="twin", sender_name="ann"))
    assert not made.is_own(entry(5, "r", sender="b", sender_name="bob"))
    shared = subscription(client("c1"), client("c2"))
    assert shared.is_own(entry(20, "r", sender="gone", sender_name="ann"))


def test_own_messages_wake_it_only_now_and_then() -> None:
    made = subscription(client("c1"))
    for _ in range(MAX_OWN_UNREAD - 1):
        made.notify(KEY, "c1")
    assert not made.wake_up.is_set()
    made.notify(KEY, "c1")
    assert made.wake_up.is_set()
    assert made.take_unread() == [KEY]
    made.wake_up.clear()
    made.notify(KEY, "somebody")
    assert made.wake_up.is_set()


def test_it_reads_only_in_rooms_in_which_somebody_is() -> None:
    made = subscription(client("c1"))
    made.read_soon([KEY, ("hall", "DATA/CUSTOM")])
    assert made.take_unread() == [KEY]
    made.connections.append(client("c2", "hall"))
    assert made.take_unread() == [("hall", "DATA/CUSTOM")]
