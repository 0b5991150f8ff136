"""A substitute for redis-cli, with as much of it as the pages show.

REDIS_URL=... python redis_cli.py [--raw] COMMAND ARGUMENT...
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import redis

ESCAPED = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 13: r"\r", 34: r"\"", 92: r"\\"}


def format_reply(value: Any, indent: int = 0) -> str:
    """Return a reply in the layout of redis-cli on a terminal."""
    if isinstance(value, list):
        return _numbered(value, indent) if value else "(empty array)"
    if value is None:
        return "(nil)"
    if isinstance(value, int):
        return f"(integer) {value}"
    return '"' + "".join(map(_escaped, bytes(value))) + '"'


def format_raw(value: Any) -> bytes:
    """Return a reply as `redis-cli --raw` writes it."""
    if isinstance(value, list):
        return b"\n".join(map(format_raw, value))
    return value if isinstance(value, bytes) else str(value or "").encode()


def main(words: Sequence[str]) -> None:
    """Run one command; after SUBSCRIBE, print notifications until the process is killed."""
    raw = "--raw" in words
    command = [word for word in words if word not in ("--raw", "--no-raw")]
    pool = redis.Redis.from_url(os.environ["REDIS_URL"], protocol=2).connection_pool
    connection: Any = pool.get_connection()
    connection.send_command(*command)
    if command[0].upper() == "SUBSCRIBE":
        print("Reading messages... (press Ctrl-C to quit)")
    while True:
        reply = connection.read_response(disable_decoding=True, timeout=None)
        sys.stdout.buffer.write(format_raw(reply) if raw else format_reply(reply).encode())
        sys.stdout.buffer.write(b"\n")
        sys.stdout.flush()
        if command[0].upper() != "SUBSCRIBE":
            return


def _numbered(values: list[Any], indent: int) -> str:
    width = len(str(len(values)))
    heads = [f"{number:>{width}}) " for number in range(1, len(values) + 1)]
    lines = [
        head + format_reply(value, indent + len(head))
        for head, value in zip(heads, values, strict=True)
    ]
    return ("\n" + " " * indent).join(lines)


def _escaped(byte: int) -> str:
    if byte in ESCAPED:
        return ESCAPED[byte]
    return chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"


if __name__ == "__main__":
    main(sys.argv[1:])
