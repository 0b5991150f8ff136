"""docker-compose.yml as a user runs it: built, scaled, queried, restarted and stopped."""

from __future__ import annotations

import json
import math
import re
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import swergio

from roomgrad.names import Names
from roomgrad_melody.contract import MELODY
from tests.systems.installation import SYSTEMS
from tests.systems.melody.rater_client import FIRST_QUESTION_S, RaterClient
from tests.systems.project import ROOT, Project, removed_afterwards, service_of
from tests.waiting import until

# The first build installs torch; later ones take it from the cache of Docker.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

TREBUCHET = {"trainer": 1, "controlmodel": 2, "simulator": 4}
MAKER = {"evolution": 1, "evalnet": 2, "learner": 2, "labelling": 1}
COMPONENTS = TREBUCHET | MAKER | {"gateway": 1, "dashboard": 1}
OTHERS = {"redis", "secrets", "prometheus"}
CONNECTED = set(COMPONENTS) - {"dashboard"}  # it connects only while a page is open
STEPS = 60
DISTRIBUTIONS = (
    "from importlib.metadata import distributions\n"
    "for each in distributions(): print(each.name, each.version)"
)
CONTENTS = {
    "controlmodel": ["redis", "numpy", "torch", "roomgrad"],
    "evalnet": ["redis", "numpy", "torch", "roomgrad"],
    "prometheus": ["prometheus"],
}
NAMES = Names(MELODY.name)


def address(project: Project) -> str:
    """Return the address of the page from its log."""
    log = project.compose("logs", "--no-log-prefix", "labelling")
    found: list[str] = re.findall(r"http://[^\s\"']+", log)
    return found[-1]


def visitor_of(project: Project) -> RaterClient:
    """Return a browser session that has opened that address."""
    rater = RaterClient(address(project))
    rater.open()
    return rater


def label(project: Project, melody: str) -> dict[str, Any]:
    """Return the label of a melody; empty if there is none."""
    found: dict[str, Any] = json.loads(
        "".join(project.redis("HGET", NAMES.table("labels"), melody)) or "{}"
    )
    return found


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """Both systems in containers; the training of the trebuchet is finished."""
    with removed_afterwards(Project(COMPONENTS | {"prometheus": 1}, STEPS)) as project:
        project.compose("build")
        project.start()
        project.wait_finished()
        yield project


def test_every_component_is_a_service(project: Project) -> None:
    """Folder, compose service and component have one name."""
    folders = {path.parent.name for path in ROOT.glob("services/*/__main__.py")}
    assert folders == set(project.compose("--profile=*", "config", "--services").split()) - OTHERS


def test_only_its_profile_starts_the_gateway(project: Project) -> None:
    """No port is open unless the user asks for it."""
    tools = set(project.compose("--profile=tools", "config", "--services").split())
    gateway = set(project.compose("--profile=gateway", "config", "--services").split())
    assert gateway - tools == {"gateway"}


@pytest.mark.slow
def test_hello_world_needs_no_other_component(project: Project) -> None:
    """Its containers start by name, and greet each other in a run of their own."""
    project.compose("up", "--detach", "greeter", "world")
    newest = ("XREVRANGE", "{hello}:hall:DATA/TEXT", "+", "-", "COUNT", "2")
    until(lambda: "Hello greeter, this is world" in "".join(project.redis(*newest)), every_s=0.5)
    project.compose("rm", "--stop", "--force", "greeter", "world")


