"""What every test may use: a cache of its own, tiny engines, and the real data sets where there are some."""

from __future__ import annotations

import base64
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from package_index import cache, index, member  # noqa: F401 - fixtures
from postgresql_server import emptied_databases, postgresql, postgresql_server, store_address  # noqa: F401 - fixtures

BLANK_PICTURES = {"backbones", "inference", "model", "serving", "tasks", "training", "tuning"}
"""Folders of tests in which nothing looks at the pictures of a report."""
BLANK = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")
"""A picture of one pixel, as PNG."""


@pytest.fixture(autouse=True)
def private_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's cache; those that read real backbones from it are marked."""
    if not {"network", "shared"} & {mark.name for mark in request.node.iter_markers()}:
        monkeypatch.setenv("POLYDETR_CACHE", str(request.getfixturevalue("tmp_path") / "polydetr-cache"))


@pytest.fixture(scope="session", autouse=True)
def one_precision() -> Iterator[None]:
    """``precision: auto`` is float32, as if bfloat16 were no faster: a tiny model of random weights, which loses much
    by rounding, then learns the same on every processor. What is in bfloat16 says so.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polydetr.model.precision.bf16_speedup", lambda num_threads: 1.0)
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> None:
    """What stands in memory before a file's tests is not looked through for garbage any more: with all modules of all
    tests imported, each collection would take half a second, and a training makes several.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def quick_pictures(request: pytest.FixtureRequest) -> Iterator[Callable[..., bytes] | None]:
    """Reports of a model that was trained for a test of something else have blank pictures: drawing them would take
    most of the time. Whatever is a test of pictures, pages or commands has the real ones.
    """
    if request.path.parent.name not in BLANK_PICTURES:
        yield None
        return
    from polydetr.reports.style import png_of

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polydetr.reports.style.png_of", lambda figure: BLANK)
        yield png_of


@pytest.fixture
def drawn_pictures(quick_pictures: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ones, for a test in such a folder that does look at them."""
    monkeypatch.setattr("polydetr.reports.style.png_of", quick_pictures)


@pytest.fixture(scope="module")
def quick_start() -> Iterator[None]:
    """A training over a table begins with any additive model, for tests that do not ask for the best: to find that one
    takes longer than the training of a tiny network.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"STRENGTHS": (10.0, 1.0), "PAIR_STRENGTHS": (1.0,), "FOLDS": 2, "ITERATIONS": 20}.items():
            patch.setattr(f"polydetr.training.additive.{name}", value)
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line inside this process: exit code, standard output, standard error."""
    from polydetr.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["polydetr", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return stop.value.code or 0, out, err  # type: ignore[return-value]

    return run


@pytest.fixture
def tiny_engine() -> Callable:
    """``tiny_models.make_engine``: an untrained engine with a vocabulary learned from the given rows."""
    from tiny_models import make_engine

    return make_engine


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets: $POLYDETR_SHARED, or ``shared/data`` beside the repository."""
    named = os.environ.get("POLYDETR_SHARED")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared"
    folder = folder / "data" if (folder / "data").is_dir() else folder
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder}; set POLYDETR_SHARED to their folder")
    return folder
