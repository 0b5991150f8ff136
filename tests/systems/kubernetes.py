"""What Kubernetes would make of manifests: who may speak to whom, what KEDA accepts, secrets."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import redis
import yaml

from roomgrad.binaries import find_binary
from tests.ports import neighbours
from tests.systems.project import ROOT
from tests.waiting import until

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """Somebody on the network of a cluster."""

    name: str
    labels: Mapping[str, str]
    namespace: str
    of_namespace: Mapping[str, str] = field(default_factory=dict)
    """Further labels of its namespace; every one bears its name."""

    @property
    def namespace_labels(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.of_namespace}


def allowed(policies: list[Manifest], source: Pod, target: Pod, port: int) -> bool:
    """Whether the source may leave and the target lets it in.

    https://kubernetes.io/docs/concepts/services-networking/network-policies/: who is selected by
    any policy of a direction may do what one of them allows; who is selected by none, everything.
    """
    leaves = _lets(policies, "Egress", source, target, port)
    return leaves and _lets(policies, "Ingress", target, source, port)


def _lets(policies: list[Manifest], direction: str, pod: Pod, other: Pod, port: int) -> bool:
    mine = [
        each
        for each in policies
        if each["metadata"]["namespace"] == pod.namespace
        and direction in each["spec"]["policyTypes"]
        and _matches(each["spec"]["podSelector"], pod.labels)
    ]
    rules = [rule for each in mine for rule in each["spec"].get(direction.lower(), [])]
    side = "to" if direction == "Egress" else "from"
    return not mine or any(
        any(each["port"] == port for each in rule["ports"])
        and any(_is(peer, other, pod.namespace) for peer in rule[side])
        for rule in rules
    )


def _is(peer: Manifest, other: Pod, namespace: str) -> bool:
    """Whether this is a peer; without a selector of namespaces it has to be in the same one."""
    assert set(peer) <= {"podSelector", "namespaceSelector"}, peer
    near = (
        _matches(peer["namespaceSelector"], other.namespace_labels)
        if "namespaceSelector" in peer
        else other.namespace == namespace
    )
    return near and _matches(peer.get("podSelector", {}), other.labels)


def _matches(selector: Manifest, labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, selector
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


@cache
def read_secrets(folder: Path) -> dict[str, dict[str, str]]:
    """What make-secrets prints, by the name of the Secret and its key."""
    done = subprocess.run([folder / "make-secrets"], capture_output=True, text=True, check=True)
    found = list(yaml.safe_load_all(done.stdout))
    return {each["metadata"]["name"]: each["stringData"] for each in found}


def _object(properties: Manifest, required: list[str]) -> Manifest:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 0}
_NUMBER = {"type": "string", "pattern": "^[0-9]+$"}  # metadata of triggers are texts
_REFERENCE = _object({"name": _TEXT}, ["name"])
_STREAM = {"stream": _TEXT, "consumerGroup": _TEXT}


def _trigger(type_: str, metadata: Manifest) -> Manifest:
    properties = {"type": {"const": type_}, "authenticationRef": _REFERENCE, "metadata": metadata}
    return _object(properties, list(properties))


def _kind(kind: str, spec: Manifest) -> Manifest:
    properties = {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "kind": {"const": kind},
        "metadata": {"type": "object", "required": ["name", "namespace"]},
        "spec": spec,
    }
    return _object(properties, list(properties))


# The part of KEDA's resources that is used here, after https://keda.sh/docs/latest/reference/ and
# .../scalers/redis-streams/ and redis-lists/. Its own definitions are in no package that is here.
_LAG = _object(
    {**_STREAM, "lagCount": _NUMBER, "activationLagCount": _NUMBER},
    [*_STREAM, "lagCount", "activationLagCount"],
)
_PENDING = _object({**_STREAM, "pendingEntriesCount": _NUMBER}, [*_STREAM, "pendingEntriesCount"])
_LENGTH = _object({"listName": _TEXT, "listLength": _NUMBER}, ["listName", "listLength"])
_TRIGGERS = [
    _trigger("redis-streams", {"oneOf": [_LAG, _PENDING]}),
    _trigger("redis", _LENGTH),
]
_SCALED = {
    "scaleTargetRef": _REFERENCE,
    "pollingInterval": _COUNT,
    "cooldownPeriod": _COUNT,
    "minReplicaCount": _COUNT,
    "maxReplicaCount": _COUNT,
    "triggers": {"type": "array", "minItems": 1, "items": {"oneOf": _TRIGGERS}},
}
_TARGET = _object(
    {"parameter": {"enum": ["address", "username", "password"]}, "name": _TEXT, "key": _TEXT},
    ["parameter", "name", "key"],
)
_TARGETS = {"type": "array", "items": _TARGET}
KEDA = {
    "ScaledObject": _kind("ScaledObject", _object(_SCALED, ["scaleTargetRef", "triggers"])),
    "TriggerAuthentication": _kind(
        "TriggerAuthentication",
        _object({"secretTargetRef": _TARGETS}, ["secretTargetRef"]),
    ),
}


@dataclass(frozen=True)
class Served:
    """A server with the users of the cluster, and those who use it."""

    port: int
    secrets: dict[str, dict[str, str]]
    folder: Path
    """Where each component finds its Secret, in a folder of its own."""

    def password(self, user: str) -> str:
        """Of a user; the administrator's is in the Secret of Redis."""
        secret = self.secrets["redis" if user == "default" else user]
        return secret["password" if user == "scaler" else "redis-password"]

    def as_user(self, user: str) -> redis.Redis:
        """A connection for this user."""
        return redis.Redis(port=self.port, username=user, password=self.password(user))

    def start(self, component: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """A component with these variables, as a process of this machine."""
        command = [sys.executable, "-m", f"services.{component}"]
        return subprocess.Popen(command, cwd=ROOT, env=self._here(component, environment))

    def ask(
        self, component: str, environment: Mapping[str, str], command: list[str]
    ) -> subprocess.CompletedProcess[str]:
        """What a command says in the pod of a component."""
        words = [each.replace("roomgrad ", f"{sys.executable} -m roomgrad ") for each in command]
        env = self._here(component, environment)
        return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)

    def _here(self, component: str, environment: Mapping[str, str]) -> dict[str, str]:
        secrets = self.folder / component
        secrets.mkdir(exist_ok=True)
        for key, value in self.secrets[component].items():
            (secrets / key).write_text(value)
        moved = {
            name: value.replace("@redis:6379", f"@127.0.0.1:{self.port}").replace(
                "/run/secrets", str(secrets)
            )
            for name, value in environment.items()
        }
        path = os.pathsep.join((str(ROOT / "shared"), str(ROOT)))
        return {"PATH": os.environ["PATH"], "PYTHONPATH": path, **moved}


