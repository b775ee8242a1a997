"""Search by embedding: questions and answers, titles and photos, what was seen and what comes next.

    python benchmarks/retrieval.py bankfaqs|fashion|films [--seed 0] [--set training.lr=1e-4] [--label note]

bankfaqs  an unseen question searches its answers among all 1,440, those of the training rows included
fashion   an unseen title searches its photo among those of the test split; and the photo its title
films     the films a user liked so far search the next one, the last of every user, among all that anybody liked;
          those already seen are left out

Each model stands beside baselines that were given the same rows. Settings are chosen by the validation rows; the test
rows are measured once per run. Appends one JSON line per model to benchmarks/results/retrieval.jsonl.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from data import ROOT, Rows, records
from polydetr import Predictor
from polydetr.config.loading import load_config, merge, parse_settings
from polydetr.metrics.ranking import RankingReport
from ranking import ranking_report
from recording import keep

SETTINGS: dict[str, dict[str, Any]] = {
    "bankfaqs": {
        "backbone": "minilm", "epochs": 3, "text": {"max_tokens": 160},
        "training": {"lr": 1e-4, "batch_tokens": 4096},
    },
    "fashion": {
        "backbone": {"text": "minilm", "image": "mobilenet-v2"}, "epochs": 15, "image": {"size": 96, "augment": {"flip": False}},
        "model": {"embed_dim": 192, "num_layers": 1},
        "training": {"freeze_backbones": True, "head_lr": 1e-3, "batch_tokens": 4096, "patience": 4},
    },
    "films": {
        "backbone": "minilm", "epochs": 3, "history": {"max_items": 10, "item_tokens": 24, "fields": {"title": "text", "genres": "text"}}, "model": {"num_layers": 1},
        "training": {"head_lr": 1e-3, "freeze_backbones": True, "batch_tokens": 8192, "patience": 0},
    },
}  # fmt: skip
Scores = Iterator[tuple[str, RankingReport, dict[str, Any]]]
"""(model, scores, what else is to tell)"""


# -- questions and answers ----------------------------------------------------------------------------------------------


def bankfaqs_splits(seed: int) -> tuple[Rows, Rows, Rows]:
    """70, 10 and 20 % of the pairs; those that share a question or an answer stay together."""
    import polars

    frame = polars.read_csv(ROOT / "bankfaqs" / "BankFAQs.csv").unique(["Question", "Answer"], maintain_order=True)
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    for row in frame.iter_rows(named=True):
        parent[find("q" + row["Question"])] = find("a" + row["Answer"])
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in frame.iter_rows(named=True):
        groups[find("q" + row["Question"])].append({"question": row["Question"], "answer": row["Answer"]})
    parts: list[list[dict[str, Any]]] = [[], [], []]
    for i in np.random.default_rng(seed).permutation(len(groups)):
        done = sum(map(len, parts)) / frame.height
        parts[0 if done < 0.7 else 1 if done < 0.8 else 2] += list(groups.values())[i]
    train, valid, test = (records(rows, "bankfaqs") for rows in parts)
    return train, valid, test


def bankfaqs(seed: int, settings: dict[str, Any]) -> Scores:
    train, valid, test = bankfaqs_splits(seed)
    answers = sorted({str(r.row["answer"]) for r in [*train, *valid, *test]})
    column = {answer: i for i, answer in enumerate(answers)}
    right: dict[str, list[int]] = defaultdict(list)
    for record in test:
        right[str(record.row["question"])].append(column[str(record.row["answer"])])
    questions = list(right)
    gains = np.zeros((len(questions), len(answers)))
    for i, question in enumerate(questions):
        gains[i, right[question]] = 1

    from sklearn.feature_extraction.text import TfidfVectorizer

    known = [str(r.row[name]) for r in [*train, *valid] for name in ("question", "answer")] + answers
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(known)
    scores = vectorizer.transform(questions) @ vectorizer.transform(answers).T
    yield "TF-IDF", ranking_report(scores.toarray(), gains), {}
    for name, predictor, facts in trained(train, valid, {"answer": "embedding"}, {"question": "text"}, seed, settings):
        vectors = predictor.embed([{"question": q} for q in questions]), predictor.embed(answers, side="target")
        yield name, ranking_report(vectors[0] @ vectors[1].T, gains), facts


# -- titles and photos --------------------------------------------------------------------------------------------------


def fashion(seed: int, settings: dict[str, Any]) -> Scores:
    import polars

    frame = polars.read_csv(ROOT / "fashion_products" / "styles.csv", infer_schema_length=None)
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for row in frame.iter_rows(named=True):
        photo = str(ROOT / "fashion_products" / "images" / f"{row['id']}.jpg")
        splits[row["split"]].append({"title": row["productDisplayName"], "photo": photo})
    train, valid, test = (records(rows, "fashion_products") for rows in splits.values())
    titles = sorted({str(r.row["title"]) for r in test})
    photos = [str(r.row["photo"]) for r in test]
    gains = np.array([[float(title == r.row["title"]) for r in test] for title in titles])
    chance = np.random.default_rng(seed).random(gains.shape)
    yield "chance, title to photo", ranking_report(chance, gains), {}
    for name, predictor, facts in trained(train, valid, {"photo": "embedding"}, {"title": "text"}, seed, settings):
        scores = predictor.embed([{"title": t} for t in titles]) @ predictor.embed(photos, side="target").T
        yield f"{name}, title to photo", ranking_report(scores, gains), facts
        yield f"{name}, photo to title", ranking_report(scores.T, gains.T), facts


# -- films --------------------------------------------------------------------------------------------------------------


def film_sequences() -> tuple[list[list[int]], dict[int, dict[str, Any]]]:
    """Every user's liked films (four stars or more) in order of time, users with five and more; and the films."""
    import polars

    folder = ROOT / "ml-latest-small"
    movies = polars.read_csv(folder / "movies.csv")
    films = {
        row["movieId"]: {"title": row["title"], "genres": row["genres"].replace("|", " ")}
        for row in movies.iter_rows(named=True)
    }
    ratings = (
        polars.read_csv(folder / "ratings.csv").filter(polars.col("rating") >= 4).sort("userId", "timestamp", "movieId")
    )
    users = ratings.group_by("userId", maintain_order=True).agg("movieId")["movieId"].to_list()
    return [user for user in users if len(user) >= 5], films


