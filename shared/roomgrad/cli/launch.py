"""`roomgrad run SYSTEM` and `roomgrad up SYSTEM`: a command for each system, of its own options.

A plug-in names a dataclass of options for each of the two: a field is an option of the command,
annotated as in typer, and its methods are those of `UpOptions` or `RunOptions`. A system that names
none gets the options that fit any system.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Protocol, get_type_hints

from rich.console import Console
from typer import Option

from roomgrad.cli.groups import command_of
from roomgrad.cli.options import number
from roomgrad.ensembles import MOST_MEMBERS
from roomgrad.local.plan import Plan, plan_of
from roomgrad.redis.server_address import AnyAddress


class Options(Protocol):
    """The options of a system on the command line."""

    def plan(self, run: str, replicas: Sequence[str], least: int) -> Plan:
        """Return what is started, in a run of this name; of the system's name if it is empty.

        replicas: as `roomgrad.local.plan.counted` takes them; least: how many are allowed at least.
        Raises SettingsError.
        """


class RunOptions(Options, Protocol):
    """The options of `roomgrad run SYSTEM`."""

    def run(self, plan: Plan, redis_url: str, fresh: bool, console: Console) -> None:
        """Serve the run until it is done, and report; KeyboardInterrupt ends it early."""


class UpOptions(Options, Protocol):
    """The options of `roomgrad up SYSTEM`."""

    def where_to_look(self, plan: Plan, url: AnyAddress, began: float) -> list[str]:
        """Return lines for a person: what to do with a run that has been up since `began`."""


@dataclass(frozen=True)
class AnySystem:
    """The options of a system that declares none of its own."""

    system: str

    set: Annotated[
        list[str] | None,
        Option("--set", metavar="COMPONENT.FLAG=VALUE", help="A setting of a component."),
    ] = None

    members: Annotated[
        int | None, number("--members", 1, MOST_MEMBERS, "How many members its ensembles have.")
    ] = None

    def plan(self, run: str = "", replicas: Sequence[str] = (), least: int = 1) -> Plan:
        """Return what is started: every component. Raises SettingsError."""
        return plan_of(self.system, run, replicas, least, self.set or (), self.members or 0)


def command(
    name: str, call: Callable[..., None], kind: type[Options], about: str, **given: object
) -> Any:
    """Return a command whose options are the fields of `kind` and the parameters of `call`.

    It calls `call(kind(...), ...)`. given: fields of `kind` that are no options.
    """
    hints = get_type_hints(kind, include_extras=True)
    own = {
        each.name: inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=hints[each.name],
        )
        for each in fields(kind)  # type: ignore[arg-type]
        if each.name not in given
    }
    _, *common = inspect.signature(call, eval_str=True).parameters.values()

    def run(**values: Any) -> None:
        asked = kind(**given, **{field: values.pop(field) for field in own})
        call(asked, **values)

    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*own.values(), *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in common)]
    )
    return command_of(name, run, about)