def test_grafana_is_described(project: Project) -> None:
    """Compose accepts the file, and the files that it mounts exist. Its image is not started."""
    files = ("--file", "docker-compose.yml", "--file", "deploy/compose.grafana.yml")
    command = ["docker", "compose", *files, "--profile=observe", "config", "--format=json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grafana = json.loads(done.stdout)["services"]["grafana"]
    assert [Path(each["source"]).exists() for each in grafana["volumes"]] == [True, True]


def test_scaled_components_train_every_batch_once(project: Project) -> None:
    """Four simulators and two control models lose, double and leave over nothing."""
    counters = project.wait_finished()
    assert counters["sent"] == counters["applied"] == counters["distinct"] == STEPS
    assert counters.get("dead", 0) == 0
    assert project.redis("XLEN", "{trebuchet}:dead") == ["0"]
    for component in TREBUCHET:
        assert project.redis("HLEN", f"{{trebuchet}}:memory:{component}") == ["0"]


def test_every_replica_is_healthy(project: Project) -> None:
    """The health check of each container finds the heartbeat of its own replica."""
    states = [
        (service_of(each), each["State"]["Health"]["Status"])
        for each in project.containers()
        if service_of(each) in COMPONENTS
    ]
    wanted = [(name, "healthy") for name, count in COMPONENTS.items() for _ in range(count)]
    assert sorted(states) == sorted(wanted)


@pytest.mark.parametrize("service", [*COMPONENTS, "redis", "prometheus"])
def test_containers_may_do_only_their_work(project: Project, service: str) -> None:
    """They have no root, no capabilities and a read-only file system."""
    assert int(project.inside(service, "id -u").stdout) != 0
    assert "Read-only file system" in project.inside(service, "touch /usr/x").stderr
    status = project.inside(service, "cat /proc/1/status").stdout.split("\n")
    lines = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    assert int(lines["CapBnd"], 16) == 0
    assert int(lines["NoNewPrivs"]) == 1


@pytest.mark.parametrize("service", [*COMPONENTS, "prometheus"])
def test_an_image_lists_what_it_contains(project: Project, service: str) -> None:
    """Its SBOM has each package of Python and of Debian in the version that is installed."""

    def installed(command: str) -> set[tuple[str, ...]]:
        return {
            tuple(each.split()) for each in project.inside(service, command).stdout.splitlines()
        }

    sbom = json.loads(project.inside(service, "cat /sbom.cdx.json").stdout)
    assert sbom["bomFormat"] == "CycloneDX"
    listed: dict[str, set[tuple[str, ...]]] = {"deb": set(), "generic": set(), "pypi": set()}
    for each in sbom["components"]:
        # Those of this project are on no index, and have no address of a package.
        kind = each.get("purl", "pkg:pypi/").removeprefix("pkg:").partition("/")[0]
        listed[kind].add((each["name"], each["version"]))
    assert listed["pypi"] == installed(f"python -c '{DISTRIBUTIONS}'")
    assert listed["deb"] == installed("dpkg-query --show --showformat='${Package} ${Version}\\n'")
    assert listed["generic"] == {
        tuple(project.inside(service, "python --version").stdout.lower().split())
    }
    names = {name for packages in listed.values() for name, _ in packages}
    assert {"libc6", *CONTENTS.get(service, ["redis", "numpy", "roomgrad"])} <= names


def test_simulator_starts_with_compiled_physics(project: Project) -> None:
    """A kernel that was compiled anew would be in the cache beside the one of the image."""
    same = project.inside("simulator", "ls /opt/numba/*/*.nbc && diff -r /opt/numba /tmp/numba")
    assert same.returncode == 0, same.stdout + same.stderr


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("trainer", {"roomgrad", "roomgrad_trebuchet"}),
        ("evolution", {"roomgrad", "roomgrad_melody"}),
        ("gateway", {"roomgrad", *(f"roomgrad_{name}" for name in SYSTEMS)}),
    ],
)
def test_an_image_contains_the_code_of_its_own_system_alone(
    project: Project, service: str, expected: set[str]
) -> None:
    """Only the programs that serve any system know all of them."""
    found = project.inside(service, "cd /venv/lib/python3*/site-packages && ls -d roomgrad*/")
    packages = {name.rstrip("/") for name in found.stdout.split()}
    assert {name for name in packages if not name.endswith(".dist-info")} == expected


def test_inference_answers(project: Project) -> None:
    """`docker compose run` asks the running system."""
    flags = ("--wind", "3", "--target", "60", "--json")
    answer = json.loads(project.compose("run", "--rm", "-T", "inference", *flags))
    assert (answer["wind"], answer["target"]) == (3.0, 60.0)
    assert answer["status"] == 0
    assert math.isfinite(answer["miss_m"])


@pytest.mark.parametrize("service", COMPONENTS)
def test_limits_hold_and_images_contain_no_build_tools(project: Project, service: str) -> None:
    """The kernel limits memory, CPU and the number of processes."""
    limits = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max"
    v1 = "cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max"
    found = project.inside(service, f"{limits} || (cd /sys/fs/cgroup && {v1})").stdout.split()
    assert found == [str(2**30), "100000", "100000", "256"]
    tools = project.inside(service, "command -v pip gcc cc make curl wget git")
    assert (tools.returncode, tools.stdout) != (0, tools.stdout), tools.stdout
    assert tools.stdout == ""


def test_a_process_above_the_memory_limit_is_killed(project: Project) -> None:
    """The kernel kills that process alone."""
    done = project.run("exec", "-T", "labelling", "python", "-c", "b'x' * 2**31")
    assert done.returncode == 137, (done.returncode, done.stderr)


# who may do what


def test_redis_requires_a_password(project: Project) -> None:
    """The redis-cli of the project sends it."""
    without = project.inside("redis", "PATH=/usr/local/bin:/usr/bin:/bin redis-cli ping")
    assert "NOAUTH" in without.stdout
    assert project.redis("ping") == ["PONG"]


