"""The account of a model of real size: its weights are those of the steps that the log tells of."""

from __future__ import annotations

from pathlib import Path

from roomgrad.inspect import models
from roomgrad.runtime.model import writer
from roomgrad.snapshots import pieces
from roomgrad.snapshots.owner import Owner, name_of
from roomgrad.snapshots.redis_store import RedisStore
from roomgrad.snapshots.stores import SnapshotStore, open_store
from tests.chaos.account import Account, entries
from tests.chaos.contract import LEARNER
from tests.chaos.environment import ORPHAN_S, PATIENCE_S, PIECE_BYTES, Environment
from tests.chaos.network import Step, in_one_process


def settle_model(environment: Environment, account: Account) -> None:
    """Compare the weights with those of one process, and look for what is left over."""
    assert environment.model is not None
    before, pieces.PIECE_BYTES = pieces.PIECE_BYTES, PIECE_BYTES
    try:
        _settle_weights(environment, environment.model.parameters, account)
        _settle_snapshots(environment, account)
    finally:
        pieces.PIECE_BYTES = before


def _settle_weights(environment: Environment, parameters: int, account: Account) -> None:
    steps = [
        Step(each["number"], int(each["weights"].partition("-")[0]))
        for each in entries(environment, "steps")
    ]
    account.stale = sum(each.made != at for at, each in enumerate(steps))
    found = models.stored(environment.client, environment.names, LEARNER, wait_s=PATIENCE_S)
    if found.behind:
        account.wrong.append(f"the newest snapshot is {found.behind} steps behind")
    stored = {each.name: bytes(each.data) for each in found.weights()}
    expected = in_one_process(parameters, steps)
    if stored != expected:
        other = [name for name in expected if stored.get(name) != expected[name]]
        account.wrong.append(f"other weights than one process has: {', '.join(other)}")


def _settle_snapshots(environment: Environment, account: Account) -> None:
    assert environment.model is not None
    client, names = environment.client, environment.names
    token = client.hget(names.run_info(), "token") or b""
    owner = Owner(names, LEARNER, token.decode())
    store: SnapshotStore = RedisStore(client.execute_command, owner)
    if environment.model.in_files:
        store = open_store(environment.model.store.as_uri(), owner)
    newest, *_ = pointed = environment.snapshots()
    if environment.most_snapshots > writer.MOST:
        account.wrong.append(f"{environment.most_snapshots} snapshots at once")
    # Those without an owner that the last snapshotter could have deleted.
    named = {name_of(each.place) for each in pointed}
    left = [place for place in store.places(older_s=1.0) if name_of(place) not in named]
    if environment.model.in_files:
        old = newest.at - 2 * ORPHAN_S
        left = [each for each in left if Path(each.removeprefix("file://")).stat().st_mtime < old]
    if left:
        account.wrong.append(f"snapshots that nothing points to: {', '.join(left)}")
