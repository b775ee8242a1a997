"""What the frame keeps, and what it lets go of."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from nicegui import Client

from polydetr.web import frame


def test_pages_that_no_browser_opened_are_forgotten_but_the_newest_and_those_on_their_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone: list[int] = []

    def page(number: int, age_s: float, *, seen: bool = False, leaving: bool = False) -> Any:
        return SimpleNamespace(
            has_socket_connection=seen, _delete_tasks={"tab": 1} if leaving else {}, created=time.time() - age_s,
            delete=lambda: gone.append(number),
        )  # fmt: skip

    pages = [page(i, 100 - i) for i in range(80)]
    pages += [page(80, 200, seen=True), page(81, 200, leaving=True)]
    monkeypatch.setattr(Client, "instances", dict(enumerate(pages)))
    frame.forget_unseen()
    assert gone == list(range(30))
    gone.clear()
    monkeypatch.setattr(Client, "instances", dict(enumerate(page(i, 1.0) for i in range(80))))
    frame.forget_unseen()
    assert gone == []
