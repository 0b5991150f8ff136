"""Several inputs and outputs by name, and loops in several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch

import roomgrad.jax
from roomgrad.errors import SchemaError
from roomgrad.torch import Through
from tests.integration.conftest import EchoRun
from tests.integration.guests.mix import MIX, mixer
from tests.integration.guests.squares import SQUARES, component
from tests.waiting import LIMIT_S

IDS = [4, 7]


def shapes(inputs: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    rows, columns = inputs["X"]
    return {"WIDE": (rows, 2 * columns)}


def options(run: EchoRun) -> dict[str, Any]:
    return {"run": run.names.run, "redis_url": run.url, "timeout_s": LIMIT_S}


def test_inputs_and_outputs_have_names(echo: EchoRun) -> None:
    """Integers have no gradient, and an output that is not used counts as zero."""
    echo.start(mixer())
    through = Through(MIX, "in", "out", **options(echo))
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    found = through(X=x, IDS=torch.tensor(IDS))
    assert found["SUM"].tolist() == [6.0, 14.0]
    assert found["WIDE"].shape == (2, 4)
    assert found["KIND"].tolist() == [5, 8]
    assert not found["KIND"].requires_grad
    found["SUM"].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    with pytest.raises(SchemaError, match=r"IDS: expected shape \(batch,\)"):
        through(X=x, IDS=torch.tensor([IDS]))
    through.close()


def test_a_component_that_answers_without_gradients_is_named(echo: EchoRun) -> None:
    echo.start(mixer(answers=False))
    through = Through(MIX, "in", "out", **options(echo))
    x = torch.ones(2, 2, requires_grad=True)
    loss = through(X=x, IDS=torch.tensor(IDS))["SUM"].sum()
    with pytest.raises(SchemaError, match="no gradient of X came home to room in: its component"):
        loss.backward()
    through.close()
    f = roomgrad.jax.through(MIX, "in", "out", output_shapes=shapes, **options(echo))
    gradient = jax.grad(lambda x: f({"X": x, "IDS": jnp.array(IDS)})["SUM"].sum())
    with pytest.raises(SchemaError, match=r"X: expected \(2, 2\) from the rooms, got nothing"):
        gradient(jnp.ones((2, 2)))


def test_shapes_that_the_contract_does_not_tell_are_given_to_jax(echo: EchoRun) -> None:
    echo.start(mixer())
    given = {"X": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "IDS": jnp.array(IDS)}
    f = roomgrad.jax.through(MIX, "in", "out", **options(echo))
    with pytest.raises(SchemaError, match=r"no input tells m, .* give output_shapes"):
        f(given)

    f = roomgrad.jax.through(MIX, "in", "out", output_shapes=shapes, **options(echo))
    found = jax.jit(f)(given)
    assert found["WIDE"].tolist() == [[1, 2, 3, 6], [3, 4, 9, 12]]
    assert found["KIND"].tolist() == [5, 8]
    gradient = jax.grad(lambda x: f({**given, "X": x})["WIDE"].sum())(given["X"])
    assert gradient.tolist() == [[4.0, 4.0], [4.0, 4.0]]


@pytest.fixture
def line(echo: EchoRun) -> EchoRun:
    for name in SQUARES.components:
        echo.start(component(name))
    return echo


@pytest.mark.timeout(200)
def test_each_rank_of_a_data_parallel_training_is_a_guest(line: EchoRun, tmp_path: Path) -> None:
    """Both learn the same, and nothing of them is left.

    Their data loaders fork processes when the guests have joined.
    """
    words = [sys.executable, "-m", "tests.integration.guests.ddp"]
    more = [str(tmp_path / "ranks"), line.names.run, line.url]
    ranks = [
        subprocess.Popen([*words, str(rank), *more], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for each in ranks:
        line.stack.callback(each.kill)
    printed = [each.communicate(timeout=180)[0].strip().split(" ", 1) for each in ranks]
    assert [each.returncode for each in ranks] == [0, 0]
    assert len({guest for guest, _ in printed}) == 2
    assert len({weights for _, weights in printed}) == 1
    assert line.client.hlen(line.names.guests()) == 0
