"""Persistent numbers and flags of a program: fields of the hash `{run}:counters:NAME`.

    steps = MutableNumber(0, name="steps", component="trainer", run="trebuchet")
    steps += 1

They are used like those of swergio's toolbox, and keep their value when the program starts again.
Here `steps + 1` returns a number and changes nothing; in swergio it changes `steps`.

A handler of a `Component` uses `context.counters` instead, which counts whole numbers in the commit
of the message.
"""

from __future__ import annotations

import contextlib
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from numbers import Integral, Real
from typing import Any, Generic, Self, TypeVar

import redis

from roomgrad import scripts, variables
from roomgrad.errors import NoServer, ServerError, SettingsError, format_value
from roomgrad.names import Names
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import address, connect
from roomgrad.redis.server_address import ServerAddress

Number = int | float
V = TypeVar("V", bound=Number)

MAX_INTEGER = 2**63 - 1  # to which Redis counts
NOT_INTEGER = "not an integer"  # the error of HINCRBY for a field that holds a float


class _Stored(ABC, Generic[V]):
    """A value in Redis, which is read for each use, because other programs may change it.

    name, component: the field, and the component whose hash holds it.
    run: the environment variable RUN if empty.
    redis_url: REDIS_URL if empty, or else the embedded server.

    Raises NoServer if the server does not answer; a change may have been made or not then.
    """

    def __init__(
        self, value: V, *, name: str, component: str, run: str = "", redis_url: str = ""
    ) -> None:
        run = run or variables.get("run")
        if not (name and component and run):
            raise SettingsError(
                f"the counter {name!r} of component {component!r} in run {run!r}: expected a name "
                "for each; the variable RUN may name the run"
            )
        self.name = name
        self.key = Names(run).counters(component)
        self._url = for_run(address(redis_url), run)
        self._first = self._encoded(self._checked(value))
        self._do(lambda client: client.hsetnx(self.key, name, self._first))

    @property
    def value(self) -> V:
        """The current value."""
        found = self._do(lambda client: client.hget(self.key, self.name))
        return self._decoded(self._first if found is None else found)  # None if the run was deleted

    @value.setter
    def value(self, value: V) -> None:
        self.set(value)

    def set(self, value: V) -> None:
        """Replace the value."""
        text = self._encoded(self._checked(value))
        self._do(lambda client: client.hset(self.key, self.name, text))

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value}, {self.name} in {self.key})"

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == _plain(other))

    __hash__ = None  # type: ignore[assignment]

    @abstractmethod
    def _checked(self, value: Any) -> V: ...

    @abstractmethod
    def _encoded(self, value: V) -> bytes: ...

    @abstractmethod
    def _decoded(self, text: bytes) -> V: ...

    def _do(self, work: Callable[[redis.Redis], Any]) -> Any:
        try:
            return work(_client(self._url))
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise NoServer(
                f"the server at {self._url} does not answer ({error}): start it and try again"
            ) from error
        except redis.ResponseError as error:
            raise ServerError(
                f"the server refuses {self.name} in {self.key} ({error}): inspect it with "
                f"redis-cli HGET '{self.key}' {self.name}"
            ) from error


class MutableBool(_Stored[bool]):
    """A flag, stored as 1 or 0. It is true only if it is on; swergio's is always true."""

    def __init__(
        self, value: bool = False, *, name: str, component: str, run: str = "", redis_url: str = ""
    ) -> None:
        super().__init__(value, name=name, component=component, run=run, redis_url=redis_url)

    def _checked(self, value: Any) -> bool:
        return bool(value)

    def _encoded(self, value: bool) -> bytes:
        return b"%d" % value

    def _decoded(self, text: bytes) -> bool:
        return text != b"0"


class MutableNumber(_Stored[Number]):
    """A number. A float that has become whole may be read as an int."""

    def __init__(
        self, value: Number = 0, *, name: str, component: str, run: str = "", redis_url: str = ""
    ) -> None:
        super().__init__(value, name=name, component=component, run=run, redis_url=redis_url)

    # in place: concurrent changes of other processes are neither lost nor overwritten

    def __iadd__(self, other: Any) -> Self:
        return self._increment(self._checked(_plain(other)))

    def __isub__(self, other: Any) -> Self:
        return self._increment(-self._checked(_plain(other)))

    def __imul__(self, other: Any) -> Self:
        return self._change(operator.mul, _plain(other))

    def __itruediv__(self, other: Any) -> Self:
        return self._change(operator.truediv, _plain(other))

    # everything else returns plain numbers

    def __add__(self, other: Any) -> Any:
        return self.value + _plain(other)

    def __sub__(self, other: Any) -> Any:
        return self.value - _plain(other)

    def __mul__(self, other: Any) -> Any:
        return self.value * _plain(other)

    def __truediv__(self, other: Any) -> Any:
        return self.value / _plain(other)

    def __radd__(self, other: Any) -> Any:
        return other + self.value

    def __rsub__(self, other: Any) -> Any:
        return other - self.value

    def __rmul__(self, other: Any) -> Any:
        return other * self.value

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.value

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < _plain(other))

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= _plain(other))

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > _plain(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= _plain(other))

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def _increment(self, by: Number) -> Self:
        def attempt(client: redis.Redis) -> None:
            try:
                self._count(client, "HINCRBY" if isinstance(by, int) else "HINCRBYFLOAT", by)
            except redis.ResponseError as error:
                if NOT_INTEGER not in str(error):
                    raise
                self._count(client, "HINCRBYFLOAT", by)

        self._do(attempt)
        return self

    def _count(self, client: Any, command: str, by: Number) -> None:
        with client.pipeline(transaction=True) as together:
            together.hsetnx(self.key, self.name, self._first)  # in case the run was deleted
            together.execute_command(command, self.key, self.name, repr(by))
            together.execute()

    def _change(self, by: Callable[[Any, Any], Number], other: object) -> Self:
        def attempt(client: redis.Redis) -> bool:
            client.hsetnx(self.key, self.name, self._first)
            before: Any = client.hget(self.key, self.name)
            after = self._encoded(self._checked(by(self._decoded(before), other)))
            compare_and_set = client.register_script(scripts.load("compare_and_set"))
            return bool(compare_and_set(keys=[self.key], args=[self.name, before, after]))

        while not self._do(attempt):
            pass  # another process changed it meanwhile: try again with the new value
        return self

    def _checked(self, value: Any) -> Number:
        if isinstance(value, Integral):
            if abs(int(value)) <= MAX_INTEGER:
                return int(value)
        elif isinstance(value, Real) and math.isfinite(float(value)):
            return float(value)
        raise ValueError(
            f"{self.name}: expected a finite number, integers up to {MAX_INTEGER}, "
            f"got {format_value(value)}"
        )

    def _encoded(self, value: Number) -> bytes:
        return repr(value).encode()

    def _decoded(self, text: bytes) -> Number:
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
        raise ServerError(
            f"{self.name} in {self.key} is {format_value(text)}, expected a number: remove it with "
            f"redis-cli HDEL '{self.key}' {self.name}"
        )


@cache
def _client(url: ServerAddress) -> redis.Redis:
    """Return the client that all counters of a process share."""
    return connect(url, variables.get("redis_password_file"))


def _plain(other: object) -> Any:
    return other.value if isinstance(other, _Stored) else other
