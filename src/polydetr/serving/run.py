"""A service, from the names of its models to its end: what can be known is checked before a model is loaded."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import os
import re
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polydetr.errors import ConfigError, PolydetrError, did_you_mean, quoted
from polydetr.inference.folder import read_manifest
from polydetr.serving.contract import Fleet, ModelInfo
from polydetr.serving.keys import KeyFile
from polydetr.serving.limits import LIMITS, LOOPBACK, MEGABYTE, Limits, Place
from polydetr.serving.pages import Pages

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
GRACE_S = 30.0
"""How long what was accepted may take when the service is stopped."""
_SOCKET_BYTES = 4 * MEGABYTE
"""Of one message of a page: a text of 100,000 characters, with what surrounds it."""


@dataclass(frozen=True)
class Wanted:
    """What is served, and where. models: name → folder; hosts: names in Host beside the usual ones; proxies: addresses
    of reverse proxies whose X-Forwarded-For is believed; queue: rows that may wait.
    """

    models: Mapping[str, Path]
    host: str = "127.0.0.1"
    port: int = 8000
    runtime: str | None = None
    workers: int = 1
    root: Path | None = None
    root_path: str = ""
    keys: Path | None = None
    hosts: Sequence[str] = ()
    proxies: Sequence[str] = ()
    queue: int | None = None
    limits: Limits = LIMITS

    @property
    def is_local(self) -> bool:
        """Whether it listens on an address of this machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def reached_at(self) -> str:
        """Where others reach it, itself or by way of a reverse proxy; "" where only this machine does."""
        if self.is_local and not (self.hosts or self.proxies or self.root_path):
            return ""
        return " or ".join(self.hosts) or f"{self.host}{self.root_path}"

    @property
    def place(self) -> Place:
        """Another site's script reaches a service of this network under a *name* that the site points here, so that
        numbers may always stand in Host where the service is open to the network.
        """
        here = (*LOOPBACK, *self.hosts, self.host)
        return Place(here if self.is_local else (*here, socket.gethostname(), Place.NUMBERS), self.root_path)


def named_models(models: Sequence[str]) -> dict[str, Path]:
    """``NAME=FOLDER``, or a folder, whose own name is then the model's.

    Raises:
        ConfigError: a name is no name, or comes twice.
    """
    found: dict[str, Path] = {}
    for text in models:
        name, mark, folder = text.partition("=")
        path = Path(folder if mark else text)
        name = name if mark else re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().name).strip("-._") or "model"
        if not _NAME.fullmatch(name):
            whole = Path(text) if Path(text).exists() else path  # a folder may have the sign in its name
            raise ConfigError(
                f"{quoted(name, 60)} is no name of a model: up to 64 letters, digits, dots, - and _.",
                hint=f"NAME=FOLDER gives a folder another one: polydetr serve model={quoted(str(whole), 200)}",
            )
        if name in found:
            raise ConfigError(
                f"two models are called {quoted(name, 60)}.",
                hint=f"Name them: polydetr serve {name}-2={quoted(str(path))}",
            )
        found[name] = path
    return found


def check(wanted: Wanted) -> KeyFile | None:
    """What can be known before anything is loaded: keys where they are needed, folders that hold models, a root.

    Raises:
        ConfigError, DataFileError, ModelFolderError.
    """
    from polydetr.core.plugs import RUNNERS

    keys = KeyFile(wanted.keys) if wanted.keys else None
    if keys is None and wanted.reached_at:
        raise ConfigError(
            f"everybody who reaches {wanted.reached_at} could ask these models.",
            hint="Make a key and name its file: polydetr keys add NAME, then polydetr serve --keys polydetr-keys.json; "
            "without --host, --allowed-host, --proxy and --root-path only this machine is answered.",
        )
    if keys is not None and not keys.keys():
        raise ConfigError(
            f"there is no key in {str(wanted.keys)!r}.",
            hint=f"polydetr keys add NAME --keys {quoted(str(wanted.keys))} makes one.",
        )
    if wanted.root is not None and not wanted.root.is_dir():
        raise ConfigError(f"{str(wanted.root)!r} is no folder.", hint="--root names the folder of models to exchange.")
    if wanted.runtime is not None and wanted.runtime not in RUNNERS:
        raise ConfigError(
            f"the runtime {quoted(wanted.runtime, 60)} is unknown.", hint=did_you_mean(wanted.runtime, RUNNERS)
        )
    for folder in wanted.models.values():
        read_manifest(folder)
    return keys


