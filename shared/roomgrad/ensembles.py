"""Ensembles by their names: `model.0`, `model.1` and so on are the members of `model`.

In everything but their definition members are components like any other: the contract lists them,
`--replicas model.7=2` scales one, and `roomgrad model model.7` shows its weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from roomgrad.errors import ContractError, SettingsError

if TYPE_CHECKING:  # a health check needs names alone
    from roomgrad.rooms import Room, Stream

MOST_MEMBERS = 1000  # of an ensemble

MEMBER = re.compile(r"(.+)\.(0|[1-9][0-9]{0,3})")


@dataclass(frozen=True)
class Ensemble:
    """Components of one definition: `model.0` to `model.19` for `Ensemble("model", 20)`.

    Each member has a model, a memory and a group of its own. A room of each, like `act.7`, is where
    it is asked alone, and where its answers and their gradients go; in a room that all members
    read, all are asked at once.

    Raises ContractError for no member, or more than 1,000.
    """

    name: str
    members: int

    def __post_init__(self) -> None:
        if not 1 <= self.members <= MOST_MEMBERS:
            raise ContractError(
                f"ensemble {self.name}: expected 1 to {MOST_MEMBERS} members, got {self.members}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the members, for `System.components` and for streams that all read."""
        return tuple(f"{self.name}.{number}" for number in range(self.members))

    def room(self, room: Room, member: str) -> Room:
        """Return the room of one member."""
        return replace(room, name=f"{room}.{index_of(member)}")

    def rooms(self, room: Room) -> tuple[Room, ...]:
        """Return the rooms of all members."""
        return tuple(self.room(room, member) for member in self.names)

    def streams(self, stream: Stream) -> tuple[Stream, ...]:
        """Return one like this in the room of each member, for each room of an ensemble.

        Its consumer is the member, unless the stream names consumers.
        """
        return tuple(
            replace(
                stream,
                room=self.room(stream.room, member),
                consumers=stream.consumers or (member,),
            )
            for member in self.names
        )


def index_of(member: str) -> int:
    """Return the number of a member. Raises ContractError for another component."""
    found = MEMBER.fullmatch(member)
    if found is None:
        raise ContractError(f"{member} is no member of an ensemble, like model.7")
    return int(found[2])


def is_member(component: str, ensemble: str) -> bool:
    """Return whether a component may be a member of an ensemble, by its name."""
    found = MEMBER.fullmatch(component)
    return found is not None and found[1] == ensemble


def programs(components: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the programs that serve components, and which: an ensemble is served by one."""
    names = dict.fromkeys(components)
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        member = MEMBER.fullmatch(name)
        program = member[1] if member and f"{member[1]}.0" in names else name
        found[program] = (*found.get(program, ()), name)
    return found


def ensembles(components: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the ensembles among components, and the members of each."""
    return {name: each for name, each in programs(components).items() if each != (name,)}


def chosen(members: Iterable[str], text: str) -> tuple[str, ...]:
    """Return the members that a text like `7` or `0-9,12` names; all if it is empty.

    Raises SettingsError.
    """
    by_index = {index_of(member): member for member in members}
    if not text:
        return tuple(by_index.values())
    found: dict[int, str] = {}
    for part in text.split(","):
        numbers = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part, re.ASCII)
        wanted = range(int(numbers[1]), int(numbers[2] or numbers[1]) + 1) if numbers else ()
        if not wanted or not by_index.keys() >= {*wanted}:
            raise SettingsError(
                f"--member {text}: expected members like 7 or 0-9,12, of which there are 0 to "
                f"{max(by_index)}"
            )
        found |= {number: by_index[number] for number in wanted}
    return tuple(found.values())
