"""Server of the page: security headers, access rules, limits, sign-in, and the command."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from starlette.testclient import TestClient

from rag import UsageError
from ui.server import application as server
from ui.server import body_limit, listening, login

ROOT = Path(__file__).parent.parent
ADDRESS = "http://127.0.0.1:7860"
API = "/gradio_api"
USERS = {"ada": "correct horse", "berta": "battery:staple"}
# Routes that are open before signing in: the login page with its styles and scripts.
LOGIN_ROUTES = {
    "/",
    "/assets/{path}",
    "/favicon.ico",
    "/login",
    "/manifest.json",
    "/static/{path}",
    "/theme.css",
}
PAGE_ROUTES = LOGIN_ROUTES | {"/config", "/logout"} | {
    f"{API}/{name}"
    for name in (
        "app_id", "call/v2/{api_name}", "call/v2/{api_name}/", "call/v2/{api_name}/{event_id}",
        "call/{api_name}", "call/{api_name}/", "call/{api_name}/{event_id}", "cancel",
        "file={path_or_url}", "heartbeat/{session_hash}", "info", "openapi.json", "queue/data",
        "queue/join", "reset", "run/predict", "upload", "upload_progress",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    """Folder into which Gradio puts uploads."""
    folder = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        server.import_gradio()
        yield folder


def small_page():
    import gradio

    with gradio.Blocks(title="Tides", analytics_enabled=False) as page:
        secret = gradio.Textbox("the library of Ada", label="Question")
        gradio.File(label="Papers", file_count="multiple")
        secret.submit(str.upper, secret, secret, api_visibility="private")
    return page


@pytest.fixture(scope="module")
def app(uploads):
    """Page on 127.0.0.1, where nobody has to sign in."""
    return server.application(small_page(), "127.0.0.1", 7860, {}, css="p { color: teal }")


@pytest.fixture(scope="module")
def browser(app):
    """Client that sends the same origin as the page itself."""
    with TestClient(app, ADDRESS, headers={"Origin": ADDRESS}, follow_redirects=False) as client:
        yield client


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shared(uploads, clock):
    """Page for a network, where Ada and Berta may sign in."""
    return server.application(small_page(), "192.168.1.5", 7860, USERS, clock=clock)


@pytest.fixture
def visitor(shared):
    """Create a client with an address of its own that has not signed in."""

    def create(address="192.168.1.20"):
        return TestClient(
            shared,
            ADDRESS,
            headers={"Origin": ADDRESS},
            follow_redirects=False,
            client=(address, 50_000),
        )

    return create


def sign_in(client, name, password):
    return client.post("/login", data={"username": name, "password": password})


def http_scope(path, method, headers=(("host", "127.0.0.1:7860"),), client="127.0.0.1"):
    return {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": (client, 50_000),
        "server": ("127.0.0.1", 7860),
    }


def send_messages(app, path, messages, method="POST", headers=()):
    """Send a request in pieces; return status, body and the number of pieces that were read."""
    sent, read = [], []

    async def receive():
        read.append(messages[len(read)])
        return read[-1]

    async def send(message):
        sent.append(message)

    headers = {"host": "127.0.0.1:7860"} | dict(headers)
    asyncio.run(app(http_scope(path, method, headers.items()), receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return (sent[0]["status"], body, len(read)) if sent else (None, body, len(read))


def body_message(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


def form_body(content, name="papers.bib"):
    """Return the start of a form with a file, without the end of the form."""
    head = f'--limit\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content


STREAM_ROUTES = {  # by a path that leads to them
    f"{API}/heartbeat/x": f"{API}/heartbeat/{{session_hash}}",
    f"{API}/queue/data": f"{API}/queue/data",
    f"{API}/call/x/x": f"{API}/call/{{api_name}}/{{event_id}}",
    f"{API}/call/v2/x/x": f"{API}/call/v2/{{api_name}}/{{event_id}}",
}
FORM_HEADERS = {"content-type": "multipart/form-data; boundary=limit"}


def stored_files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


# --- security headers -----------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.inline, self.addresses, self._script = [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [
            attributes[name] for name in ("src", "href", "action", "data") if attributes.get(name)
        ]
        if tag == "script" and "src" not in attributes:
            self._script = ""

    def handle_data(self, data):
        if self._script is not None:
            self._script += data

    def handle_endtag(self, tag):
        if tag == "script" and self._script is not None:
            self.inline.append(self._script)
            self._script = None


def policy(response):
    directives = {}
    for part in response.headers["Content-Security-Policy"].split("; "):
        name, *values = part.split()
        directives[name] = values
    return directives


@pytest.mark.promise("browser-isolation")
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/config", {}, 200),
        ("/theme.css", {}, 200),
        (f"{API}/no-such", {}, 404),
        ("/no/such", {}, 404),
        ("/", {"Origin": "https://evil.example"}, 403),
        ("/", {"Host": "evil.example"}, 421),
        (f"{API}/queue/data", {}, 422),
        (f"{API}/reset", {}, 405),
        (f"{API}/reset", {"Content-Length": "999999999"}, 413),
    ],
)
def test_every_response_has_the_security_headers(browser, path, headers, status):
    answer = browser.get(path, headers=headers)
    assert answer.status_code == status
    assert policy(answer)["default-src"] == ["'self'"]
    assert policy(answer)["object-src"] == policy(answer)["frame-ancestors"] == ["'none'"]
    for name in ("connect-src", "frame-src", "base-uri", "form-action"):
        assert policy(answer)[name] == ["'self'"]
    assert policy(answer)["img-src"] == ["'self'", "data:", "blob:"]
    assert policy(answer)["font-src"] == ["'self'", "data:"]
    assert policy(answer)["style-src"] == ["'self'", "'unsafe-inline'"]
    assert policy(answer)["script-src"][:2] == ["'self'", "'unsafe-eval'"]
    expected = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }
    assert {name: answer.headers[name] for name in expected} == expected


@pytest.mark.promise("browser-isolation")
def test_only_the_scripts_of_the_page_may_run(browser):
    answer = browser.get("/")
    scripts = Page(answer.text).inline
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    assert len(scripts) > 3
    assert policy(answer)["script-src"][2:] == [f"'sha256-{digest}'" for digest in digests]
    assert answer.headers["Cache-Control"] == "no-store"
    assert browser.get("/config").headers["Content-Security-Policy"].count("sha256") == 0


def test_the_scripts_of_the_login_page_may_run(visitor):
    answer = visitor().get("/")
    assert len(policy(answer)["script-src"]) == 2 + len(Page(answer.text).inline)


@pytest.mark.promise("offline")
def test_the_page_loads_nothing_from_elsewhere(browser):
    html = browser.get("/").text
    addresses = Page(html).addresses
    assert addresses
    assert [address for address in addresses if re.match(r"(?:https?:)?//", address)] == []
    assert re.findall(r"url\(\s*['\"]?https?:", html + browser.get("/theme.css").text) == []


def test_the_page_uses_the_given_theme(browser):
    assert "color: teal" in browser.get("/config").json()["css"]


def test_gradio_features_that_phone_home_or_share_are_off(browser):
    config = browser.get("/config").json()
    assert config["analytics_enabled"] is False
    assert (config["run_history"], config["footer_links"], config["show_error"]) == (
        False,
        [],
        False,
    )
    assert config["max_file_size"] == 200 * 1024 * 1024


def test_importing_gradio_restores_inspect(uploads):
    import inspect

    assert inspect.getfile(server) == server.__file__


# --- other web sites ------------------------------------------------------------------------------

CROSS_SITE_HEADERS = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "https://127.0.0.1:7860"},
    {"origin": "http://localhost:7860"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
]


@pytest.mark.promise("browser-isolation")
@pytest.mark.parametrize("headers", CROSS_SITE_HEADERS, ids=str)
@pytest.mark.parametrize(
    "path", [f"{API}/upload", f"{API}/queue/join", f"{API}/run/predict", "/login", "/"]
)
def test_requests_of_other_web_sites_are_refused_unread(app, uploads, path, headers):
    upload = body_message(
        form_body(b"@article{a, title = {Tides}}") + b"\r\n--limit--\r\n", more=False
    )
    assert send_messages(app, path, [upload], headers=FORM_HEADERS | headers) == (
        403,
        b'{"detail":"another web site sent this request"}',
        0,
    )
    assert stored_files(uploads) == []


@pytest.mark.promise("browser-isolation")
@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}], ids=str
)
def test_cross_site_preflight_requests_are_refused(browser, headers):
    preflight = browser.options(
        f"{API}/upload", headers={"Access-Control-Request-Method": "POST", **headers}
    )
    assert preflight.status_code == 403
    assert "Access-Control-Allow-Origin" not in preflight.headers


def test_cross_site_links_lead_only_to_the_page(app):
    client = TestClient(app, ADDRESS)
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/logout", headers=link).status_code == 403
    assert (
        client.get(
            "/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        ).status_code
        == 403
    )
    assert (
        client.get(
            "/", headers={"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
        ).status_code
        == 200
    )


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "127.0.0.1", "localhost:1", "LocalHost:65535", "[::1]:7860"]
)
def test_local_host_names_are_accepted(browser, host):
    assert browser.get("/", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


@pytest.mark.promise("browser-isolation")
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "a@localhost",
        "",
        "::1",
    ],
)
def test_foreign_host_names_are_refused(app, host):
    status, body, read = send_messages(app, "/", [], "GET", {"host": host})
    assert (status, read) == (421, 0)
    assert b"localhost" in body


def test_any_host_name_is_accepted_on_a_network(visitor):
    answer = visitor().get("/", headers={"Host": "study.example", "Origin": "http://study.example"})
    assert answer.status_code == 200


def test_proxy_headers_are_ignored(browser):
    page = browser.get(
        "/", headers={"X-Forwarded-Host": "evil.example", "X-Gradio-Server": "http://evil.example"}
    )
    assert "evil.example" not in page.text


# --- routes ---------------------------------------------------------------------------------------


def request_all_routes(client, app):
    """Yield every route of Gradio but the streams, with its response to made-up parameters."""
    for route, methods in server.gradio_app(app).openapi()["paths"].items():
        path = re.sub(r"{\w+}", "x", route)
        if path not in STREAM_ROUTES:
            for method in methods:
                yield route, client.request(method, path)


@pytest.mark.promise("browser-isolation")
def test_only_the_routes_of_the_page_are_open(browser, app):
    seen = list(request_all_routes(browser, app))
    assert len(seen) > 60
    closed = {route for route, answer in seen if answer.text == '{"detail":"not found"}'}
    # The path `run/x` of the made-up parameter is closed; only `run/predict` is open.
    assert {route for route, _ in seen} - closed == PAGE_ROUTES - {f"{API}/run/predict"} - set(
        STREAM_ROUTES.values()
    )
    for name in (
        "vibe-edit",
        "vibe-code",
        "proxy={url_path}",
        "process_recording",
        "component_server",
        "runs",
    ):
        assert f"{API}/{name}" in closed
    for route in (
        "/monitoring/summary",
        f"{API}/deep_link",
        f"{API}/dev/reload",
        f"{API}/startup-events",
    ):
        assert route in closed
    assert browser.post(f"{API}/run/predict").status_code == 422


@pytest.mark.promise("login")
def test_only_the_login_page_is_shown_before_signing_in(visitor, shared):
    seen = list(request_all_routes(visitor(), shared))
    assert {
        route for route, answer in seen if answer.status_code not in (401, 404)
    } - LOGIN_ROUTES == set()
    for path in (*(PAGE_ROUTES - LOGIN_ROUTES), *STREAM_ROUTES):
        assert visitor().get(path).json() == {"detail": "sign in first"}, path


@pytest.mark.promise("no-file-access")
@pytest.mark.parametrize(
    "address", ["https://evil.example/a.pdf", "HTTP://evil.example", "ftp://evil.example/a"]
)
def test_no_file_is_downloaded_from_a_url(browser, address):
    assert browser.get(f"{API}/file={address}").json() == {"detail": "not found"}
    assert browser.get(f"{API}/file={address.replace('/', '%2F')}").json() == {
        "detail": "not found"
    }


@pytest.mark.promise("no-file-access")
def test_no_file_of_the_machine_is_served(browser):
    assert browser.get(f"{API}/file={__file__}").status_code == 403


def test_a_question_passes_the_middlewares(browser):
    question = {"data": ["tides"], "fn_index": 0, "session_hash": "reader"}
    assert browser.post(f"{API}/queue/join", json=question).status_code == 200
    stream = browser.get(f"{API}/queue/data", params={"session_hash": "reader"}).text
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line]
    assert [event["output"]["data"] for event in events if event["msg"] == "process_completed"] == [
        ["TIDES"]
    ]


def test_a_stream_arrives_in_pieces_and_ends_when_the_client_leaves(app):
    """The first piece arrives before the stream ends, and the stream ends without a reader."""
    sent = []

    async def read_one():
        arrived = asyncio.Event()
        messages = [body_message(b"", more=False)]

        async def receive():
            if messages:
                return messages.pop()
            await arrived.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            if message.get("body"):
                arrived.set()

        scope = http_scope(f"{API}/heartbeat/reader", "GET") | {"client": None}
        await asyncio.wait_for(app(scope, receive, send), 20)

    asyncio.run(read_one())
    assert sent[1] == {"type": "http.response.body", "body": b"data: ALIVE\n\n", "more_body": True}


# --- size limits ----------------------------------------------------------------------------------


def test_a_file_can_be_uploaded(browser, uploads):
    answer = browser.post(f"{API}/upload", files={"files": ("papers.bib", b"@article{a}")})
    (path,) = answer.json()
    assert Path(path).read_bytes() == b"@article{a}"
    assert stored_files(uploads) == [Path(path)]
    Path(path).unlink()


@pytest.mark.promise("request-limits")
@pytest.mark.parametrize(
    ("path", "length"),
    [
        (f"{API}/upload", "209715201"),
        (f"{API}/queue/join", "2097153"),
        ("/login", "2097153"),
        (f"{API}/queue/join", "-1"),
        (f"{API}/queue/join", "²"),
        (f"{API}/queue/join", "9" * 40),
    ],
)
def test_a_declared_length_over_the_limit_is_refused_unread(app, path, length):
    status, body, read = send_messages(app, path, [], headers={"content-length": length})
    assert (status, read) == (413, 0)
    assert b"the request is too large" in body


@pytest.mark.promise("request-limits")
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"{API}/queue/join", {"content-type": "application/json"}),
        (f"{API}/run/predict", {}),
        ("/login", FORM_HEADERS),
    ],
)
def test_a_body_that_grows_over_the_limit_is_refused(app, path, kind):
    megabyte = b"x" * 1024 * 1024
    pieces = [
        body_message(form_body(megabyte) if kind is FORM_HEADERS else b'{"data": "'),
        body_message(megabyte),
        body_message(megabyte),
        body_message(b""),
    ]
    status, body, read = send_messages(app, path, pieces, headers=kind)
    assert (status, body) == (413, b'{"detail":"the request is too large; the limit is 0.25 MB"}')
    assert read <= 3


def test_an_upload_over_the_limit_leaves_no_files(app, uploads, monkeypatch):
    monkeypatch.setattr(body_limit, "MAX_UPLOAD_BYTES", 1024 * 1024)
    pieces = [
        body_message(form_body(b"x" * 700_000)),
        body_message(b"x" * 700_000),
        body_message(b""),
    ]
    status, body, read = send_messages(app, f"{API}/upload", pieces, headers=FORM_HEADERS)
    assert (status, body, read) == (
        413,
        b'{"detail":"the request is too large; the limit is 1 MB"}',
        2,
    )
    assert stored_files(uploads) == []


def test_files_of_one_upload_count_together(app, uploads, monkeypatch):
    monkeypatch.setattr(body_limit, "MAX_UPLOAD_BYTES", 1024 * 1024)
    pieces = [body_message(form_body(b"x" * 400_000, f"{n}.bib") + b"\r\n") for n in range(4)]
    status, _, read = send_messages(app, f"{API}/upload", pieces, headers=FORM_HEADERS)
    assert (status, read) == (413, 3)
    assert stored_files(uploads) == []


def test_an_interrupted_upload_leaves_no_files(app, uploads):
    pieces = [body_message(form_body(b"x" * 100_000)), {"type": "http.disconnect"}]
    send_messages(app, f"{API}/upload", pieces, headers=FORM_HEADERS)
    assert stored_files(uploads) == []


@pytest.mark.promise("request-limits")
def test_an_upload_must_leave_free_disk_space(browser, uploads, monkeypatch):
    free = 200 * 1024**2 + 1024**3
    monkeypatch.setattr(body_limit.shutil, "disk_usage", lambda _: SimpleNamespace(free=free - 1))
    refused = browser.post(f"{API}/upload", files={"files": ("papers.bib", b"@article{a}")})
    assert (refused.status_code, refused.json()) == (507, {"detail": "the disk is nearly full"})
    assert stored_files(uploads) == []
    assert browser.get("/config").status_code == 200
    monkeypatch.setattr(body_limit.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    (path,) = browser.post(f"{API}/upload", files={"files": ("papers.bib", b"@article{a}")}).json()
    Path(path).unlink()


# --- signing in -----------------------------------------------------------------------------------


def test_signing_in_opens_the_page_and_signing_out_closes_it(visitor):
    client = visitor()
    assert "the library of Ada" not in client.get("/").text
    assert client.get("/config").status_code == 401
    assert sign_in(client, "ada", "wrong horse").status_code == 400
    assert client.get("/config").status_code == 401
    assert sign_in(client, "ada", "correct horse").status_code == 200
    assert "the library of Ada" in client.get("/").text
    assert client.get("/config").json()["username"] == "ada"
    assert client.get("/logout").status_code == 302
    assert client.get("/config").status_code == 401


def test_a_password_may_hold_colons_and_any_letters(uploads, clock):
    app = server.application(
        small_page(), "127.0.0.1", 7860, {"berta": "battery:stäple λ"}, clock=clock
    )
    client = TestClient(app, ADDRESS)
    assert sign_in(client, "berta", "battery:staple λ").status_code == 400
    assert sign_in(client, "berta", "battery:stäple λ").status_code == 200


def test_a_forged_token_is_refused(visitor, shared):
    gradio_app = server.gradio_app(shared)
    for name in (
        f"access-token-{gradio_app.cookie_id}",
        f"access-token-unsecure-{gradio_app.cookie_id}",
    ):
        assert visitor().get("/config", headers={"Cookie": f"{name}=ada"}).status_code == 401
        assert visitor().get("/config", headers={"Cookie": f"{name}="}).status_code == 401


@pytest.mark.promise("login")
def test_after_five_wrong_passwords_an_address_waits_a_minute(visitor, clock):
    client = visitor()
    for number in range(5):
        assert sign_in(client, f"name {number}", "guess").status_code == 400
        clock.now += 2
    stopped = sign_in(client, "ada", "correct horse")
    assert (stopped.status_code, stopped.headers["Retry-After"]) == (429, "50")
    clock.now += 49
    assert sign_in(client, "ada", "correct horse").headers["Retry-After"] == "1"
    clock.now += 1
    assert sign_in(client, "ada", "correct horse").status_code == 200


@pytest.mark.promise("login")
def test_after_five_wrong_passwords_a_name_waits_at_every_address(visitor, clock):
    for number in range(5):
        assert sign_in(visitor(f"192.168.1.{number}"), "ada", f"guess {number}").status_code == 400
    assert sign_in(visitor("192.168.1.99"), "ada", "correct horse").status_code == 429
    assert sign_in(visitor("192.168.1.99"), "berta", "battery:staple").status_code == 200
    clock.now += 60
    assert sign_in(visitor("192.168.1.99"), "ada", "correct horse").status_code == 200


def test_addresses_of_one_ipv6_network_count_together(visitor):
    for number in range(5):
        assert (
            sign_in(visitor(f"2001:db8:0:7::{number}"), f"name {number}", "guess").status_code
            == 400
        )
    assert sign_in(visitor("2001:db8:0:7:ffff::1"), "ada", "correct horse").status_code == 429
    assert sign_in(visitor("2001:db8:0:8::1"), "ada", "correct horse").status_code == 200


def test_correct_passwords_never_have_to_wait(visitor):
    for _ in range(12):
        assert sign_in(visitor(), "ada", "correct horse").status_code == 200


@pytest.mark.promise("login")
def test_parallel_guesses_count(shared):
    body = b"username=ada&password=guess"
    kind = {"content-type": "application/x-www-form-urlencoded"}
    statuses = []

    async def guess():
        async def receive():
            return body_message(body, more=False)

        async def send(message):
            if "status" in message:
                statuses.append(message["status"])

        headers = {"host": "192.168.1.5"} | kind
        scope = http_scope("/login", "POST", headers.items(), client="192.168.1.20")
        await shared(scope, receive, send)

    async def guess_at_once():
        await asyncio.gather(*(guess() for _ in range(12)))

    asyncio.run(guess_at_once())
    assert sorted(statuses) == [400] * 5 + [429] * 7


@pytest.mark.promise("login")
def test_the_cookie_is_hidden_from_scripts_and_other_sites(visitor):
    client = visitor()
    cookies = sign_in(client, "ada", "correct horse").headers.get_list("set-cookie")
    cookies += client.get("/logout").headers.get_list("set-cookie")
    assert len(cookies) == 4
    for cookie in cookies[:2]:
        assert "HttpOnly" in cookie
    assert ["SameSite=lax" in cookie for cookie in cookies] == [True] * 4


@pytest.mark.promise("login")
def test_signing_out_invalidates_the_cookie(visitor):
    client = visitor()
    sign_in(client, "ada", "correct horse")
    cookie_header = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    assert visitor().get("/config", headers={"Cookie": cookie_header}).status_code == 200
    client.get("/logout")
    assert visitor().get("/config", headers={"Cookie": cookie_header}).status_code == 401


# --- users ----------------------------------------------------------------------------------------


@pytest.fixture
def users_file(tmp_path):
    def write(content, mode=0o600):
        path = tmp_path / f"users-{len(list(tmp_path.iterdir()))}"
        path.write_bytes(content)
        path.chmod(mode)
        return path

    return write


def test_users_are_read(users_file):
    path = users_file("\ufeff# who may\nada:correct horse\r\n\n  \nbérta:#a:b:c\n".encode())
    assert login.read_users(path) == {"ada": "correct horse", "bérta": "#a:b:c"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no users in"),
        (b"# ada:swordfish\n", "no users in"),
        (b"ada:a\nswordfish\n", "line 2: no colon"),
        (b":swordfish\n", "line 1: the name is missing"),
        (b" ada:swordfish\n", "line 1: the name is missing"),
        (b"ada :swordfish\n", "line 1: the name is missing"),
        (b"ada:\n", "line 1: the password is missing"),
        (b"ada:  \n", "line 1: the password is missing"),
        (b"ada: swordfish\n", "line 1: the password is missing, or has a space before or after it"),
        (b"ada:a\n\nada:swordfish\n", "line 3: duplicate name"),
        (b"ada:swordfish\xff\n", "it is not text"),
    ],
)
def test_malformed_users_files_are_refused_without_showing_a_password(users_file, content, message):
    path = users_file(content)
    with pytest.raises(UsageError) as refused:
        login.read_users(path)
    assert str(path) in str(refused.value)
    assert message in str(refused.value)
    assert "swordfish" not in str(refused.value)


@pytest.mark.promise("private-files")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601])
def test_users_files_that_others_can_read_are_refused(users_file, mode):
    with pytest.raises(UsageError, match="others can read it; run chmod 600"):
        login.read_users(users_file(b"ada:swordfish\n", mode))


def test_missing_users_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        login.read_users(tmp_path / "nobody")
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        login.read_users(tmp_path)


# --- listening ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "LOCALHOST", "::1"])
def test_loopback_addresses_are_recognized(host):
    assert listening.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "study.example", "localhost.evil.example", "", "[::1]"]
)
def test_other_addresses_are_not_loopback(host):
    assert not listening.is_loopback(host)


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_used_port_and_a_foreign_address_are_reported(taken_port):
    with pytest.raises(
        UsageError, match=f"port {taken_port} is in use; choose another one with --port"
    ):
        listening.check_address("127.0.0.1", taken_port)
    for host in ("203.0.113.1", "2001:db8::1", "", "é" * 70):
        with pytest.raises(
            UsageError, match=f"cannot listen on '{host}': this machine has no such"
        ):
            listening.check_address(host, 0)
    listening.check_address("127.0.0.1", 0)


SERVER_PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from ui.server.listening import serve

async def forever(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"first", "more_body": True}})
    while True:
        import asyncio
        await asyncio.sleep(60)

serve(forever, "127.0.0.1", 0)
print("ended", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signal to one process")
def test_the_server_prints_its_url_and_stops_during_a_stream():
    command = [sys.executable, "-c", SERVER_PROGRAM.format(root=str(ROOT))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        announcement = re.fullmatch(
            r"Footnote is running at http://127\.0\.0\.1:(\d+) \(Ctrl\+C stops it\)\n",
            process.stdout.readline(),
        )
        with socket.create_connection(("127.0.0.1", int(announcement[1])), timeout=20) as reader:
            reader.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            response = b""
            while b"first" not in response:
                response += reader.recv(4096)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "ended\n", "")


# --- attacks over a socket ------------------------------------------------------------------------

PAGE_PROGRAM = """
import sys
sys.path[:0] = {paths!r}
from ui.server import application as server, listening
listening.MAX_CONNECTIONS_PER_CLIENT = 20
server.import_gradio()
from test_server import small_page
listening.serve(server.application(small_page(), "127.0.0.1", 7860, {{}}), "127.0.0.1", 0)
"""
HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /login HTTP/1.1\r\n"
JSON_POST = (
    f"POST {API}/queue/join HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Port of a page in a process of its own, served as `footnote ui` serves it."""
    folder = tmp_path_factory.mktemp("attacked")
    environment = os.environ | {"GRADIO_TEMP_DIR": str(folder), "TMPDIR": str(folder)}
    command = [sys.executable, "-c", PAGE_PROGRAM.format(paths=[str(ROOT), str(ROOT / "tests")])]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            yield int(process.stdout.readline().split(":")[2].split()[0])
        finally:
            process.kill()


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def read_all(connection):
    """Return everything that arrives until the server closes the connection or falls silent."""
    content = b""
    try:
        while received := connection.recv(65_536):
            content += received
    except (ConnectionError, TimeoutError):
        pass
    return content


