"""deploy/kubernetes, built by kubectl without a cluster: valid, hardened and consistent."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import product
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from roomgrad.names import Names
from roomgrad.runtime.runs import groups
from roomgrad.variables import variable
from roomgrad_melody.contract import MELODY
from roomgrad_trebuchet.contract import TREBUCHET
from tests.systems.kubernetes import (
    FEATURES,
    FOLDER,
    KEDA,
    Manifest,
    Pod,
    allowed,
    container,
    laid_out,
    of_kind,
    read_secrets,
    templates,
)
from tests.systems.project import ROOT

pytestmark = pytest.mark.kubectl

OVERLAYS = ["base", "overlays/laptop", "overlays/cluster", "everything"]
OLDEST, NEWEST = "1.29", "1.37"  # of the versions of Kubernetes that are tried
SCALED = {"controlmodel", "simulator", "evalnet", "learner"}
BASE = {"trainer", "evolution", "labelling", "dashboard"} | SCALED
OPTIONAL = {"gateway", "rater"}
# Of docker-compose.yml, no components here.
TOOLS = {
    "greeter",
    "world",
    "leftowner",
    "rightowner",
    "labelhead",
    "cartpole",
    "policy",
    "aggregation",
    "selection",
    "control",
    "inference",
    "prometheus",
    "secrets",
    "redis",
}


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """The manifests of each overlay in turn."""
    return laid_out(request.param)


@pytest.fixture(scope="session")
def everything() -> list[Manifest]:
    """The manifests of base with all features."""
    return laid_out("everything")


def selects(selector: Manifest, labels: Manifest) -> bool:
    """Return whether a selector that is not empty matches these labels."""
    wanted = selector.get("matchLabels", selector)
    return bool(wanted) and wanted.items() <= labels.items()


# valid


@pytest.mark.parametrize(
    ("name", "version"),
    [("everything", OLDEST), ("everything", NEWEST), ("overlays/laptop", NEWEST)],
)
def test_every_manifest_is_valid(name: str, version: str) -> None:
    """For the oldest and the newest version of Kubernetes, without unknown fields."""
    for manifest in laid_out(name):
        if manifest["apiVersion"].startswith("keda.sh/"):
            jsonschema.validate(manifest, KEDA[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_an_unknown_field_would_be_found() -> None:
    """The test above can fail."""
    deployment = next(each for each in laid_out("base") if each["kind"] == "Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_every_component_of_compose_is_there(everything: list[Manifest]) -> None:
    """The base has the services that compose starts by default; features have the others."""
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    assert set(of_kind(laid_out("base"), "Deployment")) == BASE
    assert set(of_kind(everything, "Deployment")) == BASE | OPTIONAL == services - TOOLS


def test_everything_is_in_one_namespace(manifests: list[Manifest]) -> None:
    """The cluster enforces the restricted profile in it."""
    [namespace] = of_kind(manifests, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    name = namespace["metadata"]["name"]
    others = [each for each in manifests if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in others} == {name}


def test_components_with_a_model_have_a_claim_for_snapshots() -> None:
    """All replicas write to the one volume, whose owner is the group of the pods."""
    manifests = laid_out("snapshots")
    claims = of_kind(manifests, "PersistentVolumeClaim")
    assert set(claims) == {"snapshots-controlmodel", "snapshots-evalnet"}
    for name in ("controlmodel", "evalnet"):
        template = templates(manifests)[name]
        claim = {"claimName": f"snapshots-{name}"}
        assert {"name": "snapshots", "persistentVolumeClaim": claim} in template["spec"]["volumes"]
        only = container(template)
        assert {"name": "snapshots", "mountPath": "/snapshots"} in only["volumeMounts"]
        assert {"name": "ROOMGRAD_SNAPSHOTS", "value": "file:///snapshots"} in only["env"]
        assert template["spec"]["securityContext"]["fsGroup"] == 10001
        assert claims[f"snapshots-{name}"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_readme_matches_the_folder() -> None:
    """Its features, paths, images and links exist, and its shell commands parse."""
    page = (FOLDER / "README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == FEATURES
    for path in re.findall(r"\bdeploy/kubernetes[\w./-]*", page):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\((?!https:)([^)]+)\)", page):
        assert (FOLDER / link).exists(), link
    [built] = re.findall(r"docker compose build ([\w ]+)$", page, re.M)
    assert set(built.split()) == set(of_kind(laid_out("base"), "Deployment"))
    for script in re.findall(r"```sh\n(.*?)```", page, re.S):
        assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


# hardened


def test_every_container_may_do_only_its_work(manifests: list[Manifest]) -> None:
    """As in docker-compose.yml: no root, no capabilities, read-only, with limits."""
    for name, template in templates(manifests).items():
        spec, only = template["spec"], container(template)
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert spec["terminationGracePeriodSeconds"] == 30, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == (999 if name == "redis" else 10001)
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"cpu", "memory"} <= set(only["resources"]["limits"]), name
        assert {"cpu", "memory"} <= set(only["resources"]["requests"]), name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec), name
        assert not any("hostPath" in volume for volume in spec["volumes"]), name
        tmp = next(each for each in spec["volumes"] if each["name"] == "tmp")
        assert "sizeLimit" in tmp["emptyDir"], name


def test_the_user_is_that_of_the_image() -> None:
    """By number, as Kubernetes cannot tell from a name that it is not root."""
    assert "--uid 10001" in (ROOT / "deploy" / "Dockerfile").read_text()


def test_compose_builds_every_image(everything: list[Manifest]) -> None:
    """One image for each component, under the component's name."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in of_kind(everything, "Deployment"):
        assert container(templates(everything)[name])["image"] == f"roomgrad/{name}"
        assert services[name]["build"]["args"]["COMPONENT"] == name
        assert services[name]["image"] == f"${{REGISTRY:-roomgrad}}/{name}:${{TAG:-latest}}"


