"""Settings: where a value comes from, and what is said about one that is not allowed."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from roomgrad.errors import SettingsError
from roomgrad.settings import (
    OfRun,
    RuntimeSettings,
    describe,
    help_text,
    load,
    of_run,
    settings,
)


@settings
class Example(RuntimeSettings):
    """Learns to aim."""

    train_steps: Annotated[int, Field(ge=1, le=100), OfRun] = 10
    """How many batches are trained in all."""

    preset: Annotated[Literal["learn", "original"], OfRun] = "learn"
    """Which settings it learns with."""

    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    """How far a step goes."""

    verbose: bool = False
    """Say more."""


def test_a_flag_beats_a_variable_and_a_variable_beats_the_default() -> None:
    """The nearer to the command, the stronger."""
    environ = {"TRAIN_STEPS": "20", "PRESET": "original"}
    loaded = load(Example, ["--train-steps", "30"], environ)
    assert (loaded.train_steps, loaded.preset, loaded.learning_rate) == (30, "original", 0.01)


def test_a_value_may_stand_behind_an_equals_sign() -> None:
    """Both ways of writing a flag mean the same."""
    assert load(Example, ["--train-steps=30"], {}) == load(Example, ["--train-steps", "30"], {})


def test_an_empty_variable_counts_as_not_given() -> None:
    """Compose files pass on variables that are not set as empty ones."""
    assert load(Example, [], {"TRAIN_STEPS": ""}).train_steps == 10


@pytest.mark.parametrize(
    ("argv", "verbose"),
    [(["--verbose"], True), (["--no-verbose"], False), (["--verbose=no"], False)],
)
def test_a_switch_needs_no_value(argv: list[str], verbose: bool) -> None:
    """A flag of true or false turns on, and with --no- off."""
    assert load(Example, argv, {"VERBOSE": "1"}).verbose is verbose


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (["--train-steps", "0"], {}, ["--train-steps", "TRAIN_STEPS", "'0'", "at least 1"]),
        ([], {"TRAIN_STEPS": "101"}, ["--train-steps", "TRAIN_STEPS", "'101'", "at most 100"]),
        (["--train-steps", "many"], {}, ["'many'", "whole number"]),
        (["--preset", "best"], {}, ["--preset", "PRESET", "'best'", "learn or original"]),
        (["--learning-rate", "nan"], {}, ["'nan'", "number", "above 0"]),
        (["--train-step", "3"], {}, ["--train-step", "did you mean --train-steps?"]),
        (["--colour", "red"], {}, ["--colour", "--preset", "--train-steps"]),
        (["--preset"], {}, ["--preset needs a value", "learn or original"]),
        (["--preset", "--verbose"], {}, ["--preset needs a value"]),
        (["train"], {}, ["unexpected word 'train'"]),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_sentence(
    argv: list[str], environ: dict[str, str], words: list[str]
) -> None:
    """The sentence holds the value, what is allowed, and where to change it."""
    with pytest.raises(SettingsError) as caught:
        load(Example, argv, environ)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(word in sentence for word in words), sentence


def test_settings_cannot_be_changed() -> None:
    """They are what the process was started with, to its end."""
    with pytest.raises(AttributeError):
        load(Example, [], {}).train_steps = 3  # type: ignore[misc]


def test_only_marked_settings_belong_to_the_run() -> None:
    """A run is continued with another log level, but not with another seed."""
    loaded = load(Example, ["--log-level", "debug"], {})
    assert of_run(loaded) == {"train_steps": 10, "preset": "learn"}


def test_every_setting_of_the_runtime_has_a_sentence() -> None:
    """Whoever adds a setting says what it means, and inheriting keeps the sentence."""
    assert all(each.sentence.endswith(".") for each in describe(RuntimeSettings))
    assert set(describe(RuntimeSettings)) < set(describe(Example))


def test_help_shows_own_settings_first() -> None:
    """A reader of a component's page looks for what only this component has."""
    assert describe(Example)[0].flag == "--train-steps"
    assert "--train-steps  (whole number, at least 1, at most 100; default 10)" in help_text(
        Example
    )


def test_help_is_printed_and_ends_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    """Asking for help is no error, whatever else stands beside it."""
    with pytest.raises(SystemExit) as caught:
        load(Example, ["--train-steps", "0", "--help"], {})
    assert caught.value.code == 0
    assert "Learns to aim." in capsys.readouterr().out
