"""Backbones that stay frozen by themselves: images beside a table, of few rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from polydetr.config.loading import load_config
from polydetr.training import freezing
from polydetr.training.freezing import FEW, stays_frozen


def frozen(
    monkeypatch: pytest.MonkeyPatch, rows: int = 300, *, groups: tuple[str, ...] = ("image",), table: bool = True,
    finds: bool = False, **training: Any,
) -> bool:  # fmt: skip
    monkeypatch.setattr(freezing, "backbone_groups", lambda assembly: list(groups))
    monkeypatch.setattr(freezing, "may_freeze", lambda assembly: not finds)
    assembly: Any = SimpleNamespace(model=SimpleNamespace(additive={"price": "table"} if table else {}))
    return stays_frozen(load_config({"training": training}), assembly, rows)


def test_few_rows_with_images_beside_a_table_are_frozen_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frozen(monkeypatch)
    assert not frozen(monkeypatch, FEW + 1)
    assert not frozen(monkeypatch, groups=("text",))
    assert not frozen(monkeypatch, table=False)
    assert not frozen(monkeypatch, finds=True)


@pytest.mark.parametrize("said", [{"freeze_backbones": False}, {"freeze_layers": 2}, {"lora": {"rank": 4}}])
def test_what_the_user_says_of_the_backbones_stays(monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]) -> None:
    assert not frozen(monkeypatch, **said)
