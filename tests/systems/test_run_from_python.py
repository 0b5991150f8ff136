"""`roomgrad.up`: a run that a program starts, watches, asks and stops."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest

import roomgrad
from roomgrad.errors import ContractError, RoomgradError, SchemaError, SettingsError
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.local.notebook import Replicas, to_html, to_svg
from roomgrad.redis.heartbeats import Heartbeat
from roomgrad.redis.server import connect
from roomgrad.state import server_directory
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, time
import roomgrad

run = roomgrad.up("trebuchet", run="killed", steps=10**6)
print(run.step(1), flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without a server and without a run."""
    monkeypatch.setenv("ROOMGRAD_STATE", str(tmp_path))
    monkeypatch.delenv("REDIS_URL", raising=False)
    return tmp_path


def processes(state: Path) -> list[psutil.Process]:
    """Return the programs of a state folder, but the server, which hides its environment."""
    found = []
    for each in psutil.process_iter():
        try:
            if each.status() != psutil.STATUS_ZOMBIE and (
                each.environ().get("ROOMGRAD_STATE") == str(state) and each.pid != os.getpid()
            ):
                found.append(each)
        except psutil.Error:
            continue
    return found


def test_a_run_from_its_start_to_an_exception(state: Path) -> None:
    """It counts its steps, says its loss, answers, shows itself, and ends with the block."""
    try:
        with roomgrad.up("trebuchet", replicas={"simulator": 2}, run="mine", steps=400) as run:
            done = run.step(20)
            assert done >= 20
            assert run.step() > done
            loss = run.loss()
            assert loss.dtype == np.float64
            assert len(loss) >= 20
            assert np.isfinite(loss).all()

            answer = run.ask("input", [[3, 60], [1, 40]])
            assert answer.array.shape == answer.arrays()["ANGLE"].shape == (2,)
            assert run.ask("input", np.float32([[3, 60]]), answer="model").array.shape == (1, 3)
            with pytest.raises(SchemaError, match="input takes <f4"):
                run.ask("input", [["a", "b"]])
            with pytest.raises(ContractError, match="inptu"):
                run.ask("inptu", [[3, 60]])

            assert re.fullmatch(
                r"<roomgrad run mine: up, \d+ of 400 batches, loss [\d,.]+>", repr(run)
            )
            page = ElementTree.fromstring(run._repr_html_())
            cells = [each.text for each in page.iter("td")]
            assert cells[:6] == ["trainer", "1 of 1", "alive", "controlmodel", "1 of 1", "alive"]
            assert cells[6:] == ["simulator", "2 of 2", "alive"]
            assert page.find("{http://www.w3.org/2000/svg}svg") is not None

            with pytest.raises(RoomgradError, match="run mine is already served by process"):
                roomgrad.up("trebuchet", run="mine")
            assert run.step(10**6) == 400
            assert len(run.loss()) == 400
            with pytest.raises(RoomgradError, match="run mine is done with 400 steps"):
                run.step()
            assert len(processes(state)) == 5
            assert EmbeddedServer.running(server_directory()) is not None
            raise KeyError("of the user")
    except KeyError:
        pass
    assert processes(state) == []
    assert EmbeddedServer.running(server_directory()) is None
    assert repr(run) == "<roomgrad run mine: stopped>"
    assert "stopped" in run._repr_html_()
    with pytest.raises(RoomgradError, match="run mine is not up: it was stopped"):
        run.step()
    run.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, processes outlive a kill -9")
def test_it_ends_with_a_process_that_is_killed(state: Path) -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    with contextlib.closing(program.stdout or sys.stdin) as lines:
        try:
            assert int(lines.readline()) >= 1
            assert len(processes(state)) == 5  # with the program
        finally:
            program.kill()
            program.wait()
    try:
        until(lambda: not processes(state) and EmbeddedServer.running(server_directory()) is None)
    except AssertionError as error:
        error.add_note(what_is_left(state))
        raise


def what_is_left(state: Path) -> str:
    """Return the processes of a run that did not end, the server's clients, and what each says."""
    server = EmbeddedServer.running(server_directory())
    with contextlib.closing(connect(server.url)) if server else contextlib.nullcontext() as client:
        clients = client.client_list() if client else None
    said = {path.name: path.read_text(errors="replace")[-2000:] for path in state.rglob("*.log")}
    return f"{processes(state)}\n{clients}\n{said}"


def test_a_component_that_cannot_start_says_why(state: Path) -> None:
    with pytest.raises(SettingsError, match=r"trainer: --train-steps .* is '-1', allowed is"):
        roomgrad.up("trebuchet", steps=-1)
    assert processes(state) == []


def test_what_does_not_exist_is_named() -> None:
    with pytest.raises(SettingsError, match=r"there is no system 'trebuche': did you mean trebuch"):
        roomgrad.up("trebuche")
    with pytest.raises(SettingsError, match=r"^replicas .*component 'simulatr', did you mean sim"):
        roomgrad.up("trebuchet", replicas={"simulatr": 2})
    with pytest.raises(SettingsError, match=r"^replicas simulator=-1: allowed is a whole number"):
        roomgrad.up("trebuchet", replicas={"simulator": -1})
    with pytest.raises(SettingsError, match=r"no option 'stepz': did you mean steps\?"):
        roomgrad.up("trebuchet", stepz=3)


def test_the_curve_of_a_loss() -> None:
    """With a logarithmic axis if it can have one; without what is no number."""
    assert to_svg([]) == to_svg([[0, 1.0], [1, float("nan")]]) == ""
    drawing = ElementTree.fromstring(to_svg([[0, 100.0], [1, 10.0], [2, float("inf")], [3, 1.0]]))
    line = drawing[0].attrib["points"]
    assert line == "60.0,12.0 196.7,71.0 470.0,130.0"
    assert drawing.attrib["aria-label"] == "loss, logarithmic"
    assert "logarithmic" not in to_svg([[0, 1.0], [1, 0.0]])
    assert "60.0,71.0 470.0,71.0" in to_svg([[0, 1.0], [1, 1.0]])


def test_a_component_in_trouble_is_shown_with_its_reason() -> None:
    beat = Heartbeat("world", "r", "host", 1, 0.0, None, error="ValueError: a < b")
    found = Replicas.of({"world": 2, "other": 1, "mine": 0}, [beat])
    page = to_html("<run>", "up", found, [])
    cells = [each.text for each in ElementTree.fromstring(page).iter("td")]
    assert cells[:3] == ["world", "1 of 2", "ValueError: a < b"]
    assert cells[3:] == ["other", "0 of 1", "away", "mine", "0 of 0", "replaced"]
