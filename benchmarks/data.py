"""The real data sets of the benchmarks, read with the package's own readers.

They lie in the folder that POLYDETR_SHARED names (default ``../shared``), under ``data/``; none of them is part of the repository.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from polydetr.core.records import Record
from polydetr.data.readers import read_records
from polydetr.errors import Location
from polydetr.values.spans import join_tokens

Rows = list[Record]
ROOT = Path(os.environ.get("POLYDETR_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"


@dataclass(frozen=True)
class Split:
    """What one run trains on, chooses by, and is measured on."""

    train: Rows
    valid: Rows
    test: Rows
    target: dict[str, str]
    inputs: dict[str, str] | None = None


def fewer(split: Split, train: int | None, test: int | None) -> Split:
    """A fixed random part of the rows where a number is given, of the validation rows in the proportion of the training
    rows; the same for every side compared.
    """

    def part(rows: Rows, count: int | None) -> Rows:
        return rows if count is None or count >= len(rows) else random.Random(0).sample(rows, count)

    valid = None if train is None else max(1, len(split.valid) * train // len(split.train))
    return replace(split, train=part(split.train, train), valid=part(split.valid, valid), test=part(split.test, test))


def records(rows: list[dict[str, Any]], name: str) -> Rows:
    return [Record(row, Location(file=name, row=i + 1)) for i, row in enumerate(rows)]


def read(path: str, **options: Any) -> Rows:
    return list(read_records(str(ROOT / path), **options))


def conll2003() -> Split:
    return Split(*(read(f"conll2003/eng.{s}") for s in ("train", "testa", "testb")), target={"tags": "tagging"})


def held_out(rows: Rows, column: str, *, seed: int, fraction: float = 0.1) -> tuple[Rows, Rows]:
    """A stratified development part of the training rows; the test rows choose nothing."""
    from polydetr.data.splits import split_records

    return split_records(rows, fraction, seed=seed, stratify_by=column)


def banking77() -> Split:
    train, valid = held_out(read("banking77/train.csv"), "category", seed=0, fraction=0.05)
    return Split(train, valid, read("banking77/test.csv"), target={"category": "classification"})


def clinc150() -> Split:
    full = json.loads((ROOT / "clinc150/data_full.json").read_text(encoding="utf-8"))
    parts = (
        records([{"text": t, "intent": y} for t, y in full[name]], "clinc150") for name in ("train", "val", "test")
    )
    return Split(*parts, target={"intent": "classification"})


def clinc150_out_of_scope() -> tuple[Rows, Rows]:
    """(development, test) texts that belong to none of the 150 intents."""
    full = json.loads((ROOT / "clinc150/data_full.json").read_text(encoding="utf-8"))
    valid, test = (records([{"text": t} for t, _ in full[name]], "clinc150") for name in ("oos_val", "oos_test"))
    return valid, test


def cluener() -> Split:
    """The test part is unlabeled, so scores are of the development part; 8 % of the training rows choose the weights."""
    from polydetr.data.splits import split_records

    train, valid = split_records(read("cluener/train.jsonl"), 0.08, seed=0)
    return Split(train, valid, read("cluener/dev.jsonl"), target={"entities": "tagging"})


def tnews() -> Split:
    """Scores are of the development part; 5 % of the training rows choose the weights."""
    rows = read("tnews/train.tsv", header=False, columns=["text", "label"])
    train, valid = held_out(rows, "label", seed=0, fraction=0.05)
    dev = [json.loads(line) for line in (ROOT / "tnews/dev.json").read_text(encoding="utf-8").splitlines()]
    test = records([{"text": r["sentence"], "label": r["label_desc"]} for r in dev], "tnews")
    return Split(train, valid, test, target={"label": "classification"})


def chnsenticorp() -> Split:
    return Split(
        *(read(f"chnsenticorp/{s}.tsv") for s in ("train", "dev", "test")),
        target={"label": "classification"}, inputs={"text_a": "text"},
    )  # fmt: skip


def phrasebank(fold: int, folds: int = 5) -> Split:
    """Sentences with at least 50 % agreement, stratified folds of seed 0; a tenth of the other folds chooses the weights."""
    from sklearn.model_selection import StratifiedKFold

    lines = (ROOT / "financial_phrasebank/Sentences_50Agree.txt").read_text(encoding="latin-1").splitlines()
    rows = [dict(zip(("text", "label"), line.rsplit("@", 1), strict=True)) for line in lines]
    labels = [r["label"] for r in rows]
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    rest, test = list(splitter.split(np.zeros(len(rows)), labels))[fold]
    train, valid = held_out(records([rows[i] for i in rest], "phrasebank"), "label", seed=0)
    return Split(train, valid, records([rows[i] for i in test], "phrasebank"), target={"label": "classification"})


def squad_by_article(*, test_share: float = 0.25) -> Split:
    """SQuAD v1.1's development file, whole articles to one side: the train file is not needed."""
    from polydetr.data.splits import split_records

    rows = read("squad_dev/dev-v1.1.reconstructed.json")
    titled = [Record(r.row, r.location, (r.document or "").rsplit("#", 1)[0] or r.document) for r in rows]
    rest, test = split_records(titled, test_share, seed=0)
    train, valid = split_records(rest, 0.1, seed=0)
    return Split(train, valid, test, target={"answers": "qa"}, inputs={"question": "text", "context": "text"})


def cmrc2018() -> Split:
    """Scores are of the development file; the trial file chooses the weights."""
    names = ("train-pseudo-cmrc2018", "cmrc2018_trial", "cmrc2018_dev")
    return Split(
        *(read(f"cmrc2018/{name}.json") for name in names),
        target={"answers": "qa"}, inputs={"question": "text", "context": "text"},
    )  # fmt: skip


def gum_nested() -> Split:
    """English of 16 genres, every mention of a person, place, thing or idea: nested up to several deep."""
    train, valid, test = (gum_rows(name) for name in ("train", "dev", "test"))
    return Split(train, valid, test, target={"entities": "entities"}, inputs={"tokens": "text"})


def gum_rows(name: str) -> Rows:
    """One of "train", "dev", "test" and "test2" (other genres): spans of tokens, both ends inclusive, in characters."""
    rows = []
    for i, line in enumerate((ROOT / f"gum_nested/{name}.jsonl").read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        _, offsets = join_tokens(row["tokens"])
        spans = [
            {"start": offsets[first][0], "end": offsets[last][1], "label": label}
            for first, last, label in row["entities"]
        ]
        place = Location(file="gum_nested", row=i)
        rows.append(Record({"tokens": row["tokens"], "entities": spans}, place, row["doc"]))
    return rows


def clothing() -> Split:
    """Photos of clothes in ten classes; the folders of the set are its splits."""
    return Split(*(read(f"clothing_small/{s}") for s in ("train", "validation", "test")), {"label": "classification"})


SETS: dict[str, Callable[[], Split]] = {
    "conll2003": conll2003,
    "banking77": banking77,
    "clinc150": clinc150,
    "cluener": cluener,
    "tnews": tnews,
    "chnsenticorp": chnsenticorp,
    **{f"phrasebank-{fold}": (lambda fold=fold: phrasebank(fold)) for fold in range(5)},
    "squad": squad_by_article,
    "cmrc2018": cmrc2018,
    "gum_nested": gum_nested,
    "clothing": clothing,
}
