"""Write `docs/api.md`, the reference of the public names, from signatures and docstrings.

python -m tests.docs.api_page
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from inspect import cleandoc
from pathlib import Path
from textwrap import indent

import roomgrad
from tests.docs.pages import ROOT

# Other modules with names for users: those that are listed, or all public ones.
MODULES: dict[str, tuple[str, ...]] = {
    "roomgrad.memory": ("Memory", "Table", "Counters"),
    "roomgrad.models": ("Model", "Trainable", "ModelState"),
    "roomgrad.backprop": (),
    "roomgrad.weight_messages": (),
    "roomgrad.learning": (),
    "roomgrad.torch": ("Through",),
    "roomgrad.jax": ("through",),
    "roomgrad.serving.serve": ("Options",),
    "roomgrad.gym.components": ("serve", "streams", "handlers"),
    "roomgrad.gym.env": ("Env",),
    "roomgrad.settings": (),
    "roomgrad.flags": ("load",),
    "roomgrad.systems": (),
    "roomgrad.testing": (),
}

HEAD = """\
# API

<!-- Written by `python -m tests.docs.api_page`; change the docstrings. -->

The public names of `roomgrad` and of its modules for users. [Concepts](concepts.md) explains how
they work together.
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.ClassDef | Function


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, "## roomgrad\n"]
    parts += [_entry(name, _home(name)) for name in sorted(roomgrad.__all__, key=str.lower)]
    parts += ["## roomgrad.errors\n", _docstring(_tree("roomgrad.errors")) + "\n"]
    for module, names in MODULES.items():
        found = names or tuple(_public(module))
        parts += [f"## {module}\n", _docstring(_tree(module)) + "\n"]
        parts += [_entry(name, module) for name in found]
    return "\n".join(parts)


def _home(name: str) -> str:
    """Return the module of a name that the package exports."""
    return f"roomgrad.{roomgrad._MODULES[name]}"


@cache
def _tree(module: str) -> ast.Module:
    """Return the syntax tree of a module, which is not imported: torch may be missing."""
    path = ROOT / "shared" / Path(*module.split("."))
    source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    return ast.parse(source.read_text(encoding="utf-8"))


def _public(module: str) -> Iterator[str]:
    for node in _tree(module).body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node.name


def _entry(name: str, module: str) -> str:
    """Return the section of a class or a function."""
    node = next(
        each for each in _tree(module).body if isinstance(each, Definition) and each.name == name
    )
    if not isinstance(node, ast.ClassDef):
        return f"### {name}\n\n{_code(_signature(node))}\n{_docstring(node)}\n"
    members = [_member(each) for each in _methods(node)]
    # The settings page lists what every component has.
    is_listed = _is_data(node) and name != "RuntimeSettings"
    fields = _code("\n".join(_fields(node))) if is_listed else ""
    parts = [f"### {name}\n", _docstring(node) + "\n", _constructor(node), fields, *members]
    return "\n".join(part for part in parts if part)


def _constructor(node: ast.ClassDef) -> str:
    made = [each for each in node.body if _named(each, "__init__")]
    return _code(f"{node.name}{_signature(made[0]).removeprefix('__init__')}") if made else ""


def _is_data(node: ast.ClassDef) -> bool:
    """Whether the fields of a class are its interface: a dataclass, a named tuple, an enum."""
    bases = " ".join(ast.unparse(each) for each in node.bases)
    return bool(node.decorator_list) or "Tuple" in bases or "Enum" in bases


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """Yield each public field as it is declared, with the sentence under it."""
    following = [*node.body[1:], None]
    for each, after in zip(node.body, following, strict=True):
        if isinstance(each, ast.AnnAssign | ast.Assign) and _is_public(ast.unparse(each)):
            yield ast.unparse(each)
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                yield indent(cleandoc(str(after.value.value)), "# ")


def _is_public(field: str) -> bool:
    return not field.startswith("_") and "init=False" not in field


def _methods(node: ast.ClassDef) -> Iterator[Function]:
    for each in node.body:
        if isinstance(each, Function) and not each.name.startswith("_"):
            yield each


def _member(node: Function) -> str:
    """Return the signature of a method or a property, and its docstring as an indented text."""
    decorators = {ast.unparse(each) for each in node.decorator_list}
    is_property = bool(decorators & {"property", "cached_property"})
    signature = node.name if is_property else _signature(node)
    result = f" -> {ast.unparse(node.returns)}" if is_property and node.returns else ""
    text = _docstring(node)
    return f"- `{signature}{result}`" + (f"\n\n{indent(text, '  ')}\n" if text else "\n")


def _signature(node: Function) -> str:
    arguments = node.args
    parts = {
        kind: [each for each in getattr(arguments, kind) if each.arg not in ("self", "cls")]
        for kind in ("posonlyargs", "args")
    }
    shown = ast.arguments(**{**vars(arguments), **parts})
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    name = f"await {node.name}" if isinstance(node, ast.AsyncFunctionDef) else node.name
    return f"{name}({ast.unparse(shown)}){result}"


def _named(node: ast.stmt, name: str) -> bool:
    return isinstance(node, Function) and node.name == name


def _docstring(node: ast.Module | Definition) -> str:
    return (ast.get_docstring(node) or "").rstrip()


def _code(text: str) -> str:
    return f"```text\n{text}\n```\n"


if __name__ == "__main__":
    (ROOT / "docs" / "api.md").write_text(page(), encoding="utf-8")
