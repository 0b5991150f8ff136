"""No input is unpickled, evaluated, or formatted into a script."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    file for folder in ("shared", "services") for file in (ROOT / folder).rglob("*.py")
)

# Modules that make objects or code from bytes.
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
MODULES |= {"code", "codeop", "runpy", "imp", "pty"}

# Calls by their last two names, and the argument that makes one safe.
CALLS = {
    "eval": None,
    "exec": None,
    "compile": None,
    "__import__": None,
    "os.system": None,
    "os.popen": None,
    "torch.load": None,  # also with weights_only: weights are safetensors
    "np.load": "allow_pickle=False",
    "numpy.load": "allow_pickle=False",
    "yaml.load": None,
    "yaml.load_all": None,
    "yaml.unsafe_load": None,
    "yaml.full_load": None,
    "import_module": None,
    "importlib.import_module": None,
    "subprocess.getoutput": None,
    "subprocess.getstatusoutput": None,
    "create_subprocess_shell": None,
    "asyncio.create_subprocess_shell": None,
}
SCRIPTS = {"eval", "eval_ro", "register_script", "script_load"}  # of a Redis client

# What is allowed in which file, and why.
EXCEPTIONS = {
    # the names of roomgrad's own modules, from a table in the same file
    ("shared/roomgrad/__init__.py", "import_module"),
    ("shared/roomgrad/component.py", "import_module"),  # which starts the runtime
    # the module of a command, by a table of roomgrad's own
    ("shared/roomgrad/cli/groups.py", "import_module"),
    # a loader that derives from yaml.SafeLoader
    ("shared/roomgrad_swergio/swarm/file.py", "yaml.load"),
    # the components of installed systems, whose modules their plug-ins name
    ("shared/roomgrad/cli/acl.py", "import_module"),
    # the module of a component, which the plug-in of an installed system names
    ("shared/roomgrad/runtime/__main__.py", "import runpy"),
    # `--rater module:function`, which the operator sets
    ("services/rater/handlers.py", "import_module"),
}


def name_of(function: ast.expr) -> str:
    """Return `os.system` for `os.system(...)`: at most two names."""
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        owner = function.value
        last = owner.id if isinstance(owner, ast.Name) else "?"
        return f"{last}.{function.attr}"
    return ""


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [each.name.partition(".")[0] for each in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.partition(".")[0]]
    return []


def keywords(call: ast.Call) -> set[str]:
    return {f"{each.arg}={ast.unparse(each.value)}" for each in call.keywords}


def is_composed(node: ast.expr) -> bool:
    """Whether a text is composed by an f-string, %, +, format, join or replace."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(each, ast.FormattedValue) for each in node.values)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Mod | ast.Add)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("format", "join", "replace", "format_map")
    return False


def wrong(tree: ast.AST) -> Iterator[str]:
    """Yield what must not be in a module."""
    for node in ast.walk(tree):
        for name in imported(node):
            if name in MODULES:
                yield f"import {name}"
        if isinstance(node, ast.Call):
            yield from wrong_call(node)
        if isinstance(node, ast.List | ast.Tuple):
            parts = [each.value for each in node.elts if isinstance(each, ast.Constant)]
            if parts[:1] in ([b"EVAL"], ["EVAL"]) and is_composed(node.elts[1]):
                yield "EVAL of a composed text"


def wrong_call(call: ast.Call) -> Iterator[str]:
    name = name_of(call.func)
    given = keywords(call)
    if name in CALLS and CALLS[name] not in given:
        yield name
    if "shell=True" in given or "allow_pickle=True" in given:
        yield f"{name} with a shell or with pickles"
    if name.rpartition(".")[2] in SCRIPTS and call.args and is_composed(call.args[0]):
        yield f"{name} of a composed text"


def in_file(file: Path) -> set[tuple[str, str]]:
    path = file.relative_to(ROOT).as_posix()
    return {(path, found) for found in wrong(ast.parse(file.read_text(), path))}


def test_no_module_makes_code_from_bytes() -> None:
    """Except for EXCEPTIONS, all of which are needed."""
    assert len(SOURCES) > 200
    found = {each for file in SOURCES for each in in_file(file)}
    assert found == EXCEPTIONS


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import os; os.system('ls')",
        "eval(body['DATA'])",
        "exec(text)",
        "compile(text, 'name', 'exec')",
        "__import__(name)",
        "importlib.import_module(name)",
        "torch.load(file)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "subprocess.run(line, shell=True)",
        "client.eval(f'return {name}', 0)",
        "client.eval('return ' + name, 0)",
        "client.register_script(SCRIPT % name)",
        "self._client.eval(TEXT.format(name), 0)",
        "wire.call([b'EVAL', b'return %b' % name, b'0'])",
    ],
)
def test_violations_are_found(text: str) -> None:
    assert list(wrong(ast.parse(text)))


def test_scripts_are_files_and_load_no_code() -> None:
    """Variable parts reach a script by KEYS and ARGV."""
    for file in (ROOT / "shared/roomgrad/lua").glob("*.lua"):
        text = re.sub(r"--[^\n]*", "", file.read_text())
        assert not re.search(r"\b(loadstring|load|dofile|require)\s*\(", text), file


def test_pages_make_no_code_from_texts() -> None:
    """Scripts of the pages insert texts as texts."""
    folders = [*ROOT.glob("shared/**/static"), *ROOT.glob("services/*/static")]
    scripts = [file for folder in folders for file in folder.glob("*.js")]
    assert len(scripts) > 5
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.srcdoc"
    for file in scripts:
        assert not re.search(sinks, file.read_text()), file
        assert not re.search(r"set(Timeout|Interval)\(\s*[\"'`]", file.read_text()), file
