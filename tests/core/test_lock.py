"""One run at a place; what a killed one leaves blocks nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from polydetr.core.lock import held
from polydetr.errors import OutputError, SaveError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
HOLDS = """
import sys, time
from pathlib import Path
from polydetr.core.lock import held
with held(Path(sys.argv[1]), what="'model'"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path / "lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_is_told_who_holds_it(tmp_path, holder):
    with (
        pytest.raises(OutputError, match=rf"'model' is being written by process {holder.pid} on .*since .*Wait for it"),
        held(tmp_path / "lock", what="'model'"),
    ):
        pass
    assert (tmp_path / "lock").exists()


def test_a_killed_holder_blocks_nobody(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock").exists()
    with held(tmp_path / "lock", what="'model'"):
        pass
    assert not list(tmp_path.iterdir())


def test_two_calls_in_one_process_exclude_one_another(tmp_path):
    with held(tmp_path / "lock", what="'model'"):
        with pytest.raises(OutputError, match=f"by process {os.getpid()}"), held(tmp_path / "lock", what="'model'"):
            pass
        with pytest.raises(OutputError), held(tmp_path / "lock", what="'model'"):
            pass
    assert not list(tmp_path.iterdir())


def test_who_waits_comes_after(tmp_path):
    order: list[str] = []

    def one(name: str) -> None:
        with held(tmp_path / "lock", what="'model'", wait=True):
            order.append(f"{name} in")
            time.sleep(0.02)
            order.append(f"{name} out")

    threads = [threading.Thread(target=one, args=[name]) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 8
    assert all(a.partition(" ")[0] == b.partition(" ")[0] for a, b in zip(order[::2], order[1::2], strict=True))


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / "lock").symlink_to("theirs")
    with pytest.raises(SaveError, match="cannot write to"), held(tmp_path / "lock", what="'model'"):
        pass
    assert (tmp_path / "theirs").read_text() == "precious"
