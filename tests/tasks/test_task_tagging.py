"""Tags of words that several windows show: the window with more context around the word gives them (ADR 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from polydetr import LoadedModel
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Prediction
from polydetr.errors import InputError, SchemaError
from polydetr.inference.model import MeasureWarning
from polydetr.schema.infer import infer_schema
from polydetr.tasks.explained import Reading
from polydetr.tasks.tagging import TagDetails, TaggingTask
from polydetr.values.spans import split_words
from tiny_models import make_engine


def window_layout(words: Sequence[int], margins: Sequence[int]) -> Layout:
    """[CLS], then two subwords per word of row 0, then [SEP]; both subwords have their word's margin."""
    word = np.array([-1, *np.repeat(words, 2), -1])
    margin = np.array([0, *np.repeat(margins, 2), 0])
    first = np.array([False, *([True, False] * len(words)), False])
    return Layout(np.where(word < 0, -1, 0), np.zeros_like(word), np.zeros_like(word), word, first, margin)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_where_windows_overlap_the_one_with_more_context_tags_the_word(order: list[int]) -> None:
    task = TaggingTask("pos", TaggingTask.Options())
    task.learn([{"pos": ["FIRST", "SECOND", "THIRD"]}])
    #            word: 0  1  2  3  4  5  6
    layouts = [
        window_layout([0, 1, 2, 3, 4], [9, 7, 5, 3, 1]),
        window_layout([1, 2, 3, 4, 5], [1, 3, 5, 3, 1]),
        window_layout([3, 4, 5, 6], [1, 4, 6, 8]),
    ]
    # Each window is sure of its own label everywhere, and so sure of a wrong one at what is not a word's first subword.
    outputs = []
    for number, layout in enumerate(layouts):
        label = np.where(layout.first, number, (number + 1) % 3)
        outputs.append({"logits": np.where(np.arange(3) == label[:, None], 5.0, -5.0).astype(np.float32)})
    text = "a b c d e f g"
    (answer,) = task.decode(
        [outputs[i] for i in order], [layouts[i] for i in order], [FieldText(text, split_words(text))]
    )
    assert answer.details.tags == ["FIRST", "FIRST", "FIRST", "SECOND", "THIRD", "THIRD", "THIRD"]


@pytest.mark.parametrize("tags", [["B-PER", "O"], ["NAME", "VERB"]])
def test_where_no_text_has_a_word_the_other_targets_are_measured(tags: list[str]) -> None:
    rows = [{"text": "Anna ran", "tags": tags, "stars": 1.5 * i} for i in range(6)]
    targets = {"tags": "tagging", "stars": "regression"}
    schema = infer_schema(rows, targets=targets, inputs={"text": "text"})
    model = LoadedModel(make_engine(rows, targets, inputs={"text": "text"}), {"schema": schema.to_dict()})
    empty = [{**row, "text": "", "tags": []} for row in rows]
    with pytest.warns(MeasureWarning, match="these rows have no value of 'tags': it is not measured there"):
        assert list(model.evaluate(empty)) == ["stars"]
    assert model.evaluate([*rows, *empty])["tags"] == model.evaluate(rows)["tags"]
    with pytest.raises(SchemaError, match="nothing to measure"):
        model.evaluate([{name: row[name] for name in ("text", "tags")} for row in empty])


def test_a_text_without_a_word_has_no_tag_to_explain() -> None:
    task = TaggingTask("pos", TaggingTask.Options())
    reading = Reading(Prediction([], None, TagDetails([], [], [])), [], [], FieldText(" ", ()))
    with pytest.raises(InputError, match="the text has no word: there is nothing to explain"):
        task.answer_of(reading, None, counterpart=lambda: np.zeros(1))
