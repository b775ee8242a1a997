"""Tags of words that several windows show: the window with more context around the word gives them (ADR 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from polydetr.core.layout import FieldText, Layout
from polydetr.tasks.tagging import TaggingTask
from polydetr.values.spans import split_words


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
