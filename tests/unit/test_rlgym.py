"""The mathematics of the ensemble, and what its contract says, without Redis."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from roomgrad import gym
from roomgrad.errors import ContractError
from roomgrad.rooms import Stream
from roomgrad_rlgym.aggregation.handlers import choose, gradients
from roomgrad_rlgym.cartpole.handlers import make
from roomgrad_rlgym.contract import ACTIONS, CARTPOLE, ENVS, OBSERVATIONS, RLGYM, contract
from roomgrad_rlgym.plugin import PROGRAMS
from roomgrad_rlgym.policy.network import (
    DISCOUNT,
    MOST_ROWS,
    VALUE_WEIGHT,
    advantages,
    discounted,
    drawn,
    value_gradient,
)
from roomgrad_rlgym.selection.genetic import Weights, next_generation

ROOT = Path(__file__).parents[2]


def test_the_contract_is_that_of_the_environment() -> None:
    """It names shapes itself, so that a program without gymnasium can read it."""

    def said(stream: Stream) -> tuple[object, ...]:
        return stream.key, dict(stream.schema)

    expected = gym.streams(make, ACTIONS, OBSERVATIONS, CARTPOLE, ENVS)
    assert [said(each) for each in expected] == [said(RLGYM.stream(*each.key)) for each in expected]


def test_the_number_of_members_is_said_once() -> None:
    """In the contract, as the default of `--members`: everything else follows from it."""
    seven = contract(7)
    assert sum(name.startswith("policy.") for name in seven.components) == 7
    own = [each for each in seven.streams if each.room.name.startswith("weights.")]
    assert [each.consumers for each in own] == [(f"policy.{i}",) for i in range(7)]
    folders = [ROOT / "shared/roomgrad_rlgym", *(ROOT / "services" / name for name in PROGRAMS)]
    files = [file for folder in folders for file in folder.glob("*.py")]
    said = [
        line for file in files for line in file.read_text().splitlines() if "members: int" in line
    ]
    assert said == ["def contract(members: int = 20) -> System:"]


def test_one_member_alone_is_refused() -> None:
    """Its votes would be joined with none."""
    with pytest.raises(ContractError, match=r"rlgym: expected 2 members or more.*: 1"):
        contract(1)


def test_gymnasium_is_one_that_is_maintained() -> None:
    """Not gym, and no release is pinned."""
    own, sdk = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        for folder in ("shared/roomgrad_rlgym", "shared")
    )
    assert [each.partition("==")[0] for each in own["dependencies"]] == ["roomgrad[gym,torch]"]
    assert sdk["optional-dependencies"]["gym"] == ["gymnasium>=1"]


def test_returns_are_discounted_until_each_environment_ends() -> None:
    rewards = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    lengths, beyond = np.array([2, 1, 2]), np.array([0.0, 0.0, 10.0])
    found = discounted(rewards, lengths, beyond)
    last = 1 + DISCOUNT * 10
    expected = [[1 + DISCOUNT, 1, 1 + DISCOUNT * last], [1, 0, last]]
    np.testing.assert_allclose(found, np.array(expected, "<f4"))


def test_only_steps_that_were_run_are_drawn() -> None:
    steps, envs = drawn(np.array([3, 1]), seed=1)
    assert sorted(zip(steps, envs, strict=True)) == [(0, 0), (0, 1), (1, 0), (2, 0)]
    most = drawn(np.full(100, 500), seed=1)
    assert len(most[0]) == MOST_ROWS
    np.testing.assert_array_equal(most, drawn(np.full(100, 500), seed=1))


def test_a_member_is_taught_by_its_share_in_an_action() -> None:
    """The gradients are those of the log-probability of what all have done together."""
    tensors = [torch.tensor(p).log().requires_grad_() for p in ([0.9, 0.5], [0.3, 0.5])]
    more = np.array([2.0, -1.0], "<f4")
    mean = torch.stack([each.exp() for each in tensors]).mean(0)
    (-(torch.from_numpy(more) * mean.log()).mean()).backward()
    own = [np.asarray(each.detach()) for each in tensors]
    for tensor, found in zip(tensors, gradients(own, [more, more]), strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(found / len(tensors), tensor.grad, rtol=1e-6)


def test_advantages_are_standardized_and_values_move_to_returns() -> None:
    returns, values = np.array([5.0, 1.0], "<f4"), np.array([1.0, 1.0], "<f4")
    np.testing.assert_allclose(advantages(returns, values), [1, -1], rtol=1e-4)
    wanted = torch.from_numpy(values).requires_grad_()
    (VALUE_WEIGHT * (wanted - torch.from_numpy(returns)).pow(2).mean()).backward()
    np.testing.assert_allclose(value_gradient(returns, values), wanted.grad)


def test_the_mean_of_votes_decides() -> None:
    votes = [np.array([[0.1, 0.9], [0.9, 0.1]], "<f4"), np.array([[0.8, 0.2], [0.6, 0.4]], "<f4")]
    np.testing.assert_array_equal(choose(votes, None), [1, 0])
    many = [np.full((10_000, 2), [0.3, 0.7], "<f4")]
    drawn = choose(many, 5)
    assert drawn.mean() == pytest.approx(0.7, abs=0.03)
    np.testing.assert_array_equal(drawn, choose(many, 5))
    assert (drawn != choose(many, 6)).any()


def network(value: float, units: int = 4) -> Weights:
    return {f"{part}.0.weight": np.full((units, 2), value, "<f4") for part in ("actor", "critic")}


def test_the_worst_quarter_is_replaced_by_children_of_the_better() -> None:
    members = [network(10.0 * i) for i in range(8)]
    scores = np.arange(8.0)
    found = next_generation(members, scores, np.random.default_rng(0))
    assert [new is old for new, old in zip(found, members, strict=True)] == [False] * 2 + [True] * 6
    for child in found[:2]:
        parents = [np.round(part.mean() / 10) for part in child.values()]
        assert all(parent >= 2 for parent in parents)
        assert all(0 < part.std() < 0.1 for part in child.values())
    again = next_generation(members, scores, np.random.default_rng(0))
    np.testing.assert_array_equal(found[0]["actor.0.weight"], again[0]["actor.0.weight"])


def test_a_member_of_another_architecture_stays_as_it_is() -> None:
    """It has no children, and is not replaced by one."""
    members = [network(1.0), network(2.0, units=9), *(network(10.0 * i) for i in range(3, 9))]
    scores = np.array([0.0, 7.5, *range(2, 8)])
    found = next_generation(members, scores, np.random.default_rng(0))
    assert found[1] is members[1]
    assert {each["actor.0.weight"].shape for each in found} == {(4, 2), (9, 2)}
    assert sum(new is not old for new, old in zip(found, members, strict=True)) == 2
