"""Moves the model state of a component between Redis and its trainable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roomgrad.commit import Commit
from roomgrad.errors import EmptiedServer, ModelError, RoomgradError
from roomgrad.models import Model, ModelState, Trainable
from roomgrad.names import Names
from roomgrad.redis.connection import Command, packed
from roomgrad.runtime.identity import Identity

Call = Callable[[list[bytes]], Any]


class ModelStore:
    """Loads a state only when its version has changed, and stages the next one."""

    def __init__(self, names: Names, component: str, trainable: Trainable, call: Call) -> None:
        self._key = names.model(component)
        self._version_command = packed(b"HGET", self._key.encode(), b"version")
        self._kept_key = names.kept(component)
        self._ledger = names.ledger(component)
        self._counters = names.counters(component)
        self._trainable = trainable
        # kept for an emptied server, which starts at step 0 and not with what was learned here
        self._initial = trainable.initial()
        self._call = call
        self._loaded: ModelState | None = None

    @classmethod
    def of(cls, identity: Identity, call: Call) -> ModelStore | None:
        """Return the store of a replica's model, or None if its component declares no model.

        Raises ModelError if the model cannot be made.
        """
        component = identity.component
        if component.model is None:
            return None
        try:
            trainable = component.model(identity.settings)
        except RoomgradError:
            raise
        except Exception as error:
            raise ModelError(
                f"its model cannot be made: {type(error).__name__}: {error}"
            ) from error
        return cls(identity.names, component.name, trainable, call)

    def version_command(self) -> Command:
        """Return the command that reads the version; it is sent behind the blocking read."""
        return self._version_command

    def model(self, version: bytes | None, training: bool = True, seed: int = 0) -> Model:
        """Return the model of one handler call, at this version.

        seed: that of a forward pass.
        """
        token = (version or b"").decode()

        def load() -> ModelState:
            if self._loaded is None or self._loaded.version != token:
                self._loaded = self._fetch()
                self._trainable.load(self._loaded)
            return self._loaded

        return Model(self._trainable, token, load, self._retained, seed=seed, training=training)

    @property
    def loaded_version(self) -> str:
        """The version that this process has loaded, for its heartbeat."""
        return self._loaded.version if self._loaded else ""

    def create(self) -> Commit:
        """Return the commit that stores the initial state in a run that has none."""
        weights, optimizer = self._initial
        state = ModelState("", 0, weights, optimizer).after(0, weights, optimizer)
        commit = Commit()
        commit.same(self._key, b"version", None)
        commit.step(self._key, self._kept_key, state.version, 0, weights, optimizer)
        return commit

    def load(self) -> None:
        """Load the state that is stored. Raises ModelError if it is of another model."""
        self._loaded = None
        self.model(None).refresh()

    def stage(self, model: Model, commit: Commit, root_id: str) -> ModelState | None:
        """Stage the step that a handler asked for; return the state if the commit succeeds."""
        if not model.used:
            return None
        state = None
        version = model.version
        if model.gradient is not None:
            before = model.refresh()
            version = before.version
            made = model.forward_pass
            staleness = before.staleness(made.version, self._trainable.accumulate)
            weights, optimizer = self._trainable.step(
                model.gradient, made, made.version != version, staleness
            )
            state = before.after(before.step + 1, weights, optimizer)
            commit.step(self._key, self._kept_key, state.version, state.step, weights, optimizer)
            commit.ledger(self._ledger, self._counters, root_id, state.step)
            if staleness:
                commit.do(b"HINCRBY", self._counters, b"staleness", b"%d" % staleness)
            self._loaded = None  # until the commit succeeds, the trainable is ahead of Redis
        commit.same(self._key, b"version", version.encode())
        return state

    def committed(self, state: ModelState | None) -> None:
        """Take note that the staged state is stored; the trainable already holds it."""
        if state is not None:
            self._loaded = state

    def _fetch(self) -> ModelState:
        key = self._key.encode()
        found = self._call([b"HMGET", key, b"version", b"step", b"weights", b"optimizer"])
        if None in found:
            raise EmptiedServer(
                f"{self._key} is empty: the server was emptied, and the run starts again"
            )
        version, step, weights, optimizer = found
        return ModelState(version.decode(), int(step), weights, optimizer)

    def _retained(self, version: str) -> bytes | None:
        found: bytes | None = self._call([b"HGET", self._kept_key.encode(), version.encode()])
        return found
