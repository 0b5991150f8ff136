"""Swarm files: what stands in them, and the commands that come of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from roomgrad.errors import FormatError, RoomgradError, SettingsError
from roomgrad.local.plan import Plan, with_gateway
from roomgrad_swergio.swarm.options import Swarm
from roomgrad_swergio.swarm.programs import programs

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a swarm file beside some programs; the PATH has these and no others."""
    for name in ("a.py", "b.py", "c.jl"):
        (tmp_path / name).touch()
    for name in ("bin/julia", "bin/python", "bin/xterm", "env/bin/python", "env/bin/python3"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def write(text: str) -> Path:
        path = tmp_path / "swarm.yaml"
        path.write_text(text)
        return path

    return write


def commands(path: Path, *only: str) -> dict[str, list[str]]:
    """The commands of a file, with paths from its folder."""
    start = f"{path.parent}/"
    found = programs(path, only)
    return {
        name: [word.replace(start, "") for word in each["command"]] for name, each in found.items()
    }


def test_entries_keep_their_order_and_their_delays(write: Write) -> None:
    path = write("""
        components:
          second: {filepath: b.py, delay: 1.5}
          first: {filepath: a.py}
          third: {filepath: c.jl, delay: }
    """)
    found = programs(path)
    assert [(name, each["delay_s"]) for name, each in found.items()] == [
        ("second", 1.5),
        ("first", 0.0),
        ("third", 0.0),
    ]
    assert list(programs(path, ["third", "second"])) == ["second", "third"]


PY = "filepath: a.py"
JL = "filepath: c.jl"


@pytest.mark.parametrize(
    ("settings", "entry", "command"),
    [
        ("", PY, ["bin/python", "a.py"]),
        ("python_cmd: env/bin/python3", PY, ["env/bin/python3", "a.py"]),
        ("python_envpath: env/bin/", PY, ["env/bin/python", "a.py"]),
        ("python_envpath: env/bin", PY, ["env/bin/python", "a.py"]),
        ("python_envpath: env", PY, ["env/bin/python", "a.py"]),
        ("python_envpath: env/bin/py, python_cmd: thon3", PY, ["env/bin/python3", "a.py"]),
        ("python_cmd: nowhere", f"{PY}, python_cmd: python", ["bin/python", "a.py"]),
        ("python_envpath: nowhere/", f"{PY}, envpath: env/bin/", ["env/bin/python", "a.py"]),
        ("python_envpath: nowhere/", f"{PY}, envpath: ", ["bin/python", "a.py"]),
        ("julia_envpath: nowhere/", PY, ["bin/python", "a.py"]),
        ("terminal_cmd: xterm -T 'a b'", PY, ["bin/xterm", "-T", "a b", "bin/python", "a.py"]),
        ("terminal_cmd: nowhere", f"{PY}, terminal_cmd: ''", ["bin/python", "a.py"]),
        ("", JL, ["bin/julia", "c.jl"]),
        ("julia_envpath: .", JL, ["bin/julia", "--project", "c.jl"]),
        ("julia_envpath: env", JL, ["bin/julia", "--project=env", "c.jl"]),
        ("python_envpath: nowhere/", f"{JL}, envpath: .", ["bin/julia", "--project", "c.jl"]),
    ],
)
def test_the_command_of_an_entry(
    write: Write, settings: str, entry: str, command: list[str]
) -> None:
    """What the entry says beats the settings, also where it says nothing."""
    path = write(f"settings: {{{settings}}}\ncomponents:\n  it: {{{entry}}}\n")
    assert commands(path) == {"it": command}


def test_without_a_python_on_the_path_it_is_that_of_roomgrad(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("components: {it: {filepath: a.py}}")
    monkeypatch.setenv("PATH", str(path.parent))
    assert commands(path) == {"it": [sys.executable, "a.py"]}


def test_without_julia_only_the_others_start(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("components: {one: {filepath: a.py}, two: {filepath: c.jl}}")
    monkeypatch.setenv("PATH", str(path.parent))
    with pytest.raises(RoomgradError, match=r"two needs julia, .* or start the others by --only"):
        programs(path)
    assert list(programs(path, ["one"])) == ["one"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds None, expected components:"),
        ("hello", "holds 'hello', expected components:"),
        ("settings: {}", "components is missing, expected a name for each program"),
        ("components: {}", "components is empty, expected a name for each program"),
        ("components: [a.py]", r"components is \['a.py'\], expected a name for each program"),
        ("components: {it: }", "components.it is empty, expected filepath"),
        ("components: {it: {delay: 1}}", "components.it.filepath is missing, expected the path"),
        ("components: {it: {filepath: [a.py]}}", r"filepath is \['a.py'\], expected the path"),
        ("components: {it: {filepath: a.rb}}", "filepath 'a.rb': expected a .py or .jl file"),
        ("components: {it: {filepath: d.py}}", "filepath 'd.py', and there is no file .*/d.py"),
        ("components: {it: {filepath: a.py, delay: soon}}", "delay is 'soon', .* seconds from 0"),
        ("components: {it: {filepath: a.py, delay: -1}}", "delay is '-1', .* seconds from 0"),
        ("components: {it: {filepath: a.py, delay: .inf}}", r"delay is '\.inf', .* seconds from 0"),
        ("components: {it: {filepath: a.py, dellay: 1}}", "it.dellay is unknown: .* delay?"),
        (
            "components: {it: {filepath: a.py, envpath: e}}",
            "envpath 'e', .* no program .*/e/python",
        ),
        ("components: {it: {filepath: a.py, python_cmd: p}}", "python_cmd 'p', .* no such program"),
        ("components: {it: {filepath: a.py, python_cmd: [p]}}", "python_cmd is .*expected a text"),
        ("components: {it: {filepath: a.py, terminal_cmd: t -e}}", "terminal_cmd 't -e', .* t:"),
        ('components: {it: {filepath: a.py, terminal_cmd: "\'t"}}', "close every quotation mark"),
        ("components: {it: {filepath: a.py, delay: 1:30}}", "delay is '1:30', .* seconds from 0"),
        ("components: {it: {filepath: a.py, delay: yes}}", "delay is 'yes', .* seconds from 0"),
        ("components: {it: {filepath: a.py, python_cmd: off}}", "python_cmd 'off', .* no such"),
        ("components: {it: {filepath: a.py, python_cmd: 3.10}}", "python_cmd '3.10', .* no such"),
        ("setings: {}\ncomponents: {it: {filepath: a.py}}", "setings is unknown: .* settings?"),
        ("settings: {env: e}\ncomponents: {it: {filepath: a.py}}", "settings.env is unknown"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(write: Write, text: str, said: str) -> None:
    """It names the file, what stands there, and what was expected."""
    path = write(text)
    with pytest.raises(SettingsError, match=said) as caught:
        programs(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no", "on", "y", "null", "~", "1", "1.10", "010", "2026-01-01"])
def test_a_name_is_what_is_written(write: Write, name: str) -> None:
    """YAML 1.1 reads some words as truth values, numbers in base 8 and 60, or dates."""
    found = programs(write(f"components: {{{name}: {{filepath: a.py, delay: 010}}}}"))
    assert {each: program["delay_s"] for each, program in found.items()} == {name: 10.0}


def test_values_that_entries_share_may_be_merged(write: Write) -> None:
    path = write("""
        components:
          first: &first {filepath: a.py, delay: 1}
          second: {<<: *first, delay: 2}
    """)
    delays = {name: each["delay_s"] for name, each in programs(path).items()}
    assert delays == {"first": 1.0, "second": 2.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("components:\n  it: {filepath: a.py}\n  it: {filepath: b.py}", "'it' is there .* line 3"),
        ("components:\n  1: {filepath: a.py}\n  '1': {filepath: b.py}", "'1' is there .* line 3"),
        ("components:\n  it: {filepath: a.py, filepath: b.py}", "'filepath' is there .* line 2"),
        ("settings: {}\ncomponents: {}\nsettings: {}", "'settings' is there .* line 3"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(write: Write, text: str, said: str) -> None:
    """A component would be missing without a word."""
    with pytest.raises(FormatError, match=f"the key {said}"):
        programs(write(text))


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "a: *nothing", "a: \x01"])
def test_a_file_that_is_no_yaml_is_refused(write: Write, text: str) -> None:
    with pytest.raises(FormatError, match=r"swarm.yaml is not YAML \(.*\): correct it"):
        programs(write(text))


def test_only_names_what_there_is(write: Write) -> None:
    path = write("components: {first: {filepath: a.py}}")
    with pytest.raises(SettingsError, match=r"--only frist: .* did you mean first?"):
        programs(path, ["frist"])


def test_the_plan_is_named_after_the_file_and_starts_its_gateway(write: Write) -> None:
    """As JSON, so that the supervisor can read it; without a gateway it is nobody's system."""
    path = write("components: {first: {filepath: a.py}, second: {filepath: b.py}}")
    plan = with_gateway(Swarm(str(path), only="second").plan(), 8080)
    assert (plan.run, plan.file, plan.components) == ("swarm", str(path), ("gateway",))
    assert plan.flags("gateway") == ["--run=swarm", "--port=8080"]
    assert list(plan.programs) == ["second"]
    assert Swarm(str(path)).plan("other") == Plan(
        "", "other", {}, {}, file=str(path), programs=programs(path)
    )


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch made']",
        "!!python/object/new:os.system ['touch made']",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
    ],
)
def test_a_tag_makes_no_object_of_python(
    write: Write, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    """The loader knows the types of YAML alone, and runs nothing."""
    path = write(f"components: {{first: {{filepath: {tag}}}}}")
    monkeypatch.chdir(path.parent)
    with pytest.raises(FormatError, match="could not determine a constructor"):
        programs(path)
    assert not (path.parent / "made").exists()
