"""Settings: frozen dataclasses from which flags, variables, `--help` and docs derive.

    @settings
    class TrainerSettings(RuntimeSettings):
        train_steps: Annotated[int, Field(ge=1), OfRun] = 1000
        \"\"\"How many batches are sent in all.\"\"\"

A field has a default, and a sentence under it. `OfRun` marks what belongs to a run's identity: a
run is continued only with the same value. `roomgrad.flags.load` reads them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo

S = TypeVar("S")


class OfRun:
    """Marks a setting as part of a run's identity: `Annotated[int, Field(ge=1), OfRun]`."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def settings(cls: type[S]) -> type[S]:
    """Make `cls` a frozen, validated dataclass whose fields are settings."""
    config = ConfigDict(use_attribute_docstrings=True, allow_inf_nan=False, extra="forbid")
    made: type[S] = pydantic_dataclass(frozen=True, kw_only=True, config=config)(cls)  # type: ignore[assignment]
    return made


@settings
class RuntimeSettings:
    """The settings of every component."""

    run: str = ""
    """Name of the run; the system's name when empty."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """Seed of the run: initial weights, dropout, and whatever else a component draws."""

    redis_url: str = Field(default="", repr=False)  # it may hold a password
    """Address of the server, like redis://localhost:6379/0, or of the sentinels that know it, like
    redis+sentinel://host1:26379,host2:26379/NAME/0, or of nodes of a cluster, like
    redis+cluster://host1:6379,host2:6379; the embedded server when empty."""

    redis_password_file: str = ""
    """File that holds the server's password, so that no address contains it."""

    redis_ca_file: str = ""
    """File of the CA that has signed the server's certificate, for an address that begins with
    rediss://; the CAs that this machine trusts when empty."""

    threads: Annotated[int, Field(ge=0)] = 1
    """CPU threads of torch: 1 repeats bit for bit and suits small networks, 0 takes torch's own."""

    snapshots: str = ""
    """Where snapshots of a model are stored that are larger than `snapshot_redis_mib`: a URL like
    file:///snapshots, or one that fsspec reaches, like s3://bucket/folder; below the state folder
    when empty."""

    snapshot_redis_mib: Annotated[float, Field(ge=0)] = 256.0
    """How many MiB a snapshot of a model may have to be stored in Redis."""

    replay_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Seconds that replaying the steps since the newest snapshot may take, before the next one is
    taken."""

    graphs_mib: Annotated[float, Field(ge=0)] = 1024.0
    """How many MiB the graphs of forward passes may hold that wait for their gradient; older ones
    are computed again.
    """

    replica: str = ""
    """Name of this replica in `everyone` mode, under which it continues where it stopped."""

    member: str = ""
    """Which members of an ensemble this process runs, like 7 or 0-9,12; all when empty."""

    heartbeat_interval_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Seconds between two heartbeats."""

    heartbeat_lives_s: Annotated[float, Field(gt=0, le=600)] = 3.0
    """Seconds after the last heartbeat until a replica counts as gone."""

    lease_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Seconds that a delivered message belongs to its replica before others may claim it."""

    max_deliveries: Annotated[int, Field(ge=1, le=1000)] = 10
    """How often a message is delivered before it becomes a dead letter."""

    handler_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a handler counts as hanging and its process ends itself."""

    health_file: str = ""
    """File that the process renews every second and `roomgrad-probe` reads, for the health checks
    of a container; none when empty."""

    stop_s: Annotated[float, Field(ge=0, le=3600)] = 4.0
    """Seconds that unfinished work may take after SIGTERM; then it is handed back to others."""

    block_s: Annotated[float, Field(ge=0.05, le=60)] = 2.0
    """Seconds that a read waits for messages before the loop does anything else."""

    history_entries: Annotated[int, Field(ge=0)] = 1000
    """How many acknowledged messages a stream keeps for inspection."""

    history_mib: Annotated[float, Field(ge=0)] = 16.0
    """How many MiB of acknowledged messages a stream keeps."""

    dead_mib: Annotated[float, Field(ge=0)] = 256.0
    """How many MiB of dead letters are kept whole; beyond that, large ones are shortened."""

    trace_times: bool = True
    """Whether messages tell, in microseconds, when their sender received, handled and answered the
    previous one; `roomgrad trace` shows it.
    """

    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port at which Prometheus finds the metrics of this process, or the first free one of the
    hundred from there on; 0 for none. Needs `roomgrad[observe]`.
    """

    metrics_host: str = "127.0.0.1"
    """Address at which the metrics are served; 0.0.0.0 lets other machines read them."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are logged; debug shows every message."""

    log_format: Literal["auto", "pretty", "json"] = "auto"
    """How log lines look; auto is pretty on a terminal and JSON otherwise."""


def of_run(instance: object) -> dict[str, Any]:
    """Return the values that belong to the run's identity, by name."""
    infos = fields_of(type(instance))
    return {name: getattr(instance, name) for name, info in infos.items() if _is_of_run(info)}


def fields_of(cls: type[object]) -> dict[str, FieldInfo]:
    """Return the fields of a class of settings, by name."""
    infos: dict[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    return infos


def _is_of_run(info: FieldInfo) -> bool:
    return any(mark is OfRun or isinstance(mark, OfRun) for mark in info.metadata)
