"""Models of a few weights behind pages, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from running_studio import CHROMIUM, NOWHERE, VIEWS, Looked, serving

from film_models import film_rows
from polydetr import Predictor


@pytest.fixture(scope="session")
def several_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text and a number in; a class, a quantity and entities out."""
    rows = [{**row, "minutes": 80 + i % 30} for i, row in enumerate(film_rows(40))]
    folder = tmp_path_factory.mktemp("studio") / "several"
    target = {"label": "classification", "stars": "regression", "entities": "entities"}
    Predictor.fit(
        rows, target, inputs={"text": "text", "minutes": "number"}, backbone="none", epochs=2, out=folder,
        settings={"model": {"embed_dim": 16, "num_layers": 1}},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def studio(several_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service over one such model, called ``films``."""
    with serving({"films": several_folder}, folder=tmp_path_factory.mktemp("studio-store")) as address:
        yield address


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page in a fresh browser profile; at the end no script may have failed and no other host been asked."""
    with ExitStack() as stack:
        watched: list[Looked] = []

        def open_page(address: str, path: str = "/studio/", *, view: str = "1280-light-en", **more: Any) -> Any:
            context = chromium.new_context(**VIEWS[view], **more)
            stack.callback(context.close)
            page = context.new_page()
            watched.append(Looked(address))
            watched[-1].watch(page, but=[NOWHERE])
            page.goto(f"{address}{path}")
            page.wait_for_selector("main h1")
            return page

        yield open_page
    assert [one.faults for one in watched if one.faults] == []