def test_each_component_is_a_redis_user_of_its_own(project: Project) -> None:
    """It connects under its name with its own password, and no command was refused."""
    assert users_on(project) >= CONNECTED
    assert project.redis("ACL", "LOG") == [""]
    passwords = secrets_of(project)
    assert len(set(passwords.values())) == len(COMPONENTS) + 1


def test_a_component_sees_only_its_own_secret(project: Project) -> None:
    """No container has the password or token of another."""
    for service in COMPONENTS:
        own = {"redis-password", f"{service}-token"}
        assert set(project.inside(service, "ls /run/secrets").stdout.split()) <= own


def test_no_secret_is_revealed(project: Project) -> None:
    """Not by `docker inspect` and `history`, nor in environments and logs."""
    described = json.dumps(project.containers())
    images = {each["Image"] for each in project.containers()}
    history = [
        subprocess.run(["docker", "history", "--no-trunc", each], capture_output=True, check=True)
        for each in images
    ]
    outputs = [described, *(each.stdout.decode() for each in history)]
    outputs += [project.compose("logs"), project.compose("config")]
    outputs += [project.inside(each, "env").stdout for each in COMPONENTS]
    for password in secrets_of(project).values():
        assert not [text[:80] for text in outputs if password in text]


def users_on(project: Project) -> set[str]:
    """Return the users with a connection to Redis."""
    return set(re.findall(r" user=(\S+)", "\n".join(project.redis("CLIENT", "LIST"))))


def secrets_of(project: Project) -> dict[str, str]:
    """Return the password of each service."""
    return {
        service: project.inside(service, "cat /run/secrets/redis-password").stdout.strip()
        for service in ("redis", *COMPONENTS)
    }


def test_a_swergio_client_can_connect_from_this_machine(project: Project) -> None:
    """Components that know nothing of swergio answer it in a room."""
    rater = swergio.Client("visitor", "127.0.0.1", project.gateway_port)
    with closing(rater.client) as connection:
        connection.settimeout(60)
        rater.join_room("output")
        asked = {"ID": uuid.uuid4().hex, "ROOT_ID": uuid.uuid4().hex, "TYPE": "DATA/FORWARD"}
        status = swergio.MODEL_STATUS.VALIDATE.id
        question = {"TO_ROOM": "input", "MODEL_STATUS": status, "DATA": [[3.0, 60.0]]}
        rater.send({**asked, **question})
        answers = iter(rater.receive, False)
        answer = next(each for each in answers if each.get("TO_ROOM") == "output")
    assert (answer["ROOT_ID"], answer["SENT_BY"]) == (asked["ROOT_ID"], "simulator")
    assert math.isfinite(answer["DATA"][0])


def test_the_dashboard_shows_the_runs(project: Project) -> None:
    """At the address with the token that is in its log, and at no other."""
    found = re.findall(r"http://[^\s\"']+", project.compose("logs", "--no-log-prefix", "dashboard"))
    rater = RaterClient(found[-1])
    assert rater.origin == f"http://localhost:{project.dashboard_port}"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        rater.ask("/api/runs")
    rater.open()
    assert {"trebuchet", "melody"} <= set(rater.ask("/api/runs")["runs"])
    curves = rater.ask("/api/training?run=trebuchet")["curves"]
    [loss] = [each for each in curves if each["name"] == "loss"]
    assert STEPS - 1 <= loss["points"][-1][0] <= STEPS


