"""A client of the service that costs little: HTTP/1.1 over sockets kept open, and two ways to put load on.

``closed``: so many clients, each of which asks again as soon as it is answered: that is saturation. ``open_loop``: requests
come at a rate of their own (Poisson), whether others are answered or not, as those of strangers do; latency counts from the
moment a request was due. Run in a process of its own (``service.py`` does): its CPU time is told apart.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class Connection:
    """One socket; opened at the first request, and again where the other side closed it."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, *, key: str = "", method: str = "POST") -> tuple[int, bytes]:
        """Status and body. A kept connection that the other side closed in the meantime is opened again.

        Raises:
            OSError, asyncio.IncompleteReadError.
        """
        if self._streams is not None and not self._streams[1].is_closing():
            try:
                return await self._post(path, body, key=key, method=method)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                    raise
        self._streams = await asyncio.open_connection(self.host, self.port, limit=1 << 24)
        return await self._post(path, body, key=key, method=method)

    async def _post(self, path: str, body: bytes, *, key: str, method: str) -> tuple[int, bytes]:
        assert self._streams is not None
        reader, writer = self._streams
        auth = f"Authorization: Bearer {key}\r\n" if key else ""
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n"
            f"{auth}Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].split("\r\n")[0])
            content = await reader.readexactly(length)
        except BaseException:
            self.close()
            raise
        if "connection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1]), content

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def texts(seed: int) -> Iterator[str]:
    """Texts of 5 to 60 words, without end."""
    dice = random.Random(seed)
    words = [
        "the",
        "of",
        "and",
        "to",
        "in",
        "a",
        "is",
        "that",
        "for",
        "it",
        "was",
        "on",
        "are",
        "as",
        "with",
        "his",
        "they",
        "be",
        "at",
        "one",
        "have",
        "this",
        "from",
        "by",
        "hot",
        "word",
        "but",
        "what",
        "some",
        "we",
        "can",
        "out",
        "other",
        "were",
        "all",
        "there",
        "when",
        "up",
        "use",
        "your",
        "how",
        "said",
        "an",
        "each",
        "she",
        "which",
        "their",
        "time",
        "will",
        "way",
        "about",
        "many",
        "then",
        "them",
        "write",
        "would",
        "like",
        "so",
        "these",
        "her",
        "long",
        "make",
        "thing",
        "see",
        "him",
        "two",
        "has",
        "look",
        "more",
        "day",
        "could",
        "go",
        "come",
        "did",
        "number",
        "sound",
        "most",
        "people",
    ]
    while True:
        yield " ".join(dice.choices(words, k=dice.randint(5, 60)))


def body_of(rows: Sequence[str], column: str) -> bytes:
    return json.dumps({"rows": [{column: text} for text in rows]}).encode()


class Result:
    """What became of the requests: status → count ("lost": no answer at all), and seconds of the answered ones."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.rows = 0

    async def ask(self, connection: Connection, path: str, body: bytes, *, rows: int, due: float) -> int:
        try:
            status, _ = await connection.post(path, body)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.statuses["lost"] += 1
            return 0
        self.statuses[str(status)] += 1
        if status == 200:
            self.seconds.append(time.perf_counter() - due)
            self.rows += rows
        return status

    def add(self, other: Result) -> None:
        self.statuses += other.statuses
        self.seconds += other.seconds
        self.rows += other.rows

    def told(self, wall: float) -> dict[str, Any]:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        each = sorted(self.seconds) or [float("nan")]
        return {
            "rows_s": round(self.rows / wall, 1),
            "requests_s": round(sum(self.statuses.values()) / wall, 1),
            "statuses": dict(self.statuses),
            "ms": {
                name: round(1000 * each[min(len(each) - 1, int(q * len(each)))], 1) for name, q in QUANTILES.items()
            },
            "client_cpu_s": round(spent.ru_utime + spent.ru_stime, 2),
            "wall_s": round(wall, 1),
        }


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


async def closed(
    host: str, port: int, path: str, column: str, *, rows: int, clients: int, seconds: float, warm_s: float = 1.0
) -> dict[str, Any]:
    """Saturation: ``clients`` connections that never wait, each with ``rows`` rows per request."""
    result, asked = Result(), [0]
    began = time.perf_counter() + warm_s
    end = began + seconds

    async def client(seed: int) -> None:
        connection, source = Connection(host, port), texts(seed)
        while (now := time.perf_counter()) < end:
            body, one = body_of([next(source) for _ in range(rows)], column), Result()
            await one.ask(connection, path, body, rows=rows, due=now)
            asked[0] += one.rows
            if began < time.perf_counter() < end:  # what was answered within the time, whenever it was asked
                result.add(one)
        connection.close()

    await asyncio.gather(*(client(seed) for seed in range(clients)))
    return {**result.told(seconds), "asked_rows": asked[0]}


async def open_loop(
    host: str, port: int, path: str, column: str, *, rows: int, rate: float, seconds: float, connections: int
) -> dict[str, Any]:
    """Requests at a ``rate`` per second; of those that find no free connection of ours, "unsent" counts."""
    result, dice, source = Result(), random.Random(0), texts(0)
    free = [Connection(host, port) for _ in range(connections)]
    tasks: set[asyncio.Task[None]] = set()

    async def one(connection: Connection, body: bytes, due: float) -> None:
        await result.ask(connection, path, body, rows=rows, due=due)
        free.append(connection)

    began = due = time.perf_counter()
    unsent = late = 0
    while (due := due + dice.expovariate(rate)) < began + seconds:
        ahead = due - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        elif ahead < -0.05:
            late += 1
            await asyncio.sleep(0)
        if not free:
            unsent += 1
            continue
        body = body_of([next(source) for _ in range(rows)], column)
        task = asyncio.create_task(one(free.pop(), body, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    told = result.told(time.perf_counter() - began)
    return {**told, "offered_s": round(rate, 1), "unsent": unsent, "sent_late": late}


WAYS: dict[str, Callable[..., Any]] = {"closed": closed, "open_loop": open_loop}

if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    print(json.dumps(asyncio.run(WAYS[arguments.pop("way")](**arguments))))
