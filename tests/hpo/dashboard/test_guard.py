"""Who may ask the dashboard, and for what."""

import socket
from typing import Any

import pytest

from hpo.dashboard.guard import MAX_BODY, Guard

OWN = {"Host": "127.0.0.1:8080"}
JSON = {"Content-Type": "application/json", "Content-Length": "2"}
NOTE = "/api/studies/1/note"


def asked(method: str, path: str, headers: dict[str, str], gate: Guard | None = None) -> int:
    """Return the status with which a request is refused; 200 where it is not."""
    names = {name: f"HTTP_{name.upper().replace('-', '_')}" for name in headers}
    names |= {"Content-Type": "CONTENT_TYPE", "Content-Length": "CONTENT_LENGTH"}
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path}
    environ |= {names[name]: value for name, value in headers.items()}
    refused = (gate or Guard("127.0.0.1")).refusal(environ)
    assert refused is None or refused.reason
    return int(refused.status) if refused else 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:9000", "LocalHost", "localhost.", "[::1]:8080", "127.0.0.2"]
)
def test_loopback_is_reached_by_its_own_names_and_by_any_port_of_a_tunnel(host: str) -> None:
    assert asked("GET", "/api/studies", {"Host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "localhost.evil.example", "evil@localhost", "127.0.0.1.evil.example"),
        *("192.168.1.10:8080", "", "localhost,evil.example", "localhost/", "[::1", "localhost:80:80", "0.0.0.0"),
        socket.gethostname() if socket.gethostname() != "localhost" else "gpu1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_any_other_name_is_refused_on_loopback(host: str, method: str) -> None:
    assert asked(method, "/api/studies/1", {"Host": host}) == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (f"{socket.gethostname()}:8080", 200),
        (f"{socket.gethostname()}.local", 200),
        ("localhost:8080", 200),
        ("192.168.1.10:8080", 200),
        ("[fe80::1]:8080", 200),
        ("evil.example", 403),
        (f"{socket.gethostname()}.evil.example", 403),
    ],
)
def test_everywhere_else_it_is_reached_by_the_machines_names_and_any_address(host: str, status: int) -> None:
    assert asked("GET", "/", {"Host": host}, Guard("0.0.0.0")) == status


def test_the_name_that_it_was_told_to_listen_on_reaches_it() -> None:
    assert asked("GET", "/", {"Host": "gpu1.lab.example:8080"}, Guard("gpu1.lab.example")) == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:8080"}, 200),
        ({"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "http://localhost:8080"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://[127.0.0.1:8080"}, 403),
        ({"Origin": "file://127.0.0.1:8080"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/studies"), ("PUT", NOTE), ("DELETE", "/api/studies/1")])
def test_a_page_of_another_origin_is_refused(headers: dict[str, str], status: int, method: str, path: str) -> None:
    more = JSON if method == "PUT" else {}

    assert asked(method, path, {**OWN, **headers, **more}) == status


def test_a_link_on_another_page_can_be_followed_but_not_framed_or_posted() -> None:
    link = {**OWN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    assert asked("GET", "/dashboard/studies/1", link) == 200
    assert asked("GET", "/dashboard/studies/1", {**link, "Sec-Fetch-Dest": "iframe"}) == 403
    assert asked("PUT", NOTE, {**link, **JSON}) == 403


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": "two"}, 411),
        ({"Transfer-Encoding": "chunked"}, 411),
        ({"Content-Length": str(MAX_BODY + 1)}, 413),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("PUT", NOTE), ("DELETE", "/api/studies/1")])
def test_a_body_is_short_json(changes: dict[str, str], status: int, method: str, path: str) -> None:
    assert asked(method, path, {**OWN, **JSON, **changes}) == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/studies"),
        ("POST", "/api/studies/1/rename"),
        ("POST", "/api/trials/1/tell"),
        ("POST", "/api/trials/1/user-attrs"),
        ("POST", "/api/artifacts/1"),
        ("DELETE", "/api/artifacts/1/ab"),
        ("POST", "/incompatible-rdb-schema"),
        ("OPTIONS", "/api/studies/1"),
        ("PATCH", "/api/studies/1"),
        ("DELETE", "/api/studies/1/note"),
    ],
)
def test_nothing_but_notes_and_whole_studies_can_be_changed(method: str, path: str) -> None:
    assert asked(method, path, {**OWN, **JSON}) == 403


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", NOTE), ("PUT", "/api/studies/1/5/note"), ("DELETE", "/api/studies/1")]
)
def test_read_only_refuses_every_change_and_shows_everything(method: str, path: str) -> None:
    gate = Guard("127.0.0.1", read_only=True)

    assert asked(method, path, {**OWN, **JSON}) == 200
    assert asked(method, path, {**OWN, **JSON}, gate) == 403
    assert asked("GET", path, OWN, gate) == 200
