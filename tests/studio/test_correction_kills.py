"""A process that is killed while it saves corrections: a tenth of ``benchmarks/correction_kills.py``."""

from __future__ import annotations

import importlib
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from polydetr.web.store.database import Database
from polydetr.web.store.tables import corrections

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("correction_kills")


def test_no_acknowledged_correction_is_lost_or_doubled_by_a_kill(
    kills: Any, store_address: str, tmp_path: Path
) -> None:
    found = list(kills.rounds(store_address, tmp_path, 2, 0))
    assert [line["kill"] for line in found] == [1, 2]
    assert found[-1]["acknowledged"] > found[0]["acknowledged"] > 0
    log = tmp_path / "log.jsonl"
    last = next(json.loads(line)["as"] for line in reversed(log.read_text("utf-8").splitlines()) if '"done"' in line)
    with closing(Database.open(store_address)) as database, database.write() as connection:  # it does see a loss
        connection.execute(update(corrections).where(corrections.c.id == last).values(id="another"))
    with pytest.raises(AssertionError, match="1 acknowledged corrections are lost"):
        kills.compare(store_address, log)
