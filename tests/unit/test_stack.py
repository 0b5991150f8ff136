"""deploy/swarm.yml describes each service as docker-compose.yml does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from roomgrad_rlgym.contract import POLICIES

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
STACK = yaml.safe_load((ROOT / "deploy/swarm.yml").read_text())
PAGES = yaml.safe_load((ROOT / "deploy/swarm.pages.yml").read_text())

# Hello World, split and rlgym are for a first look; `inference` and `guest` run on the user's
# machine; deploy/swarm-secrets makes the secrets.
ONLY_IN_COMPOSE = {"greeter", "world", "leftowner", "rightowner", "labelhead"} | {
    *("cartpole", "policy", "aggregation", "selection", "control"),
    *("inference", "guest", "secrets"),
}
SERVICES = sorted(STACK["services"])

# What a stack cannot express, or docker-compose.yml expresses in another way.
INSTEAD_OF_DNS_OPT = "timeout:1 attempts:1"
DIFFERENT = {
    "gateway": {"ROOMGRAD_RUN"},
    "labelling": {"ROOMGRAD_HOSTS"},
    "dashboard": {"ROOMGRAD_HOSTS"},
}
PORTS = {"labelling", "dashboard", "gateway"}


def both(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a service of the stack, and of compose."""
    return STACK["services"][name], COMPOSE["services"][name]


def test_both_have_the_same_services() -> None:
    """And both start the same ones by default."""
    assert set(SERVICES) == set(COMPOSE["services"]) - ONLY_IN_COMPOSE
    off = {name for name in SERVICES if STACK["services"][name]["deploy"].get("replicas") == 0}
    assert off == {name for name in SERVICES if "profiles" in COMPOSE["services"][name]}


@pytest.mark.parametrize("name", SERVICES)
def test_settings_are_the_same(name: str) -> None:
    """Image, command, environment, health check, and how a container stops."""
    stack, compose = both(name)
    settings = dict(stack.get("environment", {}))
    options = " ".join(compose.get("dns_opt", []))
    assert settings.pop("RES_OPTIONS", "") == options in ("", INSTEAD_OF_DNS_OPT)
    assert settings.keys() == compose.get("environment", {}).keys()
    for key in settings.keys() - DIFFERENT.get(name, set()):
        assert settings[key] == compose["environment"][key], key
    for key in ("image", "command", "healthcheck", "init", "stop_grace_period", "user"):
        assert stack.get(key) == compose.get(key), key


@pytest.mark.parametrize("name", SERVICES)
def test_restrictions_are_the_same(name: str) -> None:
    """Containers may do only their work, with the same limits."""
    stack, compose = both(name)
    for key in ("read_only", "cap_drop", "logging"):
        assert stack[key] == compose[key], key
    assert {"type": "tmpfs", "target": compose["tmpfs"]} in stack["volumes"]
    limits = stack["deploy"]["resources"]["limits"]
    assert limits["memory"] == compose["mem_limit"]
    assert (float(limits["cpus"]), limits["pids"]) == (compose["cpus"], compose["pids_limit"])
    assert stack["deploy"]["resources"]["reservations"]
    assert stack["deploy"]["endpoint_mode"] == "dnsrr"


def test_components_with_a_model_have_a_volume_for_snapshots() -> None:
    """Each one of its own, under the same path."""
    learning = {
        name for name in SERVICES if "ROOMGRAD_SNAPSHOTS" in both(name)[1].get("environment", {})
    }
    assert learning == {"controlmodel", "evalnet"}
    for name in learning:
        for service, file in zip(both(name), (STACK, COMPOSE), strict=True):
            assert f"snapshots-{name}:/snapshots" in service["volumes"]
            assert f"snapshots-{name}" in file["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_replica_is_replaced_after_its_successor_has_started(name: str) -> None:
    """Except where only one can run at a time. A release that fails is rolled back."""
    deploy = STACK["services"][name]["deploy"]
    alone = name in PORTS | {"redis", "rater", "prometheus"}
    for key in ("update_config", "rollback_config"):
        assert deploy[key]["order"] == ("stop-first" if alone else "start-first")
        assert deploy[key]["parallelism"] == 1
    assert deploy["update_config"]["failure_action"] == "rollback"


@pytest.mark.parametrize("name", SERVICES)
def test_each_component_has_secrets_of_its_own(name: str) -> None:
    """Only it can read them; deploy/swarm-secrets makes them."""
    secrets = STACK["services"][name].get("secrets", [])
    for secret in secrets:
        declared = STACK["secrets"][secret["source"]]
        assert declared["external"]
        number = "USERS" if name == "redis" else "SECRETS"
        assert declared["name"] == f"${{STACK:-roomgrad}}-{secret['source']}-${{{number}:-1}}"
        if name != "redis":
            assert secret["source"].startswith(f"{name}-")
            assert (secret["uid"], secret["mode"]) == ("10001", 0o400)
    wanted = {
        Path(value).name
        for key, value in STACK["services"][name].get("environment", {}).items()
        if key.endswith("_FILE")
    } or ({"redis-password", "users.acl"} if name == "redis" else set())
    assert {secret["target"] for secret in secrets} == wanted


def test_every_secret_and_every_user_is_used() -> None:
    """deploy/swarm-secrets names the secrets after the users."""
    used = [
        each["source"] for name in SERVICES for each in STACK["services"][name].get("secrets", [])
    ]
    assert sorted(used) == sorted(STACK["secrets"])
    lines = (ROOT / "deploy/redis/users.acl").read_text().splitlines()
    users = {line.split()[1] for line in lines if line.startswith("user ")} - {*POLICIES.names}
    passwords = {name.removesuffix("-password") for name in used if name.endswith("-password")}
    assert passwords == users - ONLY_IN_COMPOSE


def test_no_port_is_published_by_default() -> None:
    """swarm.pages.yml publishes the ports that docker-compose.yml publishes."""
    assert not [name for name in SERVICES if "ports" in STACK["services"][name]]
    assert STACK["networks"]["default"]["internal"]
    assert set(PAGES["services"]) == PORTS
    for name, page in PAGES["services"].items():
        [port] = page["ports"]
        host, published, target = (
            COMPOSE["services"][name]["ports"][0].replace(":-", "=").split(":")
        )
        assert host == "127.0.0.1"
        assert str(port["published"]).replace(":-", "=") == published
        assert str(port["target"]).replace(":-", "=") == target
        assert (port["mode"], page["networks"]) == ("host", ["default", "page"])


def test_base_images_can_be_pinned() -> None:
    """No file that builds or starts containers fixes an image of others: variables name them."""
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    stages = set(re.findall(r"^FROM .* AS (\S+)$", dockerfile, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))
    assert bases - stages == {"${PYTHON_IMAGE}", "${DEPENDENCIES}"}
    for service in COMPOSE["services"].values():
        if "build" in service:
            pinned = service["build"]["args"]["PYTHON_IMAGE"]
            assert pinned == "${PYTHON_IMAGE:-python:3.11-slim-bookworm}"
    files = [ROOT / "docker-compose.yml", *ROOT.glob("deploy/*.yml")]
    images = {
        service["image"]
        for file in files
        for service in yaml.safe_load(file.read_text())["services"].values()
        if "image" in service
    }
    others = {each for each in images if not each.startswith("${REGISTRY:-roomgrad}/")}
    assert others == {"${REDIS_IMAGE:-redis:8}", "${GRAFANA_IMAGE:-grafana/grafana:11.6.0}"}
