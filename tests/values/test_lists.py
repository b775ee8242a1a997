"""Lists in cells: every notation in which programs write them, and what is none."""

import numpy as np
import pytest

from polydetr.errors import RowError
from polydetr.values.lists import ListColumn, read_list, read_lists, split_items

LISTS = {
    '["oak", "elm"]': ["oak", "elm"],
    "['oak', \"elm's\"]": ["oak", "elm's"],
    "['oak' 'elm'\n 'ash']": ["oak", "elm", "ash"],  # NumPy
    "[np.str_('oak'), np.int64(3)]": ["oak", 3],
    "[array(['oak', 'elm'], dtype=object)]": [["oak", "elm"]],
    "[oak, Scots pine]": ["oak", "Scots pine"],
    "{'oak', 'elm'}": ["oak", "elm"],
    "[0. 1. 0.]": [0.0, 1.0, 0.0],
    "[True, None, nan]": [True, None, None],
    "[('oak', 2)]": [["oak", 2]],
    "[{'start': 0, 'end': 3, 'label': 'TREE'}]": [{"start": 0, "end": 3, "label": "TREE"}],
    "['caf\\xe9', '\\u6811\\n', 'it\\'s']": ["café", "树\n", "it's"],
    '{"oak": [1, 2]}': {"oak": [1, 2]},
    " [] ": [],
}


@pytest.mark.parametrize("text", LISTS)
def test_a_list_is_read_in_every_notation(text):
    assert read_list(text) == LISTS[text]


@pytest.mark.parametrize(
    "text",
    ["[removed]", "(1,234.50)", "[1] see below", "['oak'", "['oak' ... 'elm']", "[" * 90_000, "[:]", "['oak': 1]",
     "{'a': 1, 'b'}", "__import__('os').system('true')", "[__import__('os')]", "", "oak"],
)  # fmt: skip
def test_other_texts_are_no_lists(text):
    assert read_list(text) is None


def test_items_are_parted_by_a_mark_or_by_blanks():
    assert split_items("oak|  elm |", "|") == ["oak", "elm"]
    assert split_items("O  B-X O", "blanks") == ["O", "B-X", "O"]


@pytest.mark.parametrize("value", [[1, 0, 1], (1.0, 0.0, 1.0), np.array([True, False, True]), "[1 0 1]", "[1, 0, 1]"])
def test_the_places_of_a_vector_are_labels(value):
    assert ListColumn(places=("oak", "elm", "ash")).read(value) == ["oak", "ash"]


def test_a_vector_of_another_length_is_refused_with_its_column():
    columns = {"trees": ListColumn(places=("oak", "elm", "ash"))}
    with pytest.raises(RowError, match=r"column 'trees': \[1, 0\] is not a vector of 3 zeros and ones"):
        read_lists({"trees": [1, 0]}, columns)
    row = {"trees": None, "text": "[1, 0]"}
    assert read_lists(row, columns) == row


def test_an_empty_cell_is_an_empty_list_where_the_column_says_so():
    assert ListColumn("|", empty=True).read(" ") == []
    assert ListColumn("|").read(" ") == " "
