"""The settings of a server that would lose data: the value that each needs, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from roomgrad.codec import MAX_MESSAGE_BYTES
from roomgrad.inspect.doctor.findings import Finding, Level, ok

MIB = 1024 * 1024


@dataclass(frozen=True)
class Setting:
    """A row of the table below."""

    name: str
    fits: Callable[[str], bool]
    expected: str
    value: str
    """The value for CONFIG SET."""
    level: Level
    why: str


def among(*words: str) -> Callable[[str], bool]:
    """Return a test that a value is one of these."""
    return words.__contains__


def number(fits: Callable[[int], bool]) -> Callable[[str], bool]:
    """Return a test of a number; a value that is no number passes."""
    return lambda text: not text.lstrip("-").isdecimal() or fits(int(text))


def buffers(kind: str, least: int) -> Callable[[str], bool]:
    """Return a test that the limits of a kind of client are 0 (none) or large enough.

    The value is like `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`: kind,
    hard limit, soft limit, seconds.
    """

    def fits(text: str) -> bool:
        words = text.split()
        at = words.index(kind) if kind in words else len(words)
        return all(int(limit) == 0 or int(limit) >= least for limit in words[at + 1 : at + 3])

    return fits


TABLE = (
    Setting(
        "maxmemory-policy", among("noeviction"), "noeviction", "noeviction", Level.PROBLEM,
        "when memory is full, any other policy deletes messages, memory and weights",
    ),
    Setting(
        "appendonly", among("yes"), "yes", "yes", Level.PROBLEM,
        "without its append-only file a restart loses everything since the last snapshot, or all",
    ),
    Setting(
        "appendfsync", among("everysec", "always"), "everysec or always", "everysec", Level.WARNING,
        "a power cut loses what the system has not written yet, about 30 s",
    ),
    Setting(
        "no-appendfsync-on-rewrite", among("no"), "no", "no", Level.WARNING,
        "while the file is rewritten, writes are not synced to disk",
    ),
    Setting(
        "timeout", number(lambda seconds: seconds == 0), "0", "0", Level.WARNING,
        "components that wait or work longer lose their connection",
    ),
    Setting(
        "proto-max-bulk-len", number(lambda size: size >= MAX_MESSAGE_BYTES),
        f"{MAX_MESSAGE_BYTES} or more", "512mb", Level.PROBLEM,
        "a message may have 64 MiB, which could not be sent",
    ),
    Setting(
        "busy-reply-threshold", number(lambda ms: ms <= 0 or ms >= 1000), "1000 (ms) or more",
        "5000", Level.WARNING,
        "while a large commit runs, all other clients get the error BUSY",
    ),
    Setting(
        "client-output-buffer-limit", buffers("normal", 2 * MAX_MESSAGE_BYTES),
        f"normal 0 0 0, or {2 * MAX_MESSAGE_BYTES} and more", "'normal 0 0 0'", Level.PROBLEM,
        "a component that reads a large message is disconnected until it is a dead letter",
    ),
    Setting(
        "client-output-buffer-limit", buffers("pubsub", 4 * MIB),
        f"pubsub 33554432 8388608 60, or {4 * MIB} and more", "'pubsub 33554432 8388608 60'",
        Level.WARNING,
        "a subscriber is disconnected when many notifications come at once",
    ),
)  # fmt: skip

NAMES = tuple(dict.fromkeys(setting.name for setting in TABLE))


def by_info(info: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that INFO tells, for a server that refuses CONFIG."""
    found: dict[str, str] = {}
    if "aof_enabled" in info:
        found["appendonly"] = "yes" if info["aof_enabled"] else "no"
    if "maxmemory_policy" in info:
        found["maxmemory-policy"] = str(info["maxmemory_policy"])
    if "connected_slaves" in info and "min_slaves_good_slaves" not in info:
        found["min-replicas-to-write"] = "0"  # INFO counts good replicas only if some are demanded
    return found


def check(config: Mapping[str, str], remedy: Callable[[str, str], str]) -> Iterator[Finding]:
    """Yield a finding for each setting that is known. remedy: how to set one to a value."""
    for setting in TABLE:
        value = config.get(setting.name)
        if value is None:
            continue
        if setting.fits(value):
            yield ok(setting.name, value)
        else:
            yield Finding(
                setting.level,
                setting.name,
                f"{value or 'empty'}: {setting.why}",
                setting.expected,
                remedy(setting.name, setting.value),
            )
