"""The accounting of `roomgrad trace`: which reply answers which message, and where time went."""

from __future__ import annotations

from roomgrad.cli.trace import milliseconds
from roomgrad.commit import Commit
from roomgrad.inspect.entries import (
    MessageHeader,
    PendingEntry,
    Reader,
    StoredMessages,
    StreamKey,
    entry_id,
)
from roomgrad.inspect.timings import (
    Failure,
    Hop,
    HopState,
    Timing,
    build_trace,
    finished_roots,
    timing_of,
)
from roomgrad.runtime.handling_times import Times, format_times

SECOND = 1_795_184_558
IN, OUT, BACK = ("in", "DATA/FORWARD"), ("out", "DATA/FORWARD"), ("out", "DATA/GRADIENT")
LOG = ("_logging", "LOG/KPI")


def sent(
    place: StreamKey,
    ms: int,
    by: str,
    times: Times | None = None,
    *,
    root: str = "root",
    number: int = 0,
) -> MessageHeader:
    """A message that the server wrote so many ms after the second."""
    entry = f"{SECOND}{ms:03}-{number}"
    return MessageHeader(place, entry, f"id-{entry}", root, by, times=times)


def answer(message: MessageHeader, delivered_us: int, *parts: int) -> Times:
    """Times of an answer; `delivered_us` after the second."""
    began, ended, left = parts
    return Times(message.entry, SECOND * 1_000_000 + delivered_us, began, ended, left)


def streams(
    *messages: MessageHeader, read: int = 999, held: dict[str, PendingEntry] | None = None
) -> StoredMessages:
    """Where `model` reads in, and `trainer` reads out, up to so many ms after the second."""
    upto = entry_id(f"{SECOND}{read:03}-99")
    readers = {
        IN: (Reader("model", upto, held or {}),),
        OUT: (Reader("trainer", upto, {}),),
        BACK: (Reader("model", upto, {}),),
    }
    return StoredMessages(messages, readers, (SECOND + 1) * 1_000_000)


def hops(found: StoredMessages, failures: tuple[Failure, ...] = ()) -> list[Hop]:
    return list(build_trace(found, "root", failures).hops)


def test_the_field_is_read_as_it_was_written() -> None:
    """And nothing else is."""
    text = format_times("12-3", 5_000_999, 6_000_000, 8_000_000, 9_500_000)
    assert text == b"12-3 5000 999 2999 4499"
    assert Times.read(text) == Times("12-3", 5000, 999, 2999, 4499)
    for wrong in (
        b"",
        b"12 1 2 3 4",
        b"12-3 1 2 3",
        text + b" 5",
        b"\xff",
        b"1-1 1 2 3 " + b"9" * 99,
    ):
        assert Times.read(wrong) is None


def test_times_stand_between_the_message_and_its_arrays() -> None:
    """In every entry that is sent, and in none where there are none."""
    fields = [b"ID", b"1", b"ROOT_ID", b"2", b"m", b"{}", b"DATA", b"\x00"]
    commit = Commit()
    commit.send("stream", "channel", b"head", fields)
    assert commit.parts()[1][-9:] == [b"8", *fields]
    commit.times = b"12-3 1 2 3 4"
    expected = [b"10", *fields[:6], b"times", commit.times, *fields[6:]]
    assert commit.parts()[1][-11:] == expected


def test_the_time_of_a_hop_is_the_sum_of_its_parts() -> None:
    """From when the message left to when its answer left."""
    opened = sent(IN, 100, "trainer", answer(sent(BACK, 90, "x"), 99_000, 10, 20, 1_300))
    reply = sent(OUT, 101, "model", answer(opened, 100_500, 40, 540, 640))
    assert (opened.exact, opened.at_us % 1_000_000) == (True, 100_300)
    assert timing_of(opened, reply) == Timing(
        840, about=False, waited=200, decoded=40, handled=500, committed=100
    )


def test_how_long_it_waited_needs_no_second_clock() -> None:
    """A sender whose clock is an hour off still knows how long it was busy."""
    opened = sent(IN, 100, "trainer")
    hour = 3_600_000_000
    reply = sent(OUT, 110, "model", answer(opened, 100_500 - hour, 40, 540, 640))
    assert not reply.exact
    assert timing_of(opened, reply) == Timing(
        10_000, about=True, waited=9_360, decoded=40, handled=500, committed=100
    )


def test_nothing_takes_less_than_no_time() -> None:
    """Where clocks were set back meanwhile."""
    opened = sent(IN, 100, "trainer")
    reply = sent(OUT, 100, "model", answer(opened, 100_000, -5, -9, -7))
    assert timing_of(opened, reply) == Timing(0, True, 0, 0, 0, 2)


