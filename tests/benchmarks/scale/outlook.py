"""What the formula says of loads that do not fit this machine: what is full first?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.benchmarks.scale import formula
from tests.benchmarks.scale.formula import Constants, Load

REPLICAS = 3  # of a run of the trebuchet
ALONE_S = 300.0  # steps a second of a run that has a server and two cores for itself
RUN_BYTES = 23e6  # of the trebuchet, when its tables and its ledger are full
CONNECTIONS = 10_000  # maxclients, as servers come
BUSY = 0.7  # of a core of the server: beyond that, waiting grows fast


@dataclass(frozen=True)
class Outlook:
    """So many runs of the trebuchet on one server."""

    runs: int
    steps_s: float
    """Of each run, when all go as fast as the server lets them."""

    hearts: float
    """Share of the server's core that heartbeats take."""

    connections: float
    memory: float
    components: float
    """Cores that all components together need for these steps."""

    written: float
    """Bytes a second to the append-only file."""

    servers: int
    """That let each run go as fast as one that is alone."""


def outlook(constants: Constants, runs: int) -> Outlook:
    """What the formula says of them."""
    replicas = REPLICAS * runs
    hearts = formula.server_cpu(constants, Load(replicas))
    each = min(ALONE_S, formula.most_steps_s(constants, replicas) / runs)
    alone = ALONE_S * constants.step_us / 1e6 + hearts / runs
    return Outlook(
        runs=runs,
        steps_s=each,
        hearts=hearts,
        connections=replicas * constants.connections,
        memory=runs * RUN_BYTES + replicas * constants.replica,
        components=runs * each * constants.step_client_us / 1e6,
        written=runs * each * constants.step_written,
        servers=math.ceil(runs * alone / BUSY),
    )


def most_replicas(constants: Constants, connections: float = CONNECTIONS) -> dict[str, float]:
    """How many idle replicas a server takes, by what is full then."""
    return {
        "connections": connections / constants.connections,
        "heartbeats": 1e6 / constants.beat_us,
    }


def million_steps(constants: Constants, count: float = 1e6) -> dict[str, float]:
    """What so many steps of the trebuchet take: CPU in hours, traffic and file in bytes."""
    return {
        "server_h": count * constants.step_us / 3.6e9,
        "components_h": count * constants.step_client_us / 3.6e9,
        "received": count * constants.step_received,
        "sent": count * constants.step_sent,
        "written": count * constants.step_written,
    }
