"""What `roomgrad up swarm.yaml` starts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from roomgrad import state
from roomgrad.cli.hints import program, run_option
from roomgrad.errors import SettingsError
from roomgrad.local.plan import Plan, default_run
from roomgrad.names import encoded
from roomgrad.redis.server_address import AnyAddress
from roomgrad_swergio.swarm.programs import programs


@dataclass(frozen=True)
class Swarm:
    """`roomgrad up swarm.yaml`."""

    file: str
    only: Annotated[
        str, Option(metavar="NAME,...", help="Start these components, and no others.")
    ] = ""

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """Return what is started, in a run that is named after the file.

        Raises SettingsError, and what `programs` raises.
        """
        if replicas:
            raise SettingsError(
                f"--replicas {replicas[0]} belongs to systems: write another entry into {self.file}"
            )
        path = Path(self.file).absolute()
        found = programs(path, [name for name in self.only.split(",") if name])
        return Plan("", run or default_run(self.file), {}, {}, file=str(path), programs=found)

    def where_to_look(self, plan: Plan, url: AnyAddress, began: float) -> list[str]:
        """Return where its programs write, and what stops them."""
        logs = ", ".join(f"{encoded(name)}.log" for name in plan.programs)
        folder = os.path.relpath(state.run_directory(plan.run))
        option = run_option(plan.run, default_run(self.file))
        return [
            "Where to look:",
            f"  {shlex.quote(folder)}: {logs}",
            f"  {program()} down {shlex.quote(self.file)}{option}",
        ]
