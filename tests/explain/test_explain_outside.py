"""What is not built in is explained like what is: tasks and modalities of outside packages, and runners that are not
PyTorch's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from torch import Tensor, nn

from polydetr.core import plugs
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.examples import Arrays, Example
from polydetr.core.predictions import Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.core.runner import Outputs, Runner
from polydetr.embedders.base import Embedder
from polydetr.engine.engine import Engine
from polydetr.errors import InputError
from polydetr.explain import Explanation, explain_record
from polydetr.heads.base import EncoderShape, PooledHead
from polydetr.modalities.base import BuildContext, Modality, Needs
from polydetr.modalities.units import Part, Scores, UnitKind
from polydetr.nn.batch import Embedded, TokenGroup
from polydetr.tasks.base import Task
from polydetr.tasks.explained import Answer, Counterpart, Reading, no_choice
from tiny_models import as_records, make_engine, overfit

ROWS = [{"text": "a good film in town", "size": 2.0}, {"text": "a bad film in town", "size": -2.0}] * 4
LABELED = [{"text": row["text"], "label": "yes" if row["size"] > 0 else "no"} for row in ROWS]


class SizeTask(Task):
    """A number, as it stands there."""

    kind: ClassVar[str] = "size"
    primary_metric: ClassVar[str] = "error"

    def learn(self, rows: Sequence[Row]) -> list[str]:
        return []

    def encode_target(self, view: Any) -> dict[str, np.ndarray]:
        return {"size": np.array(view.golds[0], np.float32)}

    def gold(self, row: Row, text: Any) -> float:
        return float(row[self.target])

    def decode(self, outputs: Sequence[Any], layouts: Any, texts: Any) -> list[Prediction]:
        return [Prediction(float(np.mean([o["logits"][0] for o in outputs])))]

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        return Evaluation({"error": 0.0})

    def learned(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass


class ExplainedSizeTask(SizeTask):
    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> SizeAnswer:
        no_choice(self, choice)
        return SizeAnswer(f"size {reading.prediction.value:.2f}")


class SizeAnswer(Answer):
    quantity: ClassVar[str] = "size"

    def probability(self, reading: Reading) -> float:
        return 1 / (1 + np.exp(-reading.prediction.value))


class PlainHead(PooledHead):
    """Has no number that gradients are taken of."""

    @classmethod
    def from_task(cls, task: SizeTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Any:
        return cls(shape.embed_dim, 1, dropout=0.0)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        return {"squares": (outputs["logits"][:, 0] - targets["size"]).square().mean()}


class SizeHead(PlainHead):
    def explained(self, answer: SizeAnswer, outputs: Mapping[str, Tensor]) -> Tensor:
        return outputs["logits"][..., 0].mean(1)


def explain(engine: Engine, row: Mapping[str, Any], **options: Any) -> Explanation:
    return explain_record(engine, as_records([row])[0], **options)


def register(patch: pytest.MonkeyPatch, registry: plugs.Registry, name: str, made: type) -> None:
    """As the entry point of an outside package would."""
    outside = {**registry._outside, name: type("Point", (), {"load": staticmethod(lambda: made)})()}
    patch.setitem(vars(registry), "_outside", outside)


def test_a_task_from_outside_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, plugs.TASKS, "size", ExplainedSizeTask)
    register(monkeypatch, plugs.HEADS, "size", SizeHead)
    engine = make_engine(ROWS, {"size": "size"}, inputs={"text": "text"})
    overfit(engine, ROWS)
    e = explain(engine, ROWS[0])
    assert (e.task, e.quantity, e.method) == ("size", "size", "integrated gradients")
    assert e.answer.startswith("size")
    assert e.is_complete
    assert max(e.words, key=lambda word: word.score).text == "good"
    with pytest.raises(InputError, match="means nothing for the task 'size'"):
        explain(engine, ROWS[0], choice=1)
    register(monkeypatch, plugs.HEADS, "size", PlainHead)
    engine = make_engine(ROWS, {"size": "size"}, inputs={"text": "text"})
    assert explain(engine, ROWS[0]).method == "occlusion"
    register(monkeypatch, plugs.TASKS, "size", SizeTask)
    engine = make_engine(ROWS, {"size": "size"}, inputs={"text": "text"})
    with pytest.raises(InputError, match=r"the task 'size' has no explanation.*classification.*entities"):
        explain(engine, ROWS[0])


# -- a modality -------------------------------------------------------------------------------------------------------


class ToneModality(Modality):
    """Two numbers per cell, one after another: a token each."""

    name: ClassVar[str] = "tone"
    reads: ClassVar[frozenset[str]] = frozenset({"tone"})

    @classmethod
    def build(cls, fields: Sequence[Any], context: BuildContext) -> ToneModality:
        return cls([field.name for field in fields], needs=context.needs)

    def encode(self, rows: Sequence[Row], *, access: Any = None) -> EncodedGroup:
        (row,) = rows
        tones = [row[field] for field in self.fields if row.get(field) is not None]
        return EncodedGroup([Window({"tone": np.array(tones, np.float32).reshape(-1, 1)})])

    def state(self) -> dict[str, Any]:
        return {"fields": list(self.fields)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Any, *, others: Any) -> ToneModality:
        return cls(state["fields"], needs=Needs())

    def fingerprint(self) -> str:
        return ""

    def save_files(self, folder: Any) -> None:
        pass


class ToneEmbedder(Embedder):
    def __init__(self, embed_dim: int) -> None:
        super().__init__(embed_dim)
        self.project = nn.Linear(1, embed_dim)

    @classmethod
    def from_modality(cls, modality: Any, *, embed_dim: int | None, others: Any) -> ToneEmbedder:
        return cls(embed_dim or 16)

    def forward(self, group: TokenGroup) -> Embedded:
        return Embedded(self.project(group.values["tone"]), group.mask)


class ExplainedToneModality(ToneModality):
    def units(self, row: Row, windows: Sequence[Window]) -> TonePart:
        return TonePart([field for field in self.fields if row.get(field) is not None])


class TonePart(Part):
    group: ClassVar[str] = "tone"
    kind: ClassVar[UnitKind] = "columns"

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        return {name: np.zeros_like(array) for name, array in arrays.items()}

    def scores(self, found: Scores) -> Scores:
        return found.reshape(len(self), -1).sum(1)

    def without(self, row: Row, deleted: Collection[int]) -> dict[str, Any]:
        return {**row, **{self.columns[unit]: None for unit in deleted}}


def test_a_modality_from_outside_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"low": float(i % 2), "high": float(i % 3), "label": "yes" if i % 2 else "no"} for i in range(12)]
    kinds = {"low": "tone", "high": "tone"}
    register(monkeypatch, plugs.MODALITIES, "tone", ExplainedToneModality)
    register(monkeypatch, plugs.EMBEDDERS, "tone", ToneEmbedder)
    engine = make_engine(rows, {"label": "classification"}, inputs=kinds)
    overfit(engine, rows)
    e = explain(engine, rows[1])
    assert (e.method, e.modalities) == ("integrated gradients", {"tone": 1.0})
    assert e.is_complete
    assert {c.column: c.value for c in e.columns} == {"low": "1.0", "high": "1.0"}
    assert e.sources is not None
    assert e.sources.ranked[0].column == "low"
    assert "low" in e.to_html()
    assert {c.column: c.value for c in explain(engine, {"low": 1.0}).columns} == {"low": "1.0", "high": "missing"}
    register(monkeypatch, plugs.MODALITIES, "tone", ToneModality)
    engine = make_engine(rows, {"label": "classification"}, inputs=kinds)
    with pytest.raises(InputError, match="the modality 'tone' has no explanation"):
        explain(engine, rows[1])


# -- a runner of another kind -----------------------------------------------------------------------------------------


class Foreign:
    """Stands for a runner that does not compute by PyTorch, and gives no gradients."""

    def __init__(self, inner: Runner) -> None:
        self.inner = inner

    def run(
        self, examples: Sequence[Example], targets: Sequence[str], *, seed: int, numbers: Sequence[int]
    ) -> list[Outputs]:
        return self.inner.run(examples, targets, seed=seed, numbers=numbers)


def test_without_gradients_parts_score_what_is_lost_without_them() -> None:
    engine = make_engine(LABELED, {"label": "classification"}, inputs={"text": "text"})
    overfit(engine, LABELED)
    e = explain(engine.with_runner(Foreign(engine.runner)), LABELED[0])
    assert (e.method, e.quantity, e.to_dict()["method"]) == ("occlusion", "probability", "occlusion")
    assert e.attention == {}
    assert any("No gradients" in note for note in e.notes)

    def p(text: str) -> float:
        (result,) = engine.run(as_records([{"text": text}]))
        return result.predictions["label"].details.probabilities["yes"]  # type: ignore[attr-defined]

    assert e.value == pytest.approx(p("a good film in town"), abs=1e-5)
    assert e.value == pytest.approx(e.original, abs=1e-5)
    words = "a good film in town".split()  # noqa: SIM905
    lost = [e.value - p(" ".join(words[:i] + words[i + 1 :])) for i in range(len(words))]
    np.testing.assert_allclose(e.scores, lost, atol=1e-5)
    assert e.baseline == pytest.approx(p(""), abs=1e-5)
    assert explain(engine, LABELED[0]).method == "integrated gradients"


def test_without_gradients_words_of_the_answer_stay() -> None:
    rows = [{"tokens": ["Anna", "went", "to", "Oslo"], "tags": ["B-PER", "O", "O", "B-LOC"]}] * 2
    engine = make_engine(rows, {"tags": "tagging"})
    overfit(engine, rows)
    e = explain(engine.with_runner(Foreign(engine.runner)), rows[0], choice=1)
    assert [word.text for word in e.words if word.in_answer] == ["Oslo"]
    assert e.words[3].score == 0
    assert e.value == pytest.approx(e.original)


def test_a_row_that_would_be_empty_keeps_what_scores_least() -> None:
    rows = [{"size": float(i), "kind": "ab"[i % 2], "label": "yes" if i < 4 else "no"} for i in range(8)]
    engine = make_engine(rows, {"label": "classification"}, inputs={"size": "number", "kind": "category"})
    overfit(engine, rows)
    foreign = engine.with_runner(Foreign(engine.runner))
    e = explain(foreign, rows[0])
    least = min(e.columns, key=lambda column: abs(column.score))
    alone = explain(foreign, {least.column: rows[0][least.column]}, choice="yes")
    assert e.baseline == pytest.approx(alone.value)
    assert (alone.value, alone.columns[0].score, alone.columns[1].score) == (alone.baseline, 0.0, 0.0)
