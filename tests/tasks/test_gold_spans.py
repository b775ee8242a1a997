"""Labels of texts as they are written: tags of every spelling and number, spans that say their text."""

from __future__ import annotations

from typing import Any

import pytest

from polydetr.core.layout import FieldText
from polydetr.errors import RowError, SchemaError
from polydetr.modalities.text import as_text
from polydetr.tasks.entities import EntitiesOptions, EntitiesTask
from polydetr.tasks.tagging import TaggingTask
from polydetr.values.spans import split_words

TEXT = "ivory came from Accra today."


def text_of(text: str = TEXT) -> FieldText:
    return FieldText(text, split_words(text))


def tagger(rows: list[list[Any]], **options: Any) -> tuple[TaggingTask, list[str]]:
    task = TaggingTask("tags", TaggingTask.Options(**options))
    return task, task.learn([{"tags": tags} for tags in rows])


def both(spans: list[Any], text: str = TEXT) -> list[Any]:
    """What both tasks that read spans make of a row's."""
    golds = []
    for task in (TaggingTask("spans", TaggingTask.Options()), EntitiesTask("spans", EntitiesOptions())):
        task.learn([{"spans": [{"start": 0, "end": 1, "label": "GOOD"}, {"start": 2, "end": 3, "label": "CITY"}]}])
        golds.append(task.gold({"spans": spans}, text_of(text)))
    return golds


# -- spelling of tags -------------------------------------------------------------------------------------------------

SPELLINGS = {
    "usual": ["B-GOOD", "O", "O", "B-CITY", "I-CITY", "O"],
    "label first": ["GOOD-B", "O", "O", "CITY-B", "CITY-I", "O"],
    "underscore": ["B_GOOD", "O", "O", "B_CITY", "I_CITY", "O"],
    "label first, underscore": ["GOOD_B", "O", "O", "CITY_B", "CITY_I", "O"],
    "colon": ["B:GOOD", "O", "O", "B:CITY", "I:CITY", "O"],
    "slash": ["B/GOOD", "O", "O", "B/CITY", "I/CITY", "O"],
    "small prefixes": ["b-GOOD", "o", "o", "b-CITY", "i-CITY", "o"],
    "closed chunks": ["S-GOOD", "O", "O", "B-CITY", "E-CITY", "O"],
    "closed chunks, label first": ["GOOD-S", "O", "O", "CITY-B", "CITY-E", "O"],
    "blanks at the ends": ["B-GOOD ", "O", " O", "B-CITY", "I-CITY", "O"],
}


