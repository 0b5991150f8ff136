"""Read swarm files, in the format of swergio's toolbox.

settings:
  python_envpath: env/bin/
components:
  trainer:
    filepath: trainer.py
    delay: 2
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml.constructor import ConstructorError

from roomgrad.errors import FormatError, SettingsError, format_value
from roomgrad.local.plan import hint


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Defaults(_Part):
    """Values for entries that give none."""

    python_envpath: str | None = None
    julia_envpath: str | None = None
    python_cmd: str | None = None
    terminal_cmd: str | None = None


class Entry(_Part):
    """One program."""

    filepath: str
    envpath: str | None = None
    """Python: the path before the command, like env/bin/. Julia: the project."""

    delay: Annotated[float, Field(ge=0)] | None = None
    """Seconds between its start and the start of the next program."""

    terminal_cmd: str | None = None
    """Words before the command, like those that open a terminal."""

    python_cmd: str | None = None

    def get(self, name: str, default: str | None) -> str:
        """Return a value of this entry, even if it is empty; the default if it is not given."""
        value: str | None = getattr(self, name) if name in self.model_fields_set else default
        return value or ""


class SwarmFile(_Part):
    """The whole file."""

    components: Annotated[dict[str, Entry], Field(min_length=1)]
    settings: Defaults | None = None

    @property
    def defaults(self) -> Defaults:
        return self.settings or Defaults()


EXPECTED = {  # by the last key of a path
    "components": "a name for each program, and under it filepath: NAME.py",
    "settings": f"some of {', '.join(Defaults.model_fields)}",
    "filepath": "the path of a .py or .jl file",
    "delay": "a number of seconds from 0",
}


MAX_BYTES = 64 * 1024
"""Maximum size of a file, enough for hundreds of programs. YAML is parsed at 200 kB/s at best."""

MAX_DEPTH = 100
"""Maximum nesting; 3 levels are needed. The parser takes quadratic time for nested brackets."""


NULL, MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Reads a name or a value as it is written, and refuses a key that a mapping has twice.

    YAML 1.1 would read `no` as False, 010 as 8 and 1:30 as 90, and keep the last of two entries.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if key.value in keys:
                raise ConstructorError(
                    problem=f"the key {key.value!r} is there twice", problem_mark=key.start_mark
                )
            keys.add(key.value)
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] in (NULL, MERGE)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path) -> SwarmFile:
    """Return the content. Raises FormatError if it is not YAML, SettingsError if it is wrong."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error.strerror}): name a swarm file") from error
    return parse(text, path)


def parse(text: bytes, path: Path) -> SwarmFile:
    """Return the content of a file's text. Raises the errors of `read`."""
    if len(text) > MAX_BYTES:
        raise FormatError(f"{path}: expected at most {MAX_BYTES} bytes of YAML: split the file")
    if _depth(text) > MAX_DEPTH:
        raise FormatError(
            f"{path} is not YAML of programs (more than {MAX_DEPTH} levels): correct it"
        )
    try:
        found = yaml.load(text, _Loader)
    except Exception as error:  # of any class: a tag may not fit its value
        raise FormatError(f"{path} is not YAML ({_reason(error)}): correct it") from error
    if not isinstance(found, dict):
        raise SettingsError(
            f"{path} holds {format_value(found)}, "
            f"expected components: with {EXPECTED['components']}"
        )
    try:
        return SwarmFile.model_validate(found)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_sentence(error)}") from None


_LEVELS = re.compile(rb"[\[{]|[\]}]|(?:[-?] +)+")


def _depth(text: bytes) -> int:
    """Return the maximum nesting, by brackets and by dashes in a line."""
    depth = deepest = 0
    for found in _LEVELS.finditer(text):
        sign = found[0]
        if sign in b"[{":
            depth += 1
        elif sign in b"]}":
            depth = max(0, depth - 1)
        deepest = max(deepest, depth, len(sign.split()))
    return deepest


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"{problem} in line {mark.line + 1}" if mark else problem


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(each) for each in first["loc"] if each != "[key]"]
    where, name = ".".join(place), place[-1]
    if first["type"] == "extra_forbidden":
        return f"{where} is unknown: {hint(name, _known(place))}"
    allowed = EXPECTED.get(name, _of(place))
    if first["type"] == "missing":
        return f"{where} is missing, expected {allowed}"
    return f"{where} is {_shown(first['input'])}, expected {allowed}"


def _of(place: list[str]) -> str:
    """Return what is expected of an entry as a whole, or of another value."""
    entry = len(place) == 2 and place[0] == "components"
    return f"filepath: {EXPECTED['filepath']}" if entry else "a text"


def _shown(value: Any) -> str:
    return "empty" if value in (None, {}) else format_value(value)


def _known(place: list[str]) -> list[str]:
    parts: dict[int, type[_Part]] = {1: SwarmFile, 2: Defaults, 3: Entry}
    return list(parts[len(place)].model_fields)
