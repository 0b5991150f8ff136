"""The model that snapshots belong to, and how its snapshots are named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from roomgrad.errors import SnapshotError, format_value
from roomgrad.messages import new_id
from roomgrad.names import PLAIN, Names
from roomgrad.state import file_name

SUFFIX = ".snapshot"
IN_REDIS = "redis:"
FILES = "file://"

_FILE = re.compile(r"[A-Za-z0-9_.-]{1,80}")


@dataclass(frozen=True)
class Owner:
    """A component with a model, in one run on one server."""

    names: Names
    component: str
    """Empty for all components of the run."""

    run_token: str
    """The token of the run, which sets it apart from runs of the same name on other servers."""

    @property
    def folder(self) -> str:
        """The folder of its snapshots, relative to that of the store."""
        run = f"{file_name(self.names.run)}~{file_name(self.run_token)}"
        return f"{run}/{file_name(self.component)}" if self.component else run

    def folder_in(self, url: str) -> str:
        """Return its folder as it is written in a URL: only file:// is percent-encoded."""
        return quote(self.folder) if url.startswith(FILES) else self.folder

    def split(self, place: str) -> tuple[str, str]:
        """Return the URL of the store, and the name of the file, of a place in a folder.

        Raises SnapshotError if the place is not one of this owner.
        """
        url, found, name = place.rpartition(f"/{self.folder_in(place)}/")
        if not found or not _FILE.fullmatch(name) or not name.strip("."):
            raise SnapshotError(
                f"{format_value(place)} is no snapshot of {self.component} in this run: expected "
                f"a URL that ends with {self.folder}/TOKEN{SUFFIX}"
            )
        return url, name


def unique(token: str) -> str:
    """Return the name of one attempt to store a snapshot, so that two writers never share one."""
    name = f"{token}.{new_id()[:8]}"
    if not PLAIN.fullmatch(name):
        raise SnapshotError(
            f"the token {token!r} cannot name a snapshot: expected up to 55 letters, digits, _ . -"
        )
    return name


def name_of(place: str) -> str:
    """Return the name of a snapshot, by which its places in one store are compared.

    Hosts may reach the same folder under different URLs.
    """
    return place.removeprefix(IN_REDIS).rpartition("/")[2].removesuffix(SUFFIX)