def test_without_times_the_next_message_of_a_reader_is_its_reply() -> None:
    """Each once, in the order of time; reports are no replies."""
    messages = (
        sent(IN, 1, "trainer"),
        sent(OUT, 3, "model"),
        sent(LOG, 4, "trainer"),
        sent(BACK, 4, "trainer"),
    )
    found = hops(streams(*messages[::-1]))
    took = {hop.message.stream_key: (hop.by, hop.timing.took, hop.state) for hop in found}
    assert took[IN] == ("model", 2000, HopState.DONE)
    assert took[OUT] == ("trainer", 1000, HopState.DONE)
    assert took[BACK] == ("model", None, HopState.DONE)
    assert took[LOG] == ("", None, HopState.UNREAD)
    assert all(hop.timing.handled is None for hop in found)


def test_messages_of_one_millisecond_are_in_the_order_of_answers() -> None:
    """Though all three have the same entry id in their streams."""
    chain = (sent(IN, 1, "trainer"), sent(OUT, 1, "model"), sent(BACK, 1, "trainer"))
    assert [hop.message.stream_key for hop in hops(streams(*chain))] == [IN, OUT, BACK]


def test_an_answer_is_found_though_another_stream_has_the_same_entry_id() -> None:
    """It belongs to the message of its own root."""
    mine, other = sent(IN, 1, "trainer"), sent(BACK, 1, "trainer", root="other")
    reply = sent(OUT, 2, "model", answer(other, 1_500, 1, 2, 3), root="other")
    (hop,) = hops(streams(mine, other, reply, read=0))
    assert (hop.state, hop.replies) == (HopState.WAITING, ())


def test_what_opens_another_root_ends_the_last_hop() -> None:
    """The reply to a last message belongs to the root that comes next."""
    last = sent(BACK, 1, "trainer")
    next_ = sent(OUT, 2, "model", answer(last, 1_100, 10, 20, 900), root="next")
    (hop,) = hops(streams(last, next_))
    assert (hop.replies, hop.timing.handled) == ((next_,), 10)
    after = build_trace(streams(last, next_), "next")
    assert not after.begins_before
    assert build_trace(streams(next_), "next").begins_before


def test_what_is_open_says_where_it_is() -> None:
    """In somebody's hands, or not delivered yet."""
    message = sent(IN, 5, "trainer")
    held = PendingEntry("model~here~1~a", 0, 2)
    (hop,) = hops(streams(message, held={message.entry: held}))
    assert (hop.state, hop.held) == (HopState.PENDING, held)
    (hop,) = hops(streams(message, read=4))
    assert hop.state is HopState.WAITING


def test_a_letter_ends_a_root_only_if_it_was_given_up_with_it() -> None:
    """A stray reply does not."""
    message = sent(IN, 5, "trainer")
    for ends, state in ((True, "dead"), (False, "finished")):
        death = Failure(message.entry, "model", IN, "because", "9-0", ends)
        found = build_trace(streams(message), "root", [death])
        assert (found.state, found.hops[0].state) == (state, HopState.DEAD)


def test_the_sums_are_of_forward_back_and_all() -> None:
    """Of what was answered; a hop without parts makes none up."""
    first = sent(IN, 1, "trainer")
    second = sent(OUT, 3, "model", answer(first, 1_500, 100, 1_100, 1_600))
    third = sent(BACK, 5, "trainer")
    sums = build_trace(streams(first, second, third), "root").totals
    assert (sums["forward"].hops, sums["forward"].timed, sums["forward"].handled) == (2, 1, 1000)
    assert sums["sum"].took == sums["forward"].took == 4000
    assert "back" not in sums, "nobody has answered it"


def test_finished_roots_are_found_with_the_newest_first() -> None:
    """Not what is open, not what nobody reads, not notices."""
    found = streams(
        sent(IN, 1, "trainer", root="old"),
        sent(IN, 2, "trainer", root="new"),
        sent(LOG, 3, "trainer", root="reported"),
        sent(("@model", "LOG/ERROR"), 3, "trainer", root="notice"),
        sent(IN, 9, "trainer", root="open"),
        read=8,
    )
    assert finished_roots(found) == ["new", "old"]
    assert finished_roots(streams()) == []


def test_times_show_as_many_digits_as_are_known() -> None:
    """Three where they are in us, none where they are in ms."""
    assert [milliseconds(1234), milliseconds(2_500_700, about=True)] == ["1.234", "~2,501"]
    assert milliseconds(None) == ""
