"""What somebody tries who looks for a way in: at both pages, over the wire, byte by byte."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roomgrad.web import connections, guard, serving
from roomgrad.web.dashboard.server import DashboardServer
from roomgrad.web.dashboard.settings import DashboardSettings
from roomgrad.web.rates import MOST_ADDRESSES, Rates
from roomgrad.web.serving import Listener
from roomgrad.web.settings import WebSettings
from roomgrad_melody.labelling.server import LabellingServer
from roomgrad_melody.labelling.settings import LabellingSettings
from tests.pages.http_client import HttpClient, Served
from tests.pages.melody.labelling_run import QUICK, LabellingRun, free_port
from tests.waiting import until

TOKEN = "s3cret-s3cret-s3cret"
API = {"labelling": "/api/state", "dashboard": "/api/runs"}
POST = {"Content-Type": "application/json"}

Make = Callable[..., HttpClient]


@contextlib.contextmanager
def site(page: str, labelling: LabellingRun, url: str, **settings: object) -> Iterator[Served]:
    """One of the two pages, in a thread."""
    given = {"run": labelling.names.run, "port": free_port(), **settings}
    made: LabellingServer | DashboardServer
    if page == "labelling":
        made = LabellingServer(LabellingSettings(**{**QUICK, **given}), url)
    else:
        made = DashboardServer(DashboardSettings(**given), url)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        until(lambda: made.is_serving)
        yield made
    finally:
        made.stop()
        thread.join(60)


@pytest.fixture(scope="module", params=["labelling", "dashboard"])
def page(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stack(server_url: str) -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as found:
        yield found


@pytest.fixture(scope="module")
def labelling(server_url: str, stack: contextlib.ExitStack) -> LabellingRun:
    return LabellingRun(server_url, stack)


@pytest.fixture(scope="module")
def page_client(page: str, labelling: LabellingRun, server_url: str) -> Iterator[HttpClient]:
    """A page of this machine, without a token."""
    with site(page, labelling, server_url) as made:
        yield HttpClient(made)


@pytest.fixture(scope="module")
def closed(
    page: str, labelling: LabellingRun, server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpClient]:
    """A page with a token."""
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN)
    with site(page, labelling, server_url, token_file=str(file)) as made:
        yield HttpClient(made)


def cookie_of(page_client: HttpClient) -> dict[str, str]:
    """The cookie of somebody who has come in by the token."""
    _, headers, _ = page_client.ask("GET", f"/?token={TOKEN}")
    return {"Cookie": headers["set-cookie"].partition(";")[0]}


def sent(page_client: HttpClient, data: bytes, timeout_s: float = 10.0) -> bytes:
    """All that a page answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", page_client.port), timeout_s) as link:
        with contextlib.suppress(OSError):
            link.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while more := link.recv(65536):
                answer += more
        return answer


def head(page_client: HttpClient, *lines: str, first: str = "GET / HTTP/1.1") -> bytes:
    lines = (first, f"Host: {page_client.name}", "Connection: close", *lines)
    return "\r\n".join((*lines, "", "")).encode("latin-1")


# the token


def test_the_cookie_is_for_this_page_alone(closed: HttpClient) -> None:
    """No script reads it, no other page sends it, and it holds for nothing but what it names."""
    status, headers, body = closed.ask("GET", f"/?token={TOKEN}")
    assert (status, headers["location"], body) == (303, "./", b"")
    flags = [flag.strip().lower() for flag in headers["set-cookie"].split(";")[1:]]
    assert "httponly" in flags
    assert "samesite=lax" in flags  # a link of another page may lead here
    # Without a path it is that of the page, also below a path of a proxy.
    assert not any(flag.startswith(("domain", "path")) for flag in flags)
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {TOKEN}"},
        {"X-Token": TOKEN},
        {"Cookie": f"token={TOKEN}"},
        {"Cookie": f"roomgrad={TOKEN}"},
        {"Referer": f"http://127.0.0.1/?token={TOKEN}"},
        {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
        {"X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"},
    ],
)
def test_the_token_stands_in_its_cookie_and_nowhere_else(
    page: str, closed: HttpClient, headers: dict[str, str]
) -> None:
    for path in (API[page], f"{API[page]}?token={TOKEN}", "/static/../?token=" + TOKEN):
        assert closed.ask("GET", path, headers=headers)[0] == 401


