"""One end of a flood, for `tests.benchmarks.flood`: it sends or hears so many arrays of 100 pairs.

    python -m tests.benchmarks.transport.flow KIND ROLE URL COUNT SENDERS

ROLE is sink, or source-0 to source-3, which begin when all SENDERS are there. Each array begins
with its number. The sink prints how many different ones it has heard, when nothing comes any more
for a second or all are there, and how long it took from the first to the last.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from tests.benchmarks.transport.flow.ends import SINK, SOURCES, Heard

# For each kind: the module, the functions that send and hear, and the keywords of both.
KINDS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "pubsub-raw": ("redis_py", "publish", "listen", {"held": False}),
    "pubsub-raw-held": ("redis_py", "publish", "listen", {"held": True}),
    "pubsub-raw-many": ("redis_py", "publish_many", "listen", {"held": True}),
    "pubsub-json-many": ("redis_py", "publish_many", "listen", {"held": True, "as_json": True}),
    "stream-many": ("redis_py", "add_many", "read_many", {}),
    "faststream-many": ("faststream", "publish_many", "listen", {}),
    "rooms": ("rooms", "send_from_handler", "hear", {}),
    "client": ("rooms", "send", "hear", {}),
    "client-many": ("rooms", "send_many", "hear", {}),
}


def main() -> None:
    """Run one end; the sink runs until it is killed."""
    kind, role, url = sys.argv[1:4]
    count, senders = map(int, sys.argv[4:])
    name, send, hear, keywords = KINDS[kind]
    module = import_module(f"tests.benchmarks.transport.flow.{name}")
    if role == SINK:
        heard = Heard(count)
        heard.tell_at_the_end()
        getattr(module, hear)(url, heard, **keywords)
    else:
        at = SOURCES.index(role)
        numbers = range(at * count // senders, (at + 1) * count // senders)
        getattr(module, send)(url, numbers, senders, **keywords)


if __name__ == "__main__":
    main()
