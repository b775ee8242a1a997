"""A training beside predictions in one process: neither changes the other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from tiny_runs import film_rows, train

from polydetr import Predictor


def test_one_thread_fits_while_another_predicts(tmp_path: Path) -> None:
    asked = train(tmp_path / "asked", epochs=1)
    rows = [{"text": row["text"]} for row in film_rows(12)]
    alone, before = asked.predict_proba(rows), torch.get_num_threads()
    fitted = threading.Event()

    def fit() -> Predictor:
        try:
            return train(tmp_path / "fitted", epochs=3)
        finally:
            fitted.set()

    def ask() -> list[Any]:
        found = []
        while not fitted.is_set():
            found.append(asked.predict_proba(rows))
        return found

    with ThreadPoolExecutor(2) as pool:
        training, asking = pool.submit(fit), pool.submit(ask)
        beside, answers = training.result(), asking.result()
    assert len(answers) > 1
    assert all(found == alone for found in answers)
    assert torch.get_num_threads() == before
    # And the training is the one that it would have been without them.
    again = train(tmp_path / "again", epochs=3)
    assert again.predict_proba(rows) == beside.predict_proba(rows)