def films(seed: int, settings: dict[str, Any]) -> Scores:
    """The last film of every user is the test, the one before chooses the weights, up to 6 before those train."""
    users, known = film_sequences()
    catalogue = sorted({film for user in users for film in user})
    column = {film: i for i, film in enumerate(catalogue)}

    def row(seen: Sequence[int], film: int) -> dict[str, Any]:
        return {"seen": [known[f] for f in seen[-10:]], "next": known[film]}

    train = [row(u[:i], u[i]) for u in users for i in range(max(1, len(u) - 8), len(u) - 2)]
    valid = [row(u[:-2], u[-2]) for u in users]
    test = [row(u[:-1], u[-1]) for u in users]
    gains = np.zeros((len(users), len(catalogue)))
    seen = np.zeros_like(gains, dtype=bool)
    for i, user in enumerate(users):
        gains[i, column[user[-1]]] = 1
        seen[i, [column[f] for f in user[:-1]]] = True

    def unseen(scores: np.ndarray) -> RankingReport:
        return ranking_report(np.where(seen, -1e9, scores), gains)

    matrix = seen.astype(np.float64)  # who liked what, without the test films
    yield "TopPop", unseen(np.tile(matrix.sum(0), (len(users), 1))), {}
    together = matrix.T @ matrix
    norm = np.sqrt(np.outer(together.diagonal(), together.diagonal()))
    likeness = together / (norm + 10.0)  # shrunk, as films that few people know would else come first
    np.fill_diagonal(likeness, 0)
    yield "ItemKNN", unseen(matrix @ likeness), {}
    recent = np.zeros_like(matrix)
    for i, user in enumerate(users):
        recent[i, [column[f] for f in user[-11:-1]]] = 1
    yield "ItemKNN of the last ten", unseen(recent @ likeness), {}
    target, inputs = {"next": "embedding"}, {"seen": "history"}
    for name, predictor, facts in trained(
        records(train, "films"), records(valid, "films"), target, inputs, seed, settings
    ):
        items = predictor.embed([known[film] for film in catalogue], side="target")
        yield name, unseen(predictor.embed([{"seen": r["seen"]} for r in test]) @ items.T), facts


# -- runs ---------------------------------------------------------------------------------------------------------------


def trained(
    train: Rows, valid: Rows, target: dict[str, str], inputs: dict[str, str], seed: int, settings: dict[str, Any]
) -> Iterator[tuple[str, Predictor, dict[str, Any]]]:
    """The model before its first step, where that says something, and after its last."""
    from polydetr.model.build import build_model
    from polydetr.schema.infer import infer_schema

    if list(inputs.values()) != ["text"] or "photo" not in target:
        schema = infer_schema([r.row for r in train[:2000]], targets=target, inputs=inputs)
        engine = build_model(load_config(settings, seed=seed), schema, train, notify=lambda line: None).engine
        engine.runner.model.eval()
        yield "the backbone untrained", Predictor(engine, {"schema": schema.to_dict()}), {}
    started = time.perf_counter()
    predictor = Predictor.fit(train, target, valid=valid, inputs=inputs, seed=seed, config=settings)
    facts = {
        "seconds": round(time.perf_counter() - started, 1),
        "valid": predictor.metrics["valid"],
        "rows": predictor.info["rows"],
        "training": predictor.info["training"],
        "parameters": predictor.info["parameters"],
    }
    yield "polydetr", predictor, facts


SETS: dict[str, Callable[[int, dict[str, Any]], Scores]] = {"bankfaqs": bankfaqs, "fashion": fashion, "films": films}


def main() -> None:

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=list(SETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    settings = merge(SETTINGS[arguments.data], parse_settings(arguments.settings))
    for model, report, facts in SETS[arguments.data](arguments.seed, settings):
        print(f"{model}\n{report.to_text()}", flush=True)
        line = {
            "data": arguments.data, "model": model, "label": arguments.label, "metrics": report.to_dict(),
            "queries": report.queries, "candidates": report.candidates, **facts,
            "settings": settings if facts else {}, "seed": arguments.seed,
        }  # fmt: skip
        keep("retrieval", line)


if __name__ == "__main__":
    main()
