"""Corrections in the store, on SQLite and on PostgreSQL: nothing lost, nothing doubled, two people told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from correction_cases import BOXES, CLASSES, NUMBER, TAGS, image_bytes, model_info
from sqlalchemy import func, select

from polydetr.data.readers import read_records
from polydetr.errors import InputError, RowError
from polydetr.serving.contract import ModelInfo
from polydetr.serving.rows import Columns
from polydetr.studio.correction import Conflict, Correction
from polydetr.studio.correction_rows import inputs_of, packed, unpacked
from polydetr.studio.corrections import Corrections
from polydetr.web.people.erasing import erase
from polydetr.web.store import backup
from polydetr.web.store.database import Database
from polydetr.web.store.retention import retain
from polydetr.web.store.tables import corrected_images, corrected_row_images, corrected_rows, corrections
from polydetr.web.store.unneeded import remove_unneeded

ROW = {"text": "a lovely evening"}


@pytest.fixture
def store(store_address: str) -> Iterator[Database]:
    database = Database.open(store_address)
    yield database
    database.close()


@pytest.fixture
def kept(store: Database) -> Corrections:
    return Corrections(store)


def save(kept: Corrections, value: Any = "good", row: Any = ROW, info: ModelInfo = CLASSES, **how: Any) -> Correction:
    given = {"id": str(uuid4()), "person": "Ada", "target": info.description["schema"]["targets"][0]["name"], **how}
    return kept.save(info=info, row=row, value=value, **given).correction


def counted(store: Database, table: Any) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_what_was_saved_is_there_with_its_row_and_answer(kept: Corrections) -> None:
    before = datetime.now(UTC)
    made = save(kept, "bad", answer={"prediction": "good", "probability": 0.6, "warnings": []})
    assert (made.kind, made.value, made.revision, made.person, made.version) == ("repaired", "bad", 1, "Ada", "seal-1")
    assert made.answer == {"prediction": "good", "probability": 0.6}
    assert before <= made.at <= datetime.now(UTC)
    assert kept.of_row("model", made.row_key) == {"label": made}
    assert kept.list("model") == [made]
    assert kept.history("model", made.row_key, "label") == [made]
    assert save(kept, "good", {"text": "other"}, answer={"prediction": "good"}).kind == "confirmed"
    assert kept.models() == {"model": 2}


def test_every_task_s_value_comes_back_as_it_was(kept: Corrections) -> None:
    spans = [{"start": 2, "end": 8, "label": "PER", "text": "lovely"}]
    assert save(kept, spans, info=TAGS).value == spans
    boxes = [{"box": [0.1, 2.3, 20.7, 10.2], "label": "dog"}]
    made = save(kept, boxes, {"image": image_bytes()}, info=BOXES)
    assert kept.list("model", target="objects") == [made]
    assert made.value == boxes
    assert save(kept, 0.1, {"text": "x\0y 𝒳", "minutes": 1e300}, info=NUMBER).value == 0.1
    assert kept.list("model", target="stars")[0].row == {"text": "x\0y 𝒳", "minutes": 1e300}


def test_two_people_on_one_row_are_told(kept: Corrections) -> None:
    mine = save(kept, "good")
    theirs = save(kept, "bad", person="Ben", expected_revision=1)
    with pytest.raises(Conflict) as caught:
        save(kept, "good", expected_revision=1)
    assert caught.value.theirs == theirs
    assert str(caught.value).startswith("Ben said 'bad' of this row's 'label' at 20")
    with pytest.raises(Conflict):
        save(kept, "good")
    with pytest.raises(Conflict):
        kept.undo(mine.id, "Ada")
    assert [one.value for one in kept.history("model", mine.row_key, "label")] == ["good", "bad"]
    assert save(kept, "good", expected_revision=2).revision == 3


def test_saving_again_with_the_same_id_neither_loses_nor_doubles(kept: Corrections) -> None:
    first = save(kept, "good", id="the-same-id")
    save(kept, "bad", person="Ben", expected_revision=1)
    assert save(kept, "good", id="the-same-id") == first  # a retry, though Ben was there in between
    assert kept.count("model") == 1
    with pytest.raises(InputError, match="'the-same-id' stands for another correction"):
        save(kept, "bad", id="the-same-id", expected_revision=2)


def test_an_undoing_can_be_undone_and_is_history(kept: Corrections) -> None:
    first = save(kept, "good")
    second = save(kept, "bad", expected_revision=1)
    third = kept.undo(second.id, "Ben")
    assert (third.value, third.revision, third.person, third.undoes) == ("good", 3, "Ben", second.id)
    assert kept.undo(second.id, "Ben") == third  # a retry
    fourth = kept.undo(third.id, "Ada")
    assert (fourth.value, fourth.revision) == ("bad", 4)
    assert [one.revision for one in kept.history("model", first.row_key, "label")] == [1, 2, 3, 4]


def test_the_first_correction_undone_leaves_none(kept: Corrections) -> None:
    first = save(kept, "good")
    gone = kept.undo(first.id, "Ada")
    assert (gone.kind, gone.value, gone.revision) == ("withdrawn", None, 2)
    assert kept.list("model") == []
    assert kept.count("model") == 0
    assert kept.models() == {}
    assert kept.of_row("model", first.row_key)["label"].revision == 2
    assert kept.undo(gone.id, "Ada").value == "good"
    assert kept.count("model") == 1
    with pytest.raises(InputError, match="there is no correction 'no-such-id'"):
        kept.undo("no-such-id", "Ada")


def test_corrections_are_found_by_who_what_and_when(kept: Corrections) -> None:
    made = [save(kept, "good" if i % 2 else "bad", {"text": f"row {i}"}, person=("Ada", "Ben")[i % 3 == 0],
                 answer={"prediction": "good"}) for i in range(6)]  # fmt: skip
    save(kept, "good", info=replace(CLASSES, name="other"))
    assert kept.list("model") == made
    assert kept.list("model", person="Ben") == [made[0], made[3]]
    assert kept.list("model", kind="confirmed") == made[1::2]
    assert kept.count("model", person="Ada", kind="repaired") == 2
    assert kept.list("model", since=made[4].at) == made[4:]
    assert kept.list("model", since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert kept.list("model", limit=2, offset=3) == made[3:5]
    assert kept.models() == {"model": 6, "other": 1}


def test_an_image_is_kept_once(kept: Corrections, store: Database) -> None:
    info = model_info({"image": "image", "text": "text"}, label={"task": "classification", "labels": ["a", "b"]})
    picture = image_bytes()
    first = save(kept, "a", {"image": picture, "text": "x"}, info=info)
    second = save(kept, "b", {"text": "y", "image": picture}, info=info)
    save(kept, "b", {"text": "x", "image": picture}, info=info, expected_revision=1)
    assert (counted(store, corrected_images), counted(store, corrected_rows)) == (1, 2)
    assert first.row_key != second.row_key
    assert kept.list("model")[0].row["image"] == picture


def test_what_nobody_needs_any_more_goes(kept: Corrections, store: Database) -> None:
    shared, own = image_bytes(color=(1, 2, 3)), image_bytes(color=(3, 2, 1))
    save(kept, [], {"image": shared}, info=BOXES, person="Ada")
    save(kept, [], {"image": own}, info=BOXES, person="Ben")
    with store.write() as connection:
        assert remove_unneeded(connection) == {}
        connection.execute(corrections.delete().where(corrections.c.person == "Ben"))
        assert remove_unneeded(connection) == {"corrected_rows": 1, "corrected_images": 1}
    assert counted(store, corrected_row_images) == 1
    assert [one.row["image"] for one in kept.list("model")] == [shared]


def test_a_backup_holds_them_and_what_came_from_a_person_goes_with_its_rows_and_images(
    kept: Corrections, store: Database, tmp_path: Path
) -> None:
    shared, own = image_bytes(color=(1, 2, 3)), image_bytes(color=(3, 2, 1))
    made = save(kept, [], {"image": shared}, info=BOXES, person="Ada Lovelace")
    save(kept, [{"box": [0, 0, 9, 9], "label": "cat"}], {"image": own}, info=BOXES, person="Ben", id="of-ben-alone")
    backup.save(store, tmp_path / "store.backup")
    assert erase(store, "ben") == {
        "audit": 1,
        "corrections": 1,
        "corrected_row_images": 1,
        "corrected_rows": 1,
        "corrected_images": 1,
    }
    assert kept.list("model") == [made]
    assert counted(store, corrected_images) == 1
    files = [path for path in tmp_path.iterdir() if path.name.startswith("store.db")]
    assert not any(own in path.read_bytes() or b"of-ben-alone" in path.read_bytes() for path in files)
    backup.restore(store, tmp_path / "store.backup", overwrite=True)
    assert [one.person for one in kept.list("model")] == ["Ada Lovelace", "Ben"]
    assert [one.row["image"] for one in kept.list("model")] == [shared, own]
    later = datetime.now(UTC) + timedelta(days=40)
    assert retain(store, 30, now=later)["corrected_images"] == 2
    assert counted(store, corrections) == 0


def test_threads_on_one_row_get_one_revision_each(kept: Corrections) -> None:
    said: list[Any] = []

    def correct(number: int) -> None:
        for i in range(5):
            try:
                said.append(save(kept, ("good", "bad")[i % 2], expected_revision=i, person=f"person {number}"))
            except Conflict as conflict:
                said.append(conflict)

    threads = [threading.Thread(target=correct, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    saved = [one for one in said if isinstance(one, Correction)]
    history = kept.history("model", packed(ROW).key, "label")
    assert len(said) == 20
    assert [one.revision for one in history] == [*range(1, len(history) + 1)]
    assert {one.id for one in history} == {one.id for one in saved}


@pytest.mark.parametrize(("how", "said"), [
    ({"id": "short"}, "'short' is no id of a correction"),
    ({"id": "with blanks in it"}, "no id of a correction"),
    ({"person": ""}, "no name of a person"),
    ({"person": "nul\0"}, "no name of a person"),
    ({"target": "lable"}, "Did you mean 'label'"),
    ({"value": "goood"}, "the label 'goood' is unknown. Did you mean 'good'"),
    ({"row": {"words": "x"}}, "none of the columns that the model reads"),
    ({"row": {"text": "half \ud83d"}}, "half a character"),
])  # fmt: skip
def test_what_is_wrong_is_refused_before_it_is_written(
    kept: Corrections, store: Database, how: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        save(kept, **how)
    assert said in str(caught.value)
    assert counted(store, corrected_rows) == 0


def test_they_come_out_as_training_rows_with_the_newest_value(kept: Corrections, tmp_path: Path) -> None:
    made = save(kept, "good")
    save(kept, "bad", expected_revision=made.revision, person="Ben")
    kept.undo(save(kept, "good", {"text": "withdrawn"}).id, "Ada")
    exported = kept.export("model", tmp_path / "rows.jsonl", people=True)
    assert (exported.rows, exported.corrections) == (1, 1)
    assert [record.row for record in read_records(tmp_path / "rows.jsonl")] == [{**ROW, "label": "bad"}]
    (line,) = map(json.loads, (tmp_path / "rows.people.jsonl").read_text("utf-8").splitlines())
    assert (line["row"], line["person"], line["revision"]) == (1, "Ben", 2)
    with pytest.raises(InputError, match=r"no corrections of 'modle'. Did you mean 'model'"):
        kept.export("modle", tmp_path / "other.jsonl")
    with pytest.raises(InputError, match="there are no corrections to write"):
        kept.export("model", tmp_path / "other.jsonl", person="Cy")


# -- rows --------------------------------------------------------------------------------------------------------------


def test_a_row_is_named_by_its_inputs_alone() -> None:
    columns = Columns.of(NUMBER)
    first = packed(inputs_of({"minutes": 90, "text": "x", "stars": 5, "other": 1}, columns))
    assert first.key == packed(inputs_of({"text": "x", "minutes": 90.0}, columns)).key
    assert first.key != packed(inputs_of({"text": "x", "minutes": 91}, columns)).key
    assert packed({"text": "x", "minutes": None}).key == packed({"text": "x"}).key
    with pytest.raises(RowError, match="expected an image"):
        inputs_of({"image": "/etc/passwd"}, Columns.of(BOXES))


def test_any_row_is_kept_as_it_was() -> None:
    row = {
        "a": b"\x89PNG", "b": [b"one", b"two"], "c": {"$image": "mine"}, "d": {"$mapping": {"$image": 1}},
        "e": [{"image": b"one", "n": 1.5}], "f": None, "g": "שלום\r\n\0",
    }  # fmt: skip
    kept = packed(row)
    assert len(kept.images) == 3
    assert kept.text.isascii()
    assert unpacked(kept.text, kept.images.__getitem__) == row
