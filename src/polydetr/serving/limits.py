"""How much of everything a service takes: the one place for its bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

MEGABYTE = 1 << 20
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""What a browser on this machine writes into Host; a page of another site that points its own name here does not."""


@dataclass(frozen=True)
class Limits:
    """The bounds of a service.

    body_bytes: of a request, also of one line of a stream; bodies_bytes: of all requests that are not answered; rows:
    of a request that is answered at once; parts: of a multipart body. timeout_s: until a request is answered. header_s:
    for the head of a request; body_s: for its body, to which comes a second for every ``body_rate`` bytes that have
    arrived, as long again at most; send_s: for one part of an answer to be taken. connections: open at once. rate:
    requests per second of one key (or, without keys, of one address), None: any; burst: so many at once. failures:
    wrong keys of one address within ``failures_s``, after which others are refused without a look. stream_rows: of a
    stream that are asked at once; stream_asks: asked ahead of the reader.
    """

    body_bytes: int = 32 * MEGABYTE
    bodies_bytes: int = 512 * MEGABYTE
    rows: int = 1_000
    parts: int = 1_000
    timeout_s: float = 30.0
    header_s: float = 10.0
    body_s: float = 20.0
    body_rate: float = 2_000.0
    send_s: float = 30.0
    connections: int = 1_000
    rate: float | None = None
    burst: int = 200
    failures: int = 20
    failures_s: float = 60.0
    stream_rows: int = 256
    stream_asks: int = 2


@dataclass(frozen=True)
class JobLimits:
    """The bounds of long files.

    count: kept at once, done ones among them; running: answered at once; file_bytes: of one; disk_bytes: of all, with
    their results; kept_s: how long one is kept after its last change.
    """

    count: int = 20
    running: int = 1
    file_bytes: int = 512 * MEGABYTE
    disk_bytes: int = 2_048 * MEGABYTE
    kept_s: float = 24 * 3600.0


@dataclass(frozen=True)
class Place:
    """Where the service stands. hosts: what may stand in Host, "*.example.org" for what ends so, "*" for any, and
    ``NUMBERS`` for every address that is no name. root_path: what a reverse proxy puts before the addresses.
    """

    NUMBERS: ClassVar[str] = "<numbers>"

    hosts: Sequence[str] = LOOPBACK
    root_path: str = ""


LIMITS, JOB_LIMITS, PLACE = Limits(), JobLimits(), Place()
"""The usual ones."""
