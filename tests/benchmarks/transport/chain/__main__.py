"""One component of the six-hop chain, for `tests.benchmarks.transport`.

    python -m tests.benchmarks.transport.chain KIND COMPONENT URL

The trainer sends a batch of 100 pairs, which goes there and back as in the trebuchet; each
component passes on what it receives. What differs is only how it gets from one to the other.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from typing import Any

# For each kind: the module and function that pass messages on, and its keywords.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "socket": ("sockets", {}),
    "pubsub-raw": ("pubsub", {"as_json": False, "held": False}),
    "pubsub-raw-held": ("pubsub", {"as_json": False, "held": True}),
    "pubsub-json": ("pubsub", {"as_json": True, "held": False}),
    "pubsub-json-held": ("pubsub", {"as_json": True, "held": True}),
    "streams": ("streams", {}),
    "faststream-channel": ("faststream", {"stream": False}),
    "faststream-stream": ("faststream", {"stream": True}),
    "jetstream-memory": ("jetstream", {"file": False}),
    "jetstream-file": ("jetstream", {"file": True}),
    "ray": ("ray_actors", {}),
    "swergio": ("swergio", {"no_delay": False}),
    "swergio-nodelay": ("swergio", {"no_delay": True}),
    "rooms": ("rooms", {}),
}


def main() -> None:
    """Run a component, or swergio's server, until the process is killed."""
    kind, part, address = sys.argv[1:]
    name, keywords = KINDS[kind]
    module = import_module(f"tests.benchmarks.transport.chain.{name}")
    if part == "server":
        module.server(int(address), **keywords)
    else:
        partial(getattr(module, name), **keywords)(part, address)


if __name__ == "__main__":
    main()
