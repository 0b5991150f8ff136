"""Settings from flags and environment variables, and what `--help` and the docs say of them.

settings = load(TrainerSettings)    # --train-steps 5 beats ROOMGRAD_TRAIN_STEPS=5 beats 1000
"""

from __future__ import annotations

import difflib
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from roomgrad import variables
from roomgrad.errors import SettingsError
from roomgrad.settings import RuntimeSettings, fields_of

S = TypeVar("S")


class Setting(NamedTuple):
    """One setting as documentation shows it."""

    flag: str
    variable: str
    values: str
    default: str
    sentence: str


@dataclass(frozen=True)
class Given:
    """A value as it was given, by a flag or a variable."""

    text: str
    variable: str = ""
    """Empty if it was given by a flag."""


def load(
    cls: type[S], argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None
) -> S:
    """Return the settings of this process: a flag beats a variable beats the default.

    Raises SettingsError, which names value, allowed values, flag and variable.
    """
    argv = sys.argv[1:] if argv is None else argv
    environ = os.environ if environ is None else environ
    if "-h" in argv or "--help" in argv:
        print(help_text(cls))
        raise SystemExit(0)
    for name in variables.ignored(fields_of(cls), environ):
        print(f"{name} is not read: the variable is {variables.variable(name)}", file=sys.stderr)
    given = {**_from_environment(cls, environ), **_from_flags(cls, argv)}
    for name, each in given.items():
        if _is_number(fields_of(cls)[name]) and ("_" in each.text or not each.text.isascii()):
            raise SettingsError(_not_allowed(cls, name, each))  # Python reads 1_0 as 10
    try:
        return cls(**{name: each.text for name, each in given.items()})
    except ValidationError as error:
        raise SettingsError(_error_text(cls, error, given)) from None


def describe(cls: type[object]) -> list[Setting]:
    """Return every setting of `cls`, its own before those of every component."""
    common = [_setting(RuntimeSettings, name) for name in fields_of(RuntimeSettings)]
    return sorted((_setting(cls, name) for name in fields_of(cls)), key=common.__contains__)


def help_text(cls: type[object]) -> str:
    """Return what `--help` prints."""
    command = cls.__module__.removesuffix(".settings")
    about = (cls.__doc__ or "").strip().split("\n")[0]
    lines = [f"usage: python -m {command} [--flag value ...]", "", about, ""]
    for each in describe(cls):
        lines.append(f"  {each.flag}  ({each.values}; default {each.default or 'empty'})")
        lines += textwrap.wrap(
            f"{each.sentence} Variable {each.variable}.",
            96,
            initial_indent=" " * 6,
            subsequent_indent=" " * 6,
        )
    return "\n".join(lines)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_number(info: FieldInfo) -> bool:
    return bool({int, float} & {info.annotation, *get_args(info.annotation)})


def _setting(cls: type[object], name: str) -> Setting:
    """Describe a field; an inherited one has its sentence in the class that declares it."""
    info = fields_of(cls)[name]
    declared = (vars(base).get("__pydantic_fields__", {}).get(name) for base in cls.__mro__)
    sentence = next((each.description for each in declared if each and each.description), "")
    sentence = " ".join(sentence.split())
    return Setting(
        _flag(name), variables.variable(name), _values(info), _format(info.default), sentence
    )


def _format(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_environment(cls: type[object], environ: Mapping[str, str]) -> dict[str, Given]:
    """Return the settings that variables give."""
    found = {name: variables.find(name, environ) for name in fields_of(cls)}
    return {name: Given(each.value, each.name) for name, each in found.items() if each}


def _from_flags(cls: type[object], argv: Sequence[str]) -> dict[str, Given]:
    given: dict[str, Given] = {}
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        name, negated = _flag_target(cls, flag)
        info = fields_of(cls)[name]
        if negated:
            value = "false"
        elif info.annotation is bool:
            value = value if equals else "true"
        elif not equals:
            value = _next_value(words, flag, info)
        given[name] = Given(value)
    return given


def _flag_target(cls: type[object], flag: str) -> tuple[str, bool]:
    """Return the setting that a flag names, and whether `--no-` turns it off."""
    by_flag = {_flag(name): (name, False) for name in fields_of(cls)}
    switches = [name for name, info in fields_of(cls).items() if info.annotation is bool]
    by_flag.update({"--no-" + _flag(name)[2:]: (name, True) for name in switches})
    if flag not in by_flag:
        raise SettingsError(_unknown(flag, list(by_flag)))
    return by_flag[flag]


def _unknown(flag: str, flags: list[str]) -> str:
    close = difflib.get_close_matches(flag, flags, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(sorted(flags))}."
    kind = "unknown flag" if flag.startswith("-") else "unexpected word"
    flag = flag.partition("://")[0]  # an address of a server may hold a password
    return f"{kind} {flag!r}: {hint}"


def _next_value(words: Iterator[str], flag: str, info: FieldInfo) -> str:
    value = next(words, None)
    if value is None or value.startswith("--"):
        raise SettingsError(f"{flag} needs a value: {_values(info)}.")
    return value


def _error_text(cls: type[object], error: ValidationError, given: Mapping[str, Given]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if name not in given:
        reason = first["msg"].removeprefix("Value error, ")
        return f"{_flag(name)}: {reason}." if name else f"{reason}."
    reason = first["msg"].removeprefix("Value error, ") if first["type"] == "value_error" else ""
    return _not_allowed(cls, name, given[name], reason)


def _not_allowed(cls: type[object], name: str, each: Given, reason: str = "") -> str:
    where = f"{_flag(name)} (variable {variables.variable(name)})"
    if each.variable:
        where = f"variable {each.variable} (flag {_flag(name)})"
    allowed = _values(fields_of(cls)[name])
    if reason:
        allowed += f", and {reason}"
    return f"{where} is {each.text!r}, allowed is: {allowed}."


KINDS: dict[object, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
}


def _values(info: FieldInfo) -> str:
    """Return the allowed values in words: `whole number, at least 1`, `learn or original`."""
    kinds = [kind for kind in get_args(info.annotation) if kind is not type(None)]
    if get_origin(info.annotation) is Literal:
        return " or ".join(map(str, kinds))
    if kinds:  # of one that may be empty
        return _values(FieldInfo.from_annotation(kinds[0]))
    return ", ".join([KINDS.get(info.annotation, "text"), *_limits(info)])


def _limits(info: FieldInfo) -> Iterator[str]:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for mark in info.metadata:
        for attribute, word in words.items():
            if getattr(mark, attribute, None) is not None:
                yield f"{word} {getattr(mark, attribute)}"
        if getattr(mark, "pattern", None):
            yield f"matching {mark.pattern}"
