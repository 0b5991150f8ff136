"""What is done to a system at work, each at a random instant and to random victims.

A fault acts on a `Stage`, waits for what has to follow, and answers what it has `Seen`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import redis

from roomgrad.runtime import runs
from tests.chaos.contract import CHAOS, DEED, WORK
from tests.chaos.stage import PATIENCE_S, Seen, Stage
from tests.waiting import until

STOP_LIMIT_S = 5.0
OVERFLOW = 12_000  # bytes: less than a large message has
Fault = Callable[[Stage, Seen], None]


def take_over(stage: Stage, seen: Seen, held: list[tuple[str, str, str, str]], at: float) -> None:
    """Whatever dead or frozen hands held is done by others; how long that took."""
    for entry in held:
        seen.takeover_s.append(stage.wait_done(entry) - at)


def kill_one(stage: Stage, seen: Seen) -> None:
    """kill -9 of one process; it is started again when its work was taken over."""
    (victim,) = stage.some()
    stage.anywhen()
    at = stage.crew.kill(victim)
    take_over(stage, seen, stage.held_by(victim), at)
    stage.crew.start(victim)


def kill_several(stage: Stage, seen: Seen) -> None:
    """kill -9 of several at once, perhaps all replicas of one; they are started again at once.

    Where a replica is left, it takes over; where none is, a new one has to start first.
    """
    victims = stage.some(2, len(stage.crew.names) - 1)
    stage.anywhen()
    at = stage.crew.kill(*victims)
    held = stage.held_by(*victims)
    left = {name.partition("-")[0] for name in stage.crew.names if name not in victims}
    stage.crew.start(*victims)
    take_over(stage, seen, [entry for entry in held if entry[2] in left], at)
    for entry in held:
        stage.wait_done(entry)


def freeze(stage: Stage, seen: Seen) -> None:
    """SIGSTOP for longer than a lease and a heartbeat's life, then SIGCONT: a zombie comes back."""
    (victim,) = stage.some()
    stage.anywhen()
    at = stage.crew.freeze(victim)
    take_over(stage, seen, stage.held_by(victim), at)
    least = max(stage.times.lease_s, stage.times.heartbeat_lives_s) * 1.2
    time.sleep(max(0.0, least - (time.monotonic() - at)))
    stage.crew.thaw(victim)
    stage.wait_progress(20)


def terminate(stage: Stage, seen: Seen) -> None:
    """SIGTERM: it drains, hands back and exits 0 within five seconds.

    One that was started just now, and is not up yet, has nothing to drain: Python ends at once.
    """
    (victim,) = stage.some()
    until(lambda: stage.is_up(victim), PATIENCE_S)
    stage.anywhen()
    seconds, code = stage.crew.terminate(victim, 4 * STOP_LIMIT_S)
    seen.stop_s.append(seconds)
    if code != 0 or seconds > STOP_LIMIT_S:
        seen.wrong.append(f"{victim} ended after {seconds:.1f} s with {code}")
    stage.crew.start(victim)


def kill_server(stage: Stage, seen: Seen) -> None:
    """kill -9 of the server, and a start on its append-only file."""
    stage.anywhen()
    stage.server.kill()
    time.sleep(stage.dice.uniform(0, 1))
    stage.restart_server()
    seen.recovery_s.append(stage.next_delivery_s())


def unreachable(stage: Stage, seen: Seen) -> None:
    """For a while every connection is refused, or no packet arrives."""
    refused = stage.dice.random() < 0.5
    (stage.proxy.refuse if refused else stage.proxy.freeze)()
    time.sleep(stage.times.outage_s)
    stage.proxy.mend()
    seen.recovery_s.append(stage.next_delivery_s())


def kill_clients(stage: Stage, seen: Seen) -> None:
    """CLIENT KILL of every connection but ours."""
    stage.anywhen()
    stage.client.execute_command("CLIENT", "KILL", "SKIPME", "yes")
    seen.recovery_s.append(stage.next_delivery_s())


def overflow(stage: Stage, seen: Seen) -> None:
    """The output buffer limit ends subscriptions, and connections that are sent a large message."""
    tight = f"normal {OVERFLOW} 0 0 pubsub {OVERFLOW} 0 0"
    stage.client.config_set("client-output-buffer-limit", tight)
    stat = "client_output_buffer_limit_disconnections"
    before = int(stage.client.info("stats").get(stat, 0))

    def ended() -> bool:
        stage.client.publish(stage.names.channel(str(WORK)), b"x" * 100_000)
        return int(stage.client.info("stats").get(stat, 0)) > before

    until(ended, PATIENCE_S)
    time.sleep(0.2)  # so that a large message meets the limit, too
    stage.client.config_set("client-output-buffer-limit", "normal 0 0 0 pubsub 32mb 8mb 60")
    seen.recovery_s.append(stage.next_delivery_s())


