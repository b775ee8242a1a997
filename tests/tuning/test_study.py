"""A study in its database: made for one space, one set of rows and one configuration; and what is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tiny_studies import CONFIG, IDENTITY, SEARCH, Rows, open_study, summary, work_on

from polydetr.config.loading import load_config
from polydetr.core.databases import read_address
from polydetr.errors import ConfigError, OutputError, SaveError, StudyError
from polydetr.tuning.database import open_database
from polydetr.tuning.owners import is_alive, this_process
from polydetr.tuning.study import MOST_TURNS, KeptStudy, Studies


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "s.db") if request.param == "sqlite" else request.getfixturevalue("postgresql")


def test_a_study_is_gone_on_with_by_its_name(address: str, tmp_path: Path) -> None:
    name = f"gone on {tmp_path}"
    work_on(open_study(address, name=name), tmp_path, trials=4).run()
    first = summary(open_study(address, name=name))
    assert [number for number, *_ in first] == [0, 1, 2, 3]
    rows = Rows()
    study = open_study(address, name=name)
    work_on(study, tmp_path, trials=14, rows=rows).run()
    assert len(rows.trained) == 10
    assert summary(study)[:4] == first
    other = open_study(address, name=f"{name} in one go")
    work_on(other, tmp_path / "other", trials=14).run()
    assert summary(study) == summary(other)
    assert {state for _, _, state, *_ in summary(study)} == {"complete", "pruned"}
    assert study.importances()


def test_the_default_is_first_and_changes_nothing(address: str, tmp_path: Path) -> None:
    study = open_study(address, name=f"default {tmp_path}")
    taken = study.take(most=3)
    assert taken is not None
    assert (taken.number, dict(taken.settings), taken.again) == (0, {}, False)
    assert study.records()[0].state == "running"
    assert study.under_way()


def test_a_trial_that_another_process_trains_is_not_taken(address: str, tmp_path: Path) -> None:
    name = f"not taken {tmp_path}"
    first, second = open_study(address, name=name), open_study(address, name=name)
    one, two = first.take(most=2), second.take(most=2)
    assert one is not None
    assert two is not None
    assert (one.number, two.number) == (0, 1)
    assert first.take(most=2) is None
    first.release(one)
    again = second.take(most=2)
    assert again is not None
    assert (again.number, again.again) == (0, True)


def test_a_trial_that_kills_every_process_is_a_failed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(tmp_path / "s.db")
    for turn in range(MOST_TURNS):
        taken = study.take(most=2)
        assert taken is not None
        assert (taken.number, taken.again) == (0, turn > 0)
        monkeypatch.setattr("polydetr.tuning.study._HELD", set())  # as if its process were dead
    taken = study.take(most=2)
    assert taken is not None
    assert taken.number == 1
    assert study.records()[0].state == "failed"
    assert "killed 5 times" in study.records()[0].reason


def test_what_another_process_took_up_is_that_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(tmp_path / "s.db")
    slept = study.take(most=1)
    assert slept is not None
    monkeypatch.setattr("polydetr.tuning.study._HELD", set())
    other = study.take(most=1)
    assert other is not None
    study.failed(slept, reason="late", seconds=1.0)
    assert study.records()[0].state == "running"
    study.failed(other, reason="in time", seconds=1.0)
    study.failed(slept, reason="later", seconds=1.0)
    assert study.records()[0].reason == "in time"


def test_who_lives() -> None:
    me = this_process()
    assert is_alive(me, None)
    assert not is_alive({**me, "started": 1}, 1e12)  # its number was given to another process since
    assert not is_alive({**me, "pid": 2**22 + 1}, 1e12)
    elsewhere = {**me, "machine": "elsewhere"}
    assert not is_alive(elsewhere, None)
    assert not is_alive(elsewhere, 1.0)
    assert is_alive(elsewhere, 1e12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"identity": {**IDENTITY, "rows": "others"}}, "other training or validation rows"),
        ({"identity": {**IDENTITY, "schema": {"inputs": []}}}, "other columns or tasks"),
        ({"identity": {**IDENTITY, "config": {"model": {"num_heads": 4}}}}, "model.num_heads is 4 here, 8 there"),
        ({"identity": {**IDENTITY, "seed": 7}}, "seed 7 here, 0 there"),
        ({"config": load_config({"search": {**SEARCH, "model": {"dropout": [0.0, 0.1, 0.2]}}})}, "another space: "
         "model.dropout: values [0.0, 0.1, 0.2] here, values [0.0, 0.1, 0.3] there"),
    ],
)  # fmt: skip
def test_a_study_made_for_something_else_is_refused(change: dict, said: str, tmp_path: Path) -> None:
    open_study(tmp_path / "s.db")
    with pytest.raises(StudyError) as refused:
        open_study(tmp_path / "s.db", **change)
    assert "the study 'films'" in str(refused.value)
    assert said in str(refused.value)
    open_study(tmp_path / "s.db", name="another", **change)


def test_a_study_of_another_program_is_refused(tmp_path: Path) -> None:
    storage = open_database(read_address(str(tmp_path / "s.db")))
    from optuna.study import StudyDirection

    study = storage.create_new_study([StudyDirection.MAXIMIZE], "films")
    open_study(tmp_path / "s.db")  # of which nothing but the name is there: its maker was killed
    study = storage.create_new_study([StudyDirection.MAXIMIZE], "theirs")
    storage.create_new_trial(study)
    with pytest.raises(StudyError, match="was not made by polydetr"):
        open_study(tmp_path / "s.db", name="theirs")


def test_a_study_is_not_removed_while_somebody_works_on_it(tmp_path: Path) -> None:
    studies = Studies(read_address(str(tmp_path / "s.db")))
    studies.remove("films")  # there is none
    study = open_study(tmp_path / "s.db")
    taken = study.take(most=2)
    assert taken is not None
    with pytest.raises(OutputError, match="is being worked on by process"):
        studies.remove("films")
    study.release(taken)
    studies.remove("films")
    assert studies.reading("films") is None


# -- addresses and files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no database" * 100, "is not a database"), (b"SQLite format 3\x00" + b"\x07" * 5000, "is damaged")],
)
def test_a_file_that_is_no_study(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(content)
    with pytest.raises(StudyError, match=said):
        Studies(read_address(str(tmp_path / "s.db")))
    assert (tmp_path / "s.db").read_bytes() == content


@pytest.mark.parametrize("cut", [0.3, 0.8])
def test_a_damaged_study_is_refused_before_anything_is_trained(cut: float, tmp_path: Path) -> None:
    open_study(tmp_path / "s.db")
    whole = (tmp_path / "s.db").read_bytes()
    (tmp_path / "s.db").write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(StudyError, match="is damaged"):
        Studies(read_address(str(tmp_path / "s.db")))


def test_a_database_of_something_else_stays_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    connection.close()
    before = (tmp_path / "s.db").read_bytes()
    with pytest.raises(StudyError, match="is a database of something else"):
        Studies(read_address(str(tmp_path / "s.db")))
    assert (tmp_path / "s.db").read_bytes() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("postgresql://someone:secret@127.0.0.1:1/studies", "postgresql://someone:.* cannot be used: .*refused"),
        ("postgresql://someone:secret@nosuch.invalid/studies", "failed to resolve"),
    ],
)
def test_an_unreachable_database_is_told_without_its_password(given: str, said: str) -> None:
    with pytest.raises(StudyError, match=said) as refused:
        Studies(read_address(given))
    assert "secret" not in str(refused.value)
    assert "Nothing was trained" in str(refused.value)


@pytest.mark.parametrize(
    "given", ["mysql://somewhere/studies", "sqlite://", "sqlite:///:memory:", "postgresql://[::1/x"]
)
def test_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(ConfigError):
        Studies(read_address(given))


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="cannot write to"):
        Studies(read_address(str(tmp_path / "file" / "s.db")))
    with pytest.raises(StudyError, match="is a folder"):
        Studies(read_address(str(tmp_path)))


def test_a_database_that_goes_away_is_told(tmp_path: Path) -> None:
    study = open_study(tmp_path / "s.db")
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("DROP TABLE trials")
    connection.close()
    with pytest.raises(StudyError, match="can no longer be read or written: no such table"):
        study.take(most=2)
    assert isinstance(study, KeptStudy)
    assert CONFIG.search