@pytest.mark.parametrize("change", [str.upper, lambda t: t[:-1], lambda t: t + "x", lambda t: ""])
def test_a_token_that_is_nearly_right_is_wrong(
    page: str, closed: HttpClient, change: Callable[[str], str]
) -> None:
    name, _, value = cookie_of(closed)["Cookie"].partition("=")
    cookie = {"Cookie": f"{name}={change(value)}"}
    assert closed.ask("GET", API[page], headers=cookie)[0] in (401, 429)
    assert closed.ask("GET", f"/?token={change(TOKEN)}")[0] in (401, 429)


def test_tokens_are_compared_in_the_same_time_whatever_they_are() -> None:
    """By `hmac.compare_digest`, and by nothing else."""
    source = Path(guard.__file__).read_text()
    assert "hmac.compare_digest(token.encode(), self._token.encode())" in source
    assert not re.search(r"self\._token\s*[!=]=|[!=]=\s*self\._token", source)


def test_who_tries_many_tokens_has_to_wait(
    page: str, labelling: LabellingRun, server_url: str, tmp_path: Path
) -> None:
    """Also with the right one; who is in already stays in."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with site(page, labelling, server_url, token_file=str(file)) as made:
        page_client = HttpClient(made)
        inside = cookie_of(page_client)
        name = inside["Cookie"].partition("=")[0]
        tries = [page_client.ask("GET", f"/?token=wrong-{n}") for n in range(15)]
        tries += [
            page_client.ask("GET", API[page], headers={"Cookie": f"{name}=wrong-{n}"})
            for n in range(15)
        ]
        assert [status for status, _, _ in tries[: guard.WRONG_AT_ONCE]] == [401] * 20
        status, headers, body = tries[-1]
        assert (status, headers["retry-after"]) == (429, "1")
        assert b"too many wrong tokens" in body
        assert page_client.ask("GET", API[page], headers=inside)[0] == 200
        assert until(lambda: page_client.ask("GET", f"/?token={TOKEN}")[0] == 303)


# whose page it is


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil@127.0.0.1",
        "127.0.0.1/evil",
        "127.0.0.1?x",
        "127.0.0.1#x",
        "127.0.0.1:80:80",
        "127.0.0.1:http",
        "0x7f000001",
        "2130706433",
        "[::2]",
        "[::1",
        "..",
        "localhost..",
    ],
)
def test_no_other_name_leads_here(page_client: HttpClient, host: str) -> None:
    """As a name that is led to this machine after the page was loaded (DNS rebinding)."""
    status, _, body = page_client.ask("GET", "/", headers={"Host": host})
    assert status == 403
    assert "not known by this name" in json.loads(body)["reason"]


@pytest.mark.parametrize("host", ["localhost.", "LocalHost:8", "[::1]", "127.0.0.1.", "[0:0::1]:1"])
def test_names_of_this_machine_lead_here(page_client: HttpClient, host: str) -> None:
    expected = 403 if host == "[0:0::1]:1" else 200  # another way to write it that no browser has
    assert page_client.ask("GET", "/", headers={"Host": host})[0] == expected


def test_two_hosts_or_none_are_no_request(page_client: HttpClient) -> None:
    for lines in (["Host: evil.example"], [f"Host: {page_client.name}"]):
        assert sent(page_client, head(page_client, *lines)).startswith(b"HTTP/1.1 400 ")
    assert sent(page_client, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert sent(page_client, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    absolute = head(page_client, first="GET http://evil.example/ HTTP/1.1")
    assert not sent(page_client, absolute).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_pages_cannot_do_anything(page: str, page_client: HttpClient, method: str) -> None:
    """Whatever they say of where they come from; nor by a form, of which no origin is known."""
    origins = ["http://evil.example", "null", "", f"http://{page_client.name}.evil.example"]
    origins += [
        f"http://{page_client.name}/",
        f"file://{page_client.name}",
        f"ftp://{page_client.name}",
    ]
    origins += [
        f"http://evil@{page_client.name}",
        "http://127.0.0.1:1",
        f"HTTP://{page_client.name}",
    ]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for origin in origins:
        status, headers, _ = page_client.ask(method, API[page], b"{}", {"Origin": origin, **form})
        assert status == 403
        assert "access-control-allow-origin" not in headers
    assert page_client.ask(method, API[page], b"{}", form)[0] == 403
    own = {"Origin": f"http://{page_client.name}", **form}
    assert page_client.ask(method, API[page], b"{}", own)[0] == 405


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_is_what_the_request_says(page: str, page_client: HttpClient, name: str) -> None:
    status, _, _ = page_client.ask("GET", "/api/breeding?_method=POST", headers={name: "POST"})
    assert status == (405 if page == "labelling" else 404)


@pytest.mark.parametrize("where", ["cross-site", "same-site"])
def test_other_sites_cannot_even_ask(page: str, page_client: HttpClient, where: str) -> None:
    """Not by a picture or a script; a link to the page is a link."""
    foreign = {"Sec-Fetch-Site": where, "Sec-Fetch-Mode": "no-cors"}
    for path in (API[page], "/api/changes?run=x", "/static/app.js"):
        assert page_client.ask("GET", path, headers=foreign)[0] == 403
    link = {"Sec-Fetch-Site": where, "Sec-Fetch-Mode": "navigate"}
    assert page_client.ask("GET", "/", headers=link)[0] == 200
    assert page_client.ask("GET", API[page], headers={"Sec-Fetch-Site": "same-origin"})[0] == 200


# what is read


@pytest.mark.parametrize(
    "path",
    [
        "/static/../page.py",
        "/static/%2e%2e/page.py",
        "/static/..%2fpage.py",
        "/static/..%5cpage.py",
        "/static/%252e%252e/page.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/app.js%00.png",
        "/shared/../guard.py",
        "/shared/..%2f..%2f__init__.py",
        "/static/",
        "/shared",
        "//etc/passwd",
        "/..",
    ],
)
def test_only_the_files_of_the_page_are_read(page_client: HttpClient, path: str) -> None:
    status, headers, body = page_client.ask("GET", path)
    assert status in (404, 405) or (status, headers["location"][-1]) == (307, "/")
    assert b"import" not in body
    assert b"root:" not in body


def test_nothing_of_a_request_gets_into_the_headers(page: str, page_client: HttpClient) -> None:
    """No line of one's own: in the address, in a name, in what is asked for again."""
    evil = "%0d%0aSet-Cookie:%20evil=1"
    paths = [f"/?token=x{evil}", f"/static/x{evil}", f"{API[page]}/{evil}", f"/static{evil}"]
    paths += [f"/api/melodies/{'01' * 64}.mid{evil}", f"/api/changes?run=x{evil}&run="]
    for path in paths[:-1]:
        _, headers, _ = page_client.ask("GET", path)
        assert "set-cookie" not in headers