@pytest.mark.parametrize("tags", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_of_a_tag_marks_the_same_entities(tags: list[str]) -> None:
    text = text_of("ivory came from Cape Coast .")
    task, messages = tagger([tags, tags])
    assert (task.plain, task.primary_metric, messages) == (False, "entity_f1", [])
    gold = task.gold({"tags": tags}, text)
    assert gold is not None
    assert gold.tags == SPELLINGS["usual"]
    assert [(s.start, s.end, s.label) for s in gold.spans] == [(0, 5, "GOOD"), (16, 26, "CITY")]
    assert task.unseen(gold) == []
    entities = EntitiesTask("tags", EntitiesOptions())
    entities.learn([{"tags": tags}])
    assert entities.labels == ["CITY", "GOOD"]
    found = entities.gold({"tags": tags}, text)
    assert found is not None
    assert found.spans == gold.spans


def test_bare_tags_mark_entities_of_one_type() -> None:
    task, _ = tagger([["B", "I", "O", "B"], ["O", "O"]])
    assert not task.plain
    gold = task.gold({"tags": ["B", "I", "O", "B"]}, text_of("Cape Coast or Accra"))
    assert gold is not None
    assert gold.tags == ["B-_", "I-_", "O", "B-_"]


@pytest.mark.parametrize("labels", [["S_1", "B_2"], ["NOUN", "VERB"], ["N-S", "V-S"], ["B/1", "W/2"]])
def test_labels_that_merely_look_like_tags_stay_plain(labels: list[str]) -> None:
    task, messages = tagger([labels])
    assert (task.plain, task.labels, messages) == (True, sorted(labels), [])


def test_an_o_among_plain_labels_is_reported_with_the_spelling_that_is_meant() -> None:
    task, messages = tagger([["O", "PERSON", "O"]])
    assert task.plain
    assert messages == [
        "'tags' is read as plain labels, not entities, although 'O' is among them: "
        "write the first word of an entity B-PER, the others I-PER"
    ]


def test_a_slip_leaves_the_other_tags_of_its_row_alone() -> None:
    task, _ = tagger([SPELLINGS["underscore"]])
    gold = task.gold({"tags": ["B_GOOD", "O", "O", "BCITY", "O", "O"]}, text_of("ivory came from Cape Coast ."))
    assert gold is not None
    assert gold.tags == ["B-GOOD", "O", "O", "BCITY", "O", "O"]
    assert task.unseen(gold) == ["BCITY"]


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_are_labels_of_words_and_become_tags_by_their_names() -> None:
    numbers = [1, 0, 0, 2, 3]
    task, messages = tagger([numbers])
    assert (task.plain, task.labels) == (True, ["0", "1", "2", "3"])
    assert "because its tags are numbers" in messages[0]
    assert "--set tasks.tags.labels='[O, B-PER, I-PER]'" in messages[0]
    named, messages = tagger([numbers], labels=["O", "B-GOOD", "B-CITY", "I-CITY"])
    assert (named.plain, messages) == (False, [])
    text = text_of("ivory came from Cape Coast")
    gold = named.gold({"tags": numbers}, text)
    assert gold is not None
    assert gold.tags == ["B-GOOD", "O", "O", "B-CITY", "I-CITY"]
    with pytest.raises(RowError, match=r"tag number 4 has no name: there are 4, numbered from 0"):
        named.gold({"tags": [4, 0, 0, 0, 0]}, text)
    with pytest.raises(SchemaError, match=r"Write '1' as O, B-PER or I-PER, or take plain labels: tags:tagging"):
        EntitiesTask("tags", EntitiesOptions()).learn([{"tags": numbers}])


# -- words ------------------------------------------------------------------------------------------------------------


def test_tags_of_the_words_between_blanks_are_put_on_all_words_in_them() -> None:
    task, _ = tagger([["B-CITY", "O"]])
    gold = task.gold({"tags": ["O", "O", "B-CITY", "I-CITY"]}, text_of("don't leave Port-au-Prince (Haiti)."))
    assert gold is not None
    assert [(span.start, span.end) for span in gold.spans] == [(12, 35)]
    with pytest.raises(RowError, match="2 tags for 9 words"):
        task.gold({"tags": ["O", "O"]}, text_of("don't leave Port-au-Prince"))


# -- spans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end"), [(16, 21), (15, 21), (16, 22), (15, 22)])
def test_white_space_at_the_ends_of_a_span_is_trimmed(start: int, end: int) -> None:
    for gold in both([{"start": start, "end": end, "label": " CITY"}]):
        assert [span.key for span in gold.spans] == [(16, 21, "CITY")]
        assert not gold.problems


def test_white_space_in_ready_made_words_belongs_to_no_answer() -> None:
    text = as_text(["ivory ", "from", " Accra", "\u3000", "."], field="tokens")
    assert [text.text[start:end] for start, end in text.words] == ["ivory", "from", "Accra", "\u3000", "."]
    task, _ = tagger([["B-GOOD", "O", "B-CITY", "O", "O"]])
    spans = [{"start": text.text.index("Accra") - 1, "end": text.text.index("Accra") + 5, "label": "CITY"}]
    by_spans, by_tags = (task.gold({"tags": tags}, text) for tags in (spans, ["O", "O", "B-CITY", "O", "O"]))
    assert by_spans is not None
    assert by_tags is not None
    assert by_spans.spans == by_tags.spans


def test_a_span_is_put_where_its_text_stands_and_both_readings_are_reported() -> None:
    text = "😀大米来自上海市"
    shifted = [
        {"start": 2, "end": 4, "label": "GOOD", "text": "大米"},
        {"start": 6, "end": 8, "label": "CITY", "text": "上海"},
    ]
    for gold in both(shifted, text):
        assert [text[span.start : span.end] for span in gold.spans] == ["大米", "上海"]
        assert list(gold.problems) == [
            "span 2-4 (GOOD) says '大米' and marks '米来': it is put at 1-3",
            "span 6-8 (CITY) says '上海' and marks '海市': it is put at 5-7",
        ]
    for gold in both([{"start": 26, "end": 31, "label": "CITY", "text": "Accra"}]):  # beyond the end of the text
        assert [span.key for span in gold.spans] == [(16, 21, "CITY")]


def test_a_text_that_does_not_occur_leaves_the_offsets_and_is_reported() -> None:
    for gold in both([{"start": 16, "end": 21, "label": "CITY", "text": "Lomé"}]):
        assert [span.key for span in gold.spans] == [(16, 21, "CITY")]
        assert list(gold.problems) == [
            "span 16-21 (CITY) says 'Lomé' and marks 'Accra': the former does not occur, so the latter is taken"
        ]
    for gold in both([{"start": 16, "end": 21, "label": "CITY", "text": "accra "}]):  # the same word
        assert not gold.problems
