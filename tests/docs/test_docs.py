"""The pages are right: code runs, commands print what is shown, links and paths exist."""

from __future__ import annotations

import pydoc
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import structlog
import typer

from roomgrad.cli.main import app
from roomgrad.flags import describe
from roomgrad.names import Names
from roomgrad.testing import running
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.trainer.handlers import component as trainer
from roomgrad_trebuchet.trainer.settings import TrainerSettings
from tests.docs import redis_cli, settings_page
from tests.docs.__main__ import PAGES as GENERATED
from tests.docs.example_run import TIMEOUT_S, ExampleRun, same_shape, trebuchet
from tests.docs.pages import ROOT, Block, Command, blocks, commands, consoles, pages, programs, text
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)  # the first start of all compiles the simulator's kernel

UNFINISHED = ("TODO", "FIXME", "XXX", "TBD", "_OUTPUT")
FOREIGN = ("issue #", "localhost:59")
ABSOLUTE = re.compile(r"(?<![\w.:/)\]}>*-])/\w+/")  # a path of one machine, not of the project
HAND_WRITTEN = [page for page in pages() if page.removeprefix("docs/") not in GENERATED]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleRun]:
    with trebuchet(tmp_path_factory.mktemp("pages")) as example:
        yield example


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("console")}))
def test_the_commands_of_a_page_print_what_it_shows(page: str, example: ExampleRun) -> None:
    """One after the other: the same lines, but for IDs and numbers."""
    for command in consoles(page):
        example.check(command)


@pytest.mark.parametrize("block", [block for block in blocks("python") if not block.file], ids=str)
def test_a_python_block_runs(block: Block, example: ExampleRun) -> None:
    """With the programs of the pages beside it."""
    subprocess.run(
        [sys.executable, "-c", block.text], cwd=example.folder, env=example.environ, check=True
    )


def test_the_control_model_learns_through_the_cannon(example: ExampleRun) -> None:
    """The component of the README, in the simulator's place."""
    cannon = runpy.run_path(str(example.folder / "cannon.py"))["component"]
    steps, run = 150, "cannon"
    counters, losses = Names(run).counters("trainer"), Names(run).table("losses")
    with (
        structlog.testing.capture_logs() as lines,
        running(cannon, cannon.settings(run=run), example.url),
        running(controlmodel, ControlModelSettings(run=run, train_steps=steps), example.url),
        running(trainer, TrainerSettings(run=run, train_steps=steps), example.url),
    ):
        until(lambda: example.client.hget(counters, "finished") == b"150", TIMEOUT_S)
    first, last = (_miss(example, losses, number) for number in (0, steps - 1))
    assert [each["batches"] for each in lines if "batches" in each] == ["150 of 150"]
    said = [each for each in lines if each["event"] == "working"]
    assert {each["component"] for each in said} == {"trainer", "controlmodel", "simulator"}
    assert [each for each in said if "loss" in each and each["step"] == steps - 1]
    assert last < first / 3, f"the miss fell from {first} m to {last} m only"


def test_the_network_of_the_torch_page_learns_in_place_of_ours(example: ExampleRun) -> None:
    """It takes the control model's place, beside our trainer and the cannon of the README."""
    cannon, aim = (
        runpy.run_path(str(example.folder / name))["component"] for name in ("cannon.py", "aim.py")
    )
    steps, run = 150, "aim"
    counters, losses = Names(run).counters("trainer"), Names(run).table("losses")
    with (
        running(cannon, cannon.settings(run=run), example.url),
        running(aim, aim.settings(run=run), example.url),
        running(trainer, TrainerSettings(run=run, train_steps=steps), example.url),
    ):
        until(lambda: example.client.hget(counters, "finished") == b"150", TIMEOUT_S)
    first, last = (_miss(example, losses, number) for number in (0, steps - 1))
    assert last < first / 3, f"the miss fell from {first} m to {last} m only"


def _miss(example: ExampleRun, losses: str, number: int) -> float:
    record: Any = example.client.hget(losses, str(number))
    found = re.search(rb'"miss_m":([\d.]+)', record)
    assert found is not None
    return float(found[1])


def test_a_client_without_roomgrad_asks_the_trebuchet(example: ExampleRun) -> None:
    """`ask.py` gets angle, weight, and distance."""
    with example.simulating():
        printed = example.run("python ask.py")
    shown = re.search(r"```text\n(angle.*?)\n```", text("docs/protocol.md"), re.DOTALL)
    assert shown is not None
    assert same_shape(shown[1], printed)


def test_a_component_without_roomgrad_replaces_the_simulator(example: ExampleRun) -> None:
    """`foreign.py` answers batches and their gradients, each once."""
    before = example.client.xlen(example.names.dead())
    process = subprocess.Popen(
        [sys.executable, "foreign.py"],
        cwd=example.folder,
        env=example.environ,
        stderr=subprocess.PIPE,
    )
    try:
        example.wait_steps(5)
    finally:
        process.kill()
        errors = process.communicate()[1].decode()
    assert not errors
    assert example.client.xlen(example.names.dead()) == before


NAMES = re.compile(
    r"(?<![\w.{/-])(roomgrad(?:_trebuchet|_melody|_swergio)?(?:\.\w+)+)(?![\w-]*=|-)"
)
OTHER_NAMES = ("docs/observe.md", "roomgrad.json")  # attributes of spans, a file


