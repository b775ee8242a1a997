"""Which examples travel together, how they are padded, and the file they are kept in."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polydetr.core.examples import IGNORE_INDEX, Example
from polydetr.data import store as store_module
from polydetr.data.batching import token_budget_batches
from polydetr.data.store import ExampleStore, trim_cache
from polydetr.errors import DataFileError, SaveError
from polydetr.nn.batch import Batch, TokenGroup


def example(length: int, label: int = 0, weight: float = 1.0) -> Example:
    ids = np.arange(length, dtype=np.int32)
    targets = {"label": np.array(label), "tags": ids.astype(np.int16), "known": np.ones(3, np.float32)}
    return Example(
        {"text": {"input_ids": ids, "flag": ids % 2 == 0}},
        {"y": targets},
        weight=weight,
        padding={"y": {"tags": IGNORE_INDEX}},
    )


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(1, 200), st.one_of(st.none(), st.integers(0, 9)))
def test_each_example_travels_once_and_within_the_budget(lengths: list[int], budget: int, seed: int | None) -> None:
    batches = token_budget_batches(lengths, budget, seed=seed)
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= budget for b in batches)
    assert batches == token_budget_batches(lengths, budget, seed=seed)


def test_seed_and_epoch_change_the_order() -> None:
    lengths = list(range(1, 60))
    orders = [token_budget_batches(lengths, 64, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_padding_is_masked_and_ignored() -> None:
    batch = Batch.collate([example(3, 4, 0.5), example(5)], ids=[7, 9])
    group = batch.groups["text"]
    assert group.mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert group.values["input_ids"].dtype == torch.int64
    assert group.positions[0].tolist() == [0, 1, 2, 3, 4]
    assert batch.targets["y"]["tags"][0].tolist() == [0, 1, 2, IGNORE_INDEX, IGNORE_INDEX]
    assert batch.targets["y"]["label"].tolist() == [4, 0]
    assert (batch.example_ids, batch.weights.tolist(), batch.num_real_tokens) == ((7, 9), [0.5, 1.0], 8)


def test_a_batch_checks_its_shapes() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="mask must be bool"):
        TokenGroup({}, mask.float(), mask.long())
    with pytest.raises(ValueError, match="positions"):
        TokenGroup({}, mask, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="do not begin with"):
        TokenGroup({"x": torch.zeros(3, 2)}, mask, mask.long())
    with pytest.raises(ValueError, match="group 'text' holds 2 examples, expected 1"):
        Batch({"text": TokenGroup({}, mask, mask.long())}, {}, (0,), torch.ones(1))


@pytest.mark.parametrize("flush", [1, 2, 1000])
def test_the_file_gives_back_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush: int) -> None:
    monkeypatch.setattr(store_module, "_FLUSH", flush)
    given = [example(n, n, 1 / n) for n in (1, 5, 2, 7, 3)]
    store = ExampleStore.write(iter(given), tmp_path / "deep" / "rows.arrow")
    assert (len(store), store.lengths.tolist()) == (5, [1, 5, 2, 7, 3])
    for i, one in enumerate(given):
        for first, second in ((one.groups["text"], store[i].groups["text"]), (one.targets["y"], store[i].targets["y"])):
            assert list(first) == list(second)
            for name in first:
                assert first[name].dtype == second[name].dtype
                assert first[name].shape == second[name].shape
                assert np.array_equal(first[name], second[name])
        assert store[i].weight == pytest.approx(one.weight)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["rows.arrow"]
    with pytest.raises(IndexError):
        store[5]


def test_what_an_example_costs_is_kept(tmp_path: Path) -> None:
    """An image is one entry and many tokens; batches are cut by what the model attends over."""
    given = [dataclasses.replace(example(n), cost=100 * n) for n in (1, 2)]
    store = ExampleStore.write(iter(given), tmp_path / "rows.arrow")
    assert [store[i].num_tokens for i in range(2)] == store.lengths.tolist() == [100, 200]


def test_no_rows_make_an_empty_file(tmp_path: Path) -> None:
    assert len(ExampleStore.write([], tmp_path / "rows.arrow")) == 0


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    path = ExampleStore.write([example(3)], tmp_path / "rows.arrow").path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataFileError, match=r"rows\.arrow"):
        ExampleStore(path)


def test_a_failed_write_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SaveError, match="No space left on device"):
        ExampleStore.write([example(3)], tmp_path / "rows.arrow")
    assert not list(tmp_path.iterdir())


def test_the_cache_forgets_the_longest_unused_first(tmp_path: Path) -> None:
    for i, name in enumerate("abc"):
        (tmp_path / f"{name}.arrow").write_bytes(b"x" * 10)
        os.utime(tmp_path / f"{name}.arrow", (i, i))
    trim_cache(tmp_path, keep=tmp_path / "a.arrow", limit=20)
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["a", "c"]


def test_two_processes_may_tidy_the_cache_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / f"{name}.arrow").write_bytes(b"x" * 10)
    seen = Path.stat

    def gone_meanwhile(path: Path, **options: Any) -> os.stat_result:
        if path.stem == "b":
            path.unlink(missing_ok=True)
        return seen(path, **options)

    monkeypatch.setattr(Path, "stat", gone_meanwhile)
    trim_cache(tmp_path, keep=tmp_path / "c.arrow", limit=10)
    assert sorted(p.stem for p in tmp_path.glob("*.arrow")) == ["c"]


def test_what_the_system_does_not_delete_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, name in enumerate("abc"):
        (tmp_path / f"{name}.arrow").write_bytes(b"x" * 10)
        os.utime(tmp_path / f"{name}.arrow", (i, i))
    delete = Path.unlink

    def read_elsewhere(path: Path, missing_ok: bool = False) -> None:
        if path.stem == "a":
            raise PermissionError(13, "in use")
        delete(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", read_elsewhere)
    trim_cache(tmp_path, keep=tmp_path / "c.arrow", limit=20)
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["a", "c"]
