"""`roomgrad.jax.through`: rooms as a function in JAX."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import roomgrad.jax
from roomgrad.errors import ContractError, NoAnswer, SchemaError
from tests.integration.conftest import EchoRun
from tests.integration.guests.squares import SQUARES, component
from tests.waiting import LIMIT_S, until

X = jnp.arange(1.0, 4.0)
GRADIENTS = [4.0, 32.0, 108.0]


@pytest.fixture
def line(echo: EchoRun) -> EchoRun:
    for name in SQUARES.components:
        echo.start(component(name), max_deliveries=3)
    return echo


def function(line: EchoRun, leave: str = "c", **options: Any) -> Callable[[Any], Any]:
    return roomgrad.jax.through(
        SQUARES,
        "a",
        leave,
        run=line.names.run,
        redis_url=line.url,
        timeout_s=LIMIT_S,
        **options,
    )


def memories(line: EchoRun) -> int:
    return sum(int(line.client.hlen(line.names.memory(each))) for each in SQUARES.components)


def counted(line: EchoRun, name: str) -> int:
    return line.counter(name, "first")


@pytest.mark.parametrize("wrapped", [lambda each: each, jax.jit])
def test_value_and_gradient_take_one_pass(line: EchoRun, wrapped: Callable[[Any], Any]) -> None:
    f = function(line)
    value, gradient = wrapped(jax.value_and_grad(lambda x: f(x).sum()))(X)
    assert float(value) == 1 + 16 + 81
    assert gradient.tolist() == GRADIENTS
    assert counted(line, "forwards") == counted(line, "learned") == 1
    assert wrapped(f)(X).tolist() == [1.0, 16.0, 81.0]
    assert counted(line, "learned") == 1
    assert memories(line) == 0


def test_vmap_makes_one_larger_batch(line: EchoRun) -> None:
    f = function(line, learn=False)
    both = jnp.stack([X, X + 1])
    assert jax.jit(jax.vmap(f))(both).tolist() == [[1.0, 16.0, 81.0], [16.0, 81.0, 256.0]]
    found = jax.vmap(jax.grad(lambda x: f(x).sum()))(both)
    assert found.tolist() == [GRADIENTS, [32.0, 108.0, 256.0]]
    assert counted(line, "forwards") == 2
    assert counted(line, "differentiated") == 1


def test_a_loop_of_gradient_descent(line: EchoRun) -> None:
    f = function(line, learn=False)
    step = jax.jit(lambda x: x - 0.0005 * jax.grad(lambda x: ((f(x) - 16.0) ** 2).mean())(x))
    x = jnp.array([1.5, 2.2])
    for _ in range(30):
        x = step(x)
    assert jnp.abs(x - 2.0).max() < 0.05


def test_a_pass_without_a_gradient_is_given_up_when_it_is_freed(line: EchoRun) -> None:
    f = function(line)
    output, pull = jax.vjp(f, X)
    assert memories(line) == 2
    del output, pull
    gc.collect()
    f(X)
    until(lambda: memories(line) == 0)
    assert line.dead_letters() == []


def test_errors_say_what_is_wrong(line: EchoRun) -> None:
    f = function(line)
    for call in (f, jax.grad(lambda x: f(x).sum())):
        with pytest.raises(NoAnswer, match="negative numbers are not squared here"):
            call(-X).block_until_ready()
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"NoAnswer: .*negative numbers are not"):
        jax.jit(f)(-X).block_until_ready()
    with pytest.raises(SchemaError, match=r"DATA: expected shape \(batch,\), got \(1, 3\)"):
        f(X[None])
    with pytest.raises(ContractError, match="system squares has no DATA/FORWARD in room x"):
        function(line, leave="x")
    assert f(X).tolist() == [1.0, 16.0, 81.0]