def send_bytes(port, request):
    """Return the server's response to some bytes, which it must answer or refuse by closing."""
    with connect(port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        return read_all(connection)


def status(answer):
    return int(answer.split(None, 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def is_serving(port):
    return (
        status(send_bytes(port, b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")) == 200
    )


MALFORMED_REQUESTS = {
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n", 400),
    "the same host twice": (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no host in HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", 421),
    "a URL instead of a path": (
        b"GET http://evil.example/ HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n", 404,
    ),
    "a tunnel": (
        b"CONNECT evil.example:443 HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n", 404,
    ),
    "no path": (b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n", 404),
    "a long header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 200_000 + b"\r\n\r\n", 400),
    "many headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 40_000 + b"\r\n", 400),
    "a long path": (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "two lengths": (
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n" + HOST + b"\r\nhello!", 400,
    ),
    "a length with a sign": (POST + b"Content-Length: +5\r\n" + HOST + b"\r\nhello", 400),
    "a blank before a colon": (POST + b"Content-Length : 5\r\n" + HOST + b"\r\nhello", 400),
    "an unknown coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n" + HOST + b"\r\n", 400),
    "a broken chunk": (POST + b"Transfer-Encoding: chunked\r\n" + HOST + b"\r\nzebra\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n\r\n", 400),
}  # fmt: skip


@pytest.mark.promise("request-limits")
@pytest.mark.parametrize("request_and_status", MALFORMED_REQUESTS.values(), ids=MALFORMED_REQUESTS)
def test_malformed_requests_are_refused(port, request_and_status):
    request, expected = request_and_status
    answer = send_bytes(port, request)
    assert b"Question" not in answer
    assert status(answer) == expected
    assert is_serving(port)


def test_the_server_header_is_not_sent(port):
    head = (
        send_bytes(port, b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        .split(b"\r\n\r\n")[0]
        .lower()
    )
    assert head.startswith(b"http/1.1 200")
    assert b"\r\nserver:" not in head
    assert b"\r\nx-powered-by:" not in head


def test_no_other_protocol_is_spoken(port):
    for path in ("/", f"{API}/queue/join", f"{API}/queue/data"):
        upgrade = f"GET {path} HTTP/1.1\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
        upgrade += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        assert status(send_bytes(port, upgrade.encode() + HOST + b"\r\n")) in (200, 405, 422)


@pytest.mark.promise("request-limits")
def test_a_body_without_an_end_is_cut_off(port):
    head = f"{JSON_POST}Transfer-Encoding: chunked\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with connect(port) as connection:
        connection.sendall(head.encode() + HOST + b"\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(8):
                connection.sendall(chunk)
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_a_missing_body_does_not_block_other_requests(port):
    head = f"{JSON_POST}Content-Length: 1000\r\n"
    with connect(port) as slow:
        slow.sendall(head.encode() + HOST + b"\r\n{")
        assert is_serving(port)


@pytest.mark.promise("request-limits")
def test_connections_per_client_are_limited(port):
    held = [connect(port) for _ in range(20)]
    try:
        assert send_bytes(port, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") == b""
    finally:
        for connection in held:
            connection.close()
    assert any(
        is_serving(port) for _ in range(100)
    )  # the server notices closed connections a moment later


FILE_URLS = [
    "file=../../../../../../etc/passwd",
    "file=..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "file=%252e%252e%252fetc%252fpasswd",
    "file=..%5c..%5cetc%5cpasswd",
    "file=/etc/passwd",
    "file=//etc/passwd",
    "file=%2fetc%2fpasswd",
    "file=/proc/self/environ",
    "file=/proc/self/root/etc/passwd",
    "file=/dev/zero",
    "file=file:///etc/passwd",
    "file=/etc/passwd%00.bib",
    "file=http:%2f%2f127.0.0.1:9/x",
    "file={root}/README.md",
    "file={root}/tests/../README.md",
    "../static/../../../../etc/passwd",
]


@pytest.mark.promise("no-file-access")
@pytest.mark.parametrize("path", FILE_URLS)
def test_no_path_leads_to_a_file_of_this_machine(port, path):
    path = path.format(root=ROOT)
    for start in (f"{API}/", "/static/", "/assets/"):
        answer = send_bytes(
            port,
            f"GET {start}{path} HTTP/1.1\r\nConnection: close\r\n".encode() + HOST + b"\r\n",
        )
        assert status(answer) in (400, 403, 404), start
        assert b"root:" not in answer
        assert b"Apache-2.0" not in answer
    assert is_serving(port)


NESTED_LISTS = "[" * 10_000 + "]" * 10_000
MALFORMED_EVENTS = [
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"fn_index": 99, "session_hash": "x", "data": []}',
    b'{"fn_index": -1, "session_hash": "x", "data": []}',
    b'{"fn_index": "zero", "session_hash": "x", "data": ["a"]}',
    b'{"fn_index": 0, "session_hash": ["x"], "data": ["a"]}',
    b'{"fn_index": 0, "data": ["a"]}',
    f'{{"fn_index": 0, "session_hash": "x", "data": {NESTED_LISTS}}}'.encode(),
    NESTED_LISTS.encode(),
    b'{"fn_index": 1e400, "session_hash": "x", "data": ["a"]}',
]


@pytest.mark.promise("request-limits")
@pytest.mark.parametrize("body", MALFORMED_EVENTS, ids=lambda body: str(body[:50]))
def test_requests_for_unknown_functions_are_refused(port, body):
    answer = send_bytes(
        port, f"{JSON_POST}Content-Length: {len(body)}\r\n".encode() + HOST + b"\r\n" + body
    )
    assert 400 <= status(answer) <= 500
    assert b"Traceback" not in answer
    assert str(ROOT).encode() not in answer
    assert is_serving(port)


def test_a_failing_event_reveals_nothing_about_the_machine(port):
    body = b'{"fn_index": 0, "session_hash": "typed", "data": []}'
    assert (
        status(
            send_bytes(
                port,
                f"{JSON_POST}Content-Length: {len(body)}\r\n".encode() + HOST + b"\r\n" + body,
            )
        )
        == 200
    )
    stream = (
        f"GET {API}/queue/data?session_hash=typed HTTP/1.1\r\nConnection: close\r\n".encode()
        + HOST
        + b"\r\n"
    )
    answer = send_bytes(port, stream)
    assert b'"process_completed"' in answer
    assert b'"success":false' in answer
    assert b"Traceback" not in answer
    assert str(ROOT).encode() not in answer


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.promise("login")
@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_a_network_address_needs_users(footnote, host):
    run = footnote("ui", "--host", host)
    assert (run.code, run.out) == (2, "")
    assert f"anyone on the network could read your libraries on {host};" in run.err
    assert "--auth FILE" in run.err


def test_invalid_options_of_the_command_are_refused(footnote, users_file, taken_port, tmp_path):
    for arguments, message in [
        (["--port", taken_port], f"footnote: port {taken_port} is in use"),
        (
            ["--host", "203.0.113.1", "--auth", users_file(b"ada:swordfish\n")],
            "cannot listen on '203.0.113.1': this machine has no such address",
        ),
        (["--auth", users_file(b"swordfish\n")], "line 1: no colon; write name:password"),
        (["--auth", tmp_path / "nobody"], "nobody: No such file"),
        (["--port", "0"], "Invalid value for '--port'"),
        (["--port", "zebra"], "Invalid value for '--port'"),
    ]:
        run = footnote("ui", *arguments)
        assert (run.code, run.out) == (2, ""), arguments
        assert message in run.err
        assert "swordfish" not in run.err
        assert "Traceback" not in run.err


def test_a_missing_library_is_named_in_full(footnote, tmp_path, monkeypatch):
    missing = tmp_path / "my own: papers"
    monkeypatch.setenv("FOOTNOTE_LIBRARY", str(missing))
    run = footnote("ui")
    assert (run.code, run.out) == (1, "")
    assert f"footnote: no library in {missing};" in run.err
    assert (
        f"no library in {tmp_path / 'other'};"
        in footnote("ui", "--library", tmp_path / "other").err
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signal to one process")
def test_the_command_serves_the_page_and_deletes_uploads(library_copy, tmp_path):
    folder = library_copy.rename(tmp_path / "my own: papers")
    (tmp_path / "temporary").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    here = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "FOOTNOTE_LIBRARY": str(folder),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    command = [sys.executable, "-m", "rag.cli", "ui", "--port", str(port)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        try:
            assert process.stdout.readline() == f"Footnote is running at {here} (Ctrl+C stops it)\n"
            assert "my own: papers" in httpx2.get(here).text
            (upload,) = httpx2.post(
                f"{here}{API}/upload", files={"files": ("a.bib", b"@article{a}")}
            ).json()
            assert Path(upload).is_relative_to(tmp_path / "temporary")
        finally:
            process.terminate()
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    assert stored_files(tmp_path / "temporary") == []


def test_a_refusal_does_not_import_gradio():
    code = (
        "import sys; from rag.cli import main as cli\n"
        "sys.argv = ['footnote', 'ui', '--host', '0.0.0.0']\n"
        "try: cli.main()\n"
        "except SystemExit: print('gradio' in sys.modules, 'fastapi' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.split() == ["False", "False"]


def test_the_help_shows_how_to_open_the_page(footnote):
    run = footnote("ui", "--help")
    assert run.lines[2].strip() == "Open the page in a browser, by default for this machine only."
    for option in (
        "-L, --library DIR",
        "--host ADDRESS",
        "--port N",
        "--auth FILE",
        "FOOTNOTE_LIBRARY",
    ):
        assert option in run.out
