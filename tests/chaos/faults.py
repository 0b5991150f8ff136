"""What is done to a system at work, each at a random instant and to random victims.

A fault acts on an `Environment`, waits for what has to follow, and answers what it has `Seen`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import redis

from roomgrad.runtime import runs
from tests.chaos.contract import DEED, WORK
from tests.chaos.environment import PATIENCE_S, Environment, Seen
from tests.waiting import until

STOP_LIMIT_S = 5.0
OVERFLOW = 12_000  # bytes: less than a large message has
Fault = Callable[[Environment, Seen], None]


def take_over(
    environment: Environment, seen: Seen, held: list[tuple[str, str, str, str]], at: float
) -> None:
    """Whatever dead or frozen hands held is done by others; how long that took."""
    for entry in held:
        seen.takeover_s.append(environment.wait_done(entry) - at)


def program_of(component: str) -> str:
    """Return the program of a component: one serves all members of an ensemble."""
    return component.partition(".")[0]


def kill_one(environment: Environment, seen: Seen) -> None:
    """kill -9 of one process; it is started again when its work was taken over."""
    (victim,) = environment.some()
    environment.anywhen()
    at = environment.processes.kill(victim)
    take_over(environment, seen, environment.held_by(victim), at)
    environment.processes.start(victim)


def kill_several(environment: Environment, seen: Seen) -> None:
    """kill -9 of several at once, perhaps all replicas of one; they are started again at once.

    Where a replica is left, it takes over; where none is, a new one has to start first.
    """
    victims = environment.some(2, len(environment.processes.names) - 1)
    environment.anywhen()
    at = environment.processes.kill(*victims)
    held = environment.held_by(*victims)
    left = {name.partition("-")[0] for name in environment.processes.names if name not in victims}
    environment.processes.start(*victims)
    take_over(environment, seen, [entry for entry in held if program_of(entry[2]) in left], at)
    for entry in held:
        environment.wait_done(entry)


def freeze(environment: Environment, seen: Seen) -> None:
    """SIGSTOP for longer than a lease and a heartbeat's life, then SIGCONT: a zombie comes back."""
    (victim,) = environment.some()
    environment.anywhen()
    at = environment.processes.freeze(victim)
    take_over(environment, seen, environment.held_by(victim), at)
    least = max(environment.times.lease_s, environment.times.heartbeat_lives_s) * 1.2
    time.sleep(max(0.0, least - (time.monotonic() - at)))
    environment.processes.thaw(victim)
    environment.wait_progress(20)


def terminate(environment: Environment, seen: Seen) -> None:
    """SIGTERM: it drains, hands back and exits 0 within five seconds.

    One that was started just now, and is not up yet, has nothing to drain: Python ends at once.
    """
    (victim,) = environment.some()
    until(lambda: environment.is_up(victim), PATIENCE_S)
    environment.anywhen()
    seconds, code = environment.processes.terminate(victim, 4 * STOP_LIMIT_S)
    seen.stop_s.append(seconds)
    limit_s = STOP_LIMIT_S if environment.model is None else 3 * STOP_LIMIT_S  # it ends torch, too
    if code != 0 or seconds > limit_s:
        seen.wrong.append(f"{victim} ended after {seconds:.1f} s with {code}")
    environment.processes.start(victim)


def kill_server(environment: Environment, seen: Seen) -> None:
    """kill -9 of the server, and a start on its append-only file."""
    environment.anywhen()
    environment.server.kill()
    time.sleep(environment.dice.uniform(0, 1))
    environment.restart_server()
    seen.recovery_s.append(environment.next_delivery_s())


def unreachable(environment: Environment, seen: Seen) -> None:
    """For a while every connection is refused, or no packet arrives."""
    refused = environment.dice.random() < 0.5
    (environment.proxy.refuse if refused else environment.proxy.freeze)()
    time.sleep(environment.times.outage_s)
    environment.proxy.mend()
    seen.recovery_s.append(environment.next_delivery_s())


def kill_clients(environment: Environment, seen: Seen) -> None:
    """CLIENT KILL of every connection but ours."""
    environment.anywhen()
    environment.client.execute_command("CLIENT", "KILL", "SKIPME", "yes")
    seen.recovery_s.append(environment.next_delivery_s())