def test_every_answer_has_the_headers(
    page: str, page_client: HttpClient, closed: HttpClient
) -> None:
    """Right ones, refusals and errors; nobody learns by what it is served."""
    asked = [("GET", "/", 200), ("GET", API[page], 200), ("GET", "/static/app.js", 200)]
    asked += [("GET", "/healthz", 200), ("GET", "/nothing", 404), ("POST", "/", 403)]
    answers = [(page_client.ask(method, path), status) for method, path, status in asked]
    answers += [(closed.ask("GET", "/"), 401), (closed.ask("GET", f"/?token={TOKEN}"), 303)]
    for (status, headers, _), expected in answers:
        assert status == expected
        assert {name: headers.get(name) for name in guard.HEADERS} == guard.HEADERS
        assert "server" not in headers
        assert "x-powered-by" not in headers
        assert headers["cache-control"] in ("no-store", "no-cache")
    policy = dict(each.split(" ", 1) for each in guard.CONTENT_SECURITY_POLICY.split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"


# what is too much


def test_long_headers_and_addresses_are_no_request(page_client: HttpClient) -> None:
    """They are not gathered without end."""
    long = "x" * connections.MOST_HEADER_BYTES
    many = [f"X{number}: x" for number in range(20_000)]
    for data in (
        head(page_client, f"X: {long}"),
        head(page_client, *many),
        head(page_client, first=f"GET /?{long} HTTP/1.1"),
    ):
        answer = sent(page_client, data)
        assert answer == b"" or re.match(rb"HTTP/1\.1 (400|431) ", answer)  # or cut off at once
    assert page_client.ask("GET", "/")[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /\r\n\r\n",
        b"\0" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_in_a_line(page_client: HttpClient, data: bytes) -> None:
    answer = sent(page_client, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"Invalid HTTP request received.")
    assert b"server:" not in answer.lower()


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Transfer-Encoding: gzip, chunked"],
    ],
)
def test_a_body_has_one_length(page_client: HttpClient, lines: list[str]) -> None:
    """Else two readers could see two requests in one (request smuggling)."""
    data = (
        head(page_client, *lines, first="POST /api/breeding HTTP/1.1") + b"0\r\n\r\nGET / HTTP/1.1"
    )
    answer = sent(page_client, data)
    assert re.match(rb"HTTP/1\.1 (400|403|501) ", answer)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_an_upgrade_is_a_request_like_any_other(page_client: HttpClient) -> None:
    """There are no web sockets here."""
    lines = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
    data = head(page_client, *lines).replace(b"Connection: close", b"Connection: Upgrade, close")
    answer = sent(page_client, data)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"content-security-policy" in answer