def test_prometheus_scrapes_every_replica(project: Project) -> None:
    """Its rules are loaded, and no alert fires."""

    def told(path: str) -> Any:
        address = f"http://127.0.0.1:{project.prometheus_port}/api/v1/{path}"
        with urllib.request.urlopen(address, timeout=20) as answer:
            return json.load(answer)["data"]

    def up() -> list[str]:
        found = told("query?query=roomgrad_server_up%20==%201")["result"]
        return sorted(each["metric"]["component"] for each in found)

    replicas = sorted(
        name for name, n in COMPONENTS.items() for _ in range(n) if name != "dashboard"
    )
    until(lambda: up() == replicas)
    assert {each["health"] for each in told("targets")["activeTargets"]} == {"up"}
    [group] = told("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
    assert len(group["rules"]) == 3
    assert told("alerts")["alerts"] == []


def test_only_pages_gateway_and_prometheus_publish_a_port(
    project: Project,
) -> None:
    """To this machine alone; all other services are only on the internal network."""
    published = {"labelling": project.port, "gateway": project.gateway_port}
    published["prometheus"] = project.prometheus_port
    published["dashboard"] = project.dashboard_port
    inside, page = f"{project.name}_default", f"{project.name}_page"
    described = subprocess.run(["docker", "network", "inspect", inside], capture_output=True)
    assert json.loads(described.stdout)[0]["Internal"]
    for container in project.containers():
        service = service_of(container)
        bindings = container["HostConfig"]["PortBindings"] or {}
        networks = set(container["NetworkSettings"]["Networks"])
        if port := published.get(service):
            local = {"HostIp": "127.0.0.1", "HostPort": str(port)}
            assert list(bindings.values()) == [[local]]
            assert networks == {inside, page}
        else:
            assert not bindings, service
            assert not any(container["NetworkSettings"]["Ports"].values()), service
            assert networks == {inside}, service


# the melody maker


def test_the_page_requires_the_token_that_is_in_its_log(project: Project) -> None:
    """A browser on this machine can open the address in the log."""
    page = address(project)
    assert re.fullmatch(rf"http://localhost:{project.port}/\?token=[0-9a-f]{{64}}", page)
    rater = RaterClient(page)
    for path in ("/", "/api/state", "/static/app.js"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            rater.ask(path)
        refused.value.close()
        assert refused.value.code == 401
    assert "<html" in rater.open().lower()
    assert rater.ask("/api/state")["run"] == "melody"


def test_the_first_question_comes_soon(project: Project) -> None:
    """At most ten seconds after all containers are healthy."""
    question = visitor_of(project).question()
    assert question["asked"] - project.healthy_at < FIRST_QUESTION_S


def test_a_rater_answers_in_place_of_a_person(project: Project) -> None:
    """`docker compose up rater` answers open questions and those that follow."""
    rater = visitor_of(project)
    before = rater.learning()["labels"]
    project.compose("up", "--detach", "rater")
    until(lambda: rater.learning()["labels"] >= before + 7)
    project.compose("stop", "rater")


def test_an_answer_is_learned_from(project: Project) -> None:
    """Two learners and two networks share the batches."""
    rater = visitor_of(project)

    def is_idle() -> bool:
        [record] = project.redis("HGET", NAMES.table("learning"), "now")
        now = json.loads(record)
        return not (now["chain"] or now["dirty"] or now["scoring"] or now["rerank"])

    until(is_idle)
    before = rater.learning()
    question = rater.question()
    rater.answer(question, 4)
    found = until(lambda: label(project, question["melody"]))
    assert (found["rating"], found["rater"], found["root"]) == (4, "Ada", question["root"])

    until(lambda: rater.learning()["runs"] > before["runs"] and is_idle())
    counters = project.counters("melody")
    assert counters["sent"] == counters["finished"] == counters["applied"] == counters["distinct"]
    assert counters["sent"] > 0
    assert project.redis("XLEN", NAMES.dead()) == ["0"]


# the end


def test_passwords_are_rotated_without_a_pause(project: Project) -> None:
    """One command replaces all of them; Redis rejects the old ones."""
    before = secrets_of(project)
    project.compose("run", "--rm", "-T", "secrets", "rotate")
    after = secrets_of(project)
    assert not set(before.values()) & set(after.values())

    def ping(password: str) -> str:
        plain = "PATH=/usr/local/bin:/usr/bin:/bin redis-cli --user trainer ping 2>&1"
        return project.inside("redis", f"REDISCLI_AUTH={password} {plain}").stdout

    assert "WRONGPASS" in ping(before["trainer"])
    assert "PONG" in ping(after["trainer"])
    until(lambda: users_on(project) >= CONNECTED)
    project.compose("run", "--rm", "-T", "inference", "--wind", "3", "--target", "60")


def test_restarted_pages_require_their_new_tokens(project: Project) -> None:
    """The session of the old address ends."""
    rater = visitor_of(project)
    project.compose("restart", "labelling", "dashboard")
    until(lambda: address(project) != rater.address)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        until(lambda: rater.ask("/api/state"))
    assert until(lambda: visitor_of(project)).ask("/api/state")["run"] == "melody"


def test_restarted_redis_keeps_the_data(project: Project) -> None:
    """The components reconnect."""
    before = project.counters()
    weights = project.redis("HGET", "{trebuchet}:model:controlmodel", "version")
    project.compose("restart", "redis")
    project.compose("up", "--detach", "--wait", "--no-recreate", "redis")
    assert project.counters() == before
    assert project.redis("HGET", "{trebuchet}:model:controlmodel", "version") == weights
    project.compose("run", "--rm", "-T", "inference", "--wind", "3", "--target", "60")


def test_stop_ends_every_container_gracefully(project: Project) -> None:
    """In the time that docker-compose.yml gives them; a killed one would have another exit code."""
    page, labels = address(project), project.redis("HLEN", NAMES.table("labels"))
    project.compose("stop")
    codes = {each["Name"]: each["State"]["ExitCode"] for each in project.containers()}
    assert len(codes) >= sum(COMPONENTS.values())
    assert set(codes.values()) == {0}, codes
    project.start()
    assert project.wait_finished()["applied"] == STEPS
    assert address(project) == page
    assert project.redis("HLEN", NAMES.table("labels")) == labels
    visitor_of(project).question()