def bound(host: str, port: int) -> socket.socket:
    """A socket at the address; nobody is listened to yet.

    Raises:
        ConfigError: it is taken, or is no address of this machine.
    """
    place = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        place = socket.socket(family, kind, protocol)  # asyncio turns Nagle off only where the protocol is said
        if os.name == "posix":
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
    except OSError as error:
        if place is not None:
            place.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is taken.", hint="Name another: --port 8001.") from None
        raise ConfigError(
            f"{host} port {port} cannot be used: {error.strerror or error}.", hint="--host, --port"
        ) from None
    return place


def serve(
    wanted: Wanted,
    *,
    started: Callable[[str, Mapping[str, ModelInfo]], None],
    pages: Callable[[], Callable[[Fleet], Pages] | None] | None = None,
) -> None:
    """Loads the models and answers until it is stopped (SIGTERM, Ctrl-C), and then what it has accepted.

    started: told of the address and the models when requests are taken. pages: prepares
    those that stand beside the API, and gives what makes them once the models are there.

    Raises:
        ConfigError, ModelFolderError: it cannot begin.
    """
    keys = check(wanted)
    with bound(wanted.host, wanted.port) as place, suppress(KeyboardInterrupt):
        make_pages = pages() if pages is not None else None
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # also while models are loaded
        asyncio.run(_serve(wanted, keys, place, started, make_pages))


async def _serve(
    wanted: Wanted,
    keys: KeyFile | None,
    place: socket.socket,
    started: Callable[[str, Mapping[str, ModelInfo]], None],
    pages: Callable[[Fleet], Pages] | None,
) -> None:
    import uvicorn

    from polydetr.serving.app import create_app
    from polydetr.serving.fleet import QUEUE_ROWS, ModelFleet
    from polydetr.serving.log import log, to_standard_error
    from polydetr.serving.protocol import PatientProtocol

    class Told(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if pages is not None:
                _collect_often()
            started(address_of(wanted, place.getsockname()[1]), fleet.models())

    def noted(event: str, about: Mapping[str, Any]) -> None:
        log(event, about)

    to_standard_error()
    fleet = await ModelFleet.start(
        wanted.models, workers=wanted.workers, runtime=wanted.runtime, root=wanted.root,
        queue_rows=wanted.queue or QUEUE_ROWS, notify=noted,
    )  # fmt: skip
    try:
        if faulty := next((info for info in fleet.models().values() if info.state not in ("ready", "loading")), None):
            raise PolydetrError(f"the model {faulty.name!r} cannot be served: {faulty.state}")
        user = os.getuid() if hasattr(os, "getuid") else 0
        jobs = Path(tempfile.gettempdir(), f"polydetr-jobs-{user}-{_address(place)}")
        app = create_app(
            fleet, limits=wanted.limits, place=wanted.place, keys=keys, root=wanted.root, jobs=jobs, grace_s=GRACE_S,
            pages=None if pages is None else pages(fleet),
        )  # fmt: skip
        config = uvicorn.Config(
            app, http=PatientProtocol.within(wanted.limits), ws="none" if pages is None else "websockets-sansio",
            ws_max_size=_SOCKET_BYTES, lifespan="on", log_config=None,
            access_log=False, server_header=False, root_path=wanted.root_path, timeout_graceful_shutdown=int(GRACE_S),
            proxy_headers=bool(wanted.proxies), forwarded_allow_ips=list(wanted.proxies),
        )  # fmt: skip
        await Told(config).serve(sockets=[place])
    finally:
        await fleet.stop(grace_s=0.0)


def _collect_often() -> None:
    """Pages are circles of references, which only the collector frees; the command line has set it to look rarely, for
    its quick start. What is there now stays, and is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 10)


def _address(place: socket.socket) -> str:
    """As a part of a file's name: of two services of one user only one can be there."""
    host, port = place.getsockname()[:2]
    return f"{re.sub('[^0-9a-zA-Z.]', '_', host)}-{port}"


def address_of(wanted: Wanted, port: int) -> str:
    """As it is typed into a browser on this machine."""
    host = wanted.host if wanted.host not in ("0.0.0.0", "::", "[::]") else "localhost"
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{host}:{port}{wanted.root_path}"
