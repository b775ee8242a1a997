"""One table of checks that every task, alone and together, must pass. A new task is a new line in ``CASES``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polydetr.core.plugs import MODALITIES, TASKS
from polydetr.data.store import ExampleStore
from polydetr.engine.engine import Engine
from polydetr.engine.measure import evaluate_results, with_coverage
from polydetr.engine.mistakes import with_mistakes
from polydetr.engine.outputs import json_value
from polydetr.engine.render import image_of
from polydetr.nn.batch import Batch
from polydetr.reports.evaluation import write_evaluations
from polydetr.tasks.capabilities import ShowsMistakes
from tiny_models import (
    answers,
    as_records,
    batch_loss,
    encode_all,
    make_engine,
    metrics,
    overfit,
    plain_answers,
    same_arrays,
    strict_json,
)

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """Eight rows, what is predicted from them, the metrics that must be there, and the score a learner must reach."""

    name: str
    target: dict[str, str]
    rows: Rows
    expected: dict[str, tuple[str, ...]]
    reach: dict[str, float]
    inputs: dict[str, str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    idle: str = "(none)"
    """Parameters of the head that have nothing to learn in the first step."""
    steps: int = 60
    """Steps until the score is reached."""


WORDS = ["amber", "birch", "cobalt", "dune", "ember", "fjord", "grove", "harbour"]
TEXTS = [f"The {w} lies by the old {WORDS[i - 3]}, number {i}." for i, w in enumerate(WORDS)]
NAMES = ["Anna", "Bob", "Carla", "Dan", "Eva", "Finn", "Greta", "Hugo"]
SENTENCES = [[n, "met", NAMES[i - 1], "in", "New", "Oslo" if i % 2 else "Turin"] for i, n in enumerate(NAMES)]
TAGS = [["B-PER", "O", "B-PER", "O", "B-LOC", "I-LOC"] for _ in NAMES]
PASSAGES = [
    f"{n} keeps a boat in {w} and a goat in {WORDS[i - 2]}." for i, (n, w) in enumerate(zip(NAMES, WORDS, strict=False))
]
CLASSES = ("accuracy", "macro_f1", "weighted_f1", "ece")
RANKS = ("mrr", "recall@1", "recall@10", "ndcg@10")


def _span(text: str, part: str, label: str) -> dict[str, Any]:
    return {"start": text.index(part), "end": text.index(part) + len(part), "label": label}


def _item(i: int) -> dict[str, Any]:
    return {"title": TEXTS[i % 8], "price": 3.0 * (i % 8), "days": i % 3}


def _qa(i: int, *, hidden: bool = False) -> dict[str, Any]:
    answer = {"text": WORDS[i], "start": PASSAGES[i].index(WORDS[i])}
    question = "Where is the whale?" if hidden else "Where is the boat?"
    return {"question": question, "context": PASSAGES[i], "answers": [] if hidden else [answer]}


CELLS = {"weight": "number", "port": "category", "day": "date"}


def _cells(i: int) -> dict[str, Any]:
    """A row of a table; one cell in four is empty."""
    cells = {"weight": 3.0 + i * i, "port": ("Oslo", "Turin")[i % 2], "day": f"2024-0{i + 1}-1{i}"}
    return {name: None if (i + k) % 4 == 3 else value for k, (name, value) in enumerate(cells.items())}


SMALL_PICTURES = {"image": {"size": 16, "patch_size": 8, "augment": {"flip": False, "crop": 1.0, "color": 0.0}}}


def _picture(i: int) -> np.ndarray:
    """An image of its own for each number."""
    return np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def _scene(i: int) -> dict[str, Any]:
    """A bright or a dark square somewhere on gray, and where it is; in one image nothing."""
    picture = np.full((32, 32), 110, dtype=np.uint8)
    if i == 5:
        return {"photo": picture, "objects": []}
    left, top = 16 * (i % 2), 8 * (i // 3)
    picture[top : top + 14, left : left + 14] = 250 if i % 3 else 0
    return {
        "photo": picture,
        "objects": [{"box": [left, top, left + 14, top + 14], "label": "lit" if i % 3 else "dim"}],
    }


def _nested(i: int) -> dict[str, Any]:
    """A place inside a person, and another person; in one row nothing."""
    if i == 5:
        return {"text": "Nobody was there at all.", "entities": []}
    place = "New Oslo" if i % 2 else "Turin"
    mayor = f"the mayor of {place}"
    text = f"Today {mayor} met {NAMES[i]}."
    return {
        "text": text,
        "entities": [_span(text, mayor, "PER"), _span(text, place, "LOC"), _span(text, NAMES[i], "PER")],
    }


ENTITIES = ("entity_f1", "precision", "recall", "macro_f1", "nested_recall")
SMALL_DECODER = {"hidden_dim": 32, "decoder_layers": 2}
SMALL_SCENES = {"image": {"size": 32, "patch_size": 8, "augment": {"flip": False, "crop": 1.0, "color": 0.0}}}

CASES = [
    Case(
        "classification",
        {"label": "classification"},
        [{"text": t, "label": "wet" if i in (1, 4, 5) else "dry"} for i, t in enumerate(TEXTS)],
        {"label": CLASSES},
        {"accuracy": 1.0},
    ),
    Case(
        "classification, weighted",
        {"label": "classification"},
        [{"text": t, "label": "rare" if i == 2 else "usual"} for i, t in enumerate(TEXTS)],
        {"label": CLASSES},
        {"accuracy": 1.0},
        settings={"tasks": {"label": {"class_weights": "balanced"}}},
    ),
    Case(
        "several labels",
        {"label": "classification"},
        [{"text": t, "label": [n for n, m in (("even", 2), ("third", 3)) if i % m == 0]} for i, t in enumerate(TEXTS)],
        {"label": CLASSES},
        {"accuracy": 1.0},
    ),
    Case(
        "pairs",
        {"label": "classification"},
        [{"a": t, "b": TEXTS[i - (i % 2)], "label": "same" if i % 2 == 0 else "other"} for i, t in enumerate(TEXTS)],
        {"label": CLASSES},
        {"accuracy": 1.0},
        inputs={"a": "text", "b": "text"},
    ),
    Case(
        "regression",
        {"score": "regression"},
        [{"text": t, "score": 10.0 * i - 7.5} for i, t in enumerate(TEXTS)],
        {"score": ("rmse", "r2")},
        {"r2": 0.98},
    ),
    Case(
        "tags",
        {"tags": "tagging"},
        [{"tokens": s, "tags": t} for s, t in zip(SENTENCES, TAGS, strict=False)],
        {"tags": ("entity_f1", "accuracy", "macro_f1", "weighted_f1", "ece")},
        {"entity_f1": 1.0},
        inputs={"tokens": "text"},
    ),
    Case(
        "spans",
        {"entities": "tagging"},
        [
            {"text": " ".join(s), "entities": [_span(" ".join(s), s[0], "PER"), _span(" ".join(s), s[5], "LOC")]}
            for s in SENTENCES
        ],
        {"entities": ("entity_f1", "accuracy", "macro_f1", "weighted_f1", "ece")},
        {"entity_f1": 1.0},
        inputs={"text": "text"},
    ),
    Case(
        "parts of speech",
        {"pos": "tagging"},
        [{"tokens": s, "pos": ["NAME", "VERB", "NAME", "PREP", "ADJ", "NAME"]} for s in SENTENCES],
        {"pos": ("accuracy", "macro_f1", "weighted_f1", "ece")},
        {"accuracy": 1.0},
        inputs={"tokens": "text"},
    ),
    Case("qa", {"answers": "qa"}, [_qa(i) for i in range(8)], {"answers": ("exact_match", "f1")}, {"f1": 1.0}),
    Case(
        "qa without answers",
        {"answers": "qa"},
        [_qa(i, hidden=i % 2 == 1) for i in range(8)],
        {"answers": ("exact_match", "f1")},
        {"f1": 1.0},
    ),
    Case(
        "several targets",
        {"intent": "classification", "tags": "tagging"},
        [{"tokens": s, "tags": t, "intent": s[5]} for s, t in zip(SENTENCES, TAGS, strict=False)],
        {"intent": CLASSES, "tags": ("entity_f1",)},
        {"accuracy": 1.0, "entity_f1": 1.0},
        inputs={"tokens": "text"},
    ),
    Case(
        "table",
        {"label": "classification"},
        [{**_cells(i), "label": "wet" if i in (1, 4, 5) else "dry"} for i in range(8)],
        {"label": CLASSES},
        {"accuracy": 1.0},
        inputs=CELLS,
    ),
    Case(
        "text and table, each missing in some rows",
        {"score": "regression"},
        [
            {"text": None if i == 3 else t, **(dict.fromkeys(CELLS) if i == 5 else _cells(i)), "score": 10.0 * i - 7.5}
            for i, t in enumerate(TEXTS)
        ],
        {"score": ("rmse", "r2")},
        {"r2": 0.98},
        inputs={"text": "text", **CELLS},
    ),
    Case(
        "image",
        {"label": "classification"},
        [{"photo": _picture(i), "label": "wet" if i in (1, 4, 5) else "dry"} for i in range(8)],
        {"label": CLASSES},
        {"accuracy": 1.0},
        inputs={"photo": "image"},
        settings=SMALL_PICTURES,
    ),
    Case(
        "text and images, some missing, some several",
        {"label": "classification"},
        [
            {
                "text": None if i == 3 else t,
                "photo": None if i == 5 else [_picture(i), _picture(i + 1)] if i == 6 else _picture(i),
                "label": "wet" if i in (1, 4, 5) else "dry",
            }
            for i, t in enumerate(TEXTS)
        ],
        {"label": CLASSES},
        {"accuracy": 1.0},
        inputs={"text": "text", "photo": "image"},
        settings=SMALL_PICTURES,
    ),
    Case(
        "generation",
        {"picture": "generation"},
        [{"text": t, "picture": _picture(i)} for i, t in enumerate(TEXTS)],
        {"picture": ("flow_loss", "flow_explained")},
        {"flow_explained": 0.6},
        inputs={"text": "text"},
        settings={"tasks": {"picture": {"sampling_steps": 3}}},
    ),
    Case(
        "a picture and a class",
        {"picture": "generation", "label": "classification"},
        [{"text": t, "picture": _picture(i), "label": "wet" if i in (1, 4, 5) else "dry"} for i, t in enumerate(TEXTS)],
        {"picture": ("flow_loss",), "label": CLASSES},
        {"flow_explained": 0.4, "accuracy": 1.0},
        inputs={"text": "text"},
        settings={"tasks": {"picture": {"sampling_steps": 1, "guidance": 1.0}}},
    ),
    Case(
        "entities",
        {"entities": "entities"},
        [_nested(i) for i in range(8)],
        {"entities": ENTITIES},
        {"entity_f1": 1.0},
        inputs={"text": "text"},
        settings={"entities": SMALL_DECODER},
    ),
    Case(
        "entities, as proposed",
        {"entities": "entities"},
        [_nested(i) for i in range(8)],
        {"entities": ENTITIES},
        {"entity_f1": 1.0},
        inputs={"text": "text"},
        settings={"entities": {"hidden_dim": 32, "decoder_layers": 0, "tagging": 0.0}},
    ),
    Case(
        "entities and objects, each by a decoder of its own",
        {"entities": "entities", "objects": "detection"},
        [{**_nested(i), **_scene(i)} for i in range(8)],
        {"entities": ENTITIES, "objects": ("map",)},
        {"entity_f1": 1.0, "map_50": 0.3},
        inputs={"text": "text", "photo": "image"},
        steps=120,
        settings={
            **SMALL_SCENES,
            "entities": SMALL_DECODER,
            "detection": {**SMALL_DECODER, "num_queries": 8},
        },
    ),
    Case(
        "entities and objects, by one decoder",
        {"entities": "entities", "objects": "detection"},
        [{**_nested(i), **_scene(i)} for i in range(8)],
        {"entities": ENTITIES, "objects": ("map",)},
        {"entity_f1": 1.0, "map_50": 0.0},
        inputs={"text": "text", "photo": "image"},
        settings={
            **SMALL_SCENES,
            "model": {"share_decoder": True},
            "detection": {**SMALL_DECODER, "num_queries": 6},
        },
    ),
    *(
        Case(
            f"detection, {architecture}",
            {"objects": "detection"},
            [_scene(i) for i in range(8)],
            {"objects": ("map", "map_50", "map_75")},
            {"map_50": enough},
            inputs={"photo": "image"},
            settings={
                **SMALL_SCENES,
                "detection": {
                    "architecture": architecture,
                    "num_queries": 6,
                    "hidden_dim": 32,
                    "encoder_layers": 1,
                    "decoder_layers": 2,
                },
            },
            # DETR's queries begin without content: in its first layer they have nothing to tell one another.
            idle="decoder.layers.0.self_" if architecture == "detr" else "(none)",
        )
        for architecture, enough in (("detr-fast", 0.3), ("detr", 0.0))
    ),
    Case(
        "embedding, text to text",
        {"answer": "embedding"},
        [{"question": TEXTS[i], "answer": PASSAGES[i]} for i in range(8)],
        {"answer": RANKS},
        {"mrr": 1.0},
        inputs={"question": "text"},
    ),
    Case(
        "embedding, picture to text",
        {"title": "embedding"},
        [{"photo": _picture(i), "title": TEXTS[i]} for i in range(8)],
        {"title": RANKS},
        {"mrr": 1.0},
        inputs={"photo": "image"},
        settings=SMALL_PICTURES,
    ),
    Case(
        "embedding, history to item",
        {"next": "embedding"},
        [{"seen": [_item(i), _item(i + 3)], "next": _item(i + 1)} for i in range(8)],
        {"next": RANKS},
        {"mrr": 1.0},
        inputs={"seen": "history"},
        settings={"history": {"age": "days"}},
    ),
    Case(
        "history, text and table, each missing in some rows",
        {"label": "classification"},
        [
            {
                "text": None if i == 3 else t,
                "seen": None if i == 5 else [WORDS[i - 1], t, WORDS[i]] if i % 2 else [t],
                **_cells(i),
                "label": "wet" if i in (1, 4, 5) else "dry",
            }
            for i, t in enumerate(TEXTS)
        ],
        {"label": CLASSES},
        {"accuracy": 1.0},
        inputs={"text": "text", "seen": "history", **CELLS},
    ),
    Case(
        "a class and an embedding",
        {"label": "classification", "answer": "embedding"},
        [{"text": t, "answer": PASSAGES[i], "label": "wet" if i in (1, 4) else "dry"} for i, t in enumerate(TEXTS)],
        {"label": CLASSES, "answer": RANKS},
        {"accuracy": 1.0, "mrr": 1.0},
        inputs={"text": "text"},
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def engine(case: Case) -> Engine:
    return make_engine(case.rows, case.target, inputs=case.inputs, settings=case.settings)


def test_every_task_and_modality_is_in_the_table() -> None:
    assert {kind for case in CASES for kind in case.target.values()} == set(TASKS)
    modalities = {
        m for case in CASES for m in make_engine(case.rows, case.target, inputs=case.inputs).encoder.modalities
    }
    assert modalities == set(MODALITIES)


def test_state_survives_json(engine: Engine, case: Case, tmp_path: Path) -> None:
    for modality in engine.encoder.modalities.values():
        modality.save_files(tmp_path)
    modalities: dict[str, Any] = {}
    for name, modality in engine.encoder.modalities.items():
        state = strict_json(modality.state())
        modalities[name] = MODALITIES[name].from_state(state, tmp_path, others=modalities)
    tasks = {t: TASKS[case.target[t]].from_state(strict_json(task.state())) for t, task in engine.tasks.items()}
    for target, task in engine.tasks.items():
        assert tasks[target].state() == task.state()
    again = Engine(type(engine.encoder)(modalities, tasks, context=engine.encoder.context), engine.runner, tasks)
    for old, new in zip(
        encode_all(engine, case.rows, with_targets=True), encode_all(again, case.rows, with_targets=True), strict=True
    ):
        assert same_arrays(old.groups, new.groups)
        assert same_arrays(old.targets, new.targets)
    first, second = answers(engine, case.rows), answers(again, case.rows)
    assert plain_answers(engine, first) == plain_answers(again, second)
    fingerprints = [m.fingerprint() for m in engine.encoder.modalities.values()]
    assert fingerprints == [m.fingerprint() for m in modalities.values()]


def test_one_path_for_training_and_prediction(engine: Engine, case: Case, tmp_path: Path) -> None:
    """The same bits with targets, without, and out of the file that training reads."""
    with_targets = encode_all(engine, case.rows, with_targets=True)
    without = encode_all(
        engine, [{k: v for k, v in r.items() if k not in case.target} for r in case.rows], with_targets=False
    )
    store = ExampleStore.write(iter(with_targets), tmp_path / "rows.arrow")
    assert len(store) == len(with_targets) == len(without)
    for i, (trained, predicted) in enumerate(zip(with_targets, without, strict=True)):
        assert same_arrays(trained.groups, predicted.groups)
        assert predicted.targets == predicted.positives == {}
        assert same_arrays(store[i].groups, trained.groups)
        assert same_arrays(store[i].targets, trained.targets)
        assert same_arrays(store[i].positives, trained.positives)
        assert store[i].weight == pytest.approx(trained.weight, rel=1e-7)


def test_a_row_gives_the_same_alone_in_a_batch_and_under_padding(engine: Engine, case: Case) -> None:
    examples = encode_all(engine, case.rows, with_targets=False)
    with torch.no_grad():
        together = engine.runner.model(Batch.collate(examples))
        for i, example in enumerate(examples):
            alone = engine.runner.model(Batch.collate([example], [i]))
            for target, tensors in alone.items():
                for name, tensor in tensors.items():
                    other = together[target][name][i : i + 1]
                    # One entry a token, a word, a span: the rest is padding.
                    other = other[tuple(slice(size) for size in tensor.shape)]
                    torch.testing.assert_close(other, tensor, rtol=1e-4, atol=1e-5)


def test_loss_is_finite_where_every_target_is_missing(engine: Engine, case: Case) -> None:
    rows = [{**row, **dict.fromkeys(case.target)} for row in case.rows]
    loss = batch_loss(engine, Batch.collate(encode_all(engine, rows, with_targets=True)))
    loss.backward()
    assert float(loss.detach()) == 0.0
    gradients = [p.grad for p in engine.runner.model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() and not g.any() for g in gradients)


def test_gradients_reach_every_head_and_the_embeddings(engine: Engine, case: Case) -> None:
    batch_loss(engine, Batch.collate(encode_all(engine, case.rows, with_targets=True))).backward()
    for name, parameter in engine.runner.model.named_parameters():
        if name.startswith("heads.") or name.endswith(("words.weight", "shape_embedding.weight")):
            if case.idle in name:
                continue
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_learns_eight_rows(engine: Engine, case: Case) -> None:
    before = metrics(engine, case.rows)
    overfit(engine, case.rows, steps=case.steps)
    after = {name: value for found in metrics(engine, case.rows).values() for name, value in found.items()}
    for target, names in case.expected.items():
        assert set(names) <= set(before[target])
        assert engine.tasks[target].primary_metric in before[target]
    for name, value in case.reach.items():
        assert after[name] >= value, (name, before, after)


def test_one_json_prediction_a_row(engine: Engine, case: Case) -> None:
    results = answers(engine, case.rows)
    assert [r.record.location.row for r in results] == list(range(1, 9))
    for result in results:
        assert set(result.predictions) == set(case.target)
        for target, prediction in result.predictions.items():
            value = json_value(engine.tasks[target], prediction.value)
            assert strict_json(value) == value
            assert prediction.probability is None or 0 <= prediction.probability <= 1
            strict_json(asdict(prediction.details))


def test_calibration_pairs_fit_one_another(engine: Engine, case: Case) -> None:
    half = [row if i % 2 else {**row, **dict.fromkeys(case.target)} for i, row in enumerate(case.rows)]
    batch = Batch.collate(encode_all(engine, half, with_targets=True))
    outputs = engine.runner.model(batch)
    for target in engine.tasks:
        pairs = engine.runner.model.head_of(target).calibration_pairs(outputs[target], batch.targets[target])
        if pairs is not None:
            logits, labels = pairs
            assert len(logits) == len(labels) > 0
            assert int(labels.min()) >= 0
            assert int(labels.max()) < logits.shape[1]


def test_rows_without_labels_are_left_out_of_the_scores(engine: Engine, case: Case) -> None:
    rows = [*case.rows, {**case.rows[0], **dict.fromkeys(case.target)}]
    with_blank, without = metrics(engine, rows), metrics(engine, case.rows)
    for target, found in without.items():
        assert {k: v for k, v in with_blank[target].items() if np.isfinite(v)} == pytest.approx(
            {k: v for k, v in found.items() if np.isfinite(v)}
        )


def test_documents_are_read_row_by_row_unless_the_tasks_want_them(engine: Engine, case: Case) -> None:
    groups = list(engine.encoder.documents(as_records(case.rows, document="one")))
    fields = [f for modality in engine.encoder.modalities.values() for f in modality.fields]
    wanted = len(fields) == 1 and set(case.target.values()) <= {"tagging", "entities"}
    assert len(groups) == (1 if wanted else 8)
    results = list(engine.run(as_records(case.rows, document="one")))
    assert [r.record.location.row for r in results] == list(range(1, 9))


def _wrong(kind: str, evaluation: Any, rows: int, predictions: list[Any], golds: list[Any]) -> int:
    """How many mistakes there must be, from the scores."""
    metrics, data = evaluation.metrics, evaluation.data
    if kind == "classification" and isinstance(golds[0], list):
        return sum(len({*p.value} ^ {*gold}) for p, gold in zip(predictions, golds, strict=True))
    if kind == "classification":
        return round((1 - metrics["accuracy"]) * rows)
    if "entities" in data:
        strict = data["entities"]["matching"]["strict"]
        return strict["incorrect"] + strict["missed"] + strict["spurious"]
    if kind == "tagging":
        return round((1 - metrics["accuracy"]) * sum(len(gold.tags) for gold in golds))
    if kind == "qa":
        return round((1 - metrics["exact_match"]) * rows)
    return round((1 - metrics["recall@1"]) * rows) if kind == "embedding" else rows


def test_mistakes_are_counted_and_shown(engine: Engine, case: Case, tmp_path: Path) -> None:
    """Every target has a page, which holds every mistake of an untrained model, and fetches nothing."""
    results = answers(engine, case.rows, with_targets=True)
    measured = with_coverage(engine, results, evaluate_results(engine, results))
    evaluations = with_mistakes(engine, results, measured)
    write_evaluations(tmp_path, evaluations, name="rows", image_of=partial(image_of, engine))
    for target, evaluation in evaluations.items():
        task, stem = engine.tasks[target], "rows" if len(evaluations) == 1 else f"rows-{target}"
        page = (tmp_path / f"{stem}-mistakes.html").read_text("utf-8")
        assert "http" not in page
        assert "<script" not in page
        assert not isinstance(task, ShowsMistakes) or evaluation.mistakes is not None
        if evaluation.mistakes is None:  # of boxes
            assert task.kind == "detection"
            continue
        golds = [result.golds[target] for result in results]
        predictions = [result.predictions[target] for result in results]
        wrong = _wrong(task.kind, evaluation, len(golds), predictions, golds)
        assert sum(evaluation.mistakes.counts.values()) == wrong > 0
        assert sum(map(len, evaluation.mistakes.shown.values())) == page.count("<article") == wrong
        assert evaluation.data["mistakes"]["counts"] == evaluation.mistakes.counts
