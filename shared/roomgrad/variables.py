"""Environment variables: that of a setting is its name with the prefix `ROOMGRAD_`.

The name without the prefix is read, too, unless other programs export it for purposes of their own:
conda and tcsh export HOST, build tools TARGET and ROOT, and many programs share LOG_LEVEL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

PREFIX = "ROOMGRAD_"

_USED_BY_OTHERS = re.compile(r"(?!RUN$)[A-Z]+|LOG_[A-Z]+|[A-Z_]+_(HOST|PORT)")
# Kubernetes exports NAME_PORT=tcp://10.0.0.5:80 for each service, even if its name is roomgrad.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://.*")


class Variable(NamedTuple):
    """A variable that is set."""

    name: str
    value: str


def variable(name: str) -> str:
    """Return the variable of a setting, like ROOMGRAD_HOST for `host`."""
    return PREFIX + name.upper()


def find(name: str, environ: Mapping[str, str] = os.environ) -> Variable | None:
    """Return the variable of a setting if it is set; an empty one counts as not set."""
    plain = name.upper()
    names = [variable(plain), *([] if _USED_BY_OTHERS.fullmatch(plain) else [plain])]
    found = (Variable(each, environ.get(each, "")) for each in names)
    return next((each for each in found if each.value and not _is_link(each)), None)


def get(name: str, otherwise: str = "") -> str:
    """Return the value of a setting's variable, `otherwise` if it is not set."""
    found = find(name)
    return found.value if found else otherwise


def exported(**values: str) -> dict[str, str]:
    """Return variables for another program, under both names: it may read either."""
    given = {name.upper(): value for name, value in values.items() if value}
    return {**given, **{variable(name): value for name, value in given.items()}}


def ignored(names: Iterable[str], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables without prefix that are set but not read."""
    for name in map(str.upper, names):
        if environ.get(name) and not find(name, environ):
            yield name


def _is_link(found: Variable) -> bool:
    return found.name.endswith("_PORT") and _SERVICE_LINK.fullmatch(found.value) is not None
