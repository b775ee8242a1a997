"""The steps of deploy/Dockerfile, run in an empty folder: what it copies is copied, what it runs is run, and its
command answers over HTTP and writes nowhere but to /tmp.

A virtual environment and a folder stand for the image, so that /opt, /src, /srv and /tmp lie below it, and the base
image's Python is this one. Not run is what would change this machine: ``useradd``. As the image's own user the command
runs where this test may change users, and others may run this Python. It takes a package index:

    pytest tests/deploy -m "slow or not slow"
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from image_steps import Step, copied, only, stages_of

from markdown_blocks import ROOT
from polydetr import Predictor
from polydetr.cli import app

pytestmark = [pytest.mark.slow, pytest.mark.network]
STAGES = stages_of(ROOT / "deploy" / "Dockerfile")
NOT_RUN = r"useradd --system --uid (\d+) --no-create-home --shell /usr/sbin/nologin polydetr"
WORDS = {"good": "yes", "bad": "no"}
ROWS = [{"text": f"a {word} film {i}", "label": label} for i in range(10) for word, label in WORDS.items()]
UNTIL_READY_S, UNTIL_STOPPED_S = 60.0, 40.0


@dataclass(frozen=True)
class Image:
    """A folder with the image's places in it, and what its steps have set."""

    top: Path
    environment: Mapping[str, str]
    port: int

    def placed(self, text: str) -> str:
        """The image's own paths as they lie here, and its port as one that is free."""
        there = re.sub(r"(?<![\w.}])/(opt|src|srv|tmp)\b", rf"{self.top}/\1", text)
        return there.replace("8000", str(self.port))

    def words(self, step: Step) -> list[str]:
        return [self.placed(word) for word in json.loads(step.rest)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built: every step of both stages was taken."""
    if "serve" not in {command.name or command.callback.__name__ for command in app.registered_commands}:
        pytest.skip("there is no polydetr serve yet")
    index = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", "hatchling"], capture_output=True, text=True
    )
    if index.returncode:
        pytest.skip(f"needs a package index, and none answers: {index.stderr.strip().splitlines()[-1:]}")
    top = tmp_path_factory.mktemp("image")
    for folder in ("opt", "src", "srv", "tmp"):
        (top / folder).mkdir()
    made = Image(top, {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}, _free_port())
    for step in STAGES[0]:
        made = _taken(made, step)
    shutil.rmtree(top / "src")  # the second stage copies /opt/polydetr alone
    for step in STAGES[1]:
        made = _taken(made, step)
    return made


def _taken(image: Image, step: Step) -> Image:
    """The image after one step."""
    if step.word == "RUN" and not re.fullmatch(NOT_RUN, step.rest):
        environment = {k: v for k, v in os.environ.items() if k.startswith("PIP_")} | image.environment
        done = subprocess.run(
            image.placed(step.rest), shell=True, cwd=image.top, env=environment | {"HOME": str(image.top / "tmp")},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{step.rest}\n{done.stderr}"
    elif step.word == "COPY" and step.rest == ". /src":
        for path in copied(ROOT, ROOT / "deploy" / "Dockerfile.dockerignore"):
            place = image.top / "src" / path.name
            shutil.copytree(path, place) if path.is_dir() else shutil.copy(path, place)
    elif step.word == "ENV":
        name, _, value = step.rest.partition("=")
        value = image.placed(value).replace("$PATH", image.environment["PATH"])
        return Image(image.top, {**image.environment, name: value}, image.port)
    else:
        assert step.word in {"RUN", "FROM", "COPY", "WORKDIR", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
                             "ENTRYPOINT", "CMD"}, step  # fmt: skip
    return image


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def served(image: Image) -> Iterator[tuple[Image, subprocess.Popen[str], str]]:
    """The image's command, running, and a key that it takes."""
    settings = {"training": {"precision": "fp32", "patience": 0}}
    Predictor.fit(ROWS, "label", backbone="none", epochs=1, settings=settings).export(image.top / "srv" / "model")
    keys = image.top / "srv" / "keys" / "polydetr-keys.json"
    keys.parent.mkdir()
    made = subprocess.run(
        [image.top / "opt/polydetr/bin/polydetr", "keys", "add", "someone", "--keys", keys],
        env=image.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    user = _as_user(image)
    command = [*image.words(only(STAGES[1], "ENTRYPOINT")), *image.words(only(STAGES[1], "CMD"))]
    environment = {**image.environment, "TMPDIR": str(image.top / "tmp")}
    process = subprocess.Popen(
        [shutil.which(command[0], path=environment["PATH"]) or command[0], *command[1:]],
        env=environment, cwd=image.top / "srv", stderr=subprocess.PIPE, text=True, **user,
    )  # fmt: skip
    yield image, process, made.stdout.strip()
    process.kill()
    process.wait()


def _as_user(image: Image) -> dict[str, int]:
    """Who runs the command: the image's own user, for whom all but tmp/ is read-only; this one where that cannot be."""
    number = int(only(STAGES[1], "USER").rest)
    places = Path(sys.executable).resolve().parents
    if os.geteuid() != 0 or not all(place.stat().st_mode & stat.S_IXOTH for place in places):
        return {}
    for folder in (image.top, *image.top.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    for path in (image.top / "srv").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    os.chown(image.top / "tmp", number, number)
    return {"user": number, "group": number}


def _health(image: Image) -> subprocess.CompletedProcess[str]:
    words = image.placed(only(STAGES[1], "HEALTHCHECK").rest.partition("CMD ")[2])
    python, *arguments = json.loads(words)
    python = shutil.which(python, path=image.environment["PATH"])
    return subprocess.run([python, *arguments], env=image.environment, capture_output=True, text=True)


@pytest.mark.filterwarnings("ignore")  # what is said of training on twenty rows
def test_the_image_answers_writes_to_tmp_alone_and_stops(served: tuple[Image, subprocess.Popen[str], str]) -> None:
    image, process, key = served
    before = {path: path.stat().st_mtime_ns for path in image.top.rglob("*") if image.top / "tmp" not in path.parents}
    until = time.monotonic() + UNTIL_READY_S
    while _health(image).returncode:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < until
        time.sleep(0.2)
    address = f"http://127.0.0.1:{image.port}/v1/models/model/predict"
    body = json.dumps({"rows": [{"text": "a good film"}, {"text": 7}]}).encode()
    headers = {"Content-Type": "application/json"}
    with pytest.raises(HTTPError, match="401"):
        urlopen(Request(address, body, headers))
    with urlopen(Request(address, body, {**headers, "Authorization": f"Bearer {key}"})) as response:
        answers = json.load(response)["answers"]
    assert answers[0]["prediction"]["label"] in ("yes", "no")
    assert len(answers) == 2
    process.terminate()
    assert process.wait(timeout=UNTIL_STOPPED_S) == 0
    after = {path: path.stat().st_mtime_ns for path in image.top.rglob("*") if image.top / "tmp" not in path.parents}
    changed = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p) and p != image.top / "tmp"}
    assert not changed  # nothing was written but into /tmp


@pytest.mark.filterwarnings("ignore")
def test_the_image_has_no_pytorch(image: Image) -> None:
    python = image.top / "opt/polydetr/bin/python"
    shown = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, env=image.environment)
    assert "No module named 'torch'" in shown.stderr
