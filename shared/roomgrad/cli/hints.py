"""Lines that say what a user may do next with a run that is served on this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys

from roomgrad.local.plan import Plan

ANY = ("0.0.0.0", "::")  # all addresses of this machine


def program() -> str:
    """Return how the command `roomgrad` is typed here."""
    called = sys.argv[0]
    if os.path.basename(called) != "roomgrad":
        return "python -m roomgrad"
    if shutil.which("roomgrad") == os.path.abspath(called):
        return "roomgrad"
    return min(os.path.relpath(called), os.path.abspath(called), key=len)


def run_option(run: str, default: str) -> str:
    """Return ` --run NAME`; nothing if the run has the default name."""
    return "" if run == default else f" --run {shlex.quote(run)}"


def where_to_look(plan: Plan) -> list[str]:
    """Return commands for a run of any system."""
    option = run_option(plan.run, "")
    return [
        "Where to look next:",
        f"  {program()} top{option}",
        f"  {program()} echo ROOM{option}",
        f"  {program()} down {plan.system}{run_option(plan.run, plan.system)}",
    ]


def where_to_connect(plan: Plan) -> list[str]:
    """Return the address of the plan's gateway; nothing if it has none."""
    if plan.gateway is None:
        return []
    host, port = plan.gateway
    return [f"  swergio clients connect to {socket.gethostname() if host in ANY else host}:{port}"]