def half_open(stage: Stage, seen: Seen) -> None:
    """Some connections are dead and nobody is told: packets are dropped, no reset comes."""
    stage.proxy.forget(lambda: stage.dice.random() < 0.5)
    stage.wait_progress(20)


def deafen(stage: Stage, seen: Seen) -> None:
    """Subscriptions stay connected and hear nothing; what is PUBLISHed is heard in the end."""
    stage.proxy.deafen()
    seen.heard_s.append(heard(stage))


def heard(stage: Stage) -> float:
    """Seconds until something that is PUBLISHed by hand is answered; it is no message."""
    began = time.monotonic()
    text = f"is anybody there at {began}?".encode()
    answered = f"refused:{hashlib.sha1(text).hexdigest()}"

    def is_answered() -> bool:
        stage.client.publish(stage.names.channel(str(DEED)), text)
        return stage.client.zscore(stage.names.taken(), answered) is not None

    until(is_answered, PATIENCE_S)
    return time.monotonic() - began


def destroy_group(stage: Stage, seen: Seen) -> None:
    """XGROUP DESTROY of a random group in the middle of work."""
    room, type_, group = stage.dice.choice(list(runs.groups(CHAOS, stage.names)))
    stage.anywhen()
    stage.client.xgroup_destroy(stage.names.stream(room, type_), group)
    seen.recovery_s.append(stage.next_delivery_s())


def flush_scripts(stage: Stage, seen: Seen) -> None:
    """SCRIPT FLUSH."""
    stage.anywhen()
    stage.client.script_flush()
    seen.recovery_s.append(stage.next_delivery_s())


def flush_all(stage: Stage, seen: Seen) -> None:
    """FLUSHALL: the run starts again from step 0."""
    before: Any = stage.client.hget(stage.names.run_info(), "token")
    stage.anywhen()
    stage.client.flushall()

    def again() -> bool:
        try:
            token = stage.client.hget(stage.names.run_info(), "token")
        except redis.RedisError:
            return False
        return token not in (None, before) and stage.progress() > 0

    until(again, PATIENCE_S)


def kill_master(stage: Stage, seen: Seen) -> None:
    """kill -9 of the master; it comes back as a replica of the next one."""
    turn_over(stage, seen, stage.server.kill_master, stage.server.restart)


def freeze_master(stage: Stage, seen: Seen) -> None:
    """SIGSTOP of the master until another is elected; it wakes up as a master for a moment."""
    turn_over(stage, seen, stage.server.freeze_master, stage.server.thaw)


def fail_over(stage: Stage, seen: Seen) -> None:
    """SENTINEL FAILOVER while the master lives."""
    turn_over(stage, seen, stage.server.failover, lambda port: None)


def turn_over(
    stage: Stage, seen: Seen, upset: Callable[[], int], mend: Callable[[int], None]
) -> None:
    """Waits for the next master and the first effect that it sees, and mends the former one."""
    stage.anywhen()
    port = upset()
    stage.server.wait_elected()
    stage.client.connection_pool.disconnect()
    seen.recovery_s.append(stage.next_delivery_s())
    mend(port)
    stage.server.wait_replicas(2)


# FLUSHALL comes first: what follows is counted from the new beginning.
FLUSH: dict[str, Fault] = {"FLUSHALL": flush_all}
FAULTS: dict[str, Fault] = {
    "kill -9 of a component": kill_one,
    "kill -9 of several at once": kill_several,
    "SIGSTOP beyond the lease, SIGCONT": freeze,
    "SIGTERM": terminate,
    "kill -9 of the server, restart": kill_server,
    "server unreachable": unreachable,
    "CLIENT KILL": kill_clients,
    "output buffer limit": overflow,
    "half-open connections": half_open,
    "deaf subscriptions": deafen,
    "XGROUP DESTROY": destroy_group,
    "SCRIPT FLUSH": flush_scripts,
}
TURNOVERS: dict[str, Fault] = {
    "Sentinel: kill -9 of the master": kill_master,
    "Sentinel: SIGSTOP of the master": freeze_master,
    "Sentinel: SENTINEL FAILOVER": fail_over,
}
# What can be done to those who know nothing of scripts, marks and groups.
COMMON = (
    "kill -9 of a component",
    "kill -9 of several at once",
    "SIGSTOP beyond the lease, SIGCONT",
    "SIGTERM",
    "kill -9 of the server, restart",
    "server unreachable",
    "CLIENT KILL",
    "half-open connections",
)
