"""`roomgrad dead requeue` and `drop`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from roomgrad.cli import target
from roomgrad.cli.dead_letters.shown import ROOT_GONE
from roomgrad.errors import SettingsError
from roomgrad.inspect.dead_letters import Letter, Letters, NotRequeued
from roomgrad.redis import registry


@dataclass(frozen=True)
class Choice:
    """Which letters are meant: some, all, or those that are like this."""

    entries: Sequence[str]
    all: bool = False
    component: str = ""
    reason: str = ""

    def check(self, command: str) -> None:
        """Raises SettingsError where nothing is chosen, or two things at once."""
        alike = bool(self.component or self.reason)
        ways = sum([bool(self.entries), self.all, alike])
        if ways != 1:
            what = "which letters" if not ways else "either these or those"
            raise SettingsError(
                f"{what}? roomgrad dead {command} takes entry ids, or --all, or --component and "
                f"--reason; `roomgrad dead list` shows what there is"
            )

    def ids(self, letters: Letters) -> list[str]:
        """The entry ids that are meant now, the oldest first. Raises what `Letters.get` raises."""
        if self.entries:
            return list(dict.fromkeys(letters.get(entry).entry for entry in self.entries))
        found = letters.newest_first(self.reason, self.component)
        return [letter.entry for letter in found][::-1]


def requeue(choice: Choice, run: str, redis_url: str) -> None:
    """Put letters back, one after the other. Exit code 1 if one had to stay."""
    choice.check("requeue")
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        letters = Letters(client, names, registry.system_of_run(client, names))
        ids = choice.ids(letters)
        done = [_requeue(letters, entry) for entry in ids]
    print(f"{done.count(1)} of {counted(len(ids))} of run {names.run} went back into a stream.")
    if None in done:
        raise typer.Exit(1)


def _requeue(letters: Letters, entry: str) -> int | None:
    """1 where it is back, 0 where somebody was faster, None where it had to stay."""
    letter = letters.find(entry)
    try:
        new = letters.requeue(letter) if letter else ""
    except NotRequeued as error:
        print(f"roomgrad: {error}", file=sys.stderr)
        return None
    if letter is None or not new:
        print(f"{entry} is not there any more: somebody else has requeued or dropped it.")
        return 0
    print(_done(letter, new))
    return 1


def _done(letter: Letter, new: str) -> str:
    note = f"; {ROOT_GONE}" if letter.root_given_up else ""
    return f"{letter.entry} is {new} of {letter.stream} for {letter.component}{note}."


def drop(choice: Choice, run: str, redis_url: str, *, yes: bool) -> None:
    """Delete letters, after a question."""
    choice.check("drop")
    if not yes and not sys.stdin.isatty():
        raise SettingsError("roomgrad dead drop asks first, and here is nobody to ask: add --yes")
    with target.reached(redis_url) as (client, _):
        letters = Letters(client, target.chosen(client, run))
        ids = choice.ids(letters)
        of_run = f"of run {letters.names.run}"
        if ids and not yes:
            typer.confirm(f"Delete {counted(len(ids))} {of_run} for good?", abort=True)
        dropped = letters.drop(ids)
    print(f"{counted(dropped)} {of_run} {'is' if dropped == 1 else 'are'} deleted.")


def counted(number: int) -> str:
    """How many dead letters."""
    return f"{number} dead letter{'' if number == 1 else 's'}"
