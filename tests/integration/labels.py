"""A process that stores a label for each line that it reads, and says when it is on the disk.

    python -m tests.integration.labels URL

It is loaded with the library of `disk.c`: a client syncs the files of some servers itself.
"""

from __future__ import annotations

import sys

from roomgrad.redis.client import Client
from tests.integration.echo import ECHO
from tests.integration.power_cuts import RUN, add_label

if __name__ == "__main__":
    with Client(ECHO, RUN, sys.argv[1]) as client:
        for _ in sys.stdin:
            add_label(client)
            print("stored", flush=True)
