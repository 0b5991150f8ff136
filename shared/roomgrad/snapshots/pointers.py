"""Pointers to the snapshots of a model: the JSON value of one field of the model's hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from roomgrad import strict_json
from roomgrad.errors import SnapshotError, format_value

FIELD = b"snapshots"
NO_ENTRY = "0-0"

_TOKEN = r"[A-Za-z0-9_.-]{1,64}\z"
_PLACE = r"(redis:|[a-z0-9+.-]+://.*/)[A-Za-z0-9_.-]{1,80}\z"


_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Score:
    """How good a model was before a checkpoint, by a metric of the run."""

    metric: str
    """TABLE.FIELD."""

    mean: float
    """Of the records since the checkpoint before."""

    record: Annotated[int, Field(ge=0)]
    """The number of the newest record that counts."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Snapshot:
    """Where one snapshot of a model's state is stored, and how to verify it."""

    version: Annotated[str, Field(pattern=rf"^{_TOKEN}")]
    """The token of the state."""

    step: Annotated[int, Field(ge=0)]

    entry: Annotated[str, Field(pattern=r"^[0-9]{1,20}-[0-9]{1,20}\z")]
    """The ID of the last entry of the step log that the state contains; "0-0" for none."""

    place: Annotated[str, Field(pattern=rf"^{_PLACE}")]
    """Where the bytes are: `redis:TOKEN`, or the URL of a file."""

    size: Annotated[int, Field(ge=0)]
    """In bytes."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]

    at: Annotated[float, Field(ge=0)]
    """When it was taken: Unix time in seconds by the server's clock."""

    checkpoint: bool = False
    """Whether it stays when replicas no longer need it, until the policy of the model drops it."""

    score: Score | None = None
    """Of a checkpoint, if the policy names a metric."""


_LIST = TypeAdapter(list[Snapshot])


def to_json(snapshots: Sequence[Snapshot]) -> bytes:
    """Return the value of the field for some snapshots, newest first."""
    return orjson.dumps([asdict(each) for each in snapshots])


def from_json(value: bytes | None) -> list[Snapshot]:
    """Return all snapshots that a model points to, newest first; none without the field.

    No two have the same place. Replicas load the newest; checkpoints are among them.

    Raises SnapshotError for a value that `to_json` does not write.
    """
    if value is None:
        return []
    try:
        strict_json.loads(value)  # pydantic takes a field that is there twice
        return _LIST.validate_json(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}, got {format_value(first['input'])}"
        raise _unreadable(reason) from error
    except ValueError as error:
        raise _unreadable(f"{error}, got {format_value(value)}") from error


def _unreadable(reason: str) -> SnapshotError:
    return SnapshotError(
        f"the field {FIELD.decode()} of the model cannot be read: {reason}; restore the run from "
        f"a backup"
    )
