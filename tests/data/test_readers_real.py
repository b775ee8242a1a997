"""The real sets give the counts that their notes state."""

import os
from collections import Counter
from pathlib import Path

import pytest

from polydetr.data.inspect import inspect_data
from polydetr.data.readers import ReadReport, read_records
from polydetr.data.splits import split_records

ROOT = Path(os.environ.get("POLYDETR_SHARED", Path(__file__).parents[3] / "shared")) / "data"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not ROOT.is_dir(), reason=f"the real data sets are not there ({ROOT}); set POLYDETR_SHARED"),
]

COUNTS = {
    "conll2003/eng.train": 14_041, "conll2003/eng.testa": 3_250, "conll2003/eng.testb": 3_453,
    "cluener/train.jsonl": 10_748, "cluener/dev.jsonl": 1_343,
    "gum_nested/train.jsonl": 10_224, "gum_nested/dev.jsonl": 1_575, "gum_nested/test.jsonl": 1_464,
    "gum_nested/test2.jsonl": 1_334,
    "banking77/train.csv": 10_003, "banking77/test.csv": 3_080, "bankfaqs/BankFAQs.csv": 1_764,
    "tnews/train.tsv": 53_360, "tnews/dev.tsv": 10_000, "tnews/dev.json": 10_000,
    "chnsenticorp/train.tsv": 9_600, "chnsenticorp/dev.tsv": 1_200, "chnsenticorp/test.tsv": 1_200,
    "squad_dev/dev-v1.1.reconstructed.json": 10_570, "squad_dev/dev-v2.0.reconstructed.json": 11_873,
    "cmrc2018/train-pseudo-cmrc2018.json": 10_142, "cmrc2018/cmrc2018_dev.json": 3_219,
    "cmrc2018/cmrc2018_trial.json": 1_002,
    "zh_fin_news/news_seed.csv": 7_046, "zh_fin_news/test_data.csv": 2_400,
    "dated_fin_headlines/guardian_headlines.csv": 17_800, "dated_fin_headlines/bbc_news_rss_2022.csv": 2_656,
    "ml-latest-small/ratings.csv": 100_004, "fashion_products/styles.csv": 6_000,
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    report = ReadReport()
    assert sum(1 for _ in read_records(ROOT / name, report=report)) == COUNTS[name]
    assert report.rejected == []
    assert report.rows == COUNTS[name]


def test_conll_tokens_entities_and_documents():
    records = list(read_records(ROOT / "conll2003/eng.testb"))
    assert sum(len(r.row["tokens"]) for r in records) == 46_435
    begins = Counter(t[2:] for r in records for t in r.row["tags"] if t.startswith("B-"))
    assert begins == {"LOC": 1_668, "ORG": 1_661, "PER": 1_617, "MISC": 702}
    assert len({r.document for r in records}) == 231


def test_cluener_spans_stand_where_they_say():
    types = set()
    for record in read_records(ROOT / "cluener/train.jsonl"):
        types |= {e["label"] for e in record.row["entities"]}
        assert all(0 <= e["start"] < e["end"] <= len(record.row["text"]) for e in record.row["entities"])
    assert len(types) == 10


@pytest.mark.parametrize(
    ("name", "realigned", "absent"),
    [("train-pseudo-cmrc2018", 21, 0), ("cmrc2018_dev", 7, 193), ("cmrc2018_trial", 5, 0)],
)
def test_cmrc_offsets_are_repaired_and_counted(name, realigned, absent):
    report = ReadReport()
    for record in read_records(ROOT / f"cmrc2018/{name}.json", report=report):
        for answer in record.row["answers"]:
            assert answer["start"] == -1 or record.row["context"].startswith(answer["text"], answer["start"])
    assert report.problems["answer realigned"] == realigned
    assert report.problems["answer not in its text"] == absent


def test_squad_split_by_article():
    records = list(read_records(ROOT / "squad_dev/dev-v1.1.reconstructed.json"))
    kept, held = split_records(records, 0.2)
    assert len({r.document for r in records}) == 48
    assert not {r.document for r in kept} & {r.document for r in held}
    assert 0.15 < len(held) / len(records) < 0.25


def test_inspection_finds_the_texts_that_conll_repeats():
    names = {"train": "eng.train", "valid": "eng.testa", "test": "eng.testb"}
    found = inspect_data(**{k: ROOT / "conll2003" / v for k, v in names.items()})
    assert [leak["count"] for leak in found.leaks] == [130, 78, 26]
    assert found.schema.targets[0].task == "tagging"
