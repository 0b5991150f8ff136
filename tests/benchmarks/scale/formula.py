"""The formula: what a load costs, from constants that were measured each by itself."""

from __future__ import annotations

from dataclasses import dataclass

HISTORY = 1000  # entries that a stream keeps
QUARTER = HISTORY / 4  # that have to come before it is trimmed, which is at a heartbeat


@dataclass(frozen=True)
class Constants:
    """CPU times in microseconds, sizes in bytes."""

    message_us: float
    """Of the server for a message of 4 KiB: commit, ring, memory, and the read."""

    client_us: float
    """Of the component that handles it: all that is not in the handler."""

    beat_us: float
    """Of the server for an idle replica, per second: heartbeat, its ring, a read that ends."""

    client_beat_us: float
    """Of an idle replica, per second."""

    ring_us: float
    """Of the server for each replica more that hears a message ring."""

    client_ring_us: float
    """Of a replica that hears it."""

    connections: float
    """Of a replica."""

    replica: float
    """Memory of the server for a replica."""

    retained: float
    """Memory of the server for a message that a stream keeps."""

    root: float
    """Memory of the server for an open root: a field in a memory hash, and a waiting entry."""

    received: float
    """By the server from the network, for a message."""

    sent: float
    """By the server to the network, for a message."""

    written: float
    """To the append-only file, for a message."""

    step_us: float
    """Of the server for a step of the trebuchet: six messages, and the model."""

    step_client_us: float
    """Of all its components together."""

    step_received: float
    step_sent: float
    step_written: float


@dataclass(frozen=True)
class Load:
    """What goes on at one server."""

    replicas: float
    messages_s: float = 0.0
    bystanders: float = 0.0
    """Replicas that hear each message, beyond the first one."""

    streams: float = 0.0
    """That hold their whole history."""

    roots: float = 0.0
    """That are open."""


def server_cpu(constants: Constants, load: Load) -> float:
    """Share of one core of the server."""
    each = constants.message_us + load.bystanders * constants.ring_us
    return (load.messages_s * each + load.replicas * constants.beat_us) / 1e6


def client_cpu(constants: Constants, load: Load) -> float:
    """Cores of all components together, without their handlers."""
    each = constants.client_us + load.bystanders * constants.client_ring_us
    return (load.messages_s * each + load.replicas * constants.client_beat_us) / 1e6


def held(messages_s: float) -> float:
    """Entries of a stream into which so many come in a second, on average between two trims."""
    return HISTORY + max(QUARTER, messages_s) / 2


def memory(constants: Constants, load: Load, empty: float = 0.0) -> float:
    """Bytes of the server beyond those of an empty one."""
    each = load.messages_s / load.streams if load.streams else 0.0
    history = load.streams * held(each) * constants.retained
    roots = load.roots * constants.root
    return empty + load.replicas * constants.replica + history + roots


def most_messages_s(constants: Constants, replicas: float = 0.0, bystanders: float = 0.0) -> float:
    """Messages a second at which the one thread of a server is busy all the time."""
    each = constants.message_us + bystanders * constants.ring_us
    return max(0.0, 1e6 - replicas * constants.beat_us) / each


def most_steps_s(constants: Constants, replicas: float = 0.0) -> float:
    """Steps of the trebuchet a second, of all runs together, that one server can take."""
    return max(0.0, 1e6 - replicas * constants.beat_us) / constants.step_us
