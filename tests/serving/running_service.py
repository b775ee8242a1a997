"""A service as tests ask it: in this process, or behind a socket."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from local_fleet import LocalFleet
from starlette.testclient import TestClient

from polydetr.serving.app import create_app
from polydetr.serving.limits import Limits
from polydetr.serving.protocol import PatientProtocol

Service = Callable[..., TestClient]
"""Starts a service in this process: models by name → its client."""


class Running:
    """A service behind a real socket, in a thread of this process."""

    def __init__(self, fleet: LocalFleet, **how: Any) -> None:
        limits = how.get("limits", Limits())
        self.fleet, self.gate = fleet, create_app(fleet, **how)
        self._place = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio leaves Nagle on: 40 ms per answer
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            self.gate, http=PatientProtocol.within(limits), ws="none", lifespan="on", log_config=None,
            access_log=False, server_header=False, timeout_graceful_shutdown=2, timeout_keep_alive=2,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[self._place])))
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._place.close()

    def said(self, sent: bytes, *, seconds: float = 5.0) -> bytes:
        """What comes back on a connection until its end, or until nothing came for so long."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(sent)
            found = b""
            with suppress(TimeoutError, ConnectionError):
                while data := connection.recv(65536):
                    found += data
            return found
