"""What is checked: variants of the models, states that they reach, mutations that they find."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """A model with the faults that its adversary has."""

    name: str
    file: str
    flags: str
    """Of Spin, without -D."""

    reached: tuple[str, ...] = ()
    """States that its runs have to reach: without them its properties would say nothing."""

    mutations: tuple[tuple[str, str], ...] = ()
    """Flags that take a guard away or change an order, and the property that each breaks."""

    ends: bool = True
    """Whether it is checked, too, that no run goes on for ever: that takes twice the states."""


VARIANTS = (
    Variant(
        "messages: crashes, broken connections, zombies",
        "messages.pml",
        "ROOTS=2 CRASHES=1 LOSSES=2 TAKEOVERS=1",
        ("ALL_DONE", "ZOMBIE_COMMITS", "SENT_TWICE"),
        (
            ("NO_PENDING NO_DONE", "EFFECT_ONCE"),
            ("NO_ONCE", "EFFECT_ONCE"),
            ("ACK_FIRST", "NOTHING_LOST"),
            ("TWO_COMMITS", "NOTHING_LOST"),
        ),
    ),
    Variant(
        "messages: a group is destroyed, history is trimmed",
        "messages.pml",
        "ROOTS=2 DESTROYS=1 TRIMS=1 LOSSES=1",
        ("ALL_DONE", "FOUND_MARK", "TRIMMED"),
        (
            ("NO_PENDING", "EFFECT_ONCE"),
            ("NO_DONE", "EFFECT_ONCE"),
            ("GROUP_AT_END", "NOTHING_LOST"),
            ("TRIM_DESTROYED", "NOTHING_LOST"),
        ),
    ),
    Variant(
        "messages: the server falls back",
        "messages.pml",
        "ROOTS=2 FALLBACKS=1 CRASHES=1 LOSSES=1",
        ("ALL_DONE", "FELL_BACK_WITH_EFFECT"),
        ends=False,
    ),
    Variant(
        "messages: all of these, one root",
        "messages.pml",
        "ROOTS=1 FALLBACKS=1 DESTROYS=1 TRIMS=1 CRASHES=1 LOSSES=1 TAKEOVERS=1",
    ),
    Variant(
        "messages: handlers raise, a gradient comes twice",
        "messages.pml",
        "ROOTS=1 RAISES=3 TWICE=1 CRASHES=1 TAKEOVERS=1",
        ("ALL_DONE", "GAVE_UP", "STALE_READ"),
        (
            ("NO_SAME", "EFFECT_ONCE"),
            ("NO_SAME", "RECORD_FIRST"),
            ("NO_NOTICE", "MEMORY_EMPTY"),
        ),
    ),
    Variant(
        "model: crashes, broken connections, pieces expire",
        "model.pml",
        "CRASHES=1 LOSSES=1 SNAPSHOTS=2 EXPIRES=1",
        ("ALL_DONE", "STEPPED_AGAIN", "READ_POINTERS_AGAIN", "NOT_STORED", "ZOMBIE_STEP"),
        (
            ("NO_PENDING", "STEP_ONCE"),
            ("NO_SAME_VERSION", "NOTHING_LOST"),
            ("APPLY_FIRST", "WEIGHTS"),
            ("UNSORTED", "WEIGHTS"),
            ("NO_RECORD", "LOADABLE"),
            ("TRIM_ALL", "LOADABLE"),
            ("POINTERS_ONCE", "LOADABLE"),
            ("NO_STORED", "POINTED"),
        ),
    ),
    Variant("model: three batches", "model.pml", "BATCHES=3 CRASHES=1 LOSSES=1", ends=False),
    Variant(
        "model: the server falls back, files do not",
        "model.pml",
        "FALLBACKS=1 LOSSES=1 SNAPSHOTS=2 FILES=1",
        ("ALL_DONE", "LEFT_LOST_VERSION", "TWO_SNAPSHOTS", "NOT_OF_RUN"),
        (
            ("BY_STEP", "WEIGHTS"),
            ("DELETE_FIRST", "LOADABLE"),
            ("RECONNECTS", "POINTED"),
            ("NO_OF_RUN", "POINTED"),
        ),
        ends=False,
    ),
    Variant(
        "model: the server falls back, replicas die",
        "model.pml",
        "FALLBACKS=1 CRASHES=1",
        ("ALL_DONE",),
    ),
    Variant(
        "model: two take snapshots at once",
        "model.pml",
        "REPLICAS=1 WRITERS=2 BATCHES=3 SNAPSHOTS=3 CRASHES=1",
        ("ALL_DONE", "STALE_POINTER"),
        (("NO_SAME_POINTERS", "POINTED"), ("ONE_PLACE", "POINTED")),
    ),
    Variant(
        "joins: enough after a time, crashes, broken connections",
        "joins.pml",
        "PARTS=2 LEAST=1 CRASHES=1 LOSSES=1",
        ("ALL_JOINED", "JOINED_LEAST", "LATE_PART", "STALE_RECORD"),
        (
            ("NO_PENDING", "ANSWERED_ONCE"),
            ("NO_ONCE_JOIN", "JOINED_ONCE"),
            ("NO_SAME", "ALL_ANSWERED"),
            ("NO_LATE_ANSWER", "ALL_ANSWERED"),
        ),
    ),
    Variant(
        "joins: three parts, two are enough",
        "joins.pml",
        "PARTS=3 LEAST=2 CRASHES=1",
        ("JOINED_LATE", "EXPIRED"),
    ),
    Variant(
        "joins: parts expire",
        "joins.pml",
        "PARTS=2 LEAST=2 TAKEOVERS=1 GIVE_UPS=1",
        ("EXPIRED", "JOINED_BEFORE_IT_EXPIRED", "TOLD_AGAIN"),
        (("EXPIRY_UNGUARDED", "NOT_BOTH"), ("EXPIRY_SKIPPED", "MEMORY_EMPTY")),
    ),
    Variant(
        "joins: the root is given up, a part comes twice",
        "joins.pml",
        "PARTS=2 LEAST=1 CRASHES=1 GIVE_UPS=1 TWICE=1",
        ("PART_OF_GIVEN_UP", "TOLD_AGAIN"),
        (
            ("TIMER_UNGUARDED", "NOT_BOTH"),
            ("TELLS_NOBODY", "ALL_ANSWERED"),
            ("STOPS_ALL", "MEMORY_EMPTY"),
            ("NO_ONCE_ROOT", "NOT_BOTH"),
        ),
        ends=False,
    ),
    Variant(
        "joins: the server falls back",
        "joins.pml",
        "PARTS=2 LEAST=1 FALLBACKS=1 GIVE_UPS=1",
        ("ALL_JOINED", "FELL_BACK_JOINED"),
    ),
)
