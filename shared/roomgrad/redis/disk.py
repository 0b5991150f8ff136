"""The disk of the server: when what it acknowledged survives a power cut."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import redis

from roomgrad.errors import ServerError
from roomgrad.redis.server import Version, read_server_file, version_in

DURABLE_S = 5.0  # how long an acknowledgement waits for the disk


def wait_for_disk(connection: Any) -> bool:
    """Wait until what this connection wrote is on the server's disk; False if unknown.

    Raises ServerError if the disk takes longer than `DURABLE_S`.
    """
    try:
        local, _ = connection.execute_command("WAITAOF", 1, 0, round(DURABLE_S * 1000))
        if not local:
            raise ServerError(f"the server did not write to its disk within {DURABLE_S:g} s")
        info = connection.info("server")
        return not answers_early(version_in(info)) or _sync(connection, info["process_id"])
    except redis.ResponseError:  # no append-only file, or a command that is unknown or forbidden
        return False


def answers_early(found: Version) -> bool:
    """Return whether WAITAOF answers when the file is written, and not when it is on the disk.

    Redis 7.4 and Valkey since 8 do with `appendfsync everysec`: https://github.com/redis/redis/pull/13793
    """
    return found.number[:2] == (7, 4) if found.name == "redis" else found.number >= (8,)


def is_embedded(directory: Path, pid: object) -> bool:
    """Return whether a server is the embedded one of a directory of this machine."""
    return pid is not None and read_server_file(directory).get("pid") == pid


def _sync(connection: Any, pid: int) -> bool:
    """Have the files of an embedded server on the disk; False for any other server.

    The server has written them: that is when it answers WAITAOF.
    """
    config = {_text(k): _text(v) for k, v in connection.config_get("dir", "appendfsync").items()}
    if config["appendfsync"] == "always":
        return True
    directory = Path(config["dir"])
    if not is_embedded(directory, pid):
        return False
    for path in (directory / "appendonlydir").iterdir():
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # it was rewritten
            os.fsync(file.fileno())
    return True


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
