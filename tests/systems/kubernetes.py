"""Evaluate manifests as Kubernetes would: network policies, schemas of KEDA, secrets."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from os.path import relpath
from pathlib import Path
from typing import Any

import yaml

from tests.systems.project import ROOT

Manifest = dict[str, Any]

FOLDER = ROOT / "deploy" / "kubernetes"
FEATURES = sorted(each.name for each in (FOLDER / "features").iterdir())


@cache
def laid_out(name: str) -> list[Manifest]:
    """Return the manifests of base, of an overlay, or of base with one or all features."""
    if (FOLDER / name / "kustomization.yaml").exists():
        return _kustomize(FOLDER / name)
    features = FEATURES if name == "everything" else [name]
    with tempfile.TemporaryDirectory() as folder:
        document = {
            "resources": [relpath(FOLDER / "base", folder)],
            "components": [relpath(FOLDER / "features" / each, folder) for each in features],
        }
        Path(folder, "kustomization.yaml").write_text(yaml.dump(document))
        return _kustomize(Path(folder))


def _kustomize(folder: Path) -> list[Manifest]:
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")  # no warnings either
    return list(yaml.safe_load_all(done.stdout))


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    """Return the manifests of some kinds, by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] in kinds}


def templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the pod template of each Deployment and StatefulSet, by name."""
    owners = of_kind(manifests, "Deployment", "StatefulSet")
    return {name: each["spec"]["template"] for name, each in owners.items()}


def container(template: Manifest) -> Manifest:
    """Return the only container of a pod."""
    [only] = template["spec"]["containers"]
    return dict(only)


@dataclass(frozen=True)
class Pod:
    """A pod on the network of a cluster."""

    name: str
    labels: Mapping[str, str]
    namespace: str
    of_namespace: Mapping[str, str] = field(default_factory=dict)
    """Labels of its namespace in addition to the name."""

    @property
    def namespace_labels(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.of_namespace}


def allowed(policies: list[Manifest], source: Pod, target: Pod, port: int) -> bool:
    """Return whether the policies of both pods allow a connection.

    https://kubernetes.io/docs/concepts/services-networking/network-policies/: a pod that any
    policy of a direction selects may do what one of them allows. Without a policy, all is allowed.
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
    """Return whether a peer matches a pod, by default in the same namespace."""
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
    """Return the Secrets that make-secrets prints, by name and key."""
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
_NUMBER = {
    "type": "string",
    "pattern": "^[0-9]+$",
}  # values in the metadata of triggers are strings
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


# The part of KEDA's resources that is used here, from https://keda.sh/docs/latest/reference/ and
# .../scalers/redis-streams/ and redis-lists/. No installed package contains their definitions.
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
