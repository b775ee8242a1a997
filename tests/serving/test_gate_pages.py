"""What stands before pages: where a request comes from, who may come in, how much it may bring; also of WebSockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from polydetr.serving.keys import KeyFile
from polydetr.serving.pages import Headers, is_below
from polydetr.serving.refusal import Refused

Start = Callable[..., TestClient]


class SomePages:
    """Everybody with a cookie may come in."""

    prefix, policy = "/studio", b"default-src 'self'"

    def mount(self, app: FastAPI) -> None:
        @app.get("/studio/page")
        async def page() -> Response:
            return PlainTextResponse("a page")

        @app.post("/studio/send")
        async def send(request: Request) -> Response:
            return PlainTextResponse(str(len(await request.body())))

        @app.websocket("/studio/socket")
        async def socket(socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text("in")
            await socket.close()

    async def check(self, scope: Mapping[str, Any], headers: Headers, path: str) -> None:
        if b"in" not in b"".join(headers.get(b"cookie", [])):
            raise Refused(303, "nobody is signed in.", reason="session", headers=[(b"location", b"/studio/login")])

    def most_of(self, path: str) -> int:
        return 10


@pytest.fixture
def client(service: Start) -> TestClient:
    client = service(pages=SomePages())
    client.headers["cookie"] = "in"
    return client


def test_pages_come_first_and_have_a_policy_of_their_own(client: TestClient) -> None:
    assert client.get("/", follow_redirects=False).headers["location"] == "studio/"
    answer = client.get("/studio/page")
    assert (answer.status_code, answer.text) == (200, "a page")
    assert answer.headers["content-security-policy"] == "default-src 'self'"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/docs").headers["x-frame-options"] == "DENY"


def test_pages_ask_for_no_key_and_keys_open_no_page(service: Start, tmp_path: Any) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("app")
    client = service(pages=SomePages(), keys=keys)
    assert client.get("/studio/page", headers={"cookie": "in"}).status_code == 200
    refused = client.get("/studio/page", headers={"authorization": f"Bearer {key}"}, follow_redirects=False)
    assert (refused.status_code, refused.headers["location"]) == (303, "/studio/login")
    assert client.get("/v1/models", headers={"cookie": "in"}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"origin": "http://localhost"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_what_changes_something_comes_from_a_page_of_ours(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.post("/studio/send", content=b"a", headers=headers).status_code == status
    assert client.get("/studio/page", headers=headers).status_code == 200  # a link from elsewhere may lead here


def test_bodies_and_hosts_are_bounded_for_pages_too(client: TestClient) -> None:
    assert client.post("/studio/send", content=b"x" * 10).text == "10"
    assert client.post("/studio/send", content=b"x" * 11).status_code == 413
    assert client.post("/studio/send", content=iter([b"x" * 6, b"x" * 6])).status_code == 413
    assert client.get("/studio/page", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    ("path", "headers", "is_let_in"),
    [
        ("/studio/socket", {}, True),
        ("/studio/socket", {"origin": "http://localhost"}, True),
        ("/studio/socket", {"origin": "http://evil.example"}, False),
        ("/studio/socket", {"host": "evil.example"}, False),
        ("/studio/socket", {"cookie": "nobody"}, False),
        ("/v1/models", {}, False),
    ],
)
def test_a_socket_is_refused_before_it_is_accepted(
    client: TestClient, path: str, headers: dict[str, str], is_let_in: bool
) -> None:
    if is_let_in:
        with client.websocket_connect(f"ws://localhost{path}", headers=headers) as socket:
            assert socket.receive_text() == "in"
    else:
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect(f"ws://localhost{path}", headers=headers),
        ):
            pass
        assert refused.value.code == 1008


def test_without_pages_no_socket_is_let_in(service: Start) -> None:
    with pytest.raises(WebSocketDisconnect), service().websocket_connect("ws://localhost/studio/socket"):
        pass


def test_only_whole_parts_of_an_address_lie_below_another() -> None:
    assert is_below("/studio", "/studio")
    assert is_below("/studio/a", "/studio")
    assert not is_below("/studios", "/studio")
