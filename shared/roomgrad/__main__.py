"""The command `roomgrad`, also as `python -m roomgrad`."""

from __future__ import annotations

import sys
from typing import NoReturn

OF_THE_EXTRA = ("rich", "typer", "yaml")


def main() -> NoReturn:
    """Run the command; say what to install if the packages for the command line are missing."""
    try:
        from roomgrad.cli.main import main
    except ModuleNotFoundError as error:
        if error.name not in OF_THE_EXTRA:
            raise
        sys.exit(
            f"roomgrad: the command needs the package {error.name}, which is not installed: "
            "pip install 'roomgrad[cli]'"
        )
    main()


if __name__ == "__main__":
    main()
