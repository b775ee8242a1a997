"""The file of keys and its verbs."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from polydetr.errors import DataFileError, InputError
from polydetr.serving.keys import KeyFile

Run = Callable[..., tuple[int, str, str]]


def test_the_file_holds_hashes_alone_and_is_its_owners(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("app", admin=True)
    assert len(key) > 40
    assert key not in keys.path.read_text()
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    found = keys.find(key)
    assert found is not None
    assert (found.name, found.admin) == ("app", True)
    assert [keys.find(wrong) for wrong in ("", key[1:], key + "\0", key.upper(), "x" * 100_000)] == [None] * 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["keys.json"]


def test_a_name_is_given_once(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("app")
    for name, says in {
        "app": "already",
        "": "no name",
        "a/b": "no name",
        "a\nb": "no name",
        "x" * 99: "no name",
    }.items():
        with pytest.raises(InputError, match=says):
            keys.add(name)
    with pytest.raises(InputError, match="Did you mean 'app'"):
        keys.revoke("ap")
    keys.revoke("app")
    assert keys.keys() == []


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"keys": [1]}', '{"keys": [{"name": "a", "sha256": "b"}]}', "[" * 9_999]
)
def test_what_is_no_file_of_keys(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    for call in (KeyFile(path).keys, lambda: KeyFile(path).add("app"), lambda: KeyFile(path).find("x")):
        with pytest.raises(DataFileError, match="no file of keys"):
            call()
    assert path.read_text() == content


def test_many_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    writers = [threading.Thread(target=KeyFile(path).add, args=(f"k{i}",)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    written = KeyFile(path).keys()
    assert {key.name for key in written} == {f"k{i}" for i in range(8)}


def test_on_the_command_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    code, key, err = run("keys", "add", "app", "--keys", path)
    assert code == 0
    assert KeyFile(path).find(key.strip()) is not None
    assert key.strip() not in err
    run("keys", "add", "boss", "--admin", "--keys", path)
    code, out, _ = run("keys", "list", "--keys", path, "--json")
    assert [(k["name"], k["admin"]) for k in json.loads(out)] == [("app", False), ("boss", True)]
    assert "sha256" not in out
    assert run("keys", "list", "--keys", path)[1].startswith("app  made ")
    assert run("keys", "revoke", "app", "--keys", path)[0] == 0
    code, _, err = run("keys", "revoke", "app", "--keys", path)
    assert code == 2
    assert "no key called 'app'" in err
    assert "there is no key" in run("keys", "list", "--keys", tmp_path / "none.json")[2]
