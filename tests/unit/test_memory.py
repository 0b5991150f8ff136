"""Memory, tables and counters: what is read is remembered, what is written is staged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roomgrad.codec import pack
from roomgrad.commit import Commit
from roomgrad.context import Context
from roomgrad.errors import StrayMessage
from roomgrad.memory import Cache, Counters, Memory, Table
from roomgrad.names import Names


class Hashes:
    """A hash in a dict; it counts how often it is asked."""

    def __init__(self, stored: dict[bytes, bytes]) -> None:
        self.stored = stored
        self.asked = 0

    def hget(self, _: str, field: bytes) -> bytes | None:
        self.asked += 1
        return self.stored.get(field)

    def hmget(self, _: str, fields: list[bytes]) -> list[bytes | None]:
        self.asked += 1
        return [self.stored.get(field) for field in fields]

    def hgetall(self, _: str) -> dict[bytes, bytes]:
        self.asked += 1
        return dict(self.stored)


def memory(stores: bool = True, **records: dict[str, Any]) -> Memory:
    """A memory in which these records stand."""
    stored = {name.encode(): pack(record) for name, record in records.items()}
    return Memory("key", Hashes(stored), "root", stores)


def test_a_record_is_found_again_with_its_root() -> None:
    """A handler sees its own staged writes; the ROOT_ID is added to each."""
    mine = memory()
    mine.put("a", data=np.arange(3))
    record = mine.get("a")
    assert record is not None
    assert record["ROOT_ID"] == "root"
    assert record["data"].tolist() == [0, 1, 2]


def test_what_was_read_is_remembered_for_the_commit() -> None:
    """Also that there was nothing."""
    mine = memory(a={"x": 1})
    mine.get("a")
    mine.get("b")
    assert mine.seen == {"a": pack({"x": 1}), "b": None}


def test_a_field_is_read_once() -> None:
    """What a handler saw does not change while it runs."""
    hashes = Hashes({b"a": pack({"x": 1})})
    table = Table("key", hashes)
    assert table.get("a") == {"x": 1}
    hashes.stored[b"a"] = pack({"x": 2})
    assert table.get("a") == {"x": 1}
    assert hashes.asked == 1


def test_many_fields_are_read_in_one_go_and_each_is_a_guard() -> None:
    """Those that are not there, too; what is staged is seen and not asked for."""
    hashes = Hashes({b"a": pack({"x": 1}), b"b": pack({"x": 2})})
    table = Table("key", hashes)
    table.put("b", x=3)
    assert table.get_many(["a", "b", "c", "a"]) == {"a": {"x": 1}, "b": {"x": 3}}
    assert table.seen == {"a": pack({"x": 1}), "c": None}
    assert table.get_many(["c", "a"]) == {"a": {"x": 1}}
    assert hashes.asked == 1


def test_a_glance_sees_everything_with_what_is_staged_and_guards_nothing() -> None:
    """For tables whose writers all change one field that is a guard."""
    table = Table("key", Hashes({b"a": pack({"x": 1}), b"b": pack({"x": 2})}))
    table.put("c", x=3)
    table.delete("a")
    assert table.peek() == {"b": {"x": 2}, "c": {"x": 3}}
    assert table.seen == {}


def test_a_popped_record_is_gone_and_stray_the_second_time() -> None:
    """A pop requires the field to be there, for this handler too."""
    mine = memory(a={"x": 1})
    assert mine.pop("a") == {"x": 1}
    assert mine.staged == {"a": None}
    with pytest.raises(StrayMessage, match="no memory of a"):
        mine.pop("a")


def test_validation_leaves_no_memory() -> None:
    """A VALIDATE message is answered, nothing is put."""
    mine = memory(stores=False)
    mine.put("a", x=1)
    assert mine.staged == {}
    assert mine.weight_changes() == ([], [])


# weights that open roots keep


def test_a_record_with_weights_keeps_them_until_it_is_popped() -> None:
    """Put retains once, pop releases once."""
    mine = memory()
    mine.put("a", weights="v1")
    assert mine.weight_changes() == (["v1"], [])
    before = memory(a={"weights": "v1"})
    before.pop("a")
    assert before.weight_changes() == ([], ["v1"])


def test_a_record_that_is_put_and_popped_by_one_handler_keeps_nothing() -> None:
    """Nothing is left to keep."""
    mine = memory()
    mine.put("a", weights="v1")
    mine.pop("a")
    assert mine.weight_changes() == ([], [])


def test_a_record_that_is_put_twice_keeps_its_weights_once() -> None:
    """The last put counts."""
    mine = memory()
    mine.put("a", weights="v1")
    mine.put("a", weights="v1", more=1)
    assert net(mine) == {"v1": 1}
    mine.put("a", weights="v2")
    assert net(mine) == {"v2": 1}
    mine.put("a", nothing=1)
    assert net(mine) == {}


def test_a_record_that_changes_its_weights_releases_the_former() -> None:
    """So that no version is kept for ever."""
    mine = memory(a={"weights": "v1"})
    mine.get("a")
    mine.put("a", weights="v2")
    assert net(mine) == {"v1": -1, "v2": 1}
    mine = memory(a={"weights": "v1"})
    mine.get("a")
    mine.put("a", weights="v1")
    assert net(mine) == {}
    mine = memory(a={"weights": "v1"})
    mine.get("a")
    mine.put("a", other=1)
    assert net(mine) == {"v1": -1}


def test_a_record_that_is_deleted_releases_its_weights() -> None:
    """As a pop does."""
    mine = memory(a={"weights": "v1"})
    mine.get("a")
    mine.delete("a")
    assert net(mine) == {"v1": -1}


def test_the_weights_of_a_record_are_told_without_a_look_at_its_arrays() -> None:
    """Whatever bytes they hold; a part of the record that has such a name is not meant."""
    array = np.frombuffer(b'\n{"weights":"v9"}' * 100, "|u1")
    mine = memory()
    mine.put("1", weights="v1", kept=array)
    mine.put("2", part={"weights": "v2"}, kept=array)
    mine.put("3", kept=array)
    assert mine.weight_changes() == (["v1"], [])
    assert (mine.pop("1")["kept"] == array).all()


def net(mine: Memory) -> dict[str, int]:
    """How many more records need each version after the commit."""
    counts: dict[str, int] = {}
    retained, released = mine.weight_changes()
    for version in retained:
        counts[version] = counts.get(version, 0) + 1
    for version in released:
        counts[version] = counts.get(version, 0) - 1
    return {version: count for version, count in counts.items() if count}


def test_counters_add_up() -> None:
    """One number per name goes into the commit."""
    counters = Counters("key")
    counters.add("sent")
    counters.add("sent", 2)
    counters.add("dead")
    assert counters.staged == {"sent": 3, "dead": 1}


def test_a_commit_holds_what_the_handler_used_and_the_cache_its_memory() -> None:
    """In this order: memory, tables, logs, weights, counters."""
    cache = Cache()
    untouched, used = (Context(Names("r"), "me", None, Hashes({})) for _ in range(2))
    for context in (untouched, used):
        context.remember(cache)
    commit = Commit()
    untouched.stage(commit)
    assert (commit.keys, commit.guards, commit.operations) == ({}, [], [])
    used.counters.add("heard")
    used.table("shown").put("now", loss=1.0)
    used.append("night", note=1)
    used.memory.put("1", weights="v1")
    used.stage(commit)
    keys = {number: name for name, number in commit.keys.items()}
    assert [(what, keys[key]) for what, key, *_ in commit.operations] == [
        (b"HSET", "{r}:memory:me"),
        (b"HSET", "{r}:shown"),
        (b"XADD", "{r}:night:log"),
        (b"RETAIN", "{r}:model:me:kept"),
        (b"HINCRBY", "{r}:counters:me"),
    ]
    used.remember(cache)
    assert cache.get("{r}:memory:me", b"1") == used.memory.staged["1"]
