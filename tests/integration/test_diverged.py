"""Training that diverged: who shows its figures says that they are no numbers, and goes on."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import redis

from roomgrad.codec import pack
from roomgrad.names import Names
from roomgrad_melody.commands import standing
from roomgrad_trebuchet import ledger
from tests import roomgrad_command
from tests.integration.conftest import EchoRun

NAMES = Names("diverged")


@pytest.fixture
def client(echo: EchoRun) -> redis.Redis:
    """Return a client of a server with a run of the trebuchet that has finished a batch."""
    echo.client.hset(NAMES.run_info(), "settings:trainer", "{}")
    echo.client.hset(NAMES.counters("trainer"), mapping={"sent": 3, "finished": 2})
    return echo.client


@pytest.mark.parametrize(
    ("loss", "text"),
    [(math.nan, "not a number"), (None, "not a number"), (1e400, "infinity"), (0.5, "0.50")],
)
def test_the_progress_of_a_training_that_diverged(
    client: redis.Redis, loss: object, text: str
) -> None:
    """NaN is null where other programs write it."""
    record = {"step": 2, "loss": loss, "miss_m": loss}
    client.hset(NAMES.table("losses"), "2", pack(record))
    found = ledger.progress(client, NAMES)
    assert found is not None
    assert found.details[0] == f"loss {text}"
    assert len(ledger.losses(client, NAMES)) == 1


def test_top_shows_a_training_that_diverged(client: redis.Redis, echo: EchoRun) -> None:
    """As a table, and as JSON."""
    client.hset(NAMES.table("losses"), "2", b'{"step":2,"loss":null,"miss_m":null}')
    words = ("top", "--run", NAMES.run, "--seconds", "0.1")
    shown = roomgrad_command.roomgrad(*words, "--once", environ={"REDIS_URL": echo.url})
    assert (shown.returncode, "loss not a number" in shown.stdout) == (0, True), shown.stderr
    found = roomgrad_command.roomgrad(*words, "--json", environ={"REDIS_URL": echo.url})
    assert json.loads(found.stdout)["run"] == NAMES.run


def test_the_progress_of_breeding_whose_ratings_diverged(client: redis.Redis) -> None:
    """Mean and best of a population that the network could not rate."""
    record = {"generation": 3, "fitness": np.ones(2), "mean": None, "best": None}
    client.hset(NAMES.table("population"), "now", pack(record))
    found = standing.progress(client, NAMES)
    assert found is not None
    assert found.details[1:] == ("expected rating not a number", "best not a number")
