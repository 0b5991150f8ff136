"""A server with a password: it is printed nowhere, and no process has it in its arguments."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from roomgrad.errors import SettingsError
from roomgrad.flags import load
from roomgrad.local import supervisor
from roomgrad.redis.server import connect
from roomgrad.settings import RuntimeSettings
from roomgrad.testing import throwaway_server
from tests.roomgrad_command import roomgrad

pytestmark = pytest.mark.timeout(180)

PASSWORD = "Qj@Zx/9"
PARTS = ("Qj@", "Zx/", quote(PASSWORD, safe=""))


def command_lines() -> str:
    """The arguments of all processes of this machine that can be read."""
    if not sys.platform.startswith("linux"):
        return ""
    texts = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(each.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


def test_a_password_is_printed_nowhere_and_is_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the address as an option, by flag and by variable: output, errors, logs, state."""
    monkeypatch.setenv("ROOMGRAD_STATE", str(tmp_path))
    with throwaway_server() as server:
        with closing(connect(server.url)) as client:
            client.config_set("requirepass", PASSWORD)
        secret = quote(PASSWORD, safe="")
        url = f"redis://127.0.0.1:{server.port}/0?password={secret}&protocol=2"
        plain = {"REDIS_URL": url, "ROOMGRAD_STATE": str(tmp_path)}
        by_flag = {"REDIS_URL": None, "ROOMGRAD_REDIS_URL": None, "ROOMGRAD_STATE": str(tmp_path)}
        said = ""
        for words, environ in [
            (["up", "trebuchet", "--steps", "3"], plain),
            (["up", "trebuchet", "--steps", "3"], plain),
            (["ps"], plain),
            (["doctor"], plain),
            (["doctor", "--json"], plain),
            (["shoot", "--wind", "3", "--target", "60"], plain),
            (["ps", "--redis", f"redis://:{PASSWORD}@127.0.0.1:{server.port}"], by_flag),
            (["ps", "--redis", f"redis://:x{secret}@127.0.0.1:{server.port}"], by_flag),
        ]:
            done = roomgrad(*words, environ=environ)
            said += done.stdout + done.stderr
        arguments = command_lines()
        state = supervisor.last_error("trebuchet")
        logs = {each: each.read_text(errors="replace") for each in tmp_path.glob("trebuchet/*")}
        roomgrad("down", "trebuchet", environ=plain)
        with closing(connect(url)) as client:
            client.config_set("requirepass", "")
    assert "trebuchet is up" in said
    assert "refuses the password" in said
    assert "is not a server address" in said
    assert state == ""
    assert json.loads(logs[tmp_path / "trebuchet" / "launcher.json"])["url"]
    for part in PARTS:
        assert part not in said
        assert part not in arguments
        assert not [path for path, text in logs.items() if part in text]


def test_an_address_in_the_wrong_place_is_not_repeated() -> None:
    """As a word without a flag, or behind a flag that is mistyped."""
    for word in (f"redis://:{PASSWORD}@one", f"--redis_url=redis://:{PASSWORD}@one"):
        with pytest.raises(SettingsError) as caught:
            load(RuntimeSettings, [word], {})
        assert not [part for part in PARTS if part in str(caught.value)]
