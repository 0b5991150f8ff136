"""What is done to a model of real size: to its snapshots, to its steps, and to its history."""

from __future__ import annotations

import resource
import time
from typing import Any

from roomgrad.redis import heartbeats
from roomgrad.runtime.model.writer import WANTED
from tests.chaos.contract import LEARNER
from tests.chaos.environment import PATIENCE_S, Environment, Seen
from tests.chaos.faults import Fault, kill_one, kill_server, take_over, turn_over
from tests.integration.sentinels import AWAY
from tests.past import Past
from tests.waiting import until

NO_ROOM = "cannot take a snapshot"
FULL_BYTES = 2**20  # of a file: less than a snapshot has, more than a log
LOST_S = 1.0


def die_at(point: str) -> Fault:
    """Return a fault: the learner that comes to a point of its program first kills itself there."""

    def die(environment: Environment, seen: Seen) -> None:
        assert environment.model is not None
        (environment.model.deaths / point).touch()
        victim = until(environment.processes.killed_itself, PATIENCE_S)
        at = time.monotonic()
        environment.processes.note(f"{victim} has killed itself at {point}")
        take_over(environment, seen, environment.held_by(victim), at)
        environment.processes.start(victim)

    return die


def kill_snapshotter(environment: Environment, seen: Seen) -> None:
    """kill -9 of the learner that takes a snapshot; another one takes the next."""

    def snapshotter() -> str:
        holder: Any = environment.client.get(environment.names.snapshot_lease(LEARNER))
        words = (holder or b"").decode().split("~")
        names = (each for each in environment.processes.names)
        return next((n for n in names if str(environment.processes.pid(n)) in words), "")

    victim = until(snapshotter, PATIENCE_S)
    environment.anywhen()
    at = environment.processes.kill(victim)
    held = environment.held_by(victim)
    wait_snapshot(environment)
    seen.snapshot_s.append(time.monotonic() - at)
    take_over(environment, seen, held, at)
    environment.processes.start(victim)


def wait_snapshot(environment: Environment) -> None:
    """Wait until the run points to a newer snapshot."""
    before = environment.snapshots()[0]

    def newer() -> bool:
        found = environment.snapshots()
        return bool(found) and found[0].at > before.at

    until(newer, PATIENCE_S)


def no_room(environment: Environment, seen: Seen) -> None:
    """The disk of the store is full, or the server's memory; one snapshot is asked for meanwhile.

    The next one comes when there is room.
    """
    assert environment.model is not None
    environment.client.hset(environment.names.model(LEARNER), WANTED.decode(), "1")
    in_files = environment.model.in_files
    (limit_files if in_files else limit_memory)(environment, full=True)

    def noticed() -> bool:
        found = heartbeats.find(environment.client, environment.names, LEARNER)
        return any(NO_ROOM in each.snapshots for each in found)

    until(noticed, PATIENCE_S)
    environment.processes.note("a learner finds no room")
    (limit_files if in_files else limit_memory)(environment, full=False)
    wait_snapshot(environment)


def limit_files(environment: Environment, *, full: bool) -> None:
    """Let the learners write no larger file."""
    for name in environment.processes.names:
        if name.startswith(LEARNER):
            pid = environment.processes.pid(name)
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            soft = FULL_BYTES if full else most
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, most))


def limit_memory(environment: Environment, *, full: bool) -> None:
    """Let the server take no command that needs memory."""
    environment.client.config_set("maxmemory", "1mb" if full else "0")


def fall_back(environment: Environment, seen: Seen) -> None:
    """The server starts on data that are older than the newest snapshot, as after a bad restore."""
    client, server = environment.client, environment.server
    client.config_set("auto-aof-rewrite-percentage", 0)
    until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], PATIENCE_S)
    past = Past(server.directory, server.directory.parent)
    client.config_set("auto-aof-rewrite-percentage", 100)
    wait_snapshot(environment)
    environment.anywhen()
    server.kill()
    past.come_back()
    environment.processes.note("the server comes back with older data")
    environment.restart_server()
    seen.recovery_s.append(environment.next_delivery_s())


def lose_a_second(environment: Environment, seen: Seen) -> None:
    """The master dies when no replica has heard of it for a second: the next one lacks that."""
    servers, key = environment.server, environment.names.log("steps")

    def upset() -> int:
        for each in servers.servers:
            if each.port != servers.master_port:
                each.ask("CONFIG", "SET", "masterauth", "wrong")
        servers.master.ask("CLIENT", "KILL", "TYPE", "replica")
        time.sleep(LOST_S)
        written = {each.port: each.ask("XLEN", key) for each in servers.servers}
        if max(written.values()) == min(written.values()):
            seen.wrong.append("no replica lacked a step")
        return int(servers.kill_master())

    def mend(port: int) -> None:
        servers.restart(port)
        for each in servers.servers:  # sentinels have had it written into their files
            until(lambda each=each: _answered(each, "CONFIG", "SET", "masterauth", ""))

    turn_over(environment, seen, upset, mend)


def _answered(server: Any, *words: str) -> bool:
    try:
        server.ask(*words)
    except AWAY:
        return False
    return True


MODEL_FAULTS: dict[str, Fault] = {
    "kill -9 of a component": kill_one,
    "kill -9 between commit and apply": die_at("apply"),
    "kill -9 in the middle of a snapshot": die_at("piece"),
    "kill -9 between a snapshot and its pointer": die_at("point"),
    "kill -9 of the snapshotter": kill_snapshotter,
    "no room for snapshots": no_room,
    "kill -9 of the server, restart": kill_server,
    "server falls back": fall_back,
}
MODEL_SHORT = {
    name: MODEL_FAULTS[name]
    for name in (
        "kill -9 between commit and apply",
        "kill -9 in the middle of a snapshot",
        "kill -9 of the snapshotter",
        "no room for snapshots",
        "server falls back",
    )
}
MODEL_TURNOVERS: dict[str, Fault] = {"Sentinel: a second is lost": lose_a_second}
