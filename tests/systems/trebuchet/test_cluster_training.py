"""Trainings on a Redis Cluster: a master dies, its replica takes over, every count stays exact."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from roomgrad.local.launcher import Launcher
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import connect
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import TRAINER
from roomgrad_trebuchet.options import Trebuchet
from tests.integration.cluster_containers import ContainerCluster
from tests.integration.clusters import Cluster, ClusterSet, names_on
from tests.systems.command_line import commands
from tests.systems.conftest import QUICK, ROOT, Training, assert_exact
from tests.systems.trebuchet import reference
from tests.waiting import until

STEPS, BATCH = 200, 20
RUNS, FEW = 8, 60


def start(
    stack: ExitStack, folder: Path, servers: Cluster, run: str, steps: int, seed: int
) -> Training:
    """One run of the trebuchet, as processes."""
    options = Trebuchet(steps=steps, seed=seed)
    plan = options.plan(run, [])
    client = stack.enter_context(contextlib.closing(connect(for_run(servers.url, run))))
    launcher = stack.enter_context(Launcher(ROOT, folder, {"REDIS_URL": servers.url}))
    training = Training(options, plan, cast(Any, servers), client, launcher)
    for component in plan.components:
        flags = plan.flags(component) + QUICK
        flags += [f"--batch-size={BATCH}"] if component == TRAINER else []
        launcher.start(component, flags, 1)
    return training


@pytest.mark.timeout(180)
def test_a_training_survives_a_move_and_the_death_of_its_master(tmp_path: Path) -> None:
    """Its slot moves, then its master dies: work is redone, not doubled, and trained to the end."""
    with ExitStack() as stack:
        servers = stack.enter_context(ClusterSet(tmp_path / "servers"))
        training = start(stack, tmp_path, servers, "training", STEPS, seed=6)
        training.wait_applied(STEPS // 5)
        servers.move("training")
        training.wait_applied(STEPS // 2)
        servers.kill_master("training")
        servers.wait_elected("training")
        assert_exact(training)
        assert training.launcher.restarts == 0
        assert training.weights() == reference.train(STEPS, seed=6, batch_size=BATCH).sha256


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_run_is_named_when_it_is_served(tmp_path: Path) -> None:
    """`roomgrad up trebuchet --run NAME` on a cluster: it learns, answers, and begins afresh."""
    with ClusterSet(tmp_path / "servers") as servers:
        roomgrad = commands(servers.url, tmp_path)
        names = names_on(servers, servers.masters()[1], 1, "night")[0]
        run = ["--run", names.run]
        try:
            shown = roomgrad("up", "trebuchet", "--steps", "10", *run)
            host, port = servers.master_of(names.run)
            assert f"redis-cli -c -u redis://{host}:{port}/0 SSUBSCRIBE" in shown
            with servers.client(names.run) as node:
                until(lambda: ledger.read(node, names).finished == 10)
                assert "m" in roomgrad("shoot", "--wind", "3", "--target", "60", *run)
                roomgrad("down", *run)
                roomgrad("up", "trebuchet", "--steps", "5", "--fresh", *run)
                until(lambda: ledger.read(node, names).finished == 5)
        finally:
            roomgrad("down", *run)


@pytest.fixture
def containers() -> Iterator[ContainerCluster]:
    with ContainerCluster() as found:
        yield found


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.timeout(900)
def test_runs_side_by_side_survive_the_death_of_one_of_three_masters(
    containers: ContainerCluster, tmp_path: Path
) -> None:
    """Eight seeded runs on three masters, one of which is killed on the way: counts are exact."""
    masters = containers.masters()
    names = [
        each
        for master, count in zip(masters, (3, 3, 2), strict=True)
        for each in names_on(containers, master, count, "side")
    ]
    assert len({each.run for each in names}) == RUNS
    with ExitStack() as stack:
        trainings = [
            start(stack, tmp_path / each.run, containers, each.run, FEW, seed)
            for seed, each in enumerate(names)
        ]
        until(lambda: all(each.checked() >= FEW // 6 for each in trainings), 300)
        containers.kill_master(names[0].run)
        containers.wait_elected(names[0].run)
        until(
            lambda: all(each.checked() >= 0 and each.finished() >= FEW for each in trainings), 300
        )
        for seed, training in enumerate(trainings):
            assert_exact(training)
            assert training.weights() == reference.train(FEW, seed=seed, batch_size=BATCH).sha256
