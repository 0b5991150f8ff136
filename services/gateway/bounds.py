"""What waits for clients is bounded, by number and by age; what does not fit is a dead letter."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import redis
import structlog

from roomgrad import codec, scripts
from roomgrad.commit import Commit
from roomgrad.names import Names
from roomgrad.runtime import dead_letters
from roomgrad.runtime.consumers import Delivery as Given

from . import bodies
from .link import Client
from .rooms import Rooms
from .seats import Key, Seat
from .settings import GatewaySettings
from .store import Read, Replaced, Store

log = structlog.get_logger("roomgrad")

SWEEP_S = 1.0
TRIM_EVERY = 5  # sweeps
LOOK_EVERY = 5  # sweeps after which all seats look, for a ring that was lost
AT_A_TIME = 50  # dead letters of one commit
MIB = 1024 * 1024


class Bounds:
    """Looks after all seats once a second."""

    def __init__(self, settings: GatewaySettings, names: Names, store: Store, rooms: Rooms) -> None:
        self._settings = settings
        self._names = names
        self._store = store
        self._rooms = rooms
        self._trim = scripts.load("trim")
        self._untrimmed: set[Key] = set()

    async def run(self) -> None:
        """Sweeps until it is cancelled."""
        count = 0
        while True:
            await asyncio.sleep(SWEEP_S)
            count += 1
            try:
                await self._sweep(look=count % LOOK_EVERY == 0)
                if count % TRIM_EVERY == 0:
                    await self._forget_history()
            except (redis.ResponseError, Replaced) as error:
                log.warning("what waits for clients was not looked after", reason=str(error))
            except Exception as error:
                log.error("looking after the seats goes on after an error", exc_info=error)

    async def _sweep(self, look: bool) -> None:
        waiting = await self._waiting()
        if not self._rooms.seats:
            return
        now = await self._store.now_ms() if waiting or look else None
        for seat in list(self._rooms.seats):
            if seat.connections and look:
                seat.look(self._rooms.keys(seat))
            behind = waiting.get(seat, {})
            if now is not None:
                await self._look_after(seat, behind, now)

    async def _waiting(self) -> dict[Seat, dict[Key, int]]:
        """How many messages wait for which seat because nobody takes them."""
        touched, self._rooms.touched = self._rooms.touched, set()
        self._untrimmed |= touched
        waiting: dict[Seat, dict[Key, int]] = defaultdict(dict)
        for key in touched:
            groups = await self._store.groups(key)
            for seat in self._rooms.seats_in(key[0]):
                lag = int(groups.get(seat.group, {}).get("lag") or 0)
                if not lag:
                    continue
                self._rooms.touched.add(key)
                if any(not each.is_full for each in seat.in_room(key[0])):
                    seat.look([key])  # somebody takes it; perhaps it is only what they said
                else:
                    waiting[seat][key] = lag
        return waiting

    async def _look_after(self, seat: Seat, behind: dict[Key, int], now: int) -> None:
        settings = self._settings
        oldest_ms = now - round(settings.wait_s * 1000)
        seat.settle_until(oldest_ms)
        gone = seat.left_ms is not None and seat.left_ms < oldest_ms
        if gone or seat.letters > settings.wait_count:
            await self._give_up(seat, behind, gone)
            return
        over = sum(behind.values()) - settings.wait_count
        for key, lag in sorted(behind.items(), key=lambda each: -each[1]):
            if over > 0:
                count = min(lag, over)
                over -= count
                reason = f"more than {settings.wait_count} messages wait for {seat.name}"
                await self._bury_oldest(seat, key, count, f"{reason} (--wait-count)")
            reason = f"it waited for {seat.name} longer than {settings.wait_s:g} s (--wait-s)"
            await self._bury_oldest(seat, key, await self._older(seat, key, oldest_ms), reason)

    async def _give_up(self, seat: Seat, behind: dict[Key, int], gone: bool) -> None:
        """Nothing waits any more for who stays away, or takes nothing while thousands wait."""
        why = f"{seat.name} is away for more than {self._settings.wait_s:g} s (--wait-s)"
        if not gone:
            why = f"{seat.name} takes nothing, and too much waits for it (--wait-count)"
        for connection in list(seat.connections):
            connection.end(why)
        if seat.connections:
            return  # they leave, and then it is vacant
        for key, lag in behind.items():
            await self._bury_oldest(seat, key, lag, why)
        log.warning("nothing waits any more for a client", client=seat.name, reason=why)
        async with self._rooms.changing:
            if seat.vacant and seat in self._rooms.seats:
                await self._rooms.end(seat)

    async def _older(self, seat: Seat, key: Key, oldest_ms: int) -> int:
        """How many messages wait for a seat since before then, up to a hundred."""
        group = (await self._store.groups(key)).get(seat.group)
        if group is None:
            return 0
        name, after = self._names.stream(*key), b"(" + group["last-delivered-id"]
        if int(group["last-delivered-id"].partition(b"-")[0]) >= oldest_ms:
            return 0

        async def attempt(client: Client) -> Any:
            return await client.xrange(name, after, f"{oldest_ms}", count=100)

        return len(await self._store.link.do(attempt))

    # dead letters

    async def _bury_oldest(self, seat: Seat, key: Key, count: int, reason: str) -> None:
        while count > 0:
            reads = await self._store.read(seat.group, [key], min(count, AT_A_TIME))
            if not reads:
                return
            count -= len(reads)
            await self._bury(seat, reads, reason)

    async def bury(self, seat: Seat, read: Read, reason: str) -> None:
        """Makes a dead letter of what cannot be given to a client."""
        await self._bury(seat, [read], reason)

    async def _bury(self, seat: Seat, reads: Sequence[Read], reason: str) -> None:
        commit = Commit()
        commit.same(self._store.table, b"holder", self._store.me.encode())
        for key, entry, fields in reads:
            commit.do(b"XACK", self._names.stream(*key), seat.group.encode(), entry.encode())
            stream = bodies.stream_of(self._rooms.system, *key)
            flat = [part for pair in fields.items() for part in pair]
            # Its root ends with it only if the contract names this client for it: who only listens
            # must not end what others work on.
            serves = self._rooms.system is not None and seat.name in stream.consumers
            dead_letters.dead_letter(
                commit,
                self._names,
                Given(stream, entry, flat),
                reason,
                group=seat.group,
                members=self._rooms.system.components if serves and self._rooms.system else (),
                whole=sum(map(len, flat)) <= dead_letters.SMALL_LETTER_BYTES
                or await self._room_left(),
                by=self._store.me,
            )
        seat.letters += len(reads)
        log.warning("dead letters", client=seat.name, count=len(reads), reason=reason)
        await self._store.commit(commit)

    async def _room_left(self) -> bool:
        """Whether large letters are kept whole."""
        name = self._names.dead()
        used = await self._store.link.do(lambda client: client.memory_usage(name, samples=5))
        return (used or 0) + codec.MAX_TEXT_BYTES <= self._settings.dead_mib * MIB

    # history

    async def _forget_history(self) -> None:
        """Trims the streams of these rooms; those of a contract are trimmed by components, too."""
        keys, self._untrimmed = self._untrimmed, set()
        limits = [self._settings.history_entries, round(self._settings.history_mib * MIB)]
        for key in keys:
            consumers = bodies.stream_of(self._rooms.system, *key).consumers
            names = [self._names.stream(*key), self._names.run_info()]
            names += [self._names.done(group, *key) for group in consumers]

            async def attempt(
                client: Client,
                names: list[str] = names,
                arguments: tuple[object, ...] = (*limits, *consumers),
            ) -> None:
                if await client.exists(names[0]):
                    await client.eval(self._trim, len(names), *names, *arguments)

            await self._store.link.do(attempt)
