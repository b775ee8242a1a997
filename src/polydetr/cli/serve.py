"""The verb ``serve``: models over HTTP."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polydetr.cli.output import say
from polydetr.core.installed import pip_install
from polydetr.errors import ConfigError, PolydetrError

if TYPE_CHECKING:
    from polydetr.serving.contract import Fleet, ModelInfo
    from polydetr.serving.pages import Pages
    from polydetr.serving.run import Wanted

_NEEDED_BY_PAGES = ("nicegui", "websockets", "sqlalchemy", "alembic", "argon2")
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Model folders; NAME=FOLDER gives one another name.")
    ],
    host: Annotated[
        str, typer.Option(help="The address to answer at. Other than this machine's own take --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.", min=0, max=65535)] = 8000,
    runtime: Annotated[
        str | None, typer.Option(help="What computes: torch or onnx; by default as the folder says.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Model processes, each with all models.", min=1)] = 1,
    root_path: Annotated[
        str, typer.Option(help="What a reverse proxy puts before the addresses, such as /models.")
    ] = "",
    root: Annotated[Path | None, typer.Option(help="The folder below which models lie that may be exchanged.")] = None,
    keys: Annotated[
        Path | None, typer.Option(help="The file of polydetr keys: without a key nothing is answered.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second of one key, at most.", min=0.01)] = None,
    max_body: Annotated[float, typer.Option(help="MB of one request, at most.", min=0.001)] = 32.0,
    max_rows: Annotated[int, typer.Option(help="Rows of one request, at most.", min=1)] = 1_000,
    timeout: Annotated[float, typer.Option(help="Seconds until a request is answered, at most.", min=0.1)] = 30.0,
    queue: Annotated[int | None, typer.Option(help="Rows that may wait; more are refused (429).", min=1)] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Another name of this service in the Host header; *.example.org for many.")
    ] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="The address of a reverse proxy whose X-Forwarded-For is believed.")
    ] = None,
    studio: Annotated[
        bool | None, typer.Option(help="Pages beside the API; by default where polydetr[studio] is installed.")
    ] = None,
    store: Annotated[
        str, typer.Option(help="Where corrections and people are kept: a file, or a PostgreSQL address.")
    ] = "polydetr-studio.db",
    runs: Annotated[Path, typer.Option(help="The folder of trainings that the pages show.")] = Path("runs"),
    may_train: Annotated[
        bool | None,
        typer.Option(help="Admins may start trainings on the pages; by default where only this machine reaches them."),
    ] = None,
) -> None:
    """Answer rows over HTTP, until it is stopped (Ctrl-C)."""
    _check_installed()
    from polydetr.serving.limits import LIMITS
    from polydetr.serving.run import Wanted, named_models
    from polydetr.serving.run import serve as run

    if root_path and not (root_path.startswith("/") and not root_path.endswith("/")):
        raise ConfigError(
            f"--root-path is {root_path!r}, expected a path that begins with a slash and ends without one.",
            hint="Such as /models.",
        )
    for option, value in (("--rate", rate), ("--max-body", max_body), ("--timeout", timeout)):
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"{option} is {value}, expected a number.", hint="Name one, or leave the option out.")
    rate = rate if rate is not None or keys is None else _RATE
    limits = dataclasses.replace(
        LIMITS, body_bytes=int(max_body * 1_000_000), rows=max_rows, timeout_s=timeout, rate=rate,
        burst=max(1, int(2 * rate)) if rate else LIMITS.burst,
    )  # fmt: skip
    wanted = Wanted(
        named_models(models), host=host, port=port, runtime=runtime, workers=workers, root=root, root_path=root_path,
        keys=keys, hosts=allowed_host or (), proxies=proxy or (), queue=queue, limits=limits,
    )  # fmt: skip
    say(f"polydetr: loading {', '.join(wanted.models)}")
    pages = _pages(wanted, studio, store, runs, may_train)
    run(wanted, pages=pages, started=lambda address, served: _tell(address, served, with_key=keys is not None))
    say("polydetr: stopped")


_RATE = 100.0
"""Requests per second of one key, where nothing else is said: one key's slip leaves the others their share."""


def _pages(
    wanted: Wanted, studio: bool | None, store: str, runs: Path, may_train: bool | None
) -> Callable[[], Callable[[Fleet], Pages] | None] | None:
    missing = [name for name in _NEEDED_BY_PAGES if find_spec(name) is None]
    if studio is False or (studio is None and missing):
        return None
    if missing:
        raise ConfigError(
            f"{', '.join(missing)}: not installed, and the pages take it.",
            hint=f"{pip_install('studio')}, or leave out --studio",
        )
    from polydetr.core.databases import read_address
    from polydetr.studio.opened import studio_pages

    def prepared() -> Callable[[Fleet], Pages] | None:
        """A service that was not asked for pages does not fail for want of them."""
        try:
            made = studio_pages(wanted, store=store, runs=runs, may_train=may_train)
            kept = read_address(store, option="store", kept="people and corrections").shown
            say(f"polydetr: pages beside the API, at its first address; people and corrections are kept in {kept}")
            return made
        except PolydetrError as error:
            if studio:
                raise
            say(f"polydetr: without pages: {error}")
            return None

    return prepared


def _check_installed() -> None:
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(f"{', '.join(missing)}: not installed, and serving takes it.", hint=pip_install("serve"))


def _tell(address: str, models: Mapping[str, ModelInfo], *, with_key: bool) -> None:
    """Where it answers, and a line to try it with."""
    from polydetr.serving.request_code import curl_line

    say(f"polydetr: answering at {address}; the page of its addresses: {address}/docs")
    for info in models.values():
        say(f"  {curl_line(address, info.name, info.example, with_key=with_key)}")
