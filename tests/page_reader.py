"""A reader who types what a page prints, from top to bottom, in a folder that holds nothing but the files that the page
speaks of: Python in one session, commands in one shell.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from markdown_blocks import ROOT, Block, PythonSession, blocks_of

NOT_RUN: dict[str, str] = {
    r"git clone .*": "there is no address",
    r"(python -m |/opt/polydetr/bin/)?pip install .*": "installs; make test does it before any test",
    r"python -m venv /opt/polydetr": "makes an environment outside of the page's folder; tests/deploy makes one",
    r"conda .*": "installs; the file it reads is tested in test_readme.py",
    r"make (demo|test|check|docs)": "sets up an environment; that the target exists is tested in test_readme.py",
    r"polydetr backbones fetch .*": "downloads; tests/fetch does it from an index of its own",
    r"nvidia-smi": "needs a GPU",
    r"polydetr serve .* --root(-path)? .*": "behind a proxy, beside models to come; tests/serving starts both",
    r"polydetr (corrections export|train .* --corrections) .*": "takes somebody who corrects, as in tests/cli",
    r"polydetr tune .* --storage postgresql:.*": "needs a database; tests/tuning has one of its own",
}
"""Commands (whole, as expressions) that no test types, and why. Every other command of every page is run."""
if shutil.which("curl") is None:
    NOT_RUN[r"(printf .* \| )?curl .*"] = "curl is not installed here"
if find_spec("openpyxl") is None:
    NOT_RUN[r".*\.xlsx.*"] = "needs the extra xlsx, which is not installed here"

SMALLER: Sequence[str] = (
    "--epochs", "1", "--set", "steps=1", "--set", "model.num_layers=1",
    "--set", "training.precision=fp32", "--set", "text.max_tokens=48", "--set", "text.overlap=8",
    "--set", "image.size=32", "--set", "image.patch_size=8", "--set", "training.batch_tokens=512",
)  # fmt: skip
"""What the reader adds to every ``polydetr train`` and ``tune``, so that it takes a second: later options win over
printed ones.
"""
FROM_NOTHING: Sequence[str] = ("--backbone", "none", "--set", "model.embed_dim=16")
"""And where the command names no backbone in a folder of the reader's own."""

SMALLER_OF: Mapping[str, Sequence[str]] = {
    "detection": ("num_queries=8", "hidden_dim=16", "decoder_layers=1", "threshold=0.0"),
    "generation": ("sampling_steps=2",),
}
"""The same for the options of a task; the target's name is put before them."""
TASK_OF = {"objects": "detection", "image": "generation"}
"""Targets of the printed commands whose tasks have such options."""


def is_run(command: str) -> bool:
    return not any(re.fullmatch(pattern, command) for pattern in NOT_RUN)


def commands_of(block: Block) -> list[str]:
    """The commands of a block of a shell, without comments; a line that ends in a backslash goes on."""
    lines = block.content.replace("\\\n", " ").splitlines()
    return [" ".join(line.split("  #")[0].split()) for line in lines if line.strip() and not line.startswith("#")]


Run = Callable[..., tuple[int, str, str]]


class PageReader:
    """``run``: the command line inside this process (arguments → exit code, output, errors)."""

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch, *, names: Mapping[str, Any] | None = None) -> None:
        self._run, self._monkeypatch = run, monkeypatch
        self._names = names or {}
        self._port = 0
        self._services: list[subprocess.Popen[str]] = []

    def read(self, page: Path) -> list[str]:
        """Types the whole page; returns the commands that were run.

        Raises:
            AssertionError: Python printed something else than is shown, or a command failed.
        """
        blocks = blocks_of(page)
        for block in blocks:
            if block.title and " " not in block.title:
                Path(block.title).write_text(block.content, encoding="utf-8")
        self._monkeypatch.setenv("PWD", os.getcwd())  # as a shell has it
        try:
            return self._typed(page, blocks)
        finally:
            for service in self._services:
                service.terminate()
                service.communicate()

    def _typed(self, page: Path, blocks: Sequence[Block]) -> list[str]:
        session = PythonSession(page, self._names)
        typed = []
        for block in blocks:
            if block.language == "python":
                session.type(replace(block, content=self._here(block.content)))
            elif block.language == "sh":
                session.finish()
                for command in filter(is_run, commands_of(block)):
                    self.command(command)
                    typed.append(command)
        session.finish()
        return typed

    def command(self, command: str) -> None:
        if exported := re.fullmatch(r"export (\w+)=(.*)", command):
            self._monkeypatch.setenv(exported[1], os.path.expandvars("".join(shlex.split(exported[2]))))
            return
        if serving := re.fullmatch(r"polydetr (serve .*) &", command):
            self._serve(shlex.split(serving[1]))
            return
        command = self._here(command)
        said, piped, asked = command.rpartition(" | ") if " | polydetr " in command else ("", "", command)
        words = shlex.split(asked)
        if words[0] != "polydetr":
            done = subprocess.run(["bash", "-ec", asked], capture_output=True, text=True, env=_environment())
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            return
        if piped:
            typed = io.BytesIO((shlex.split(said)[1] + "\n").encode())
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(typed, encoding="utf-8"))
        code, _, errors = self._run(*_smaller(words[1:]))
        assert code == 0, f"{command}\n{errors}"

    def _here(self, text: str) -> str:
        """With the port at which the page's service stands here; a refusal is a failure."""
        text = text.replace("curl -s", "curl --fail -s")
        return text.replace("localhost:8000", f"localhost:{self._port}") if self._port else text

    def _serve(self, words: Sequence[str]) -> None:
        """Starts a service beside the page, at a port that is free."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        call = [sys.executable, "-m", "polydetr", *words, "--port", str(self._port)]
        service = subprocess.Popen(call, stderr=subprocess.PIPE, text=True, env=_environment())
        self._services.append(service)
        assert service.stderr is not None
        told = []
        while not told or "answering at" not in told[-1]:
            told.append(service.stderr.readline())
            assert told[-1], "".join(told)
        threading.Thread(target=service.stderr.read, daemon=True).start()  # what it logs must go somewhere


def _environment() -> dict[str, str]:
    """That of this process, in which ``python`` is this one and finds the package."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def _smaller(words: Sequence[str]) -> list[str]:
    if words[0] not in ("train", "tune"):
        return list(words)
    targets = [words[i + 1].split(":")[0] for i, word in enumerate(words[:-1]) if word == "--target"]
    added = [*SMALLER]
    for target in targets:
        for option in SMALLER_OF.get(TASK_OF.get(target, ""), ()):
            added += ["--set", f"tasks.{target}.{option}"]
    if not any(word.startswith("image=") for word in words):  # a folder of the reader's own is read as it is
        added += FROM_NOTHING
    return [*words, *added, *(("--trials", "2") if words[0] == "tune" else ())]