def test_who_is_too_slow_is_left(
    page: str, labelling: LabellingRun, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half a header, half a body, or nothing at all."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)
    with site(page, labelling, server_url) as made:
        page_client = HttpClient(made)
        post = head(page_client, "Content-Length: 100", first="POST /api/breeding HTTP/1.1")
        for data in (b"", b"GET / HT", head(page_client)[:-2], post, post + b"{"):
            answer = sent(page_client, data)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 403")
        assert page_client.ask("GET", "/")[0] == 200


def test_who_takes_nothing_is_left(
    labelling: LabellingRun, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FROZEN_S", 0.3)

    async def large(_request: Request) -> Response:
        return Response(b"x" * 50_000_000)

    with bare([Route("/large", large)]) as page_client:
        with socket.create_connection(("127.0.0.1", page_client.port), 10) as link:
            link.sendall(head(page_client, first="GET /large HTTP/1.1"))
            until(lambda: page_client.connections() == 0)
        status, _, body = page_client.ask("GET", "/large")
        assert (status, len(body)) == (200, 50_000_000)


def test_so_many_connections_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is told so, and when there is room again it is let in."""
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)

    async def fine(_request: Request) -> Response:
        return Response("fine")

    with bare([Route("/", fine)]) as page_client, contextlib.ExitStack() as links:
        where = ("127.0.0.1", page_client.port)
        for _ in range(3):
            links.enter_context(socket.create_connection(where, 10))
        until(lambda: page_client.connections() == 3)
        assert sent(page_client, b"").startswith(b"HTTP/1.1 503 ")
        links.close()
        until(lambda: page_client.connections() == 0)
        assert page_client.ask("GET", "/")[0] == 200


def test_who_asks_too_often_has_to_wait(
    page: str, labelling: LabellingRun, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But whether the page works may always be asked."""
    monkeypatch.setattr(guard, "MOST_PER_S", 20)
    monkeypatch.setattr(guard, "MOST_AT_ONCE", 10)
    with site(page, labelling, server_url) as made:
        page_client = HttpClient(made)
        answers = [page_client.ask("GET", "/static/app.js") for _ in range(100)]
        late = [each for each in answers if each[0] == 429]
        assert [status for status, _, _ in answers[:10]] == [200] * 10
        assert late[0][1]["retry-after"] == "1"
        assert b"more than 20 requests a second" in late[0][2]
        assert page_client.ask("GET", "/healthz")[0] == 200
        assert until(lambda: page_client.ask("GET", "/static/app.js")[0] == 200)


def test_a_rate_is_kept_on_average() -> None:
    """So many at once, then so many a second, each address for itself."""
    now = 1000.0
    rates = Rates(2, 4, lambda: now)
    assert [rates.take("a") for _ in range(6)] == [True] * 4 + [False] * 2
    assert rates.is_spent("a")
    assert rates.take("b")
    assert not rates.is_spent("b")
    now += 0.5
    assert [rates.take("a") for _ in range(2)] == [True, False]
    now += 100
    assert [rates.take("a") for _ in range(5)] == [True] * 4 + [False]


def test_addresses_are_not_remembered_without_end() -> None:
    """And all that one machine may take of IPv6 is one."""
    rates = Rates(1, 1, lambda: 1000.0)
    for number in range(MOST_ADDRESSES + 100):
        assert rates.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(rates._used) == MOST_ADDRESSES
    assert rates.take("2001:db8::1")
    assert not rates.take("2001:db8::2")
    assert rates.take("2001:db8:0:1::1")
    assert rates.take("192.0.2.1")
    assert not rates.take("::ffff:192.0.2.1")


# what goes wrong


class Bare(HttpClient):
    """Asks a page of the test's own, served as the others are."""

    def __init__(self, site: Served, connections: Callable[[], int]) -> None:
        super().__init__(site)
        self.connections = connections


class Served_:
    def __init__(self, listener: Listener) -> None:
        self.listener = listener


@contextlib.contextmanager
def bare(routes: list[Route]) -> Iterator[Bare]:
    listener = Listener(WebSettings(port=free_port()), 1)
    server = listener.server(
        Starlette(routes=routes, exception_handlers=serving.EXCEPTION_HANDLERS)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener.socket]}, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield Bare(Served_(listener), lambda: len(server.server_state.connections))
    finally:
        server.should_exit = True
        thread.join(60)


def test_an_error_says_nothing_of_itself() -> None:
    """The log has it; who asked learns that there was one."""

    async def broken(_request: Request) -> Response:
        raise RuntimeError("the password is hunter2")

    with bare([Route("/", broken)]) as page_client:
        status, headers, body = page_client.ask("GET", "/")
    assert status == 500
    assert json.loads(body) == {"reason": "this went wrong here; the log of the page says why"}
    assert headers["content-security-policy"] == guard.CONTENT_SECURITY_POLICY


DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize(
    "body",
    [
        b'{"command": ' + DEEP + b"}",
        b'{"command": ' + b"9" * 5000 + b"}",
        b'{"' + b"x" * 10_000 + b'": 1}',
        b"[" * 16_000,
        b'{"command": "\\ud800"}',
        b'{"command": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"command": NaN}',
        b"null",
        b"",
    ],
)
def test_bad_bodies_are_refused_in_a_short_sentence(
    labelling: LabellingRun, server_url: str, labels: HttpClient, body: bytes
) -> None:
    status, answer = labels.post("/api/breeding", body)
    assert status == 422
    assert 0 < len(answer["reason"]) < 400
    for deep in ("rater", "melody", "root", "rating", "id", "plays"):
        given = {"rater": "Ada", "melody": "01" * 64, "root": "r", "rating": 1, "id": "0" * 32}
        text = json.dumps({**given, deep: "HERE"}).encode().replace(b'"HERE"', DEEP)
        status, answer = labels.post("/api/answers", text)
        assert status == 422
        assert len(answer["reason"]) < 400
    for deep in ("rater", "first", "second", "prefer", "root", "id", "listened"):
        vote = {"rater": "Ada", "first": "01" * 64, "second": "10" * 64, "prefer": "first"}
        text = json.dumps({**vote, "root": "r", "id": "0" * 32, deep: "HERE"}).encode()
        status, answer = labels.post("/api/preferences", text.replace(b'"HERE"', DEEP))
        assert status == 422
        assert len(answer["reason"]) < 400


@pytest.fixture(scope="module")
def labels(labelling: LabellingRun, server_url: str) -> Iterator[HttpClient]:
    """The page that takes something."""
    with site("labelling", labelling, server_url) as made:
        yield HttpClient(made)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/changes", 422),
        ("/api/changes?run=", 422),
        ("/api/changes?run=" + "x" * 201, 422),
        ("/api/training?run=" + "x" * 201, 422),
        ("/api/training?run=%ff%00%2a", 200),
        ("/api/roots/x", 422),
        ("/api/roots/x?run=nothing", 404),
        ("/api/roots/" + "x" * 129 + "?run=nothing", 422),
        ("/api/runs?" + "&".join(["x=1"] * 2000), 200),
    ],
)
def test_questions_to_the_dashboard_have_limits(
    labelling: LabellingRun, server_url: str, board: HttpClient, path: str, status: int
) -> None:
    found, _, body = board.ask("GET", path)
    assert found == status
    # A list of runs is as long as there are runs on the server.
    assert status == 200 or len(body) < 1000


@pytest.fixture(scope="module")
def board(labelling: LabellingRun, server_url: str) -> Iterator[HttpClient]:
    """The page that is asked."""
    with site("dashboard", labelling, server_url) as made:
        yield HttpClient(made)


def test_what_was_seen_last_is_any_text(
    page: str, labelling: LabellingRun, page_client: HttpClient
) -> None:
    """Of a mark that there never was, everything is new."""
    topic, run = "state" if page == "labelling" else "server", labelling.names.run
    instance = page_client.changes(topic, run)["since"].partition("-")[0]
    for mark in (f"{instance}-" + "9" * 5000, f"{instance}-\xb2", "-", "x" * 1000):
        assert topic in page_client.changes(topic, run, mark)["topics"]
