"""Who may come to the page, where it listens, and how it ends."""

from __future__ import annotations

import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from roomgrad.errors import SettingsError
from roomgrad.web.serving import bound
from roomgrad_melody.commands.page import address
from roomgrad_melody.labelling.server import PORT, LabellingServer
from roomgrad_melody.labelling.settings import LabellingSettings
from tests.pages.http_client import HttpClient
from tests.pages.melody.labelling_run import LabellingRun, free_port
from tests.run_contents import holders
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]

# who may not


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "192.0.2.7", "", "[::"]
)
def test_other_names_are_refused(shared_page_client: HttpClient, host: str) -> None:
    """A page of somebody else may lead its own name here (DNS rebinding)."""
    status, _, body = shared_page_client.ask("GET", "/api/state", headers={"Host": host})
    assert status == 403
    assert b"not known by this name" in body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8321"])
def test_own_names_are_known(shared_page_client: HttpClient, host: str) -> None:
    """With any port, as a tunnel may have another one."""
    assert shared_page_client.ask("GET", "/", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1:1"])
def test_posts_of_other_pages_are_refused(
    labelling: LabellingRun, page_client: HttpClient, origin: str
) -> None:
    status, answer = page_client.post("/api/breeding", {"command": "START"}, Origin=origin)
    assert status == 403
    assert "only the page itself" in answer["reason"]
    assert labelling.redis.xlen(labelling.names.stream("control", "COMMAND/CUSTOM")) == 0


def test_a_form_of_another_page_has_the_wrong_type(shared_page_client: HttpClient) -> None:
    status, _ = shared_page_client.post(
        "/api/breeding", {"command": "START"}, **{"Content-Type": "text/plain"}
    )
    assert status == 422


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/state", "/api/nothing", "/healthz"])
def test_every_answer_carries_the_headers(shared_page_client: HttpClient, path: str) -> None:
    """No script or style but the page's own, nothing from elsewhere, in no frame."""
    _, headers, _ = shared_page_client.ask("GET", path)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


def test_the_page_has_no_inline_script_or_style_and_no_foreign_address() -> None:
    folders = [*ROOT.glob("shared/**/static"), *ROOT.glob("services/*/static")]
    files = [file for folder in folders for file in folder.iterdir()]
    for page in [file.read_text() for file in files if file.suffix == ".html"]:
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page)
    texts = {file.name: file.read_text() for file in files}
    foreign = {
        name: found
        for name, text in texts.items()
        if (found := set(re.findall(r"https?://[\w./]+", text)) - {"http://www.w3.org/2000/svg"})
    }
    assert foreign == {}


@pytest.fixture
def guarded(labelling: LabellingRun, tmp_path: Path) -> HttpClient:
    secret = tmp_path / "token"
    secret.write_text("s3cret-s3cret-s3cret\n")
    return HttpClient(labelling.page(token_file=str(secret)))


def test_a_token_lets_in_once_and_for_all(guarded: HttpClient) -> None:
    """It leaves the address, and stays in a cookie that no script can read."""
    status, headers, _ = guarded.ask("GET", "/?token=s3cret-s3cret-s3cret")
    assert (status, headers["location"]) == (303, "./")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    own = {"Cookie": cookie.partition(";")[0]}
    assert guarded.ask("GET", "/", headers=own)[0] == 200
    assert guarded.ask("GET", "/api/state", headers=own)[0] == 200
    assert guarded.post("/api/questions", {"rater": "A", "count": 1}, **own)[0] == 200


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=wrong", "/?token=%C3%A9", "/api/state"])
def test_without_the_token_nobody_comes_in(guarded: HttpClient, path: str) -> None:
    name = guarded.ask("GET", "/?token=s3cret-s3cret-s3cret")[1]["set-cookie"].partition("=")[0]
    for headers in ({}, {"Cookie": f"{name}=wrong"}, {"Cookie": f"{name}="}):
        status, _, body = guarded.ask("GET", path, headers=headers)
        assert status == 401
        assert b"with its token" in body
    assert guarded.post("/api/breeding", {"command": "START"})[0] == 401
    assert guarded.ask("GET", "/healthz")[0] == 200


