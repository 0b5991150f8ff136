"""A run that a program starts and stops: a script, or a notebook."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import weakref
from collections.abc import Mapping
from dataclasses import fields
from types import TracebackType
from typing import Any

import numpy as np
import redis
from numpy.typing import ArrayLike, NDArray

from roomgrad.display import format_number
from roomgrad.errors import NoAnswer, RoomgradError, SettingsError
from roomgrad.inspect import progress
from roomgrad.inspect.curves import LOSSES
from roomgrad.inspect.series import Series
from roomgrad.local import supervisor
from roomgrad.local.notebook import Replicas, to_html
from roomgrad.local.plan import Plan, find_system, hint, plan_of
from roomgrad.local.session import already_served, password_file, serving_process
from roomgrad.messages import Message
from roomgrad.redis import heartbeats, questions
from roomgrad.redis.client import Client
from roomgrad.redis.server import configured_address
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import MessageType, Room, System
from roomgrad.state import run_directory
from roomgrad.systems import Progress, installed, load

POLL_S = 0.02


def up(
    system: str,
    *,
    replicas: Mapping[str, int] | None = None,
    run: str = "",
    redis_url: str = "",
    fresh: bool = False,
    **options: Any,
) -> Run:
    """Start a system as `roomgrad up` does, and wait until all of its components are alive.

    The run ends with a `with` block, with `close`, and with this process, however that ends.

    replicas: how many of each component; one of those that are not named, none of those with 0.
    run: the name of the run; that of the system if empty.
    redis_url: as `REDIS_URL`, which counts if it is empty; without both, the embedded server.
    fresh: delete the run first.
    options: those of `roomgrad up SYSTEM`, like `steps=5000`.

    Raises SettingsError for what does not exist, and RoomgradError if the run is up already or
    does not start.
    """
    plan = _plan(system, run, replicas or {}, options)
    pid = serving_process(run_directory(plan.run))
    if pid is not None:
        raise already_served(plan.run, pid)
    process = supervisor.spawn(plan, redis_url, fresh=fresh, bound=True)
    try:
        state = supervisor.wait_up(process, plan)
    except BaseException:
        _stop(process, os.getpid())
        raise
    return Run(plan, configured_address(redis_url) or state["url"], process)


def _plan(system: str, run: str, replicas: Mapping[str, int], options: Mapping[str, Any]) -> Plan:
    name = find_system(system).name
    counts = [f"{component}={count}" for component, count in replicas.items()]
    kind = installed()[name].up
    try:
        if not kind:
            known = _known(options, name, ["set", "members"])
            return plan_of(name, run, counts, 0, known.get("set", ()), known.get("members", 0))
        made = load(kind)
        known = _known(options, name, [each.name for each in fields(made)])
        plan: Plan = made(**known).plan(run, counts, 0)
    except SettingsError as error:  # it names options as they are typed
        raise SettingsError(str(error).removeprefix("--")) from error
    return plan


def _known(options: Mapping[str, Any], system: str, known: list[str]) -> dict[str, Any]:
    """Return options. Raises SettingsError for one that is unknown."""
    for name in options:
        if name not in known:
            raise SettingsError(f"system {system} has no option {name!r}: {hint(name, known)}")
    return dict(options)


class Run:
    """A run that this program has started; use it as a context manager, or close it.

    In a notebook it shows its components and its loss.
    """

    def __init__(self, plan: Plan, url: AnyAddress, process: subprocess.Popen[bytes]) -> None:
        """Take over a run that `process` serves; `up` makes one."""
        self._plan, self._process = plan, process
        self.url = url
        """The address of its server, with its password."""

        self._close = weakref.finalize(self, _stop, process, os.getpid())
        self._client = Client(self.system, self.name, url, password_file())
        self._losses = Series(plan.names.table(LOSSES))

    @property
    def name(self) -> str:
        """The name of the run."""
        return self._plan.run

    @property
    def system(self) -> System:
        """The contract of the run."""
        return self._plan.contract

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all components, and the embedded server if no other program uses it.

        The data is kept, and another `up` goes on with it.
        """
        with contextlib.suppress(redis.RedisError):
            self._client.close()
        self._close()

    def check(self) -> None:
        """Raise RoomgradError if the run is not up any more, with the reason."""
        if self._process.poll() is not None:
            reason = supervisor.last_error(self.name) or "it was stopped"
            raise RoomgradError(f"run {self.name} is not up: {reason}")

    def step(self, count: int = 1, timeout_s: float = 600.0) -> int:
        """Wait until so many more steps are done, or the run is; return how many are done in all.

        A step is what the system counts, like a batch.

        Raises RoomgradError if the run is done already or counts nothing, and NoAnswer if it takes
        too long.
        """
        if not installed()[self._plan.system].progress:
            raise RoomgradError(
                f"system {self.system.name} does not say how many steps are done: its plug-in "
                f"names no `progress`"
            )
        begun, total = self._done()
        if begun == total:
            raise RoomgradError(f"run {self.name} is done with {begun:,} steps: start it with more")
        until, done = time.monotonic() + timeout_s, begun
        while done < begun + count and done != total:
            if time.monotonic() > until:
                raise NoAnswer(
                    f"run {self.name} has done {done - begun} of {count} steps within "
                    f"{timeout_s:g} s: `roomgrad doctor --run {self.name}` says why"
                )
            time.sleep(POLL_S)
            now, total = self._done()
            done = max(done, now)  # 0 while the server is away
        return done

    def _done(self) -> tuple[int, int | None]:
        """Return how many steps are done, and how many there are in all."""
        now = self._progress()
        return (now.done, now.total) if now else (0, None)

    def _progress(self) -> Progress | None:
        """Return how far the run is; None before its first step, and while the server is away."""
        self.check()
        try:
            return progress.read(self._client.redis, self._plan.names)
        except (redis.ConnectionError, redis.TimeoutError):
            return None

    def ask(
        self,
        room: Room | str,
        data: ArrayLike,
        *,
        answer: Room | str = "",
        timeout_s: float = 10.0,
        fields: Mapping[str, Any] | None = None,
    ) -> Message:
        """Send a forward message into a room, and return the message that comes of it.

        Components answer in eval mode.

        data: what becomes an array of the contract's dtype.
        answer: the room from which the answer comes; the last one on the way if empty.
        fields: further arrays and texts of the message, by name.

        Raises SchemaError, ContractError and NoAnswer.
        """
        self.check()
        array = questions.as_array(self.system.stream(room, MessageType.FORWARD), "DATA", data)
        leave = str(answer) or questions.answer_room(
            self._client.redis, self._plan.names, self.system, str(room)
        )
        return self._client.ask(
            Room(str(room)),
            MessageType.FORWARD,
            array,
            answer=(Room(leave), MessageType.FORWARD),
            timeout_s=timeout_s,
            fields=fields,
        )

    def loss(self) -> NDArray[np.float64]:
        """Return the losses of the last 10,000 steps at most, `(steps,)`, oldest first."""
        self._losses.update(self._client.redis)
        return np.array([each for _, each in self._points()], dtype=np.float64)

    def _points(self) -> list[list[float]]:
        records = self._losses.records.items()
        return [
            [step, np.nan if each["loss"] is None else each["loss"]]
            for step, each in records
            if "loss" in each
        ]

    def __repr__(self) -> str:
        return f"<roomgrad run {self.name}: {self._state()}>"

    def _state(self) -> str:
        if self._process.poll() is not None:
            return "stopped"
        try:
            now = progress.read(self._client.redis, self._plan.names)
            loss = self.loss()
        except redis.RedisError:
            return "up, but its server does not answer"
        total = f" of {now.total:,}" if now and now.total is not None else ""
        steps = [f"{now.done:,}{total} {now.unit}"] if now and now.unit else []
        losses = [f"loss {format_number(loss[-1])}"] if len(loss) else []
        return ", ".join(["up", *steps, *losses])

    def _repr_html_(self) -> str:
        """Return its components and its loss for a notebook."""
        state, found = self._state(), []
        with contextlib.suppress(redis.RedisError):
            found = heartbeats.find(self._client.redis, self._plan.names)
        return to_html(self.name, state, Replicas.of(self._plan.replicas, found), self._points())


def _stop(process: subprocess.Popen[bytes], owner: int) -> None:
    """End a supervisor and all that it serves; a fork of its owner lets it live."""
    if os.getpid() == owner and process.poll() is None:
        process.terminate()
        process.wait(supervisor.DOWN_S)
