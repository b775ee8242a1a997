"""Clients that lie, dawdle, or speak no HTTP, at a real socket."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from polydetr.serving.limits import Limits

PREDICT = b"POST /v1/models/film/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GOOD = b'{"rows": ["a"]}'
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def still_alive(service: Any) -> None:
    assert status(service.said(ALIVE)) == 200


def test_a_good_request(running: Callable[..., Any]) -> None:
    answer = running().said(PREDICT + b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(GOOD), GOOD))
    assert status(answer) == 200
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["answers"][0]["row"] == 1
    assert b"server:" not in answer.lower()


def test_a_body_that_lies_about_its_length(running: Callable[..., Any]) -> None:
    service = running(limits=Limits(body_bytes=1000, body_s=0.4))
    shorter = PREDICT + b"Content-Length: 900\r\n\r\n" + GOOD
    assert status(service.said(shorter)) == 408
    longer = PREDICT + b"Content-Length: 5\r\n\r\n" + GOOD + b"\r\n\r\n"
    assert service.said(longer, seconds=2).startswith(b"HTTP/1.1 400")
    for length in (b"-1", b"x", b"1e3", b"18446744073709551616", b"900\r\nContent-Length: 901", b"0x10"):
        assert 400 <= status(service.said(PREDICT + b"Content-Length: " + length + b"\r\n\r\n" + GOOD, seconds=1)) < 500
    both = PREDICT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + GOOD + b"\r\n0\r\n\r\n"
    assert status(service.said(both, seconds=1)) < 500
    still_alive(service)


def test_chunks_without_end_are_cut_off(running: Callable[..., Any]) -> None:
    service = running(limits=Limits(body_bytes=100_000))
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(PREDICT + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 400_000:
                connection.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
                sent += 10_000
            answer = connection.recv(65536)
        except ConnectionError:
            answer = b""
    assert status(answer) in (0, 413)
    assert service.fleet.asked == []
    still_alive(service)


def test_a_refusal_reaches_a_client_that_is_still_sending(running: Callable[..., Any]) -> None:
    """A connection that is closed on what was not read is reset, and the reason lost."""
    service = running(limits=Limits(body_bytes=1000))
    body = b"x" * 3_000_000
    answer = service.said(PREDICT + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert status(answer) == 413
    assert b"more than 1,000 bytes" in answer


def test_a_head_that_never_ends(running: Callable[..., Any]) -> None:
    service = running(limits=Limits(header_s=0.4))
    for first in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n"):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
            connection.sendall(first)
            for _ in range(20):  # a byte now and then is no way out
                try:
                    connection.sendall(b"a" if first else b"")
                    time.sleep(0.1)
                except ConnectionError:
                    break
            else:
                assert not first
                assert connection.recv(10) == b""
        assert time.monotonic() - began < 3
    still_alive(service)


def test_a_body_that_comes_too_slowly(running: Callable[..., Any]) -> None:
    service = running(limits=Limits(body_s=0.3))
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(PREDICT + b"Content-Length: 1000\r\n\r\n")
        connection.setblocking(True)
        answer = b""
        for _ in range(30):
            try:
                connection.sendall(b" ")
            except ConnectionError:
                break
            connection.settimeout(0.1)
            try:
                if answer := connection.recv(65536):
                    break
            except TimeoutError:
                continue
        assert status(answer) == 408
    assert time.monotonic() - began < 3
    still_alive(service)


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "a byte now and then"])
def test_what_has_come_earns_no_hours(running: Callable[..., Any], drips: bool) -> None:
    service = running(limits=Limits(body_s=0.4))
    with socket.create_connection(("127.0.0.1", service.port), timeout=0.2) as connection:
        connection.sendall(PREDICT + b"Content-Length: 3000000\r\n\r\n" + b" " * 2_000_000)
        began, answer = time.monotonic(), b""
        while not answer and time.monotonic() - began < 5:
            with suppress(TimeoutError):
                answer = connection.recv(65536)
            if drips and not answer:
                connection.sendall(b" ")
    assert status(answer) == 408
    assert time.monotonic() - began < 2
    still_alive(service)


def test_bodies_are_bounded_together_and_a_small_one_always_has_room(running: Callable[..., Any]) -> None:
    service = running(limits=Limits(bodies_bytes=1_000_000))
    large = PREDICT + b"Connection: close\r\nContent-Length: %d\r\n\r\n"
    body = GOOD + b" " * 900_000
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(large % len(body) + body[:-1])
        while service.gate._held.bytes < 900_000:
            time.sleep(0.01)
        refused = service.said(large % len(body) + body)
        assert status(refused) == 429
        assert b"retry-after: 1" in refused
        assert status(service.said(large % len(GOOD) + GOOD)) == 200
        connection.sendall(body[-1:])
        assert status(connection.recv(65536)) == 200
    assert status(service.said(large % len(body) + body)) == 200
    assert status(service.said((large % 2_000_000) + GOOD + b" " * (2_000_000 - len(GOOD)))) == 200  # alone
    assert service.gate._held.bytes == 0


@pytest.mark.parametrize("kind", ["application/json", "text/csv", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("path", ["/v1/models/film/predict", "/label-studio/film/predict"])
def test_who_goes_away_before_the_end_is_no_fault_of_ours(
    running: Callable[..., Any], caplog: pytest.LogCaptureFixture, kind: str, path: str
) -> None:
    service = running()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 100\r\n\r\n"
    with caplog.at_level(logging.INFO, "polydetr.serving"):
        with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
            connection.sendall(head.encode() + (b"--x\r\n" if "form" in kind else b"{"))
            time.sleep(0.1)
        for _ in range(200):
            if caplog.records:
                break
            time.sleep(0.01)
    (told,) = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert told["status"] in (400, 415)
    assert told["reason"] == ("gone" if told["status"] == 400 else "type")


def test_a_refused_stream_is_read_no_further(running: Callable[..., Any]) -> None:
    head = PREDICT.replace(b"application/json", b"application/x-ndjson").replace(b"film", b"flim")
    with socket.create_connection(("127.0.0.1", running().port), timeout=10) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"5\r\nabcde\r\n")
        answer = b""
        while data := connection.recv(65536):  # until it is closed
            answer += data
    assert status(answer) == 404
    assert b"connection: close" in answer.lower()


def test_a_reader_who_takes_nothing_is_let_go(running: Callable[..., Any]) -> None:
    service = running(limits=Limits(send_s=0.3, stream_rows=1000))
    head = PREDICT.replace(b"application/json", b"application/x-ndjson") + b"Transfer-Encoding: chunked\r\n\r\n"
    line = json.dumps({"text": "a", "id": "x" * 5_000}).encode() + b"\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head)
        chunk = b"%x\r\n%s\r\n" % (len(line), line)
        sent = 0
        with suppress(ConnectionError, TimeoutError):
            while sent < 4_000:
                connection.sendall(chunk)
                sent += 1
        assert sent < 4_000
    for _ in range(100):
        if not service.server.server_state.connections:
            break
        time.sleep(0.05)
    assert not service.server.server_state.connections
    still_alive(service)


def test_connections_are_bounded(running: Callable[..., Any]) -> None:
    service = running(limits=Limits(connections=5, header_s=1.0))
    held = [socket.create_connection(("127.0.0.1", service.port), timeout=5) for _ in range(20)]
    time.sleep(0.3)
    assert len(service.server.server_state.connections) <= 5
    for connection in held:
        connection.close()
    time.sleep(0.2)
    still_alive(service)


def test_a_file_that_does_not_come_to_its_end_is_forgotten(running: Callable[..., Any], tmp_path: Path) -> None:
    service = running(jobs=tmp_path)
    head = (
        b"POST /v1/jobs?model=film HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: 900\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(head + b"text\na\n")
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
    for _ in range(200):
        if not list(tmp_path.iterdir()):
            break
        time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []
    still_alive(service)


def test_what_was_accepted_is_answered_when_it_stops(running: Callable[..., Any]) -> None:
    service = running()
    service.fleet.delay_s = 0.6
    head = PREDICT + b"Content-Length: %d\r\n\r\n" % len(GOOD)
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(head + GOOD)
        while not service.fleet.asked:
            time.sleep(0.01)
        service.stop()
        answer = connection.recv(65536)
    assert status(answer) == 200
    assert service.fleet.stopped
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", service.port), timeout=1)


def test_a_gzip_bomb_is_not_unpacked(running: Callable[..., Any]) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = PREDICT + b"Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    assert status(running().said(head + bomb)) == 415


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\r\nSet-Cookie: b=c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\rSet-Cookie: b=c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a%0d%0aSet-Cookie:b\r\n\r\n",
        b"GET /%0d%0aSet-Cookie:%20b=c HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?a=%0d%0aSet-Cookie:b=c HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models/%0d%0aSet-Cookie:b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_no_header_is_injected(running: Callable[..., Any], sent: bytes) -> None:
    answer = running().said(sent, seconds=0.5)
    head = answer.partition(b"\r\n\r\n")[0]
    assert b"set-cookie" not in head.lower()
    assert status(answer) in (200, 307, 400, 404)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-x\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET http://evil/v1/models HTTP/1.1\r\nHost: evil\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request(running: Callable[..., Any], sent: bytes) -> None:
    service = running()
    answer = service.said(sent, seconds=0.4)
    assert status(answer) in (0, 200, 400, 404, 405)
    assert b"root:" not in answer
    assert b"Traceback" not in answer
    still_alive(service)
