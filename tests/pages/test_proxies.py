"""Pages behind nginx and Caddy: as `deploy/proxy` configures them, plainly, and below a path."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from roomgrad.errors import SettingsError
from roomgrad.flags import load
from roomgrad.web import guard
from roomgrad.web.settings import WebSettings
from tests.pages.conftest import Open
from tests.pages.http_client import HttpClient
from tests.pages.melody.assertions import saved, shows
from tests.pages.melody.labelling_run import MELODIES, LabellingRun, free_port
from tests.pages.test_dashboard import AWAY, serving
from tests.pages.test_guard import connected
from tests.waiting import until

ROOT = Path(__file__).parents[2]
TOKEN = "s3cret-s3cret-s3cret"
NAMED = {"hosts": "localhost", "proxies": "127.0.0.1"}
PLAIN = """server {
  listen 80;
  location /melody/ { proxy_pass http://127.0.0.1:8321/; HEADERS }
}
"""
NGINX = """pid nginx.pid; error_log stderr; daemon off; events {}
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxied;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
SERVER
}
"""


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    (tmp_path / "token").write_text(TOKEN)
    return str(tmp_path / "token")


@contextlib.contextmanager
def proxy(program: str, text: str, folder: Path) -> Iterator[int]:
    """Run a proxy with a configuration; yield its port."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install nginx-light caddy")
    port, file = free_port(), folder / "configuration"
    if program == "nginx":
        listen = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
        file.write_text(NGINX.replace("SERVER", listen.replace("rooms.example.org", "localhost")))
        command = ["nginx", "-p", str(folder), "-c", str(file)]
    else:
        site = text.replace("rooms.example.org {", f"http://localhost:{port} {{")
        file.write_text(f"{{\n\tadmin off\n}}\n{site}")
        command = ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: connected(port)).close()
            yield port
        finally:
            process.terminate()


@pytest.mark.browser
@pytest.mark.parametrize(("program", "file"), [("nginx", "nginx.conf"), ("caddy", "Caddyfile")])
def test_the_configurations_serve_both_pages(
    labelling: LabellingRun, visit: Open, tmp_path: Path, token_file: str, program: str, file: str
) -> None:
    """A rating is saved, and the dashboard below a path is live."""
    labelling.learn()
    labelling.ask(*MELODIES[:2])
    site = labelling.page(token_file=token_file, **NAMED)
    with serving(labelling.url, token_file=token_file, **NAMED) as dashboard:
        ports = {8321: HttpClient(site).port, 8322: HttpClient(dashboard).port}
        text = (ROOT / "deploy" / "proxy" / file).read_text()
        for written, port in ports.items():
            text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
        with proxy(program, text, tmp_path) as port:
            page = visit(f"http://localhost:{port}/?token={TOKEN}", "Ada", expected=AWAY)
            shows(page, MELODIES[0])
            page.keyboard.press("4")
            saved(page, MELODIES[0])
            below = f"http://localhost:{port}/dashboard/"
            page = visit(f"{below}?token={TOKEN}#run={labelling.names.run}", expected=AWAY)
            page.wait_for_selector("#connection[data-state=live]")
            page.wait_for_selector("#panel *", state="attached")
            assert page.url.startswith(below)
            assert TOKEN not in page.url


@pytest.mark.browser
@pytest.mark.parametrize("headers", ["", "proxy_set_header Host $host;"])
def test_a_proxy_that_is_not_configured_for_it_serves_it_below_a_path(
    labelling: LabellingRun, visit: Open, tmp_path: Path, headers: str
) -> None:
    """It buffers, and sends its own name as the host, or the right one without the port."""
    labelling.learn()
    labelling.ask(*MELODIES[:2])
    text = PLAIN.replace("8321", str(HttpClient(labelling.page()).port)).replace("HEADERS", headers)
    with proxy("nginx", text, tmp_path) as port:
        page = visit(f"http://localhost:{port}/melody/", "Ada", expected=AWAY)
        shows(page, MELODIES[0])
        page.wait_for_selector("#connection[data-state=live]")
        page.keyboard.press("4")
        saved(page, MELODIES[0])


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("127.0.0.1:8321", {"Origin": "http://rooms.example.org:8080"}, 200),
        ("127.0.0.1:8321", {"Origin": "https://rooms.example.org"}, 200),
        ("rooms.example.org", {"Origin": "http://rooms.example.org:8080"}, 200),
        ("localhost", {"Origin": "http://localhost:18081"}, 200),
        ("127.0.0.1:8321", {"Origin": "http://evil.example"}, 403),
        ("127.0.0.1:8321", {"Origin": "http://rooms.example.org.evil.example"}, 403),
        ("127.0.0.1:8321", {"Origin": "x", "Sec-Fetch-Site": "same-origin"}, 200),
        ("127.0.0.1:8321", {"Origin": "https://rooms.example.org", "Sec-Fetch-Site": "none"}, 403),
        *(
            ("rooms.example.org", {"Origin": "https://rooms.example.org", "Sec-Fetch-Site": s}, 403)
            for s in ("same-site", "cross-site")
        ),
    ],
)
def test_a_proxy_may_replace_the_host(
    labelling: LabellingRun, host: str, headers: dict[str, str], status: int
) -> None:
    """The browser says whose page it is, or its origin has a name that the settings know."""
    page_client = HttpClient(labelling.page(hosts="rooms.example.org"))
    body = {"rater": "Ada", "count": 0}
    found, _ = page_client.post("/api/questions", body, **{"Host": host, **headers})
    assert found == status


