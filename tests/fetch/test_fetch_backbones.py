"""Backbones in the cache: fetched once, whoever asks first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polydetr.errors import BackboneError
from polydetr.fetch import backbones
from polydetr.fetch.backbones import HF_FILES, fetch_backbone, is_fetched


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_of_two_first_calls_one_fetches_and_the_other_waits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half, fetched = threading.Event(), []

    def slowly(spec: object, folder: Path, say: object) -> None:
        folder.mkdir(parents=True)
        for file in HF_FILES:
            (folder / file).write_bytes(b"x")
            half.set()
            threading.Event().wait(0.1)  # in which the other call looks at what is there
        fetched.append(folder)

    monkeypatch.setattr(backbones, "_fetch_from_any", slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch_backbone, "minilm")
        half.wait()
        second = pool.submit(fetch_backbone, "minilm")
        assert first.result() == second.result() == fetched[0]
    assert len(fetched) == 1
    assert is_fetched("minilm")
    assert [path.name for path in (cache / "backbones").iterdir()] == ["minilm"]


def test_a_cache_that_cannot_be_written_is_named_with_its_remedy(cache: Path) -> None:
    cache.write_text("")
    with pytest.raises(BackboneError, match=r"'minilm' cannot be kept in .*Not a directory.*POLYDETR_CACHE"):
        fetch_backbone("minilm")
