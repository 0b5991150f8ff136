"""`roomgrad new`: a system of your own, or one more component of a system.

The files come from `templates/`, where `{{name}}` and the like take the place of names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NamedTuple

from typer import Argument, Option

from roomgrad.cli import output
from roomgrad.errors import SettingsError

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")

# Templates of systems, and what the files that all have in common say of them.
NUMPY = {
    "about": "A thermostat learns to heat a house, through rooms of roomgrad.",
    "first": "thermostat",
    "second": "house",
    "room": "warmth",
    "roomgrad": "roomgrad",
}
TORCH = {
    "about": "A classifier learns the topics of texts, through rooms of roomgrad.",
    "first": "trainer",
    "second": "classifier",
    "room": "topics",
    "roomgrad": "roomgrad[torch]",
}


def new(
    name: Annotated[
        str, Argument(help="Name of the system, or of the component with --system.", metavar="NAME")
    ],
    system: Annotated[
        str,
        Option(help="Make a component of this system, in its folder.", metavar="SYSTEM"),
    ] = "",
    torch: Annotated[
        bool, Option("--torch", help="Make a system that learns with a torch network.")
    ] = False,
) -> None:
    if system and torch:
        raise SettingsError("--torch makes a system, --system adds a component: one at a time")
    if system:
        make_component(name, find_project(system))
    else:
        make_system(name, torch=torch)


def make_system(name: str, *, torch: bool = False) -> None:
    """Write the folder of a system and print what to do next. Raises SettingsError."""
    if not NAME.fullmatch(name) or name == "tests" or _is_taken(name):
        raise SettingsError(
            f"a system cannot be called {name!r}: expected small letters, digits and _, at most "
            f"32, and not the name of an installed module"
        )
    folder = Path(name)
    if folder.exists():
        raise SettingsError(
            f"{folder.resolve()} exists: choose another name, or go to another folder"
        )
    made = system_files(name, torch=torch)
    _write(folder, made)
    output.say(
        f"{name}/ contains {', '.join(made)}. Next:",
        f"  cd {name} && pip install -e . && roomgrad up {name} && roomgrad top --run {name}",
    )


def _is_taken(name: str) -> bool:
    """Return whether `import name` would find another module."""
    if name in sys.stdlib_module_names:
        return True
    found = find_spec(name)
    return found is not None and found.origin is not None  # a folder alone has no origin


class Project(NamedTuple):
    """Where the components of a system are."""

    package: Path
    """The folder with `contract.py` and `plugin.py`."""

    components: Path
    """The folder with a folder per component."""

    @property
    def is_checkout(self) -> bool:
        """Whether this is a checkout of roomgrad, with a folder per container in `services/`."""
        return self.components != self.package


def find_project(system: str) -> Project:
    """Return the folders of a system, found from the current one. Raises SettingsError."""
    own = Path(system)
    if (own / "plugin.py").exists():
        return Project(own, own)
    ours = Path("shared", f"roomgrad_{system}")
    if (ours / "plugin.py").exists():
        return Project(ours, Path("services"))
    raise SettingsError(
        f"there is no system {system!r} in {Path.cwd()}: go to the folder that `roomgrad new "
        f"{system}` made, or to a checkout of roomgrad"
    )


def make_component(name: str, project: Project) -> None:
    """Write the folder of a component and print which lines to add. Raises SettingsError."""
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"a component cannot be called {name!r}: expected small letters, digits and _, at "
            f"most 32"
        )
    folder = project.components / name
    if folder.exists():
        raise SettingsError(f"{folder.resolve()} exists: choose another name")
    made = contents(
        "component",
        {
            "component": name,
            "COMPONENT": name.upper(),
            "Component": "".join(word.capitalize() for word in name.split("_")),
            "package": project.package.name,
            "SYSTEM": _constant_of(project.package / "contract.py"),
            "gap": "" if project.is_checkout else "\n",  # between packages of others and our own
        },
    )
    if project.is_checkout:
        del made[f"{name}/__init__.py"]  # a container's folder is no package of its own
    _write(project.components, made)
    output.say(f"{folder}/ contains {', '.join(each.partition('/')[2] for each in made)}. Next:")
    output.say(*_lines_to_add(name, project))


def _constant_of(contract: Path) -> str:
    """Return the name of the System in a contract. Raises SettingsError."""
    found = re.search(r"^(\w+) = System\(", contract.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SettingsError(f"{contract} has no line `NAME = System(...`: write the contract first")
    return found[1]


def _lines_to_add(name: str, project: Project) -> Iterator[str]:
    constant = name.upper()
    yield f"  {project.package / 'contract.py'}"
    yield f'    {constant} = "{name}"'
    yield f'    {constant}_ROOM = Room("{name}")'
    yield f"    components=(..., {constant}),"
    numbers = '{"DATA": Array("<f4", ("batch",))}'
    yield f"    streams=(..., Stream({constant}_ROOM, FORWARD, {numbers}, ({constant},))),"
    yield f"  {project.package / 'plugin.py'}"
    yield f'    PROGRAMS = (..., "{name}")'
    if project.is_checkout:
        yield f"  {project.package / 'pyproject.toml'}"
        yield f'    "../../services/{name}" = "{name}"'
        yield f"  docker-compose.yml: a service {name} like its neighbors"
        yield "  deploy/redis/users.acl: what `roomgrad acl` prints"
        return
    yield "  docker-compose.yml"
    yield f"    {name}:"
    yield "      <<: *component"
    yield f"      command: [{name}]"
    yield "      healthcheck: *healthcheck"


def system_files(name: str, *, torch: bool = False) -> dict[str, str]:
    """Return the files of a new system by their paths."""
    names = {"name": name, **(TORCH if torch else NUMPY)}
    own = contents("torch" if torch else "numpy", names)
    return dict(sorted((contents("project", names) | own).items()))


def contents(template: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a template by their paths, with names filled in."""

    def filled(text: str) -> str:
        for key, value in names.items():
            text = text.replace("{{" + key + "}}", value)
        return text

    root = files("roomgrad").joinpath("cli/templates", template)
    return {
        filled(path): filled(file.read_text(encoding="utf-8")) for path, file in _files(root, "")
    }


def _files(folder: Traversable, path: str) -> Iterator[tuple[str, Traversable]]:
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        if each.is_dir():
            yield from _files(each, f"{path}{each.name}/")
        else:
            yield path + each.name.removesuffix(".txt"), each


def _write(folder: Path, made: Mapping[str, str]) -> None:
    try:
        for path, text in made.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{folder.resolve()} cannot be made ({error.strerror}): go to another folder"
        ) from error
