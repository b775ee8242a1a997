"""Exchanging models over HTTP: admin keys, JSON, and folders below the configured one alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from local_fleet import LocalFleet
from running_service import Service

from polydetr.inference.service import ServiceModel
from polydetr.serving.keys import KeyFile

ADMIN = "/v1/admin/models/film"


@pytest.fixture
def root(tmp_path: Path, film_folder: Path) -> Path:
    folder = tmp_path / "models"
    shutil.copytree(film_folder, folder / "films" / "2")
    (folder / "none").mkdir()
    (folder / "file").write_text("x")
    return folder


@pytest.fixture
def admin(service: Service, film: ServiceModel, root: Path, tmp_path: Path) -> Any:
    """A client with an admin's key."""
    keys = KeyFile(tmp_path / "keys.json")
    client = service(fleet=LocalFleet({"film": film}, root=root), root=root, keys=keys)
    client.headers["authorization"] = f"Bearer {keys.add('boss', admin=True)}"
    client.other = {"authorization": f"Bearer {keys.add('app')}"}
    return client


def test_a_model_is_exchanged_and_taken_back(admin: Any) -> None:
    answer = admin.post(ADMIN, json={"folder": "films/2"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["previous"] == "old"
    assert admin.post("/v1/models/film/predict", json={"rows": ["a"]}).json()["answers"][0]["prediction"]
    assert admin.post(f"{ADMIN}/rollback", json={}).json()["previous"] is None
    again = admin.post(f"{ADMIN}/rollback", json={})
    assert again.status_code == 400
    assert "no previous version" in again.json()["error"]["message"]


@pytest.mark.parametrize(
    "folder",
    [
        "../film", "films/../../film", "/etc", "//etc", "films//2", "films/2/", "", ".", "..", "films\\2", "C:\\x", "~",
        "films/2\0", "absent", "file", "link", "linked/2", None, 5, ["films/2"], "x" * 5_000, "<script>",
        "films/\u202e2",
    ],
)  # fmt: skip
def test_a_folder_is_a_name_below_the_root(admin: Any, root: Path, tmp_path: Path, folder: Any) -> None:
    if hasattr(os, "symlink"):
        (root / "link").symlink_to(tmp_path)
        (root / "linked").symlink_to(root / "films")
    answer = admin.post(ADMIN, json={"folder": folder})
    assert answer.status_code == 400, answer.text
    assert str(tmp_path) not in answer.text
    assert len(answer.content) < 500


def test_a_folder_that_is_no_model(admin: Any, tmp_path: Path) -> None:
    answer = admin.post(ADMIN, json={"folder": "none"})
    assert answer.status_code == 422
    assert str(tmp_path) not in answer.text
    assert admin.post("/v1/models/film/predict", json={"rows": ["a"]}).status_code == 200


def test_an_admin_key_and_json_are_always_wanted(admin: Any, service: Service) -> None:
    body = {"folder": "films/2"}
    assert admin.post(ADMIN, json=body, headers=admin.other).status_code == 403
    assert admin.post(ADMIN, json=body, headers={"authorization": "Bearer no"}).status_code == 401
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", ""):
        answer = admin.post(ADMIN, content='{"folder": "films/2"}', headers={"content-type": kind})
        assert answer.status_code == 415, kind
    assert admin.post(f"{ADMIN}/rollback", content="").status_code == 415
    open_to_all = service()
    answer = open_to_all.post(ADMIN, json=body)
    assert answer.status_code == 401
    assert "has no keys" in answer.json()["error"]["message"]
    for path in ("/v1/admin/models/film/", "/v1/admin//models/film", "/v1/admin/../admin/models/film", "/V1/ADMIN/x"):
        assert open_to_all.post(path, json=body).status_code in (401, 404), path


@pytest.mark.parametrize("body", [{}, {"folder": "films/2", "shadow": "yes"}, {"folder": "films/2", "x": 1}, [], 5])
def test_a_wrong_body(admin: Any, body: Any) -> None:
    assert admin.post(ADMIN, json=body).status_code == 400


def test_a_model_that_is_not_served(admin: Any) -> None:
    for name in ("flim", "..%2ffilm", "%2e%2e"):
        assert admin.post(f"/v1/admin/models/{name}", json={"folder": "films/2"}).status_code == 404


def test_without_a_root_nothing_is_exchanged(service: Service, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    headers = {"authorization": f"Bearer {keys.add('boss', admin=True)}"}
    answer = service(keys=keys).post(ADMIN, json={"folder": "x"}, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["hint"] == "polydetr serve --root DIR"
