"""Files that a user asked for: whole or not at all, where the user said, and nothing else is touched."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from polydetr.core import files
from polydetr.core.files import is_special, save_bytes, save_text, saved, written_atomically
from polydetr.errors import SaveError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, pipes and devices of POSIX")


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to("link")
    (tmp_path / "link").symlink_to("far/real.txt")  # of a file that is not there yet
    for content in ("old", "new"):
        save_text(tmp_path / "near", content)
        assert (tmp_path / "far/real.txt").read_text() == content
    assert (tmp_path / "near").is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["far", "link", "near"]
    assert os.listdir(tmp_path / "far") == ["real.txt"]


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(SaveError, match=r"cannot write '.*a': Too many levels of symbolic links"):
        save_text(tmp_path / "a", "x")
    assert (tmp_path / "a").is_symlink()


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with saved(pipe) as file:
        file.write("Zürich\n".encode() * 3)
    reader.join(10)
    assert read == ["Zürich\n".encode() * 3]
    assert is_special(pipe)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_pipe_without_a_reader_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIPE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SaveError, match=r"cannot write '.*pipe': no program reads from this pipe"):
        save_text(tmp_path / "pipe", "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_device_is_written_to_and_stays_one(tmp_path):
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        pytest.skip("making a device takes the rights of root")
    (tmp_path / "link").symlink_to(device)
    save_bytes(device, b"gone")
    save_bytes(tmp_path / "link", b"gone")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "null"]


@pytest.mark.parametrize("into", ["pipe", "file"])
def test_standard_output_under_another_name(tmp_path, into):
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    if not (tmp_path / "stdout").exists():
        pytest.skip("no /proc")
    code = "import sys; from polydetr.core.files import save_text; save_text(sys.argv[1], 'answer\\n')"
    call = f'echo before; "{sys.executable}" -c "{code}" "{tmp_path}/stdout"; echo after'
    if into == "pipe":
        shown = subprocess.run(["sh", "-c", call], capture_output=True, check=True, text=True).stdout
    else:
        with (tmp_path / "log").open("w") as log:
            subprocess.run(["sh", "-c", call], stdout=log, check=True)
        shown = (tmp_path / "log").read_text()
    assert shown == "before\nanswer\nafter\n"
    assert (tmp_path / "stdout").is_symlink()


def test_two_writers_at_once_never_mix(tmp_path):
    path = tmp_path / "answers"
    with written_atomically(path) as first, written_atomically(path) as second:
        for _ in range(3):
            first.write(b"first\n")
            second.write(b"second\n")
    assert path.read_bytes() == b"first\n" * 3
    assert os.listdir(tmp_path) == ["answers"]


def test_the_rights_are_those_that_the_user_gives_new_files(tmp_path):
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            save_text(tmp_path / f"{mask:o}", "x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{mask:o}").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("inside", ["rows.csv/answers.jsonl", "rows.csv/deep/answers.jsonl"])
def test_a_file_in_place_of_a_folder_is_named(tmp_path, inside):
    (tmp_path / "rows.csv").write_text("text\n")
    with pytest.raises(SaveError, match=r"cannot write '.*answers.jsonl': Not a directory"):
        save_text(tmp_path / inside, "x")


@pytest.mark.parametrize("step", ["open", "replace"])
def test_the_reason_is_never_hidden_by_tidying_up(tmp_path, monkeypatch, step):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", read_only)
    monkeypatch.setattr(*{"open": (Path, "open"), "replace": (os, "replace")}[step], read_only)
    with pytest.raises(SaveError, match=r"cannot write '.*a.txt': Read-only file system"):
        save_text(tmp_path / "a.txt", "x")
