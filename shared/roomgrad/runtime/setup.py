"""What a replica ensures after it has connected: run, groups, positions, first messages."""

from __future__ import annotations

from typing import Any

import orjson
import redis
import structlog

from roomgrad.commit import Commit
from roomgrad.memory import Reads
from roomgrad.redis import registry
from roomgrad.runtime import runs
from roomgrad.runtime.consumers import EveryoneConsumer
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.work import Attempt, Work
from roomgrad.schema import Declaration
from roomgrad.settings import of_run

log = structlog.get_logger("roomgrad")


class Setup:
    """Every step is idempotent: the first replica does it, the others find it done."""

    def __init__(self, identity: Identity, work: Work) -> None:
        component = self._component = identity.component
        self._names = identity.names
        self._work = work
        self._settings = of_run(identity.settings)
        self._token = ""
        self._declarations = {
            **registry.contract_fields(component),
            f"declares:{component.name}": Declaration.of(component).to_json(),
        }

    def prepare(self, client: redis.Redis) -> str:
        """Register the component's settings and create missing groups; return the run's token."""
        component = self._component
        runs.check_members(client, self._names, component.system)
        runs.check_gradients(client, self._names, component)
        token = runs.register(
            client,
            self._names,
            component.name,
            self._settings,
            self._declarations,
            component.system.before_fresh,
        )
        # of a component that was registered at the same time, too
        runs.check_gradients(client, self._names, component)
        if self._token and token.decode() != self._token:
            log.warning("the server was emptied: the run starts again from step 0")
        self._token = token.decode()
        made = runs.create_groups(client, component.system, self._names, component.name)
        if made:
            log.info("created groups", count=made, run=self._names.run)
        return token.decode()

    def start(self, reads: Reads) -> tuple[Commit, Attempt] | None:
        """Return the commit with the first messages, and them; it applies once per run."""
        info, field = self._names.run_info(), f"started:{self._component.name}".encode()
        if reads.hget(info, field) is not None:
            return None
        attempt = self._work.start(reads)
        if attempt is None:
            return None
        commit = Commit()
        commit.same(info, field, None)
        commit.do(b"HSET", info, field, orjson.dumps({"messages": len(attempt.messages)}))
        self._work.stage(attempt, commit)
        return commit, attempt

    def find_positions(self, consumer: EveryoneConsumer, client: redis.Redis) -> int:
        """Find where an `everyone` replica continues; return how many entries it missed."""
        missed = 0
        for key in consumer.by_key:
            newest, added, length = _extent(client, key)
            stored: Any = None
            if at := consumer.position_key:  # stored at once, so that nothing is missed before
                client.hsetnx(at, key.decode(), b"%s %d" % (newest, added))  # the first commit
                stored = client.hget(at, key.decode())
            missed += consumer.start(key, stored, newest, added, length)
        if missed:
            log.warning("missed entries that were trimmed meanwhile", count=missed)
        return missed


def _extent(client: redis.Redis, key: bytes) -> tuple[bytes, int, int]:
    """Return newest entry, number of entries ever added, and length. The stream may not exist."""
    if not client.exists(key):
        return b"0-0", 0, 0
    info: Any = client.xinfo_stream(key)
    return info["last-generated-id"], int(info["entries-added"]), int(info["length"])
