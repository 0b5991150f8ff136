"""A run is put into a file while it goes on, and goes on from there elsewhere, to the last bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from roomgrad.names import Names
from roomgrad.ops.backup.restore import restore
from roomgrad.ops.backup.save import save
from roomgrad.redis.server import connect
from roomgrad.systems import module_of
from roomgrad.testing import throwaway_server
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import CONTROLMODEL, SIMULATOR, TRAINER, TREBUCHET
from tests.chaos.processes import Processes
from tests.integration.conftest import start_redis
from tests.systems.conftest import QUICK
from tests.systems.trebuchet import reference
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

STEPS, BATCH, SEED = 150, 20, 4
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def expected() -> str:
    """The weights of a run that nothing happens to."""
    return reference.train(STEPS, seed=SEED, batch_size=BATCH).sha256


@contextlib.contextmanager
def at_work(
    folder: Path, url: str, run: str, window: int = 1, replicas: int = 2
) -> Iterator[Processes]:
    """So many replicas of each component."""

    def program(component: str) -> list[str]:
        flags = [f"--redis-url={url}", f"--run={run}", *QUICK]
        if component != SIMULATOR:
            flags += [f"--train-steps={STEPS}", f"--seed={SEED}"]
        if component == TRAINER:
            flags += [f"--batch-size={BATCH}", f"--window={window}"]
        return [module_of(component), *flags]

    folder.mkdir(exist_ok=True)
    processes = Processes(program, (TRAINER, CONTROLMODEL, SIMULATOR), replicas, folder)
    try:
        processes.start()
        yield processes
    finally:
        processes.stop()


@contextlib.contextmanager
def a_server() -> Iterator[tuple[str, redis.Redis]]:
    with throwaway_server() as server, contextlib.closing(connect(server.url)) as client:
        yield server.url, client


def wait_applied(client: redis.Redis, run: str, steps: int) -> None:
    until(lambda: ledger.read(client, Names(run)).applied >= steps, PATIENCE_S)


def assert_exact(client: redis.Redis, run: str) -> str:
    """Waits for the end: every batch sent, learned from and finished once. The weights."""
    names = Names(run)
    until(lambda: ledger.read(client, names).finished >= STEPS, PATIENCE_S)
    found = ledger.read(client, names)
    assert (found.sent, found.finished, found.dead, found.open) == (STEPS, STEPS, 0, 0)
    assert (found.applied, found.distinct, found.lost) == (STEPS, STEPS, 0)
    for component in TREBUCHET.components:
        assert not client.hlen(names.memory(component))
    assert not client.xlen(names.dead())
    return ledger.weights_sha256(client, names)


def put(client: redis.Redis, path: Path, run: str = "") -> None:
    with path.open("rb") as file:
        restore(client, file, path.name, run, fresh=False)


def test_a_run_goes_on_where_it_was_at_full_speed(tmp_path: Path, expected: str) -> None:
    """On another server, under another name; and the run itself has noticed nothing."""
    path = tmp_path / "run.backup"
    with a_server() as (url, client), a_server() as (other_url, other):
        with at_work(tmp_path / "first", url, "trebuchet", replicas=1):
            wait_applied(client, "trebuchet", STEPS // 4)
            save(client, Names("trebuchet"), path)
            put(other, path, "again")
            before = ledger.read(other, Names("again"))
            assert STEPS // 4 <= before.applied < STEPS
            assert before.applied == before.distinct
            assert assert_exact(client, "trebuchet") == expected
        with at_work(tmp_path / "second", other_url, "again", replicas=1):
            assert assert_exact(other, "again") == expected


@pytest.mark.slow
@pytest.mark.parametrize("window", [1, 8])
def test_what_was_in_dead_hands_is_taken_over(tmp_path: Path, expected: str, window: int) -> None:
    """Everybody is killed at once, the server is thrown away, and the file is all there is."""
    path = tmp_path / "run.backup"
    with (
        a_server() as (url, client),
        at_work(tmp_path / "first", url, "trebuchet", window) as processes,
    ):
        wait_applied(client, "trebuchet", STEPS // 4)
        processes.kill(*processes.names)
        save(client, Names("trebuchet"), path)
    with a_server() as (url, client):
        put(client, path)
        with at_work(tmp_path / "second", url, "trebuchet", window):
            weights = assert_exact(client, "trebuchet")
    assert window > 1 or weights == expected


@pytest.mark.slow
def test_any_moment_of_eight_open_batches_is_a_whole_one(tmp_path: Path) -> None:
    """Six backups of one training; each goes on to exact counts."""
    paths = [tmp_path / f"{number}.backup" for number in range(6)]
    with a_server() as (url, client):
        with at_work(tmp_path / "first", url, "trebuchet", 8):
            for number, path in enumerate(paths):
                wait_applied(client, "trebuchet", 20 + 18 * number)
                save(client, Names("trebuchet"), path)
            assert_exact(client, "trebuchet")
        for number, path in enumerate(paths):
            put(client, path, f"again-{number}")
            with at_work(tmp_path / f"again-{number}", url, f"again-{number}", 8):
                assert_exact(client, f"again-{number}")


@pytest.mark.slow
@pytest.mark.docker
def test_it_moves_from_redis_to_valkey_and_back(tmp_path: Path, expected: str) -> None:
    """Each time in the middle of the training, with everybody killed."""
    redises = contextlib.contextmanager(start_redis)
    servers = (redises(), a_server(), redises())
    path = None
    for number, server in enumerate(servers):
        with server as found, contextlib.ExitStack() as stack:
            url = found if isinstance(found, str) else found[0]
            client = stack.enter_context(contextlib.closing(connect(url)))
            if path is not None:
                put(client, path)
            with at_work(tmp_path / f"on-{number}", url, "trebuchet") as processes:
                if number == len(servers) - 1:
                    assert assert_exact(client, "trebuchet") == expected
                    break
                wait_applied(client, "trebuchet", 50 * (number + 1))
                processes.kill(*processes.names)
                path = tmp_path / f"{number}.backup"
                save(client, Names("trebuchet"), path)
