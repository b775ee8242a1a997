"""Rows in, answers out: in order, in bounded memory, whatever the batches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from polydetr.backbones.text import weights
from polydetr.core.records import Record
from polydetr.engine import engine as engine_module
from polydetr.engine.engine import Engine
from polydetr.errors import BackboneError, RowError, SchemaError
from polydetr.model.runner import TorchRunner
from tiny_models import as_records, make_engine

ROWS = [
    {"tokens": ["Anna", "met", "Bob"] * (1 + i % 4), "tags": ["B-PER", "O", "B-PER"] * (1 + i % 4)} for i in range(12)
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_engine(ROWS, {"tags": "tagging"}, inputs={"tokens": "text"})


def test_answers_keep_the_order_of_the_rows(engine: Engine) -> None:
    results = list(engine.run(as_records(ROWS)))
    assert [r.record.row for r in results] == ROWS
    assert [len(r.predictions["tags"].details.tags) for r in results] == [len(r["tokens"]) for r in ROWS]


def test_answers_do_not_depend_on_the_batches(engine: Engine) -> None:
    found = []
    for budget in (1, 40, 4096):
        again = engine.with_runner(TorchRunner(engine.runner.model, batch_tokens=budget))
        found.append([r.predictions["tags"].details.word_probability for r in again.run(as_records(ROWS))])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_a_bad_row_of_a_document_is_rejected_alone(engine: Engine, bad: int) -> None:
    rows: list[dict] = [dict(row) for row in ROWS[:4]]
    rows[bad] = {"tokens": None}
    results = list(engine.run(as_records(rows, "d"), on_error="return"))
    assert [r.record.location.row for r in results] == [1, 2, 3, 4]
    assert [r.error is not None for r in results] == [i == bad for i in range(4)]
    assert f"row {bad + 1}, column 'tokens'" in str(results[bad].error)
    with pytest.raises(RowError, match=f"row {bad + 1}, column 'tokens'"):
        list(engine.run(as_records(rows, "d")))


class Odd:
    """A value that fails in a way that nobody foresaw."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


@pytest.mark.parametrize("document", [None, "one"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("unforeseen"), "RuntimeError: unforeseen"),
        (RecursionError(), "nested too deeply"),
        (BaseException("a panic"), "BaseException: a panic"),  # how a tokenizer's own code fails
    ],
)
def test_whatever_fails_within_a_row_rejects_that_row_alone(
    engine: Engine, document: str | None, error: BaseException, message: str
) -> None:
    records = as_records([{"tokens": ["good"]}, {"tokens": Odd(error)}, {"tokens": ["bad"]}], document)
    results = list(engine.run(records, on_error="return"))
    assert [r.error is None for r in results] == [True, False, True]
    assert message in str(results[1].error)
    assert "row 2" in str(results[1].error)
    with pytest.raises(RowError, match=message):
        list(engine.run(records))


def test_a_wish_to_stop_is_no_fault_of_a_row(engine: Engine) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(engine.run(as_records([{"tokens": Odd(KeyboardInterrupt())}]), on_error="return"))


def test_a_bad_label_is_placed_at_its_own_row(engine: Engine) -> None:
    rows = [ROWS[0], {"tokens": ["Anna"], "tags": ["O", "O"]}, ROWS[1]]
    with pytest.raises(RowError, match="row 2, column 'tags': 2 tags for 1 words"):
        list(engine.run(as_records(rows, "d"), with_targets=True))
    assert len(list(engine.run(as_records(rows, "d")))) == 3  # prediction never looks at labels


def test_few_rows_are_held_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read ahead stays the same for any number of rows, good, empty or bad."""
    monkeypatch.setattr(engine_module, "CHUNK_DOCUMENTS", 5)
    read = 0

    def stream() -> Iterator[Record]:
        nonlocal read
        for record in as_records([{"tokens": [] if i % 2 else None} for i in range(60)]):
            read += 1
            yield record

    for answered, _ in enumerate(engine.run(stream(), on_error="return"), start=1):
        assert read - answered <= 6
    assert read == 60


def test_prediction_leaves_the_model_as_it_was(engine: Engine) -> None:
    engine.runner.model.train()
    list(engine.run(as_records(ROWS[:2])))
    assert engine.runner.model.training
    engine.runner.model.eval()


def test_nothing_in_nothing_out(engine: Engine) -> None:
    assert list(engine.run([])) == []


def test_building_names_what_does_not_fit() -> None:
    rows = [{"text": "a", "y": "b"}, {"text": "b", "y": "c"}]
    with pytest.raises(SchemaError, match="clasification"):
        make_engine(rows, {"y": "clasification"})
    with pytest.raises(BackboneError):
        weights(make_engine(rows, {"y": "classification"}).encoder.modalities["text"].spec)  # type: ignore[attr-defined]


def test_records_that_were_read_already_are_rows() -> None:
    from polydetr.engine.inputs import as_row

    record = as_records(ROWS)[0]
    assert as_row(record, ["tokens"]) is record
    assert as_row("Anna met Bob", ["tokens"]) == {"tokens": "Anna met Bob"}
