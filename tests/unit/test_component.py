"""What components declare, and what a contract does not allow."""

from __future__ import annotations

import ast
import importlib
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import roomgrad
from roomgrad import Component, Context, Message, MessageType, Room, RuntimeSettings, on
from roomgrad.component import as_messages
from roomgrad.errors import ContractError
from roomgrad.testing import call
from roomgrad_trebuchet.contract import FORWARD, GRADIENT, INPUT, MODEL, OUTPUT, TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.trainer.handlers import component as trainer

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "shared" / "roomgrad"


def nothing(message: Message, context: Context) -> None:
    """A handler that wants nothing."""


def test_a_handler_for_somebody_elses_stream_is_refused() -> None:
    """The contract names who consumes what."""
    with pytest.raises(ContractError, match="trainer handles DATA/FORWARD in model"):
        Component("trainer", TREBUCHET, RuntimeSettings, [on(MODEL, FORWARD)(nothing)])


def test_a_reply_to_a_stream_that_the_contract_lacks_is_refused() -> None:
    """When the component is declared, not when the first reply is sent."""
    handler = on(MODEL, FORWARD, replies=[(Room("moon"), FORWARD)])(nothing)
    with pytest.raises(ContractError, match="no DATA/FORWARD in room moon"):
        Component("simulator", TREBUCHET, RuntimeSettings, [handler])


def test_a_reply_that_was_not_declared_is_refused() -> None:
    """The error names what was, and what was not."""
    astray = Message.open(INPUT)
    with pytest.raises(ContractError) as caught:
        simulator.may_send(astray, simulator.handlers[0].replies)
    assert "simulator replied DATA/FORWARD to input" in str(caught.value)
    assert "DATA/FORWARD to output" in str(caught.value)


def test_what_is_sent_beside_the_replies_must_be_declared_too() -> None:
    """Permissions and the room graph are derived from what the handlers declare."""

    def astray(message: Message, context: Context) -> None:
        context.send(Message.open(INPUT, np.zeros((1, 2), "<f4")))

    handler = on(MODEL, FORWARD, replies=[(OUTPUT, FORWARD)])(astray)
    component = Component("simulator", TREBUCHET, RuntimeSettings, [handler])
    with pytest.raises(ContractError, match="simulator replied DATA/FORWARD to input"):
        call(component, Message.open(MODEL, np.zeros((1, 3), "<f4")))


def test_a_component_may_look_at_everything_in_everyone_mode() -> None:
    """No group, so the contract need not name it."""
    handlers = [on(room, FORWARD)(nothing) for room in (INPUT, MODEL, OUTPUT)]
    watcher = Component("watcher", TREBUCHET, RuntimeSettings, handlers, everyone=True)
    assert [str(stream.room) for stream in watcher.streams] == ["input", "model", "output"]


def test_a_handler_is_a_plain_function() -> None:
    """Calling it calls the function; what it returns is one message, several or none."""
    handler = on(INPUT, FORWARD)(nothing)
    assert handler(Message.open(INPUT), None) is None  # type: ignore[arg-type]
    message = Message.open(INPUT)
    assert as_messages(None) == []
    assert as_messages(message) == [message]
    assert as_messages(iter([message, message])) == [message, message]


def test_the_components_of_the_trebuchet_fill_their_contract() -> None:
    """Each stream is handled by its consumer, and every stream is somebody's reply."""
    components = {each.name: each for each in (trainer, controlmodel, simulator)}
    assert tuple(components) == TREBUCHET.components
    for stream in TREBUCHET.streams:
        for consumer in stream.consumers:
            assert stream in components[consumer].streams
    replies = {reply for each in components.values() for reply in each.reply_streams()}
    assert replies == {stream.key for stream in TREBUCHET.streams}
    assert (str(OUTPUT), GRADIENT.value) in trainer.reply_streams()


# what the SDK shows, and what imports what


def test_every_public_name_is_there() -> None:
    """`roomgrad.__all__` is sorted, complete, and each name can be imported."""
    assert sorted(roomgrad.__all__, key=str.casefold) == sorted(
        set(roomgrad.__all__), key=str.casefold
    )
    for name in roomgrad.__all__:
        assert getattr(roomgrad, name).__module__.startswith("roomgrad.")
    assert {"Component", "Context", "Message", "Room", "System", "main", "on"} <= set(
        roomgrad.__all__
    )
    assert MessageType is roomgrad.MessageType


def test_public_names_are_what_dir_and_help_show() -> None:
    """And what the first text names, without a module that the name `roomgrad` does not need."""
    shown = {name for name in dir(roomgrad) if not name.startswith("_")}
    assert shown == set(roomgrad.__all__)
    text = pydoc.render_doc(roomgrad, renderer=pydoc.plaintext)
    for name in roomgrad.__all__:
        assert f"`{name}`" in (roomgrad.__doc__ or "")
        assert re.search(rf"^    (class )?{name}\(", text, re.MULTILINE), name
    script = (
        "import sys, roomgrad; dir(roomgrad); print(sorted({'numpy', 'redis'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def imports(path: Path) -> set[str]:
    """The modules that a file imports when it is imported."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_services_never_import_each_other() -> None:
    """They share the SDK, and talk in rooms."""
    folders = [path.parent for path in (ROOT / "services").glob("*/__main__.py")]
    assert len(folders) >= 4
    for folder in folders:
        others = "|".join(each.name for each in folders if each != folder)
        for path in folder.rglob("*.py"):
            for name in imports(path):
                assert not re.match(rf"(services|roomgrad_\w+)\.({others})\b", name), (
                    f"{path}: {name}"
                )


@pytest.mark.parametrize("name", ["simulator/physics", "simulator/head", "controlmodel/model"])
def test_mathematics_imports_neither_redis_nor_the_sdk(name: str) -> None:
    """It is worth reading, and testing, by itself."""
    known = imports(ROOT / "services" / f"{name}.py")
    assert not {each.split(".")[0] for each in known} & {"redis", "roomgrad", "hiredis"}


def test_the_batches_are_mathematics_too() -> None:
    """Pure functions of numpy arrays."""
    known = imports(ROOT / "services" / "trainer" / "batches.py")
    assert {each.split(".")[0] for each in known} == {"__future__", "numpy"}


def test_few_files_of_the_sdk_need_torch() -> None:
    """A component without a network starts without it."""
    needs = {str(path.relative_to(SDK)) for path in SDK.rglob("*.py") if any(
        name.split(".")[0] == "torch" for name in imports(path)
    )}  # fmt: skip
    others = {each for each in needs if not each.startswith("learning/")}
    assert others == {"torch.py", "serving/torch_function.py"}
    for module in ("roomgrad.runtime.replica", "roomgrad_trebuchet.trainer.handlers"):
        importlib.import_module(module)
    assert "roomgrad_trebuchet.trainer.handlers" in sys.modules
