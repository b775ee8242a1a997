"""What every test may use: a cache of its own, tiny engines, and the real data sets where there are some."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from package_index import cache, index, member  # noqa: F401 - fixtures
from postgresql_server import emptied_databases, postgresql, postgresql_server, store_address  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def private_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's cache; those that read real backbones from it are marked."""
    if not {"network", "shared"} & {mark.name for mark in request.node.iter_markers()}:
        monkeypatch.setenv("POLYDETR_CACHE", str(request.getfixturevalue("tmp_path") / "polydetr-cache"))


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
