"""Models of a few weights, and a service over them in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from local_fleet import LocalFleet, of_rows
from running_service import Running, Service
from starlette.testclient import TestClient

from film_models import film_rows, plain_rows
from polydetr.inference.service import ServiceModel
from polydetr.serving.app import create_app


@pytest.fixture(scope="session")
def film_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "film"
    of_rows(plain_rows(40), folder, target="label")
    return folder


@pytest.fixture(scope="session")
def film(film_folder: Path) -> ServiceModel:
    """One text in, one of two labels out."""
    return ServiceModel.load(film_folder)


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> ServiceModel:
    """A text and a number in; a class, a quantity and entities out."""
    rows = [{**row, "minutes": 80 + i % 30} for i, row in enumerate(film_rows(40))]
    target = {"label": "classification", "stars": "regression", "entities": "entities"}
    inputs = {"text": "text", "minutes": "number"}
    return of_rows(rows, tmp_path_factory.mktemp("served") / "several", target=target, inputs=inputs)


@pytest.fixture
def service(film: ServiceModel) -> Iterator[Service]:
    """Starts a service over models by name (of ``film`` where none are given); ``fleet`` of the client is its fleet."""
    with ExitStack() as stack:

        def start(
            models: dict[str, ServiceModel] | None = None, *, fleet: LocalFleet | None = None, **how: Any
        ) -> TestClient:
            fleet = fleet or LocalFleet(models or {"film": film})
            app = create_app(fleet, **how)
            client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
            client.fleet = fleet  # type: ignore[attr-defined]
            return stack.enter_context(client)

        yield start


@pytest.fixture
def running(film: ServiceModel) -> Iterator[Callable[..., Running]]:
    """Starts services as ``service`` does, behind sockets."""
    started: list[Running] = []

    def start(models: dict[str, ServiceModel] | None = None, **how: Any) -> Running:
        started.append(Running(LocalFleet(models or {"film": film}), **how))
        return started[-1]

    yield start
    for one in started:
        one.stop()
