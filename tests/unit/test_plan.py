"""What is asked on the command line, and what is started for it."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from roomgrad.cli.launch import AnySystem
from roomgrad.cli.target import default_run_of
from roomgrad.errors import SettingsError
from roomgrad.local.plan import Plan, with_gateway
from roomgrad_melody.commands.options import Melody, Unattended
from roomgrad_melody.commands.run import MelodyRun
from roomgrad_trebuchet.options import Trebuchet


def test_a_rater_makes_a_melody_run_unattended() -> None:
    """Options that are not given have their defaults."""
    assert MelodyRun(strategy="margin").chosen == Melody(strategy="margin")
    assert MelodyRun(rater="simulated", labels=20).chosen == Unattended(labels=20)
    person = MelodyRun(rater="simulated", labels=20, as_person=True, pace=0.0).chosen
    assert person == Unattended(labels=20, as_person=True, pace=0.0)


def test_a_system_without_options_takes_any_setting_of_its_components() -> None:
    """As COMPONENT.FLAG=VALUE, with the flag as it is typed or as the setting is called."""
    asked = AnySystem("trebuchet", set=["trainer.seed=3", "trainer.train_steps=5"])
    plan = asked.plan("small", ["simulator=2"])
    assert plan.replicas == {"trainer": 1, "controlmodel": 1, "simulator": 2}
    assert plan.flags("trainer") == ["--run=small", "--seed=3", "--train-steps=5"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("trainr.seed=3", r"no component 'trainr', did you mean trainer\?"),
        ("seed=3", r"--set seed=3: expected COMPONENT.FLAG=VALUE"),
        ("trainer.seed", r"--set trainer.seed: expected COMPONENT.FLAG=VALUE"),
    ],
)
def test_a_setting_of_no_component_is_refused(text: str, error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        AnySystem("trebuchet", set=[text]).plan()


def test_the_plan_of_the_trebuchet_has_the_flags_of_its_components() -> None:
    """As the components read them."""
    plan = Trebuchet(steps=7, seed=2, preset="original").plan("small", ["simulator=2"])
    assert plan.components == ("trainer", "controlmodel", "simulator")
    assert [plan.replicas[name] for name in plan.components] == [1, 1, 2]
    assert plan.flags("trainer") == ["--run=small", "--train-steps=7", "--seed=2", "--window=1"]
    assert plan.flags("simulator") == ["--run=small", "--weight-head=plus200"]


def test_a_plan_for_people_has_a_page_and_no_rater() -> None:
    """It breeds by itself, and repeats some questions."""
    plan = Melody(seed=4).plan(replicas=["evalnet=2,learner=3"])
    assert plan.run == "melody"
    assert plan.replicas == {"labelling": 1, "evalnet": 2, "learner": 3, "evolution": 1}
    assert plan.flags("learner") == ["--run=melody", "--seed=4", "--ask=both"]
    assert plan.flags("labelling") == ["--run=melody"]


def test_a_plan_with_a_gateway_starts_one_that_knows_the_system() -> None:
    """It is no member of the system, so that its number cannot be chosen."""
    plan = with_gateway(Trebuchet().plan("small"), 8080)
    assert plan.components == ("trainer", "controlmodel", "simulator", "gateway")
    assert plan.flags("gateway") == ["--run=small", "--port=8080", "--system=trebuchet"]
    melody = with_gateway(Melody().plan(), 81)
    assert melody.flags("gateway")[1:] == ["--port=81", "--system=melody"]
    with pytest.raises(SettingsError, match="no component 'gateway'"):
        Trebuchet().plan(replicas=["gateway=2"])


def test_a_component_for_which_somebody_stands_in_is_not_started() -> None:
    """Only `roomgrad up` allows that."""
    plan = Trebuchet().plan(replicas=["controlmodel=0,simulator=2"], least=0)
    assert plan.components == ("trainer", "simulator")
    assert plan.replaced == ("controlmodel",)
    with pytest.raises(SettingsError, match=r"controlmodel=0: allowed .* from 1 to 64"):
        Trebuchet().plan(replicas=["controlmodel=0"])


def test_the_run_of_the_gateway_is_that_of_the_system_it_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reads the same variable; a component's run is that of its system."""
    monkeypatch.delenv("ROOMGRAD_SYSTEM", raising=False)
    assert [default_run_of("gateway"), default_run_of("learner")] == ["", "melody"]
    monkeypatch.setenv("ROOMGRAD_SYSTEM", "melody")
    assert [default_run_of("gateway"), default_run_of("trainer")] == ["melody", "trebuchet"]
    assert default_run_of("somebody") == ""


def test_an_unattended_plan_goes_in_lock_step_and_starts_with_the_rater() -> None:
    """In a run of its own, so that --fresh does not take what people have rated."""
    plan = Unattended(labels=60, generations=20).plan(replicas=["evolution=2"])
    assert plan.run == "melody-unattended"
    assert plan.components == ("rater", "evalnet", "learner", "evolution")
    assert "--replica=rater" in plan.flags("rater")
    assert {"--lockstep=true", "--again=0.0", "--max-labels=60", "--ask-every=5"} <= set(
        plan.flags("learner")
    )
    assert {"--lockstep=true", "--pause-s=0.0", "--generations=20"} <= set(plan.flags("evolution"))


@pytest.mark.parametrize(
    ("labels", "given", "generations", "every"),
    [
        (100, 40, 60, 5),
        (100, 40, 24, 2),
        (100, 40, 23, 1),
        (100, 40, 13, 1),
        (10, 40, 1, 1_000_000),
        (41, 40, 60, 60),
    ],
)
def test_rounds_of_questions_are_spread_over_the_generations(
    labels: int, given: int, generations: int, every: int
) -> None:
    """The last round may be smaller, and where all labels are given there is none."""
    asked = Unattended(labels=labels, seed_labels=given, generations=generations)
    assert asked.ask_every == every
    rounds = [each for each in range(2, generations + 1) if each % every == 0]
    assert len(rounds) * 5 >= labels - asked.given


def test_too_few_generations_for_the_labels_are_refused() -> None:
    """The sentence says how many it takes."""
    with pytest.raises(SettingsError, match=r"--generations 12 .* 60 labels.* 13 or more"):
        _ = Unattended(generations=12).ask_every


@pytest.mark.parametrize("asked", [Trebuchet(), Melody(), Unattended()])
def test_a_plan_can_be_written_down(asked: Trebuchet | Melody | Unattended) -> None:
    """The supervisor of `roomgrad up` reads it from a file."""
    plan = with_gateway(asked.plan(), 8080)
    assert Plan(**json.loads(json.dumps(asdict(plan)))) == plan


def test_what_a_run_has_otherwise_than_was_asked_for_is_named() -> None:
    """What is as usual was not asked for, so `up trebuchet` names nothing."""
    usual = Trebuchet().plan()
    served = Trebuchet(steps=50, seed=1).plan(replicas=["simulator=2"])
    assert list(usual.differences(served, usual)) == []
    asked = Trebuchet(seed=5, steps=50).plan(replicas=["simulator=3"])
    assert list(asked.differences(served, usual)) == [
        "--seed=1 of trainer",
        "--seed=1 of controlmodel",
        "2 x simulator",
    ]
    gateway = with_gateway(Trebuchet().plan(), 8080)
    assert list(gateway.differences(served, usual)) == [
        "no --port of gateway",
        "no --system of gateway",
        "0 x gateway",
    ]