@pytest.mark.parametrize("overlay", ["laptop", "cluster"])
def test_an_overlay_names_the_version_of_every_image(
    overlay: str,
) -> None:
    """No image is left without a tag."""
    found = templates(laid_out(f"overlays/{overlay}"))
    assert all(re.search(r":[\w.]+$", container(each)["image"]) for each in found.values())


# consistent


def test_probes_check_the_loop_of_the_component(everything: list[Manifest]) -> None:
    """Only a hanging component is restarted, and none while Redis is unreachable."""
    for name in of_kind(everything, "Deployment"):
        only = container(templates(everything)[name])
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            check = only[probe]
            if "exec" in check:
                patient = ["--patient"] if probe != "readinessProbe" else []
                assert check["exec"]["command"] == ["roomgrad-probe", *patient]
            else:
                assert check["httpGet"]["path"] == "/healthz"
                ports = {each["name"] for each in only["ports"]}
                assert check["httpGet"]["port"] in ports
    exec_less = {
        name
        for name in of_kind(everything, "Deployment")
        if "exec" not in container(templates(everything)[name])["livenessProbe"]
    }
    assert exec_less == {"dashboard"}  # a page without a component's loop


def test_everything_that_a_pod_mounts_or_reads_exists(manifests: list[Manifest]) -> None:
    """make-secrets makes the Secrets under the names and keys that pods read."""
    secrets, configs = read_secrets(FOLDER), of_kind(manifests, "ConfigMap")
    for name, template in templates(manifests).items():
        only, volumes = container(template), {v["name"]: v for v in template["spec"]["volumes"]}
        claims = of_kind(manifests, "StatefulSet").get(name, {}).get("spec", {})
        claimed = {each["metadata"]["name"] for each in claims.get("volumeClaimTemplates", [])}
        assert {mount["name"] for mount in only["volumeMounts"]} == set(volumes) | claimed
        assert volumes["secrets"]["secret"]["secretName"] == name
        for value in _values(only):
            if value.startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in secrets[name]
        for each in only.get("envFrom", []):
            assert each["configMapRef"]["name"] in configs
        if "config" in volumes:
            mounted = configs[volumes["config"]["configMap"]["name"]]["data"]
            assert mounted["redis.conf"] == (ROOT / "deploy/redis/redis.conf").read_text()


def _values(only: Manifest) -> list[str]:
    return [each["value"] for each in only.get("env", []) if "value" in each]


