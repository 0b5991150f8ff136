"""A program that runs a component of the system, which kills itself at DIE_AT."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from roomgrad import main
from tests.integration.echo import die_at

if __name__ == "__main__":
    die_at(os.environ.get("DIE_AT", ""))
    main(import_module(f"roomgrad_split.{sys.argv.pop(1)}.handlers").component)