@contextlib.contextmanager
def serving(
    command: list[str],
    config: Mapping[str, str],
    secrets: dict[str, dict[str, str]],
    folder: Path,
) -> Iterator[Served]:
    """A server by the command of the pod, with its files in this folder instead of its mounts."""
    mounts = {"/run/secrets": folder / "redis", "/etc/roomgrad": folder / "etc", "/data": folder}
    for mount, files in (("/run/secrets", secrets["redis"]), ("/etc/roomgrad", config)):
        mounts[mount].mkdir()
        for name, text in files.items():
            (mounts[mount] / name).write_text(_moved(text, mounts))
    port = neighbours()
    words = [str(find_binary()), *(_moved(each, mounts) for each in command[1:]), f"--port {port}"]
    process = subprocess.Popen(" ".join(words).split(), stdout=subprocess.DEVNULL)
    served = Served(port, secrets, folder)
    try:
        until(lambda: _answers(served))
        yield served
    finally:
        process.terminate()
        process.wait(20)


def _answers(served: Served) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(served.as_user("default").ping())
    return False


def _moved(text: str, mounts: Mapping[str, Path]) -> str:
    for mount, folder in mounts.items():
        text = re.sub(rf"(?<=\s){mount}\b|^{mount}\b", str(folder), text)
    return text
