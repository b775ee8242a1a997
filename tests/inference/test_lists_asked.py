"""A model answers and is measured alike whether its rows hold lists or write them as text, whatever their labels."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from polydetr import Predictor
from polydetr.inference.model import MeasureWarning

SMALL = {
    "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2},
    "text": {"vocab_size": 200},
    "training": {"batch_tokens": 128, "precision": "fp32"},
}
WORDS = [["cork", "from", "Porto"], ["tin", "sold"], ["oil", "from", "Perth", "."]] * 4
TAGS = [["B-GOOD", "O", "B-CITY"], ["B-GOOD", "O"], ["B-GOOD", "O", "B-CITY", "O"]] * 4
ROWS = [{"words": w, "seen": [w[0], "oak"], "tags": t} for w, t in zip(WORDS, TAGS, strict=True)]


def fit(rows: Any, target: Any, **how: Any) -> Predictor:
    return Predictor.fit(rows, target, backbone="none", epochs=1, seed=0, settings=SMALL, **how)


def as_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)  # lists as Python writes them
    return path


@pytest.fixture(scope="module")
def tagger() -> Predictor:
    return fit(ROWS, "tags", inputs=["words"])


def test_lists_and_their_text_are_answered_and_measured_alike(tagger: Predictor, tmp_path: Path) -> None:
    path = as_csv(tmp_path / "rows.csv", ROWS)
    as_json = [{name: json.dumps(value) for name, value in row.items()} for row in ROWS]
    assert tagger.predict(path) == tagger.predict(as_json) == tagger.predict(ROWS)
    assert tagger.evaluate(path) == tagger.evaluate(as_json) == tagger.evaluate(ROWS)
    tagger.save(tmp_path / "model")
    assert Predictor.load(tmp_path / "model").predict(path) == tagger.predict(ROWS)
    assert tagger.check(path).lines() == tagger.check(ROWS).lines()


def test_trained_on_the_text_of_lists_it_reads_lists(tmp_path: Path) -> None:
    model = fit(as_csv(tmp_path / "rows.csv", ROWS), "tags", inputs={"seen": "history", "words": "text"})
    assert model.schema.names("history") == ["seen"]
    assert model.predict(ROWS[:3]) == model.predict([{k: str(v) for k, v in row.items()} for row in ROWS[:3]])


@pytest.mark.parametrize("label", [None, "B-GOOD", ["X-", 3], [{"start": "a"}], "[broken", 7])
def test_no_label_hinders_an_answer(tagger: Predictor, label: Any) -> None:
    rows = [{"words": row["words"], "tags": label} for row in ROWS[:3]]
    assert tagger.predict(rows) == tagger.predict([{"words": row["words"]} for row in ROWS[:3]])


def test_a_column_file_without_tags_is_answered_and_one_with_them_measured(tagger: Predictor, tmp_path: Path) -> None:
    lines = ["\n".join(words) for words in WORDS]
    (tmp_path / "bare.conll").write_text("\n\n".join(lines), encoding="utf-8")
    model = fit([{"tokens": row["words"], "kind": row["tags"]} for row in ROWS], "kind:tagging")
    assert model.predict(tmp_path / "bare.conll") == model.predict([{"tokens": words} for words in WORDS])
    tagged = ["\n".join(map("\t".join, zip(words, tags, strict=True))) for words, tags in zip(WORDS, TAGS, strict=True)]
    (tmp_path / "rows.tsv").write_text("\n\n".join(tagged), encoding="utf-8")  # the tags bear the target's name
    assert model.evaluate(tmp_path / "rows.tsv").keys() == {"kind"}


def test_evaluate_counts_the_labels_that_do_not_fit_their_text() -> None:
    span = {"start": 10, "end": 15, "label": "CITY", "text": "Porto"}
    rows = [{"text": f"{good} from Porto", "y": [span]} for good in ("cork", "salt", "wine", "rice")]
    model = fit(rows, "y")
    shifted = [{**row, "y": [{**span, "start": 9, "end": 14}]} for row in rows[:3]]
    with pytest.warns(MeasureWarning, match=r"3 labels of 'y' in these rows .* row 1, .* it is put at 10-15"):
        found = model.evaluate(shifted)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MeasureWarning)
        warnings.filterwarnings("ignore", message=".*entity_f1 is 0 on")  # few rows, few steps
        assert model.evaluate(rows[:3]) == found


def test_an_empty_cell_of_several_labels_is_measured_as_a_row_without_any(tmp_path: Path) -> None:
    texts, labels = ["cork sold", "cork and tin", "no", "tin sold"] * 4, ["cork", "cork|tin", "", "tin"] * 4
    rows = [{"text": text, "y": label} for text, label in zip(texts, labels, strict=True)]
    model = fit(as_csv(tmp_path / "rows.csv", rows), "y", inputs=["text"])
    lists = [{**row, "y": [label for label in row["y"].split("|") if label]} for row in rows]
    evaluations = [model.evaluation(source)["y"] for source in (tmp_path / "rows.csv", rows, lists)]
    assert [e.data["classes"]["total"] for e in evaluations] == [16, 16, 16]
    assert evaluations[0].metrics == evaluations[1].metrics == evaluations[2].metrics
    unknown = [{**row, "y": None} for row in lists[:3]] + lists[3:]
    assert model.evaluation(unknown)["y"].data["classes"]["total"] == 13
