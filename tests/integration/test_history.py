"""History is kept within limits, and nothing that is owed is ever trimmed."""

from __future__ import annotations

from typing import Any

import pytest

from roomgrad import scripts
from roomgrad.runtime import runs
from roomgrad.runtime.dead_letters import ERRORS_KEPT
from tests.integration.conftest import Cage
from tests.integration.parrots import HEARD, PARROTS, SAID, numbers, parrot
from tests.waiting import until


def fill(cage: Cage, count: int, values: int = 1) -> None:
    """So many messages in the cage, without a round trip for each."""
    body = b'{"ID":"i%d","ROOT_ID":"r%d","TYPE":"DATA/FORWARD","DATA":%s}'
    with cage.client.pipeline(transaction=False) as pipe:
        for number in range(count):
            data = b'{"$array":{"field":"DATA","dtype":"<f4","shape":[%d]}}' % values
            fields = {"ID": f"i{number}", "m": body % (number, number, data)}
            fields["DATA"] = numbers(*[number] * values).tobytes()
            pipe.xadd(cage.names.stream(*HEARD.key), fields)  # type: ignore[arg-type]
        pipe.execute()


def length(cage: Cage, stream: Any = HEARD) -> int:
    return int(cage.client.xlen(cage.names.stream(*stream.key)))


def test_acknowledged_messages_are_trimmed_to_the_limit(cage: Cage) -> None:
    """As many as HISTORY_ENTRIES are kept, and with the others go the marks of what was done."""
    cage.start(parrot(), history_entries=10)
    fill(cage, 100)
    until(lambda: cage.said() == 100)
    until(lambda: length(cage) <= 12)
    assert length(cage) >= 10
    marks = cage.names.done("parrot", *HEARD.key)
    left = {entry for entry, _ in cage.client.xrange(cage.names.stream(*HEARD.key))}
    done = set(cage.client.zrange(marks, 0, -1))
    assert left <= done
    # Marks go by the millisecond: those of the oldest one that is kept may all be there.
    oldest = min(int(entry.split(b"-")[0]) for entry in left)
    assert all(int(entry.split(b"-")[0]) >= oldest for entry in done)


def test_history_is_bounded_in_bytes_too(cage: Cage) -> None:
    """Large messages are kept in smaller numbers."""
    cage.start(parrot(), history_entries=1000, history_mib=1)
    fill(cage, 40, values=25_000)  # 100 kB each
    until(lambda: cage.said() == 40)
    key = cage.names.stream(*HEARD.key)
    until(lambda: cage.client.memory_usage(key, samples=0) < 1.5 * 2**20)
    assert length(cage) >= 5


def test_large_messages_are_trimmed_at_the_next_heartbeat(cage: Cage) -> None:
    """Ten heartbeats of them would be gigabytes."""
    cage.start(parrot(), history_mib=1, heartbeat_interval_s=2.0, heartbeat_lives_s=6.0)
    fill(cage, 40, values=25_000)  # 100 kB each
    until(lambda: cage.said() == 40)
    until(lambda: length(cage) < 20, timeout_s=8)  # four beats


def test_what_a_group_has_not_acknowledged_is_never_trimmed(cage: Cage) -> None:
    """The listener is not there: every word of the parrot waits for it."""
    cage.start(parrot(), history_entries=5)
    fill(cage, 50)
    until(lambda: length(cage) <= 7)
    assert length(cage, SAID) == 50


def test_what_is_pending_is_never_trimmed(cage: Cage) -> None:
    """One message is tried again and again: it, and what came after it, stays."""

    def moody(message: Any, context: Any) -> Any:
        if message.array[0] == 20:
            raise RuntimeError("not this one")
        return message.reply("perch", message.array)

    cage.start(parrot(moody), history_entries=5, max_deliveries=1000)
    fill(cage, 50)
    until(lambda: cage.said() == 49)
    until(lambda: length(cage) == 30)
    assert cage.pending() == 1


def test_a_destroyed_group_stops_trimming(cage: Cage) -> None:
    """It owes everything that it has not done, until it is created again."""
    script = cage.client.register_script(scripts.load("trim"))
    cage.start(parrot()).stop()
    fill(cage, 20)
    key = cage.names.stream(*HEARD.key)
    cage.client.xgroup_destroy(key, "parrot")
    marks = cage.names.done("parrot", *HEARD.key)
    assert script(keys=[key, cage.names.run_info(), marks], args=[5, 2**30, "parrot"]) == 0
    assert length(cage) == 20


def test_a_forgotten_component_holds_no_history_back(cage: Cage) -> None:
    """`forget` removes its groups for good; history need not wait for it any more."""
    cage.start(parrot(), history_entries=5)
    fill(cage, 30)
    until(lambda: cage.said() == 30)
    assert runs.forget(cage.client, PARROTS, cage.names, "listener") > 0
    groups = cage.client.xinfo_groups(cage.names.stream(*SAID.key))
    assert groups == []
    until(lambda: length(cage, SAID) <= 6)  # also in replicas that started before
    assert runs.create_groups(cage.client, PARROTS, cage.names) == 0  # and stay away


def test_reports_are_bounded(cage: Cage) -> None:
    """Rooms without groups are trimmed by size."""

    def noisy(message: Any, context: Any) -> None:
        context.report(NUMBER=1)

    cage.start(parrot(noisy))
    fill(cage, 10)
    until(lambda: cage.client.xlen(cage.names.stream("_logging", "LOG/KPI")) == 10)


@pytest.mark.slow
def test_errors_are_bounded(cage: Cage) -> None:
    """A flood of rubbish leaves about a thousand errors, and all the dead letters."""
    cage.start(parrot())
    with cage.client.pipeline(transaction=False) as pipe:
        for _ in range(ERRORS_KEPT + 500):
            pipe.xadd(cage.names.stream(*HEARD.key), {"m": "rubbish"})
        pipe.execute()
    until(lambda: cage.client.xlen(cage.names.dead()) == ERRORS_KEPT + 500, timeout_s=40)
    assert cage.client.xlen(cage.names.stream("errors", "LOG/ERROR")) < ERRORS_KEPT + 200
