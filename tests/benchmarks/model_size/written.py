"""What a step writes into the append-only file, in all and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import redis

from roomgrad.names import Names

LONGEST = 200  # bytes of an argument that is looked at


@dataclass(frozen=True)
class Command:
    """A command of the file: its arguments, the long ones left out, and its size in bytes."""

    words: list[bytes]
    size: int


def position(client: redis.Redis) -> int:
    """Return how many bytes of the newest file are written: whole commands."""
    info: Any = client.info("persistence")
    return int(info["aof_current_size"]) - int(info["aof_base_size"])


def per_step(directory: Path, names: Names, learner: str, begin: int, end: int) -> dict[str, float]:
    """Return the bytes of a step between two positions, from the end of a step to that of another.

    written_b: all of them. learner_b: commits of the learner and its reads. model_b: commands on
    the keys of its model, but for snapshot_b: the pieces of snapshots that are stored in Redis.
    """
    [path] = (directory / "appendonlydir").glob("*.incr.aof")
    model = names.model(learner).encode()
    home = names.stream("input", "DATA/GRADIENT").encode()
    found = dict.fromkeys(("written_b", "learner_b", "model_b", "snapshot_b"), 0)
    at_home: dict[str, int] = {}
    steps = -1
    with path.open("rb") as file:
        for commands in _transactions(file, begin, end):
            if steps >= 0:
                size = sum(each.size for each in commands)
                found["written_b"] += size
                found["learner_b"] += size if _is_of(commands, learner.encode()) else 0
                for each in commands:
                    if each.words[1:] and each.words[1].startswith(model):
                        kind = "snapshot_b" if b":snapshot:" in each.words[1] else "model_b"
                        found[kind] += each.size
            if any(each.words[:2] == [b"XADD", home] for each in commands):
                steps, at_home = steps + 1, dict(found)
    return {name: size / max(1, steps) for name, size in at_home.items()}


def _is_of(commands: list[Command], learner: bytes) -> bool:
    """Return whether a transaction is a commit or a read of the learner."""
    own = (b":model:" + learner, b":memory:" + learner)
    return any(
        (each.words[0] in (b"XACK", b"XCLAIM") and each.words[2] == learner)
        or (each.words[1:] and any(part in each.words[1] for part in own))
        for each in commands
    )


def _transactions(file: IO[bytes], begin: int, end: int) -> Iterator[list[Command]]:
    """Yield the commands that were executed together."""
    file.seek(begin)
    together: list[Command] = []
    inside = False
    while file.tell() < end:
        command = _command(file)
        together.append(command)
        inside = command.words[0] != b"EXEC" and (inside or command.words[0] == b"MULTI")
        if not inside:
            yield together
            together = []


def _command(file: IO[bytes]) -> Command:
    begin = file.tell()
    count = int(file.readline()[1:])
    words = [_word(file) for _ in range(count)]
    return Command(words, file.tell() - begin)


def _word(file: IO[bytes]) -> bytes:
    size = int(file.readline()[1:])
    if size <= LONGEST:
        return file.read(size + 2)[:-2]
    file.seek(size + 2, 1)
    return b""
