"""deploy/swarm.yml says of each service what docker-compose.yml says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
STACK = yaml.safe_load((ROOT / "deploy/swarm.yml").read_text())
PAGES = yaml.safe_load((ROOT / "deploy/swarm.pages.yml").read_text())

# A question is asked from one's own machine, and deploy/swarm-secrets makes the secrets.
ONLY_IN_COMPOSE = {"inference", "secrets"}
SERVICES = sorted(STACK["services"])

# What docker-compose.yml says in another way, or a stack cannot.
INSTEAD_OF_DNS_OPT = "timeout:1 attempts:1"
OTHERWISE = {"gateway": {"RUN"}, "labelling": {"HOSTS"}, "dashboard": {"HOSTS"}}
PORTS = {"labelling", "dashboard", "gateway"}


def both(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return STACK["services"][name], COMPOSE["services"][name]


def test_both_have_the_same_services() -> None:
    """And both start the same of them unasked."""
    assert set(SERVICES) == set(COMPOSE["services"]) - ONLY_IN_COMPOSE
    resting = {name for name in SERVICES if STACK["services"][name]["deploy"].get("replicas") == 0}
    assert resting == {name for name in SERVICES if "profiles" in COMPOSE["services"][name]}


@pytest.mark.parametrize("name", SERVICES)
def test_settings_are_the_same(name: str) -> None:
    """Image, command, environment, health, and what a signal to stop finds."""
    stack, compose = both(name)
    settings = dict(stack.get("environment", {}))
    options = " ".join(compose.get("dns_opt", []))
    assert settings.pop("RES_OPTIONS", "") == options in ("", INSTEAD_OF_DNS_OPT)
    assert settings.keys() == compose.get("environment", {}).keys()
    for key in settings.keys() - OTHERWISE.get(name, set()):
        assert settings[key] == compose["environment"][key], key
    for key in ("image", "command", "healthcheck", "init", "stop_grace_period", "user"):
        assert stack.get(key) == compose.get(key), key


@pytest.mark.parametrize("name", SERVICES)
def test_containers_may_do_the_same(name: str) -> None:
    """Nothing but their work, and with the same limits."""
    stack, compose = both(name)
    for key in ("read_only", "cap_drop", "logging"):
        assert stack[key] == compose[key], key
    assert {"type": "tmpfs", "target": compose["tmpfs"]} in stack["volumes"]
    limits = stack["deploy"]["resources"]["limits"]
    assert limits["memory"] == compose["mem_limit"]
    assert (float(limits["cpus"]), limits["pids"]) == (compose["cpus"], compose["pids_limit"])
    assert stack["deploy"]["resources"]["reservations"]
    assert stack["deploy"]["endpoint_mode"] == "dnsrr"


@pytest.mark.parametrize("name", SERVICES)
def test_whoever_is_replaced_has_a_successor_first(name: str) -> None:
    """But where two would be in each other's way; a release that fails is taken back."""
    deploy = STACK["services"][name]["deploy"]
    alone = name in PORTS | {"redis", "rater", "prometheus"}
    for key in ("update_config", "rollback_config"):
        assert deploy[key]["order"] == ("stop-first" if alone else "start-first")
        assert deploy[key]["parallelism"] == 1
    assert deploy["update_config"]["failure_action"] == "rollback"


@pytest.mark.parametrize("name", SERVICES)
def test_each_component_has_secrets_of_its_own(name: str) -> None:
    """Which only it can read; that they are there is left to deploy/swarm-secrets."""
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


def test_every_secret_and_every_user_is_somebodys() -> None:
    """deploy/swarm-secrets makes them by the names of the users."""
    used = [
        each["source"] for name in SERVICES for each in STACK["services"][name].get("secrets", [])
    ]
    assert sorted(used) == sorted(STACK["secrets"])
    lines = (ROOT / "deploy/redis/users.acl").read_text().splitlines()
    users = {line.split()[1] for line in lines if line.startswith("user ")}
    passwords = {name.removesuffix("-password") for name in used if name.endswith("-password")}
    assert passwords == users - ONLY_IN_COMPOSE


def test_nothing_is_published_unasked() -> None:
    """swarm.pages.yml publishes what docker-compose.yml does, each where it runs."""
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
