"""redis-py streams with a group, raw bytes: XADD, XACK and the next XREADGROUP in one write.

At least once: a component that dies between its XADD and its XACK doubles a message.
"""

from __future__ import annotations

from typing import Any

from tests.benchmarks.transport.chain.pubsub import connect, from_bytes, to_bytes, wait_heard
from tests.benchmarks.transport.chain.ways import BATCH, FORWARD, LAST, TRAINER, WAYS, Meter

KEPT, BLOCK_MS = 1000, 1000
DATA = "data"


def streams(component: str, url: str) -> None:
    """Pass messages on until the process is killed."""
    client, _ = connect(url, held=True)
    ways = {":".join(heard).encode(): ":".join(way) for heard, way in WAYS[component].items()}
    for name in ways:
        client.xgroup_create(name, component, id="0", mkstream=True)
    meter = Meter() if component == TRAINER else None
    if meter is not None:
        wait_heard(client, stream=True)
        client.xadd(":".join(("input", FORWARD)), {DATA: to_bytes(BATCH)})
    last = ":".join(LAST).encode()
    together = client.pipeline(transaction=False)
    while True:
        together.xreadgroup(component, component, dict.fromkeys(ways, ">"), 1, BLOCK_MS)
        found: Any = together.execute()[-1]
        for name, [(entry, fields)] in found:
            array = from_bytes(fields[DATA.encode()])
            if meter is not None and name == last:
                meter.rounds += 1
            together.xadd(ways[name], {DATA: to_bytes(array)}, maxlen=KEPT)
            together.xack(name, component, entry)
