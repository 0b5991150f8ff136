"""A training under Sentinel: its master dies, a replica takes over, the weights stay the same."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from roomgrad.local.launcher import Launcher
from roomgrad.redis.server import connect
from roomgrad_trebuchet.contract import TRAINER
from roomgrad_trebuchet.options import Trebuchet
from tests.integration.sentinels import SentinelSet
from tests.systems.conftest import QUICK, ROOT, Training, assert_exact
from tests.systems.trebuchet import reference

pytestmark = pytest.mark.timeout(180)

STEPS, BATCH = 200, 20


@pytest.mark.parametrize(
    "upset",
    [
        "kill_master",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("freeze_master", "failover")),
    ],
)
def test_a_training_survives_its_master(tmp_path: Path, upset: str) -> None:
    """One failover in the middle: work is redone, not doubled, and trained to the end."""
    options = Trebuchet(steps=STEPS, seed=6)
    plan = options.plan("training", [])
    with ExitStack() as stack:
        servers = stack.enter_context(SentinelSet(tmp_path / "servers"))
        client = stack.enter_context(contextlib.closing(connect(servers.url)))
        launcher = stack.enter_context(Launcher(ROOT, tmp_path, {"REDIS_URL": servers.url}))
        training = Training(options, plan, cast(Any, servers), client, launcher)
        for component in plan.components:
            flags = plan.flags(component) + QUICK
            flags += [f"--batch-size={BATCH}"] if component == TRAINER else []
            launcher.start(component, flags, 1)
        training.wait_applied(STEPS // 3)
        getattr(servers, upset)()
        servers.wait_elected()
        client.connection_pool.disconnect()  # a frozen master would answer nothing for seconds
        assert_exact(training)
        assert launcher.restarts == 0
        assert training.weights() == reference.train(STEPS, seed=6, batch_size=BATCH).sha256
