"""The pages of a service, from what ``polydetr serve`` was told: who may reach them, and what happens without them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nicegui
import pytest

from polydetr.cli import serve as verb
from polydetr.errors import ConfigError, PolydetrError
from polydetr.serving.refusal import Refused
from polydetr.serving.run import Wanted
from polydetr.studio.opened import studio_pages
from polydetr.web.people.people import People
from polydetr.web.store.database import Database

OPEN, HERE = Wanted({}, host="0.0.0.0"), Wanted({})


def test_on_this_machine_nobody_signs_in_until_there_are_people(tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    made = studio_pages(HERE, store=store)(object())  # type: ignore[arg-type]
    assert made.studio.people is None
    assert made.studio.may_train
    People(Database.open(store)).add("Ada", "correct horse battery", role="admin")
    assert studio_pages(HERE, store=store)(object()).studio.people is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        (OPEN, "0.0.0.0"),
        (Wanted({}, hosts=["ml.example.org"]), "ml.example.org"),
        (Wanted({}, proxies=["127.0.0.1"]), "127.0.0.1"),
        (Wanted({}, root_path="/models"), "127.0.0.1/models"),
    ],
)
def test_where_others_reach_the_pages_somebody_must_sign_in(tmp_path: Path, wanted: Wanted, reached: str) -> None:
    """A reverse proxy is on this machine, and whom it lets through is not."""
    store = str(tmp_path / "s.db")
    said = rf"reaches {reached} .*nobody has to sign in.*polydetr people add --role admin NAME.*--no-studio"
    with pytest.raises(ConfigError, match=said):
        studio_pages(wanted, store=store)
    People(Database.open(store)).add("Ada", "correct horse battery", role="admin")
    made = studio_pages(wanted, store=store)(object())  # type: ignore[arg-type]
    assert made.studio.people is not None
    assert not made.studio.may_train


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studio/login", None),
        (f"/studio/_nicegui/{nicegui.__version__}/static/nicegui.js", None),
        ("/studio/films/ask", 303),
        ("/studio/_nicegui/ask", 401),  # a model of that name has none of its pages open
        ("/studio/_nicegui/client/1/upload/2", 401),
    ],
)
def test_without_signing_in_only_the_files_of_every_page_are_given(
    tmp_path: Path, path: str, status: int | None
) -> None:
    store = str(tmp_path / "s.db")
    People(Database.open(store)).add("Ada", "correct horse battery", role="admin")
    pages = studio_pages(HERE, store=store)(object())  # type: ignore[arg-type]
    scope = {"type": "http", "method": "GET", "query_string": b""}
    if status is None:
        asyncio.run(pages.check(scope, {}, path))
        return
    with pytest.raises(Refused) as refused:
        asyncio.run(pages.check(scope, {}, path))
    assert refused.value.status == status


def test_a_service_that_was_not_asked_for_pages_does_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wanted, store in ((OPEN, tmp_path / "s.db"), (HERE, tmp_path)):  # nobody to sign in; a folder is no database
        prepare = verb._pages(wanted, None, str(store), tmp_path, None)
        assert prepare is not None
        assert prepare() is None
        assert "without pages" in capsys.readouterr().err
        asked_for = verb._pages(wanted, True, str(store), tmp_path, None)
        assert asked_for is not None
        with pytest.raises(PolydetrError):
            asked_for()
    assert verb._pages(HERE, False, "", tmp_path, None) is None


def test_without_its_packages_pages_are_left_out_or_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "_NEEDED_BY_PAGES", ("no_such_package",))
    assert verb._pages(HERE, None, "s.db", tmp_path, None) is None
    with pytest.raises(ConfigError, match="no_such_package: not installed"):
        verb._pages(HERE, True, "s.db", tmp_path, None)