def test_elsewhere_than_on_this_machine_a_token_is_made(labelling: LabellingRun) -> None:
    """And shown in the address in the log; Redis has the address without it."""
    site = labelling.page(host="0.0.0.0")
    assert len(site.listener.token) >= 32
    assert site.url.endswith(f"/?token={site.listener.token}")
    page_client = HttpClient(site)
    assert page_client.ask("GET", "/")[0] == 401
    assert (
        page_client.ask("GET", f"/?token={site.listener.token}", headers={"Host": "192.0.2.7"})[0]
        == 303
    )
    assert (
        page_client.ask("GET", f"/?token={site.listener.token}", headers={"Host": "evil.example"})[
            0
        ]
        == 403
    )
    stored = until(lambda: labelling.get("labelling", "now"))
    assert (stored["url"], stored["asks_for_token"]) == (site.url.partition("?")[0], True)
    assert holders(labelling.redis, labelling.names, site.listener.token) == []
    assert holders(labelling.redis, labelling.names, site.listener.address) != []


@pytest.mark.parametrize("where", ["file", "log"])
def test_commands_find_the_token_outside_of_redis(
    labelling: LabellingRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    """In the file of the settings; otherwise they name the log of the page."""
    monkeypatch.setenv("ROOMGRAD_STATE", str(tmp_path))
    given = {}
    if where == "file":
        file = tmp_path / "token"
        file.write_text("s3cret-s3cret-s3cret\n")
        given["token_file"] = str(file)
        monkeypatch.setenv("ROOMGRAD_TOKEN_FILE", str(file))
    site = labelling.page(host="0.0.0.0", **given)
    shown = until(lambda: address(labelling.redis, labelling.names, 0.0))
    log = tmp_path / labelling.names.run / "labelling-0.log"
    ends = {"file": "?token=s3cret-s3cret-s3cret", "log": f" with the token in {log}"}
    assert shown == site.listener.address + ends[where]
    assert holders(labelling.redis, labelling.names, site.listener.token) == []


def test_a_named_host_is_known(labelling: LabellingRun) -> None:
    page_client = HttpClient(labelling.page(hosts="studio.example, other.example"))
    assert page_client.ask("GET", "/", headers={"Host": "studio.example"})[0] == 200
    assert page_client.ask("GET", "/", headers={"Host": "evil.example"})[0] == 403


# where it listens, and how it ends


def test_the_next_port_is_taken_unless_one_was_named() -> None:
    with bound(LabellingSettings(), PORT) as first, bound(LabellingSettings(), PORT) as second:
        one, other = first.getsockname()[1], second.getsockname()[1]
        assert PORT <= one < other < PORT + 50
        with pytest.raises(SettingsError, match=f"port {one}: .*name another one by --port"):
            bound(LabellingSettings(port=one), PORT)


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("short")
    settings = LabellingSettings(token_file=str(secret), port=free_port())
    with pytest.raises(SettingsError, match="has 5 characters, needed are 16"):
        LabellingServer(settings, "redis://127.0.0.1:1/0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_time_with_open_connections(
    server_url: str, number: signal.Signals
) -> None:
    """By itself and soon, with exit code 0, though a page is connected."""
    port = free_port()
    run = f"test-{secrets.token_hex(6)}"
    command = [sys.executable, "-m", "roomgrad_melody.labelling", f"--run={run}", f"--port={port}"]
    command += [f"--redis-url={server_url}", "--log-format=json"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        link = until(lambda: connected(port))
        with link:
            link.sendall(f"GET /api/changes HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            assert link.recv(65536).startswith(b"HTTP/1.1 200 ")
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(60) == 0
            assert time.monotonic() - began < 6  # on a busy machine; 2 on others
        assert process.stderr is not None
        log = process.stderr.read().decode()
    assert f"http://127.0.0.1:{port}/" in log
    assert "Traceback" not in log


def connected(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=5)
    except OSError:
        return None