def test_selectors_select(manifests: list[Manifest]) -> None:
    """Services, budgets and owners select their pods, and ports have names."""
    pods = templates(manifests)
    for name, owner in of_kind(manifests, "Deployment", "StatefulSet").items():
        labels = {other: pod["metadata"]["labels"] for other, pod in pods.items()}
        found = [other for other in pods if selects(owner["spec"]["selector"], labels[other])]
        assert found == [name]
    for name, service in of_kind(manifests, "Service").items():
        assert selects(service["spec"]["selector"], pods[name]["metadata"]["labels"])
        ports = {each["name"]: each["containerPort"] for each in container(pods[name])["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"  # nothing is published
    for name, budget in of_kind(manifests, "PodDisruptionBudget").items():
        assert selects(budget["spec"]["selector"], pods[name]["metadata"]["labels"])
        assert budget["spec"]["maxUnavailable"] == (0 if name == "redis" else 1)
    assert set(of_kind(manifests, "PodDisruptionBudget")) == {"redis"} | SCALED


def test_every_variable_is_a_setting(everything: list[Manifest]) -> None:
    """A misspelled name would be ignored silently."""
    page = (ROOT / "docs" / "settings.md").read_text()
    known = {
        variable(flag.replace("-", "_")) for flag in re.findall(r"^\| `--([a-z-]+)`", page, re.M)
    }
    for config in of_kind(everything, "ConfigMap").values():
        if "redis.conf" not in config["data"]:
            assert set(config["data"]) <= known
    for name in of_kind(everything, "Deployment"):
        env = [each["name"] for each in container(templates(everything)[name])["env"]]
        assert set(env) - {"COMPONENT"} <= known
        assert env.index("COMPONENT") < env.index("ROOMGRAD_REDIS_URL")  # it refers to it


def test_features_change_only_what_they_name() -> None:
    """Valkey replaces Redis alone; only components that learn get a GPU."""
    redis, valkey = (container(templates(laid_out(each))["redis"]) for each in ("base", "valkey"))
    assert (valkey["image"], valkey["command"][0]) == ("valkey/valkey:8", "valkey-server")
    same = {"image": redis["image"], "command": ["redis-server", *valkey["command"][1:]]}
    assert {**valkey, **same} == redis
    with_gpu = {
        name
        for name, template in templates(laid_out("gpu")).items()
        if container(template)["resources"]["limits"].get("nvidia.com/gpu") == 1
    }
    assert with_gpu == {"controlmodel", "evalnet"}


# network policies


def _pods(manifests: list[Manifest]) -> Iterator[Pod]:
    for name, template in templates(manifests).items():
        yield Pod(name, template["metadata"]["labels"], "roomgrad")
    yield Pod("stranger", {"app.kubernetes.io/name": "stranger"}, "roomgrad")
    yield Pod("elsewhere", {"app.kubernetes.io/name": "redis", "role": "component"}, "default")
    yield Pod("dns", {"k8s-app": "kube-dns"}, "kube-system")
    yield Pod("visitor", {}, "ingress", {"roomgrad/visitors": "allowed"})
    yield Pod("prometheus", {}, "monitoring")
    yield Pod("keda", {}, "keda")


PORTS = (53, 6379, 8080, 8321, 8322, 9100)


def _expected(name: str, components: set[str]) -> set[tuple[str, str, int]]:
    found = {(each, "redis", 6379) for each in components}
    found |= {(each, "dns", 53) for each in components}
    found |= {("visitor", "labelling", 8321), ("visitor", "dashboard", 8322)}
    if "gateway" in components:
        found |= {("visitor", "gateway", 8080)}
    if name in ("metrics", "everything", "overlays/cluster"):
        found |= {("prometheus", each, 9100) for each in components}
    if name in ("keda", "everything", "overlays/cluster"):
        found |= {("keda", "redis", 6379)}
    return found


@pytest.mark.parametrize("name", [*OVERLAYS, *FEATURES])
def test_only_the_needed_connections_are_allowed(
    name: str,
) -> None:
    """For every pair of pods and every port, except between pods of other namespaces."""
    manifests = laid_out(name)
    policies = list(of_kind(manifests, "NetworkPolicy").values())
    pods = list(_pods(manifests))
    components = set(of_kind(manifests, "Deployment"))
    found = {
        (source.name, target.name, port)
        for source, target, port in product(pods, pods, PORTS)
        if source is not target
        and "roomgrad" in (source.namespace, target.namespace)
        and allowed(policies, source, target, port)
    }
    assert found == _expected(name, components)


# KEDA


@pytest.mark.parametrize("system", [TREBUCHET, MELODY], ids=lambda system: system.name)
def test_keda_watches_every_stream_that_a_component_reads(
    system: Any, everything: list[Manifest]
) -> None:
    """Waiting and unacknowledged messages, for each group that the contract declares."""
    names = Names(system.name)
    for name, scaled in of_kind(everything, "ScaledObject").items():
        if name not in system.components:
            continue
        streams = {
            names.stream(room, kind) for room, kind, group in groups(system, names) if group == name
        }
        triggers = [
            each["metadata"] for each in scaled["spec"]["triggers"] if "stream" in each["metadata"]
        ]
        assert {each["consumerGroup"] for each in triggers} == {name}
        for count in ("lagCount", "pendingEntriesCount"):
            assert {each["stream"] for each in triggers if count in each} == streams
        assert len(triggers) == 2 * len(streams)


def test_keda_scales_the_components_that_only_answer(everything: list[Manifest]) -> None:
    """Down to none. The components that send first, serve a page or hold connections stay."""
    deployments = of_kind(everything, "Deployment")
    for name, scaled in of_kind(everything, "ScaledObject").items():
        spec = scaled["spec"]
        assert (spec["scaleTargetRef"]["name"], spec["minReplicaCount"]) == (name, 0)
        assert "replicas" not in deployments[name]["spec"]  # or each apply would undo what KEDA did
    assert set(of_kind(everything, "ScaledObject")) == SCALED
    assert {name for name in deployments if "replicas" in deployments[name]["spec"]} == (
        BASE | OPTIONAL
    ) - SCALED


def test_keda_has_the_password_of_its_own_user(everything: list[Manifest]) -> None:
    """The Secret has what the authentication reads, and all triggers use it."""
    [way] = of_kind(everything, "TriggerAuthentication").values()
    secrets = read_secrets(FOLDER)
    for each in way["spec"]["secretTargetRef"]:
        assert secrets[each["name"]][each["key"]]
    namespace = way["metadata"]["namespace"]
    assert secrets["scaler"]["address"] == f"redis.{namespace}.svc:6379"
    for scaled in of_kind(everything, "ScaledObject").values():
        used = {each["authenticationRef"]["name"] for each in scaled["spec"]["triggers"]}
        assert used == {way["metadata"]["name"]}
