"""``polydetr serve``: what is checked before a model is loaded, and a whole service in processes of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from polydetr.client import Client
from polydetr.errors import ConfigError
from polydetr.serving.keys import KeyFile
from polydetr.serving.run import Wanted, address_of, bound, named_models

Run = Callable[..., tuple[int, str, str]]


def test_what_is_wrong_is_said_before_a_model_is_loaded(run: Run, film_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        empty, broken = tmp_path / "keys.json", tmp_path / "broken"
        KeyFile(empty).add("app")
        KeyFile(empty).revoke("app")
        broken.mkdir()
        (broken / "polydetr.json").write_text("{")
        for arguments, says in {
            (film_folder, "--host", "0.0.0.0"): ("polydetr keys add NAME", "--keys"),
            (film_folder, "--host", "192.0.2.1"): ("polydetr keys add NAME",),
            (film_folder, "--allowed-host", "ml.example.org"): ("reaches ml.example.org", "polydetr keys add"),
            (film_folder, "--proxy", "127.0.0.1"): ("polydetr keys add NAME", "without --host"),
            (film_folder, "--root-path", "/models"): ("everybody who reaches 127.0.0.1/models",),
            (film_folder, "--keys", empty): ("there is no key in",),
            (film_folder, "--port", port): (f"port {port} of 127.0.0.1 is taken", "--port"),
            (tmp_path / "absent",): ("absent",),
            (broken,): ("cannot be read",),
            (film_folder, film_folder): ("two models are called 'film'",),
            (f"a/b={film_folder}",): ("no name of a model",),
            (film_folder, "--root", tmp_path / "absent"): ("is no folder", "--root"),
            (film_folder, "--runtime", "tensorrt"): ("'tensorrt' is unknown",),
            (film_folder, "--root-path", "models/"): ("begins with a slash",),
            (film_folder, "--rate", "inf"): ("--rate is inf, expected a number",),
            (film_folder, "--max-body", "inf"): ("--max-body is inf",),
            (film_folder, "--timeout", "inf"): ("--timeout is inf",),
        }.items():
            code, out, err = run("serve", *arguments)
            assert (code, out) == (2, ""), err
            for part in says:
                assert part in err


def test_names_of_models(tmp_path: Path) -> None:
    folder = tmp_path / "my model (2)"
    assert named_models([str(folder), f"b={folder}"]) == {"my-model-2": folder, "b": folder}
    with pytest.raises(ConfigError, match="no name"):
        named_models(["..=x"])
    long, odd = tmp_path / ("a" * 65), tmp_path / "lr=0.1"
    odd.mkdir()
    for given in (long, odd):
        with pytest.raises(ConfigError, match=re.escape(f"polydetr serve model={str(given)!r}")):
            named_models([str(given)])
        assert named_models([f"model={given}"]) == {"model": given}


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.0.0.9", True), ("localhost", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.2", False), ("localhost.example", False), ("", False)],
)  # fmt: skip
def test_what_only_this_machine_can_reach(host: str, local: bool) -> None:
    wanted = Wanted({}, host=host, root_path="/m")
    assert wanted.is_local == local
    assert address_of(wanted, 80).endswith(":80/m")


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        bound("192.0.2.1", 0)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_whole_service(film_folder: Path, tmp_path: Path) -> None:
    """Started, asked as it says itself, stopped by SIGTERM; keys and logs among it."""
    keys = KeyFile(tmp_path / "keys.json")
    key, boss = keys.add("app"), keys.add("boss", admin=True)
    shutil.copytree(film_folder, tmp_path / "models" / "second")
    command = [sys.executable, "-m", "polydetr", "serve", str(film_folder), "--port", "0", "--keys", str(keys.path)]
    command += ["--root", str(tmp_path / "models")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as service:
        assert service.stderr is not None
        told = ""
        while "curl" not in told:
            line = service.stderr.readline()
            assert line, told
            told += line
        url = re.search(r"answering at (http://127\.0\.0\.1:\d+);", told)
        assert url, told
        words = [word.replace("KEY", key) for word in shlex.split(told.splitlines()[-1])]
        assert words[:2] == ["curl", "-s"]
        body = words[words.index("-d") + 1]
        with Client(url[1], key) as client:
            (answer,) = client.predict("film", json.loads(body)["rows"])
            assert answer["row"] == 1
            (answer,) = client.predict("film", ["a lovely evening"])
            assert answer["prediction"]["label"] in ("good", "bad")
            (table,) = client.predict("film", [{"text": "a"}], explain=True)
            assert table["explanation"]
            lines = list(client.stream("film", ({"text": f"evening {i}"} for i in range(600))))
            assert [line["row"] for line in lines] == list(range(1, 601))
        with httpx.Client(base_url=url[1], headers={"x-api-key": boss}, timeout=60) as admin:
            absent = admin.post("/v1/admin/models/film", json={"folder": "third"})
            assert (absent.status_code, str(tmp_path) in absent.text) == (400, False)
            exchanged = admin.post("/v1/admin/models/film", json={"folder": "second"})
            assert exchanged.status_code == 200, exchanged.text
            assert exchanged.json()["previous"]
            back = admin.post("/v1/admin/models/film/rollback", json={})
            assert (back.status_code, back.json()["previous"]) == (200, None)
        began = time.monotonic()
        service.send_signal(signal.SIGTERM)
        rest = service.stderr.read()
        assert service.wait(timeout=20) == 0
        assert time.monotonic() - began < 15
    assert rest.rstrip().endswith("polydetr: stopped")
    lines = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
    assert {line["key"] for line in lines if line["event"] == "request"} == {"app", "boss"}
    assert {"model_replaced", "model_rolled_back", "exchanged"} <= {line["event"] for line in lines}
    assert "lovely" not in rest
    assert key not in rest
    assert [p for p in tmp_path.iterdir() if p.name.startswith("polydetr-jobs")] == []