@pytest.mark.parametrize(("proxies", "status"), [("127.0.0.1", 401), ("", 429), ("192.0.2.1", 429)])
def test_forwarded_headers_count_only_from_named_proxies(
    labelling: LabellingRun,
    token_file: str,
    proxies: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a visitor could try tokens under any address."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    monkeypatch.setattr(guard, "WRONG_PER_S", 0.001)
    page_client = HttpClient(labelling.page(token_file=token_file, proxies=proxies))

    def entered(visitor: str) -> int:
        headers = {"X-Forwarded-For": visitor, "X-Forwarded-Proto": "https"}
        return page_client.ask("GET", "/?token=wrong", headers=headers)[0]

    for _ in range(guard.WRONG_AT_ONCE + 1):
        last = entered("203.0.113.1")
    assert last == 429
    assert entered("203.0.113.2") == status


@pytest.mark.parametrize(("proxies", "secure"), [("127.0.0.1", True), ("", False)])
def test_a_cookie_of_https_is_secure(
    labelling: LabellingRun, token_file: str, proxies: str, secure: bool
) -> None:
    page_client = HttpClient(labelling.page(token_file=token_file, proxies=proxies))
    headers = {"X-Forwarded-Proto": "https"}
    _, found, _ = page_client.ask("GET", f"/?token={TOKEN}", headers=headers)
    assert ("Secure" in found["set-cookie"]) is secure


def test_proxies_are_addresses_or_networks() -> None:
    assert load(WebSettings, ["--proxies", "10.0.0.0/8, ::1"], {}).proxies == "10.0.0.0/8, ::1"
    with pytest.raises(SettingsError, match="expected addresses or networks, got 'nginx'"):
        load(WebSettings, ["--proxies", "nginx"], {})


# links


@pytest.mark.browser
def test_a_link_of_another_site_leads_to_the_page(
    labelling: LabellingRun, visit: Open, token_file: str, tmp_path: Path
) -> None:
    """With the token in it, after a reload, and without the token when one has been there."""
    site = labelling.page(token_file=token_file, hosts="localhost")
    port = HttpClient(site).port
    (tmp_path / "mail.html").write_text(
        f'<a id="in" href="http://localhost:{port}/?token={TOKEN}">rate</a>'
        f'<a id="again" href="http://localhost:{port}/">rate</a>'
    )
    mail = free_port()
    command = ["python3", "-m", "http.server", str(mail), "--bind", "127.0.0.1"]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path, **options) as process:  # type: ignore[call-overload]
        until(lambda: connected(mail)).close()
        context = visit(f"http://127.0.0.1:{mail}/mail.html", expected=("favicon", "404")).context
        page = context.new_page()
        for link in ("#in", "#again"):
            page.goto(f"http://127.0.0.1:{mail}/mail.html")
            page.click(link)
            page.wait_for_selector("#connection[data-state=live]")
            page.reload()
            page.wait_for_selector("#connection[data-state=live]")
        process.terminate()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
    ],
)
@pytest.mark.parametrize(
    ("path", "host", "status", "said"),
    [
        ("/", "127.0.0.1", 401, b"open the address with its token"),
        ("/", "evil.example", 403, b"see the setting ROOMGRAD_HOSTS"),
    ],
)
def test_a_refusal_is_a_page_for_people_and_json_for_programs(
    labelling: LabellingRun, token_file: str, accept: str, kind: str, path: str, host: str,
    status: int, said: bytes,
) -> None:  # fmt: skip
    page_client = HttpClient(labelling.page(token_file=token_file))
    found, headers, body = page_client.ask("GET", path, headers={"Host": host, "Accept": accept})
    assert (found, headers["content-type"]) == (status, kind)
    assert said in body
    assert (b"<h1>" in body) == (kind != "application/json")


def test_a_refusal_shows_a_request_as_text(shared_page_client: HttpClient) -> None:
    headers = {"Accept": "text/html"}
    path = "/api/answers?rater=%3Cscript%3E%01"
    status, found, body = shared_page_client.ask("GET", path, headers=headers)
    assert (status, found["content-type"]) == (422, "text/html; charset=utf-8")
    assert b"<script" not in body
