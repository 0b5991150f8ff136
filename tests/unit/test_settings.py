"""Settings: where a value comes from, and what is said about one that is not allowed."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from roomgrad.errors import SettingsError
from roomgrad.flags import describe, help_text, load
from roomgrad.settings import OfRun, RuntimeSettings, of_run, settings
from roomgrad.variables import exported, variable
from roomgrad.web.dashboard.settings import DashboardSettings
from roomgrad_melody.labelling.settings import LabellingSettings
from roomgrad_swergio.gateway.settings import GatewaySettings


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


@pytest.mark.parametrize(
    ("variables", "steps"),
    [
        ({"ROOMGRAD_TRAIN_STEPS": "20", "TRAIN_STEPS": "30"}, 20),
        ({"ROOMGRAD_TRAIN_STEPS": "", "TRAIN_STEPS": "30"}, 30),
        ({"TRAIN_STEPS": "30"}, 30),
    ],
)
def test_a_variable_with_prefix_beats_one_without(variables: dict[str, str], steps: int) -> None:
    """Names of releases before the prefix are read as long as nothing else uses them."""
    assert load(Example, [], variables).train_steps == steps


@pytest.mark.parametrize(
    "variables",
    [
        {"HOST": "x86_64-conda-linux-gnu"},  # conda's compilers
        {"HOST": "laptop.local"},  # tcsh
        {"PORT": "3000"},
        {"SYSTEM": "Linux", "ROOT": "/", "SCALE": "2", "FORMAT": "pdf", "ALLOW": "all"},
        {"THREADS": "auto", "REPLICA": "3", "LOG_LEVEL": "INFO", "LOG_FORMAT": "gelf"},
        {"METRICS_PORT": "tcp://10.0.0.5:9100"},  # the service metrics, in Kubernetes
        {"ROOMGRAD_PORT": "tcp://10.0.0.5:80"},  # the service roomgrad
    ],
    ids=lambda variables: ",".join(variables),
)
@pytest.mark.parametrize("cls", [LabellingSettings, DashboardSettings, GatewaySettings])
def test_variables_of_other_programs_are_no_settings(
    cls: type[RuntimeSettings], variables: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What conda, shells, orchestrators and build tools export changes nothing."""
    assert load(cls, [], variables) == load(cls, [], {})
    said = capsys.readouterr().err
    names = {each.variable.removeprefix("ROOMGRAD_") for each in describe(cls)}
    for name in names & variables.keys():
        assert f"{name} is not read: the variable is ROOMGRAD_{name}" in said


def test_the_run_is_named_with_or_without_prefix() -> None:
    """No program is known that exports RUN."""
    assert load(Example, [], {"RUN": "mine"}).run == "mine"
    assert load(Example, [], {"RUN": "mine", "ROOMGRAD_RUN": "ours"}).run == "ours"


def test_another_program_gets_a_variable_under_both_names() -> None:
    """One without roomgrad reads REDIS_URL; others read ROOMGRAD_REDIS_URL first."""
    assert exported(redis_url="redis://a", run="") == {
        "REDIS_URL": "redis://a",
        "ROOMGRAD_REDIS_URL": "redis://a",
    }


def test_a_flag_beats_a_variable_and_a_variable_beats_the_default() -> None:
    """The nearer to the command, the stronger."""
    environ = {"ROOMGRAD_TRAIN_STEPS": "20", "ROOMGRAD_PRESET": "original"}
    loaded = load(Example, ["--train-steps", "30"], environ)
    assert (loaded.train_steps, loaded.preset, loaded.learning_rate) == (30, "original", 0.01)


def test_a_value_may_stand_behind_an_equals_sign() -> None:
    """Both ways of writing a flag mean the same."""
    assert load(Example, ["--train-steps=30"], {}) == load(Example, ["--train-steps", "30"], {})


def test_an_empty_variable_counts_as_not_given() -> None:
    """Compose files pass on variables that are not set as empty ones."""
    assert load(Example, [], {"ROOMGRAD_TRAIN_STEPS": ""}).train_steps == 10


@pytest.mark.parametrize(
    ("argv", "verbose"),
    [(["--verbose"], True), (["--no-verbose"], False), (["--verbose=no"], False)],
)
def test_a_switch_needs_no_value(argv: list[str], verbose: bool) -> None:
    """A flag of true or false turns on, and with --no- off."""
    assert load(Example, argv, {"ROOMGRAD_VERBOSE": "1"}).verbose is verbose


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (
            ["--train-steps", "0"],
            {},
            ["--train-steps", "ROOMGRAD_TRAIN_STEPS", "'0'", "at least 1"],
        ),
        ([], {"TRAIN_STEPS": "101"}, ["--train-steps", "TRAIN_STEPS", "'101'", "at most 100"]),
        (["--train-steps", "many"], {}, ["'many'", "whole number"]),
        (["--preset", "best"], {}, ["--preset", "ROOMGRAD_PRESET", "'best'", "learn or original"]),
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


def test_a_value_that_may_be_empty_has_its_limits() -> None:
    with pytest.raises(
        SettingsError, match=r"ROOMGRAD_PORT .* whole number, at least 1, at most 65535"
    ):
        load(DashboardSettings, [], {"ROOMGRAD_PORT": "x"})


def test_settings_cannot_be_changed() -> None:
    """They are what the process was started with, to its end."""
    with pytest.raises(AttributeError):
        load(Example, [], {}).train_steps = 3  # type: ignore[misc]


def test_only_marked_settings_belong_to_the_run() -> None:
    """A run is continued with another log level, but not with another seed."""
    loaded = load(Example, ["--log-level", "debug"], {})
    assert of_run(loaded) == {"seed": 0, "train_steps": 10, "preset": "learn"}


@settings
class Seeded(RuntimeSettings):
    """Draws batches."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """Batch i depends on the seed and i alone."""


def test_every_component_has_the_seed_of_the_run() -> None:
    """Where a component says more of it, its sentence is shown, and among its own settings."""
    environ = {"ROOMGRAD_SEED": str(2**63 - 1), "SEED": "5"}
    for cls in (Example, Seeded):
        assert load(cls, [], environ).seed == of_run(load(cls, [], environ))["seed"] == 2**63 - 1
        with pytest.raises(SettingsError, match=r"'-1', allowed is: whole number, at least 0"):
            load(cls, ["--seed", "-1"], {})
    first, *_ = describe(Seeded)
    assert (first.flag, first.sentence) == (
        "--seed",
        "Batch i depends on the seed and i alone.",
    )
    assert describe(Example)[0].flag == "--train-steps"


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


@pytest.mark.parametrize("text", ["1_0", "\u0663"])
@pytest.mark.parametrize("name", ["train_steps", "learning_rate"])
def test_a_number_has_digits_alone(name: str, text: str) -> None:
    """As flags and as variables; Python would read 10 and 3."""
    flag = "--" + name.replace("_", "-")
    with pytest.raises(SettingsError, match=f"{flag} .*is .{text}., allowed is"):
        load(Example, [flag, text], {})
    with pytest.raises(SettingsError, match="allowed is"):
        load(Example, [], {variable(name): text})