def overflow(environment: Environment, seen: Seen) -> None:
    """The output buffer limit ends subscriptions, and connections that are sent a large message."""
    tight = f"normal {OVERFLOW} 0 0 pubsub {OVERFLOW} 0 0"
    environment.client.config_set("client-output-buffer-limit", tight)
    stat = "client_output_buffer_limit_disconnections"
    before = int(environment.client.info("stats").get(stat, 0))

    def ended() -> bool:
        environment.client.publish(environment.names.channel(str(WORK)), b"x" * 100_000)
        return int(environment.client.info("stats").get(stat, 0)) > before

    until(ended, PATIENCE_S)
    time.sleep(0.2)  # so that a large message meets the limit, too
    environment.client.config_set("client-output-buffer-limit", "normal 0 0 0 pubsub 32mb 8mb 60")
    seen.recovery_s.append(environment.next_delivery_s())


def half_open(environment: Environment, seen: Seen) -> None:
    """Make some connections dead without notice: packets are dropped, no reset comes."""
    environment.proxy.forget(lambda: environment.dice.random() < 0.5)
    environment.wait_progress(20)


def deafen(environment: Environment, seen: Seen) -> None:
    """Subscriptions stay connected and hear nothing; what is PUBLISHed is heard in the end."""
    environment.proxy.deafen()
    seen.heard_s.append(heard(environment))


def heard(environment: Environment) -> float:
    """Seconds until something that is PUBLISHed by hand is answered; it is no message."""
    began = time.monotonic()
    text = f"is anybody there at {began}?".encode()
    answered = f"refused:{hashlib.sha1(text).hexdigest()}"

    def is_answered() -> bool:
        environment.client.publish(environment.names.channel(str(DEED)), text)
        return environment.client.zscore(environment.names.taken(), answered) is not None

    until(is_answered, PATIENCE_S)
    return time.monotonic() - began


def destroy_group(environment: Environment, seen: Seen) -> None:
    """XGROUP DESTROY of a random group in the middle of work."""
    groups = list(runs.groups(environment.contract.system, environment.names))
    room, type_, group = environment.dice.choice(groups)
    environment.anywhen()
    environment.client.xgroup_destroy(environment.names.stream(room, type_), group)
    seen.recovery_s.append(environment.next_delivery_s())


def flush_scripts(environment: Environment, seen: Seen) -> None:
    """SCRIPT FLUSH."""
    environment.anywhen()
    environment.client.script_flush()
    seen.recovery_s.append(environment.next_delivery_s())


def flush_all(environment: Environment, seen: Seen) -> None:
    """FLUSHALL: the run starts again from step 0."""
    before: Any = environment.client.hget(environment.names.run_info(), "token")
    environment.anywhen()
    environment.client.flushall()

    def again() -> bool:
        try:
            token = environment.client.hget(environment.names.run_info(), "token")
        except redis.RedisError:
            return False
        return token not in (None, before) and environment.progress() > 0

    until(again, PATIENCE_S)


def kill_master(environment: Environment, seen: Seen) -> None:
    """kill -9 of the master; it comes back as a replica of the next one."""
    turn_over(environment, seen, environment.server.kill_master, environment.server.restart)


def freeze_master(environment: Environment, seen: Seen) -> None:
    """SIGSTOP of the master until another is elected; it wakes up as a master for a moment."""
    turn_over(environment, seen, environment.server.freeze_master, environment.server.thaw)


def fail_over(environment: Environment, seen: Seen) -> None:
    """SENTINEL FAILOVER while the master lives."""
    turn_over(environment, seen, environment.server.failover, lambda port: None)


def turn_over(
    environment: Environment, seen: Seen, upset: Callable[[], int], mend: Callable[[int], None]
) -> None:
    """Waits for the next master and the first effect that it sees, and mends the former one."""
    environment.anywhen()
    port = upset()
    environment.server.wait_elected()
    environment.client.connection_pool.disconnect()
    seen.recovery_s.append(environment.next_delivery_s())
    mend(port)
    environment.server.wait_replicas(2)


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
# Faults for contestants without scripts, marks and groups.
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
