"""Messages stay short and plain, and the guard of a row, whatever the data hold."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator

from polydetr.errors import (
    MESSAGE_LIMIT,
    ConfigError,
    DataFileError,
    Location,
    PolydetrError,
    RowError,
    bounded,
    did_you_mean,
    escaped,
    faults,
    listed,
    nearest,
    quoted,
    row_fault,
    shown,
)

COMMAND = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f"


class _Encoder(BaseModel):
    layers: int = 1
    sizes: list[int] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> _Encoder:
        if self.layers < 0:
            raise ValueError("layers are counted from 0")
        return self


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"layers": -1}, "layers are counted from 0"),
        ({"sizes": [1, "a"]}, "sizes.1: Input should be a valid integer, unable to parse string as an integer"),
        ([], "Input should be a valid dictionary or instance of _Encoder"),
    ],
)
def test_faults_of_a_file_have_their_place_where_they_have_one(content, expected) -> None:
    with pytest.raises(ValidationError) as raised:
        _Encoder.model_validate(content)
    assert faults(raised.value) == expected


def test_no_more_faults_of_a_file_are_told_than_are_read() -> None:
    with pytest.raises(ValidationError) as raised:
        _Encoder.model_validate({"sizes": ["a"] * 5})
    assert faults(raised.value).endswith("; and 2 more")


def test_text_of_the_data_commands_nothing() -> None:
    assert shown("plain 中文 é") == "plain 中文 é"
    assert shown("a\x1b[2Jb\x07") == "a\\x1b[2Jb\\x07"
    assert shown("two\nlines\tand \u202e turned") == "two\\nlines\\tand \\u202e turned"
    assert escaped("two\nlines\tand \x9b") == "two\nlines\tand \\x9b"
    assert escaped("half \ud83d") == "half \\ud83d"
    assert quoted("it's \x1b") == '"it\'s \\x1b"'


def test_text_of_the_data_is_cut() -> None:
    assert shown("x" * 81) == "x" * 79 + "…"
    assert len(shown(COMMAND * 1000, 40)) <= 40
    assert len(quoted(["y" * 10_000] * 10_000, 60)) <= 60
    assert quoted({"b": 1, "a": [2]}) == "{'b': 1, 'a': [2]}"
    assert quoted(10**6000, 40).startswith("a number of 19,932 bits")
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert quoted(nested) == "[[[[...]]]]"
    laughs: list[object] = ["ha"] * 9
    for _ in range(30):
        laughs = [laughs] * 9
    assert len(quoted(laughs)) == 80


def test_no_message_is_longer_than_its_limit_and_both_ends_are_kept() -> None:
    long = "v" * 300_000 + COMMAND
    place = Location(file="/folder/" * 2000 + "rows.csv", line=7, column=long)
    error = RowError(f"the value {long!r} is too long.", location=place, hint=f"Shorten {long!r}, or skip the row.")
    text = str(error)
    assert len(text) <= MESSAGE_LIMIT
    assert "rows.csv, line 7, column 'vvv" in text
    assert "the value 'vvv" in text
    assert text.endswith("or skip the row.")
    assert "is too long." in text
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
    assert len(error.message) <= MESSAGE_LIMIT
    assert str(ConfigError("short")) == "short"
    assert bounded("x" * 50, 20) == "x" * 9 + " ... " + "x" * 6


def test_names_are_listed_as_far_as_they_fit() -> None:
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed(map(str, range(20))).endswith("'11' and 8 more")
    assert len(listed(["n" * 100_000] * 10_000)) < 300
    assert len(did_you_mean("x" * 100_000, ["y" * 100_000] * 100)) < 300
    assert nearest("x" * 100_000, ["x" * 100_000]) is None
    assert nearest("lable", ["label"]) == "Did you mean 'label'?"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TypeError("int is no text"), "cannot be read (TypeError: int is no text)"),
        (RecursionError("maximum depth"), "nested too deeply"),
        (MemoryError(), "more memory"),
        (OSError(36, "File name too long", "x" * 5000), "cannot be read (OSError: File name too long)"),
        (BaseException("a panic"), "cannot be read (BaseException: a panic)"),
    ],
)
def test_what_fails_within_a_row_is_an_error_of_that_row(error: BaseException, message: str) -> None:
    fault = row_fault(error, Location(file="a.csv", row=3))
    assert str(fault).startswith("a.csv, row 3: ")
    assert message in str(fault)


def test_an_error_of_a_row_gets_its_place_and_others_pass() -> None:
    inner = RowError("is odd", location=Location(column="text"), hint="Repair it.")
    fault = row_fault(inner, Location(file="a.csv", line=4))
    assert str(fault) == "a.csv, line 4, column 'text': is odd. Repair it."
    assert row_fault(fault, Location(file="b.csv", line=9)) is fault
    for error in (DataFileError("is empty"), KeyboardInterrupt(), SystemExit(), GeneratorExit()):
        with pytest.raises(type(error)):
            row_fault(error, Location())
    assert issubclass(RowError, PolydetrError)
