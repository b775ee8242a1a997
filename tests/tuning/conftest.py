"""Every test leaves its databases closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny_studies import OPENED


@pytest.fixture(autouse=True)
def databases_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()