@pytest.mark.parametrize("page", [page for page in pages() if page not in OTHER_NAMES])
def test_names_of_python_on_a_page_exist(page: str) -> None:
    """Modules, and what they contain; of a table of old and new names, the new ones."""
    lines = [
        line.split("|")[-2] if line.startswith("| `") else line for line in text(page).split("\n")
    ]
    for name in set(NAMES.findall("\n".join(lines))) - set(OTHER_NAMES):
        assert pydoc.locate(name) is not None, f"{page} names {name}"


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_a_python_block_is_formatted(block: Block) -> None:
    """By `ruff format`, and `ruff check` finds nothing."""
    for words in (["format", "--check", "--quiet"], ["check", "--quiet", "--ignore=D,E402"]):
        command = ["ruff", *words, "--stdin-filename", str(ROOT / "docs" / "block.py"), "-"]
        done = subprocess.run(
            [sys.executable, "-m", *command], input=block.text, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_of_a_page_exists(command: Command) -> None:
    """With the flags and values that the page shows."""
    typed = command.text.partition(" > ")[0]
    words = [word for word in shlex.split(typed) if not re.match(r"[A-Z_]+=", word)]
    program, *arguments = [word for word in words if word not in ("&", "sudo")]
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program in ("roomgrad", ".venv/bin/roomgrad"):
        _parse(arguments)
    elif program == "docker":
        _compose(arguments)
    elif program.endswith("python") and arguments[:1] == ["-m"]:
        _module(*arguments[1:])
    else:
        assert program.endswith("python"), f"{command.where}: unknown program {program}"
        assert Path(arguments[0]).name in programs()


def _parse(arguments: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    context = group.make_context("roomgrad", list(arguments))
    command = group.get_command(context, arguments[0])
    command.make_context(arguments[0], arguments[1:], parent=context)


def _compose(arguments: list[str]) -> None:
    services = (ROOT / "docker-compose.yml").read_text()
    scaled = [word.partition("=")[0] for word in arguments if re.fullmatch(r"\w+=\d+", word)]
    action, *rest = arguments[1:]
    plain = [word for word in rest if not word.startswith("-")]
    named = plain[:1] if action in ("run", "exec", "logs") else []
    for name in scaled + named:
        assert re.search(rf"^  {name}:", services, re.MULTILINE), f"no service {name}"


def _module(module: str, *arguments: str) -> None:
    assert find_spec(module), module
    component = module.rpartition(".")[2]
    if module.startswith("roomgrad_") and component in settings_page.COMPONENTS:
        known = {each.flag for each in describe(settings_page.COMPONENTS[component])}
        flags = [word.partition("=")[0] for word in arguments if word.startswith("--")]
        assert set(flags) <= known


@pytest.mark.parametrize("page", pages())
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    """To files and headings that exist."""
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text(page)):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page} links {target}"
        assert path.resolve().is_relative_to(ROOT), f"{page} links {target}, which is elsewhere"
        if anchor:
            assert anchor in _anchors(path.read_text()), f"{page} links {target}"


def _anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", pages())
def test_a_page_is_finished_and_only_about_the_project(page: str) -> None:
    """It contains no notes of its authors, and no paths of their machines."""
    found = [word for word in UNFINISHED + FOREIGN if word in text(page)]
    assert not found + ABSOLUTE.findall(text(page))
    for upwards in re.findall(r"(?:\.\./)+[\w./-]*", text(page)):
        place = ((ROOT / page).parent / upwards).resolve()
        assert place.is_relative_to(ROOT), f"{page} names {upwards}, which is elsewhere"


@pytest.mark.parametrize("page", [page for page in pages() if page != "CHANGELOG.md"])
def test_paths_that_a_page_names_exist(page: str) -> None:
    """Such as `services/trainer/handlers.py`."""
    named = re.findall(
        r"(?:services|shared|tests|deploy|docs)/[\w/.]+\.(?:py|lua|md|png)", text(page)
    )
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("name", sorted(settings_page.COMPONENTS))
def test_every_component_has_a_readme(name: str) -> None:
    assert f"services/{name}/README.md" in pages()


@pytest.mark.parametrize("path", ["see /home/anna/run.log", "`/tmp/x`", "cat /root/a/b"])
def test_a_path_of_one_machine_is_found(path: str) -> None:
    """Addresses, keys, and paths of the project are not."""
    assert ABSOLUTE.search(path)
    for fine in (
        "http://localhost:8321/api/x",
        "redis://host:6379/0",
        "services/trainer/",
        "a/b/c",
    ):
        assert not ABSOLUTE.search(fine)


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    """`python -m tests.docs` would change nothing."""
    assert text(f"docs/{name}") == GENERATED[name](), "run `python -m tests.docs`"


def test_the_pages_are_short() -> None:
    """A page answers one reader's question; the README fits on three screens."""
    counted = [page for page in HAND_WRITTEN if page.startswith(("docs/", "README", "CONTRIB"))]
    words = [word for page in counted for word in text(page).split()]
    assert sum(any(map(str.isalnum, word)) for word in words) <= 17_850  # not the lines of tables
    assert text("README.md").count("\n") <= 150


def test_the_substitute_for_redis_cli_prints_the_same() -> None:
    reply = [[b"1-0", [b"m", b'{"a":\xf0\n}']], None, 3, []]
    shown = '1) 1) "1-0"\n   2) 1) "m"\n      2) "{\\"a\\":\\xf0\\n}"\n2) (nil)\n3) (integer) 3\n'
    assert redis_cli.format_reply(reply) == shown + "4) (empty array)"
