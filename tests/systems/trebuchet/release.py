"""A component that knows a second format, for tests of releases side by side.

Run it as `python -m tests.systems.trebuchet.release MODULE WRITES`.

Its format 2 says MODE where format 1 says MODEL_STATUS, and leaves out TO_ROOM. The release that
still writes 1 and the next one, which writes 2, have to work side by side.
"""

from __future__ import annotations

import sys
from importlib import import_module

from roomgrad import main
from roomgrad.codec import FORMATS, Body, Format

MODES = {1: "train", 2: "validate"}
STATUS = {mode: status for status, mode in MODES.items()}


def read(body: Body) -> Body:
    """A body of format 2 as one of format 1."""
    return {"MODEL_STATUS": STATUS[body["MODE"]]} | {
        name: value for name, value in body.items() if name != "MODE"
    }


def write(body: Body) -> Body:
    """And back."""
    kept = {name: body[name] for name in body if name not in ("MODEL_STATUS", "TO_ROOM")}
    return kept | {"MODE": MODES[body["MODEL_STATUS"]]}


FORMAT_2 = Format(read, write)

if __name__ == "__main__":
    module, writes = sys.argv[1:3]
    del sys.argv[1:3]
    FORMATS.versions[2] = FORMAT_2
    FORMATS.current = int(writes)
    main(import_module(module).component)
