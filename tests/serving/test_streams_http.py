"""Rows that are answered while they come."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from local_fleet import LocalFleet
from running_service import Service

from polydetr.inference.service import ServiceModel
from polydetr.serving.app import create_app
from polydetr.serving.contract import Busy, TooLate, Unavailable
from polydetr.serving.limits import Limits

PREDICT = "/v1/models/film/predict"
NDJSON = {"content-type": "application/x-ndjson"}


def lines(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_stream_is_answered_in_order_with_errors_in_their_places(service: Service) -> None:
    rows = [b'{"text": "a %d"}' % i for i in range(700)]
    rows[3], rows[5], rows[650] = b"nonsense", b'{"text": "a", "text": "b"}', b"[1, 2]"
    answered = lines(service().post(PREDICT, content=b"\n".join(rows), headers=NDJSON))
    assert [a["row"] for a in answered] == list(range(1, 701))
    assert [a["row"] for a in answered if "error" in a] == [4, 6, 651]
    assert "is not JSON" in answered[3]["error"]["message"]
    assert "twice" in answered[5]["error"]["message"]


def test_lines_may_leave_out_what_they_lack(service: Service) -> None:
    """Which row comes first does not decide about the others."""
    answered = lines(service().post(PREDICT, content=b'{"other": 1}\n{"text": "a"}\n', headers=NDJSON))
    assert ["error" in a for a in answered] == [True, False]
    (answer,) = lines(service().post(PREDICT, content=b'{"other": 1}', headers=NDJSON))
    assert "text is missing" in answer["error"]["message"]


def test_a_refusal_before_the_first_answer_is_one(service: Service) -> None:
    client = service()
    assert service().post("/v1/models/flim/predict", content=b"{}", headers=NDJSON).status_code == 404
    client.fleet.failing.append(Unavailable("its process ended."))
    assert lines(client.post(PREDICT, content=b'"a"\n', headers=NDJSON))[0]["prediction"]  # it waits, and asks again
    answer = service(limits=Limits(body_bytes=100)).post(PREDICT, content=b"x" * 200, headers=NDJSON)
    assert answer.status_code == 413
    assert service().post(PREDICT, content=b"\n \n", headers=NDJSON).text == ""


def test_what_breaks_a_stream_off_is_its_last_line(service: Service) -> None:
    client = service(limits=Limits(body_bytes=100, stream_rows=1, stream_asks=1))
    answered = lines(client.post(PREDICT, content=b'"a"\n"b"\n' + b"x" * 200 + b"\n", headers=NDJSON))
    assert "row" not in answered[-1]
    assert "more than 100 bytes" in answered[-1]["error"]["message"]


def test_where_too_much_waits_a_stream_waits(service: Service) -> None:
    client = service()
    client.fleet.failing += [Busy("full", retry_after=0.01)] * 3
    assert lines(client.post(PREDICT, content=b'"a"\n', headers=NDJSON))[0]["row"] == 1
    hasty = service(limits=Limits(timeout_s=0.05))
    hasty.fleet.failing += [Busy("full", retry_after=5)]
    answer = hasty.post(PREDICT, content=b'"a"\n', headers=NDJSON)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "5"


def test_rows_that_are_too_slow_together_are_asked_in_parts(service: Service) -> None:
    client = service(limits=Limits(stream_rows=5))
    client.fleet.failing += [TooLate()]
    answered = lines(client.post(PREDICT, content=b'"a"\n' * 5, headers=NDJSON))
    assert [answer["row"] for answer in answered] == [1, 2, 3, 4, 5]
    assert [len(rows) for rows in client.fleet.asked] == [2, 3]
    client.fleet.failing += [TooLate()]
    assert client.post(PREDICT, content=b'"a"\n', headers=NDJSON).status_code == 504


class Conversation:
    """One request spoken message by message."""

    def __init__(self, app: Any) -> None:
        self.app, self.sent = app, asyncio.Queue[dict[str, Any]]()
        self.coming = asyncio.Queue[dict[str, Any]]()
        self.taken = 0

    async def send(self, message: dict[str, Any]) -> None:
        await self.sent.put(message)

    async def receive(self) -> dict[str, Any]:
        message = await self.coming.get()
        self.taken += 1
        return message

    def begin(self) -> asyncio.Task[None]:
        headers = [
            (b"host", b"localhost"),
            (b"content-type", b"application/x-ndjson"),
            (b"transfer-encoding", b"chunked"),
        ]
        scope = {
            "type": "http", "method": "POST", "path": PREDICT, "raw_path": PREDICT.encode(), "query_string": b"",
            "headers": headers, "client": ("test", 1), "server": ("localhost", 80), "scheme": "http", "root_path": "",
            "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        }  # fmt: skip
        return asyncio.create_task(self.app(scope, self.receive, self.send))

    async def say(self, body: bytes, *, more: bool = True) -> None:
        await self.coming.put({"type": "http.request", "body": body, "more_body": more})

    async def answers(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            message = await asyncio.wait_for(self.sent.get(), 5)
            for line in message.get("body", b"").splitlines():
                yield json.loads(line)


def test_an_answer_comes_before_the_next_row_is_sent(film: ServiceModel) -> None:
    async def talk() -> None:
        speech = Conversation(create_app(LocalFleet({"film": film})))
        task = speech.begin()
        answers = speech.answers()
        for number in (1, 2, 3):
            await speech.say(b'{"text": "a"}\n')
            assert (await anext(answers))["row"] == number
        await speech.say(b'{"text"')
        await speech.say(b': "a"}\n', more=False)
        assert (await anext(answers))["row"] == 4
        await asyncio.wait_for(task, 5)

    asyncio.run(talk())


def test_a_long_line_in_small_parts_costs_no_more(film: ServiceModel) -> None:
    async def talk() -> float:
        gate = create_app(LocalFleet({"film": film}), limits=Limits(body_bytes=2_000_000, bodies_bytes=2_500_000))
        speech = Conversation(gate)
        task, began = speech.begin(), time.monotonic()
        for _ in range(19_000):
            await speech.say(b"x" * 100)
        while speech.coming.qsize():
            await asyncio.sleep(0.01)
        took = time.monotonic() - began
        assert gate._held.bytes == 1_900_000
        other = Conversation(gate)
        refused = other.begin()
        await other.say(b"x" * 1_000_000)
        assert (await other.sent.get())["status"] == 429
        await speech.say(b'\n"a"\n')
        assert "is not JSON" in (await anext(answers := speech.answers()))["error"]["message"]
        assert (await anext(answers))["row"] == 2
        assert gate._held.bytes == 0
        for one, end in ((speech, task), (other, refused)):
            await one.say(b"", more=False)
            await asyncio.wait_for(end, 5)
        return took

    assert asyncio.run(talk()) < 5  # copied whole each time, it takes half a minute


def test_no_more_is_read_than_is_answered(film: ServiceModel) -> None:
    async def talk() -> None:
        fleet = LocalFleet({"film": film})
        fleet.hold = asyncio.Event()
        speech = Conversation(create_app(fleet, limits=Limits(stream_asks=2)))
        task = speech.begin()
        for _ in range(100):
            await speech.say(b'{"text": "a"}\n')
        await asyncio.sleep(0.2)
        assert len(fleet.asked) <= 4
        assert speech.taken <= 5
        fleet.hold.set()
        await speech.say(b"", more=False)
        await asyncio.wait_for(task, 20)
        assert len(fleet.asked) == 100

    asyncio.run(talk())


@pytest.mark.parametrize("held", [False, True])
def test_a_client_that_goes_away_ends_its_stream(film: ServiceModel, held: bool) -> None:
    async def talk() -> None:
        fleet = LocalFleet({"film": film})
        if held:
            fleet.hold = asyncio.Event()
        speech = Conversation(create_app(fleet))
        task = speech.begin()
        await speech.say(b'{"text": "a"}\n')
        await asyncio.sleep(0.1)
        await speech.coming.put({"type": "http.disconnect"})
        if fleet.hold is not None:
            fleet.hold.set()
        await asyncio.wait_for(task, 5)
        assert len(fleet.asked) == 1
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        assert not others

    asyncio.run(talk())
